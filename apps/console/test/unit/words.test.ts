import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'svelte/compiler';
import { describe, expect, it } from 'vitest';
import { catalog, fill, t, time, type Key } from '../../src/lib/i18n';

const SOURCE = join(import.meta.dirname, '../../src');
const files = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' });
const components = files.filter((file) => file.endsWith('.svelte'));

describe('the catalog', () => {
  it('leaves nothing empty, and has no key that nobody uses', () => {
    const code = files
      .filter((file) => /\.(svelte|ts)$/.test(file))
      .map((file) => readFileSync(join(SOURCE, file), 'utf8'))
      .join('\n');
    // Keys that are put together: their beginnings are in the code.
    const made = [...code.matchAll(/`([a-z.]+\.)\$\{/g)].map(([, start]) => start!);
    const keys = Object.keys(catalog) as Key[];
    expect(keys.filter((key) => catalog[key].trim() === '')).toEqual([]);
    expect(keys.filter((key) => !code.includes(`'${key}'`) && !made.some((start) => key.startsWith(start)))).toEqual([]);
  });

  it('is filled in once: a value is no template', () => {
    expect(fill('{a} and {b}', { a: '{b}', b: '$&{a}' })).toBe('{b} and $&{a}');
    expect(t('receiver.ready', { url: 'http://x/' })).toBe('Webhooks go to http://x/');
  });

  it('tells the day only if it is another', () => {
    const now = new Date(2026, 4, 12, 10, 0).getTime();
    expect(time(now - 60_000, now)).toBe('09:59:00');
    expect(time(now - 86_400_000, now)).toContain('11 May');
  });
});

describe('components', () => {
  const SAID = new Set(['aria-label', 'title', 'placeholder', 'alt', 'label', 'heading', 'what']);

  /** Text that stands in a template and not in the catalog. */
  function literals(source: string): string[] {
    const found: string[] = [];
    const walk = (node: unknown, attribute: string | null, quoted: boolean): void => {
      if (Array.isArray(node)) return node.forEach((child) => walk(child, attribute, quoted));
      if (typeof node !== 'object' || node === null) return;
      const { type, name, data } = node as { type?: string; name?: string; data?: string };
      // Commands and what is pasted into one are the same in every language.
      const command = quoted || (type === 'RegularElement' && (name === 'pre' || name === 'code'));
      if (type === 'Text' && /\p{L}/u.test(data ?? '') && !command && (attribute === null || SAID.has(attribute))) found.push(data!.trim());
      for (const [key, child] of Object.entries(node)) {
        if (key !== 'expression' && key !== 'parent') walk(child, type === 'Attribute' ? (name ?? null) : attribute, command);
      }
    };
    walk(parse(source, { modern: true }).fragment, null, false);
    return found;
  }

  it('are found, and a literal in one is noticed', () => {
    expect(components.length).toBeGreaterThan(10);
    expect(literals('<p class="a">{x} Hello</p><img alt="Picture" /><code>bulla env</code>')).toEqual(['Hello', 'Picture']);
  });

  it.each(components)('%s contains no literal text, no HTML from strings and no style attribute', (file) => {
    const source = readFileSync(join(SOURCE, file), 'utf8');
    expect(literals(source)).toEqual([]);
    expect(source).not.toMatch(/\{@html|innerHTML|\sstyle=|\sstyle:/);
  });
});
