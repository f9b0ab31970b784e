/**
 * Web addresses in a text. What a business writes is untrusted: only `http:` and `https:` become links, the host that is shown is the one
 * the browser would go to, and a name that only looks like another (user part, other scripts) shows itself as what it is.
 */
export type Piece = { kind: 'text'; text: string } | { kind: 'link'; text: string; href: string; host: string };

// Ends before whatever steers or is there without being seen, but what varies a sign: with that, words and emoji are spelled.
const CANDIDATE = /https?:\/\/[^\s<>"'`\u0000-\u001f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\u{e0000}-\u{e007f}]+/giu;
const TRAILING = /[.,;:!?…*_~]+$/u;
const CLOSING: Record<string, string> = { ')': '(', ']': '[', '}': '{' };

function trim(candidate: string): string {
  for (;;) {
    let shorter = candidate.replace(TRAILING, '');
    const close = shorter.at(-1) ?? '';
    const open = CLOSING[close];
    // A closing bracket belongs to the address only if it was opened in it.
    if (open && shorter.split(close).length > shorter.split(open).length) shorter = shorter.slice(0, -1);
    if (shorter === candidate) return candidate;
    candidate = shorter;
  }
}

function parse(text: string): URL | null {
  try {
    const url = new URL(text);
    if (url.protocol !== 'https:' && url.protocol !== 'http:') return null;
    // `https://your-bank.example@evil.example` goes to evil.example: no link at all.
    return url.username || url.password ? null : url;
  } catch {
    return null;
  }
}

/** Where an address that stands for itself leads, as on a button; null if it is none that is opened. */
export function leadsTo(address: string): { href: string; host: string } | null {
  const url = parse(address);
  return url && { href: url.href, host: url.host };
}

export function linkify(text: string): Piece[] {
  const pieces: Piece[] = [];
  let done = 0;
  for (const match of text.matchAll(CANDIDATE)) {
    const candidate = trim(match[0]);
    const url = parse(candidate);
    if (!url) continue;
    if (match.index > done) pieces.push({ kind: 'text', text: text.slice(done, match.index) });
    pieces.push({ kind: 'link', text: candidate, href: url.href, host: url.host });
    done = match.index + candidate.length;
  }
  if (done < text.length) pieces.push({ kind: 'text', text: text.slice(done) });
  return pieces;
}

/** Whether the text shows another host than the one the link leads to: then the host is shown beside it. */
export function looksDifferent(piece: Extract<Piece, { kind: 'link' }>): boolean {
  return !piece.text.toLowerCase().startsWith(`${new URL(piece.href).protocol}//${piece.host}`);
}
