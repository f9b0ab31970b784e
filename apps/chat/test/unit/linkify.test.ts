import { describe, expect, it } from 'vitest';
import { linkify, looksDifferent } from '../../src/lib/chat/linkify';

const links = (text: string) => linkify(text).flatMap((piece) => (piece.kind === 'link' ? [piece.text] : []));

describe('linkify', () => {
  it('loses no character', () => {
    for (const text of ['', 'no link', 'a https://a.example b', 'https://a.example', '(https://a.example/x).', 'https://[::1', 'http://', 'x https://a.example\nhttps://b.example y']) {
      expect(linkify(text).map(({ text }) => text).join('')).toBe(text);
    }
  });

  it.each([
    ['see https://a.example/b.', 'https://a.example/b'],
    ['(https://a.example/b)', 'https://a.example/b'],
    ['https://a.example/b_(c)', 'https://a.example/b_(c)'],
    ['«https://a.example/?q=1&r=2#s», yes', 'https://a.example/?q=1&r=2#s»'],
    ['HTTP://A.EXAMPLE/x!', 'HTTP://A.EXAMPLE/x'],
  ])('finds the address in %s', (text, address) => {
    expect(links(text)).toEqual([address]);
  });

  it.each([
    'javascript:alert(1)',
    'data:text/html,<script>alert(1)</script>',
    'vbscript:x',
    'file:///etc/passwd',
    'ftp://a.example',
    'https://',
    'https://user:pass@evil.example/',
    'https://your-bank.example@evil.example/',
    'intent://a.example#Intent;end',
  ])('makes no link of %s', (text) => {
    expect(links(text)).toEqual([]);
  });

  it('ends before characters that hide what follows', () => {
    expect(links('https://a.example/\u202Egpj.exe')).toEqual(['https://a.example/']);
    expect(links('https://a.example/\u200Bx')).toEqual(['https://a.example/']);
    expect(links('https://a.example/"onmouseover="x')).toEqual(['https://a.example/']);
  });

  it('shows where a lookalike leads', () => {
    const [piece] = linkify('https://p\u0430ypal.example/');
    if (piece?.kind !== 'link') throw new Error('no link');
    expect(piece.host).toBe('xn--pypal-4ve.example');
    expect(looksDifferent(piece)).toBe(true);
    const [plain] = linkify('https://paypal.example/x');
    if (plain?.kind !== 'link') throw new Error('no link');
    expect(looksDifferent(plain)).toBe(false);
  });
});
