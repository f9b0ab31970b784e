/**
 * A conversation's link that carries a ticket to another device, with which it gets the recovery code once: `/@handle#k=…&c=TICKET`. The part `c` is this page's alone: it is taken out
 * before the link is used, and a link that a business gives has none.
 */

/** Takes every `c` out of a fragment; the first one's value, and the fragment as it is without them. */
export function takeTicket(hash: string): { hash: string; ticket: string | null } {
  const parts = hash.replace(/^#/, '').split('&');
  const tickets = parts.filter(isTicket);
  // As it came, to the letter: what is left is the business's link.
  if (!tickets.length) return { hash, ticket: null };
  const rest = parts.filter((part) => !isTicket(part)).join('&');
  return { hash: rest && `#${rest}`, ticket: plain(tickets[0]!.slice(tickets[0]!.indexOf('=') + 1)) || null };
}

/** Also one that is spelled otherwise. */
function isTicket(part: string): boolean {
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

/** The link to show to another device. */
export function withTicket(origin: string, place: string, ticket: string): string {
  return `${origin}${place}&c=${ticket}`;
}

/** A page at this address is on this very machine: no other device can open it. */
export function onlyHere(hostname: string): boolean {
  return /^(.*\.)?localhost$|^127(\.\d+){3}$|^\[::1\]$/.test(hostname);
}
