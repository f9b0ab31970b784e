import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'svelte/compiler';
import { describe, expect, it } from 'vitest';
import { catalogs, choose, day, fill, has, plural, t } from '../../src/lib/i18n';
import { leftOf, MAX_TEXT, textLength } from '../../src/lib/chat/limits';
import { plainName, plainText } from '../../src/lib/chat/plain';
import * as widget from '../../src/widget/words';

const SOURCE = join(import.meta.dirname, '../../src');
const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' });
const components = files.filter((file) => file.endsWith('.svelte'));
const placeholders = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();

describe.each([
  ['the page', catalogs as Record<'en' | 'es' | 'de', Record<string, string>>, ''],
  ['the widget', widget.catalogs as Record<'en' | 'es' | 'de', Record<string, string>>, 'widget/'],
])('catalogs of %s', (_of, catalogs, folder) => {
  const keys = Object.keys(catalogs.en);

  it.each(['es', 'de'] as const)('%s has the same keys and placeholders', (language) => {
    expect(Object.keys(catalogs[language])).toEqual(keys);
    for (const key of keys) expect([key, placeholders(catalogs[language][key]!)]).toEqual([key, placeholders(catalogs.en[key]!)]);
  });

  it('leave nothing empty', () => {
    for (const catalog of Object.values(catalogs)) for (const [key, text] of Object.entries(catalog)) expect([key, text.trim() !== '']).toEqual([key, true]);
  });

  it('have no key that nobody uses', () => {
    const code = files
      .filter((file) => /\.(svelte|ts)$/.test(file) && file.startsWith('widget/') === (folder === 'widget/'))
      .map((file) => readFileSync(join(SOURCE, file), 'utf8'))
      .join('\n');
    // Keys that are put together: their beginnings are in the code.
    const made = [...code.matchAll(/`([a-z.]+\.)\$\{/g)].map(([, start]) => start!);
    const used = (key: string) => code.includes(`'${key}'`) || made.some((start) => key.startsWith(start)) || code.includes(`'${key.replace(/\.(one|other)$/, '')}'`);
    expect(keys.filter((key) => !used(key))).toEqual([]);
  });
});

describe('components', () => {
  const LETTER = /\p{L}/u;
  const SAID = new Set(['aria-label', 'title', 'placeholder', 'alt', 'aria-description', 'aria-roledescription', 'aria-valuetext', 'heading', 'label']);

  /** Text that stands in a template and not in a catalog. */
  function literals(source: string): string[] {
    const found: string[] = [];
    const walk = (node: unknown, inAttribute: string | null): void => {
      if (Array.isArray(node)) return node.forEach((child) => walk(child, inAttribute));
      if (typeof node !== 'object' || node === null) return;
      const { type, name, data } = node as { type?: string; name?: string; data?: string };
      if (type === 'Text' && LETTER.test(data ?? '') && (inAttribute === null || SAID.has(inAttribute))) found.push(data!.trim());
      for (const [key, child] of Object.entries(node)) {
        if (key !== 'expression' && key !== 'parent') walk(child, type === 'Attribute' ? (name ?? null) : inAttribute);
      }
    };
    walk(parse(source, { modern: true }).fragment, null);
    return found;
  }

  it('are found, and a literal in one is noticed', () => {
    expect(components.length).toBeGreaterThan(10);
    expect(literals('<p class="a">{x} Hello</p><img alt="Picture" />')).toEqual(['Hello', 'Picture']);
  });

  it.each(components)('%s contains no literal text, no HTML from strings and no style attribute', (file) => {
    const source = readFileSync(join(SOURCE, file), 'utf8');
    expect(literals(source)).toEqual([]);
    expect(source).not.toMatch(/\{@html|innerHTML|\sstyle=|\sstyle:/);
  });
});

describe('words', () => {
  it('are in the first wanted language that there is', () => {
    expect(choose(['fr-CH', 'de-CH', 'en'])).toBe('de');
    expect(choose(['ES'])).toBe('es');
    expect(choose(['eng-x', 'fr'])).toBe('en');
    expect(choose([])).toBe('en');
  });

  it('are filled in once: a value is no template', () => {
    expect(fill('{a} and {b}', { a: '{b}', b: '$&{a}' })).toBe('{b} and $&{a}');
    expect(fill('{unknown}', {})).toBe('{unknown}');
  });

  it('of the widget are in the page’s language, and count', () => {
    expect(widget.words(['', 'es-MX']).t('label')).toBe('Escríbenos');
    const { news } = widget.words(['de']);
    expect([news(0), news(1), news(12)]).toEqual(['', '1 neue Nachricht', '12 neue Nachrichten']);
  });

  it('have plural forms', () => {
    expect(plural('chat.newPill', 1)).toBe('1 new message');
    expect(plural('chat.newPill', 1200)).toBe('1,200 new messages');
  });

  it('call days as people do', () => {
    const now = new Date(2026, 4, 12, 0, 5).getTime();
    expect(day(now, now)).toBe(t('day.today'));
    expect(day(now - 10 * 60_000, now)).toBe(t('day.yesterday'));
    expect(day(new Date(2026, 4, 5).getTime(), now)).toMatch(/Tuesday.*5|5.*Tuesday/);
    expect(day(new Date(2025, 0, 5).getTime(), now)).toMatch(/2025/);
  });

  it('know their keys, and nothing that every object has', () => {
    expect(has('error.wasm')).toBe(true);
    expect(has('toString')).toBe(false);
  });
});

describe('limits', () => {
  it('count characters as the engine does, not code units', () => {
    expect(textLength('👍🏽é')).toBe(3);
    expect(leftOf('a'.repeat(MAX_TEXT))).toBe(0);
    expect(leftOf('👍'.repeat(MAX_TEXT + 1))).toBe(-1);
    expect(leftOf('👍'.repeat(MAX_TEXT / 2))).toBeNull();
    expect(leftOf('short')).toBeNull();
  });
});

it('names and texts read as they are written', () => {
  expect(plainName('\u202egnp.exe\u2069\n x')).toBe('gnp.exe  x');
  expect(plainName('\u202e')).toBe('?');
  expect(plainText('a\u202egnp.exe')).toBe('agnp.exe');
  expect(plainText('\u200fשלום')).toBe('\u200fשלום');
});
