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

/** What looks like a letter, a dot, a slash or an @ and is another (UTS 39, the ones that people have been caught with), by what it looks like. */
const CONFUSABLES: Record<string, string> = {
  a: 'аɑαａ𝐚𝖺', b: 'Ьｂ𝐛', c: 'сϲⅽｃ𝐜', d: 'ԁⅾｄ𝐝', e: 'еҽｅ𝐞℮', g: 'ɡց𝐠ｇ', h: 'һհｈ𝐡', i: 'іıɩｉⅰ𝐢', j: 'јϳｊ𝐣', k: 'κкｋ𝐤', l: 'ӏⅼ1Iｌ𝐥',
  m: 'ｍⅿ𝐦rn', n: 'ոｎ𝐧', o: 'оοօ0ｏ𝐨', p: 'рρｐ𝐩', q: 'ԛｑ𝐪', r: 'гｒ𝐫', s: 'ѕꜱｓ𝐬', t: 'тｔ𝐭', u: 'υսｕ𝐮', v: 'νѵⅴｖ𝐯', w: 'ԝաｗ𝐰', x: 'хⅹｘ𝐱', y: 'уүｙ𝐲', z: 'ｚ𝐳',
  '.': '。．｡․', '/': '⁄∕／⧸', '@': '＠﹫',
};
const BIDI = ['\u061c', '\u200e', '\u200f', '\u202a', '\u202b', '\u202c', '\u202d', '\u202e', '\u2066', '\u2067', '\u2068', '\u2069'];
const UNSEEN = ['\u00ad', '\u034f', '\u115f', '\u180b', '\u180e', '\u200b', '\u200c', '\u200d', '\u2060', '\u2063', '\u3164', '\ufe0f', '\ufeff', '\uffa0', '\u{e0061}'];
/** With these, signs of some languages and emoji are spelled; where a host has one, it is shown beside. */
const VARIES = ['\u180b', '\ufe0f'];
const NAMES = ['paypal.example', 'login.microsoft.example', 'sparkasse.example', 'apple.example', 'wikipedia.example', 'accounts.google.example', 'deutsche-bank.example', 'qwertyuiop.example'];

function corpus(): string[] {
  const all: string[] = [];
  for (const name of NAMES) {
    const letters = [...name];
    const put = (at: number, text: string, over: number) => all.push(`https://${[...letters.slice(0, at), text, ...letters.slice(at + over)].join('')}/x?y=z`);
    letters.forEach((letter, at) => {
      for (const other of CONFUSABLES[letter] ?? '') put(at, other, 1);
      for (const mark of [...BIDI, ...UNSEEN]) put(at, mark, 0);
    });
    for (const slash of CONFUSABLES['/']!) all.push(`https://${name}${slash}login.evil.example/`, `https:/${slash}${name}/`);
    for (const sign of CONFUSABLES['@']!) all.push(`https://${name}${sign}evil.example/`);
    for (const mark of [...BIDI, ...UNSEEN]) all.push(`https://${name}/${mark}x`, `https://${name}${mark}.evil.example/`, `https://evil.example/${mark}https://${name}/`);
    all.push(`https://${name}\\@evil.example/`, `https://${name}:443@evil.example/`, `https://${name}%2eevil.example/`, `https://${name}%00.evil.example/`, `https://evil.example#@${name}/`, `https://evil.example?//${name}/`);
  }
  return all;
}

it('DEV-11: of thousands of disguised addresses each is no link, or the host that one reads is the one that is dialled', () => {
  const all = corpus();
  expect(all.length).toBeGreaterThan(3_000);
  let [linked, beside] = [0, 0];
  for (const address of all) {
    for (const piece of linkify(`see ${address} now`)) {
      if (piece.kind !== 'link') continue;
      linked += 1;
      const dialled = new URL(piece.href);
      expect([address, dialled.username + dialled.password]).toEqual([address, '']);
      // What is shown beside is what is dialled, in letters that have no doubles.
      expect(piece.host).toBe(dialled.host);
      expect([address, /^[a-z0-9.:[\]-]+$/.test(piece.host)]).toEqual([address, true]);
      // Nothing in it turns what is read around, or is there without being seen.
      expect([address, [...BIDI, ...UNSEEN.filter((mark) => !VARIES.includes(mark))].some((mark) => piece.text.includes(mark))]).toEqual([address, false]);
      if (looksDifferent(piece)) beside += 1;
      // Read as somebody reads it: up to the first slash, letter by letter.
      else expect([address, /^https?:\/\/([^/?#\\:]+)/i.exec(piece.text)![1]!.toLowerCase()]).toEqual([address, dialled.hostname]);
    }
  }
  // The corpus is no heap of what is not an address.
  expect([linked > 1_500, beside > 500]).toEqual([true, true]);
});
