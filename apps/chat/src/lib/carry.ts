/**
 * A conversation's link that carries its recovery code to another device: `/@handle#k=…&c=CODE`. The part `c` is this page's alone: it is taken out
 * before the link is used, and a link that a business gives has none.
 */

/** Takes every `c` out of a fragment; the first one's value, and the fragment as it is without them. */
export function takeCode(hash: string): { hash: string; code: string | null } {
  const parts = hash.replace(/^#/, '').split('&');
  const codes = parts.filter(isCode);
  // As it came, to the letter: what is left is the business's link.
  if (!codes.length) return { hash, code: null };
  const rest = parts.filter((part) => !isCode(part)).join('&');
  return { hash: rest && `#${rest}`, code: plain(codes[0]!.slice(codes[0]!.indexOf('=') + 1)) || null };
}

/** Also one that is spelled otherwise. */
function isCode(part: string): boolean {
  return part.includes('=') && plain(part.split('=')[0]!) === 'c';
}

function plain(escaped: string): string {
  try {
    return decodeURIComponent(escaped);
  } catch {
    return escaped;
  }
}

/** A link without its origin and without what else stood in it, `/@handle#k=…`; null for one without a key. */
export function placeOf(link: string): string | null {
  const { pathname, hash } = new URL(link);
  const key = /^#(?:.*&)?(k=[^&]+)/.exec(hash)?.[1];
  return key && pathname.startsWith('/@') ? `${pathname}#${key}` : null;
}

/** The link to show to another device. Without what stands between the code's groups, so that the picture has fewer and larger squares. */
export function withCode(origin: string, place: string, code: string): string {
  return `${origin}${place}&c=${code.replaceAll('-', '')}`;
}

/** A page at this address is on this very machine: no other device can open it. */
export function onlyHere(hostname: string): boolean {
  return /^(.*\.)?localhost$|^127(\.\d+){3}$|^\[::1\]$/.test(hostname);
}
