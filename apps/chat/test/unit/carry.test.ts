import { afterEach, expect, it, vi } from 'vitest';
import { onlyHere, placeOf, takeTicket, withTicket } from '../../src/lib/carry';

const TICKET = 'n3Jz0b7cQk2VtWxYpL5mRd8sFgHhJ4aBcDeFgUiOpQw';
const K = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE';

it.each([
  ['', '', null],
  ['#', '#', null],
  ['#k=abc', '#k=abc', null],
  // Another part is another's, whatever it is called, and stays as it is.
  ['#k=a%2Fb&x=1&&cc=2&C=3&c', '#k=a%2Fb&x=1&&cc=2&C=3&c', null],
  ['#k=abc&c=0W3GE1R7', '#k=abc', '0W3GE1R7'],
  ['#c=0W3GE1R7&k=abc', '#k=abc', '0W3GE1R7'],
  ['#k=a%2Fb&c=0W3G-E1R7&x=%31', '#k=a%2Fb&x=%31', '0W3G-E1R7'],
  ['#c=0W3GE1R7', '', '0W3GE1R7'],
  // Taken out all the same.
  ['#k=abc&c=', '#k=abc', null],
  ['#k=abc&c=1&c=2', '#k=abc', '1'],
  ['#k=abc&%63=0W3G%2dE1R7', '#k=abc', '0W3G-E1R7'],
  ['#k=abc&c=%zz', '#k=abc', '%zz'],
  ['#k=abc&c=a=b', '#k=abc', 'a=b'],
])('of the fragment %j is left %j', (hash, left, ticket) => {
  expect(takeTicket(hash)).toEqual({ hash: left, ticket });
});

it('any fragment is taken apart once: nothing is left to take, and the link stays', () => {
  const pieces = ['k=abc', 'c=', 'c=1', '%63=2', '&', '#', '=', 'c', 'x=c=3', '%', ' c=4'];
  for (let seed = 0; seed < pieces.length ** 3; seed += 1) {
    const at = (place: number) => pieces[Math.floor(seed / pieces.length ** place) % pieces.length]!;
    const { hash } = takeTicket(`#${at(0)}&${at(1)}&${at(2)}`);
    expect(takeTicket(hash)).toEqual({ hash, ticket: null });
    expect(hash.includes('k=abc')).toBe([0, 1, 2].some((place) => at(place) === 'k=abc'));
  }
});

it('the link for another device is the business’s, with the ticket and nothing else of the address', () => {
  const place = placeOf(`https://shop.example/@cortado?ref=flyer&frame#x=1&k=${K}&y=2`);
  expect(place).toBe(`/@cortado#k=${K}`);
  const link = withTicket('https://shop.example', place!, TICKET);
  expect(link).toBe(`https://shop.example/@cortado#k=${K}&c=${TICKET}`);
  expect(takeTicket(new URL(link).hash)).toEqual({ hash: `#k=${K}`, ticket: TICKET });
  for (const none of ['https://shop.example/', 'https://shop.example/@cortado', 'https://shop.example/#k=a', 'https://shop.example/@cortado#k=', 'https://shop.example/@cortado#kk=a']) expect(placeOf(none)).toBeNull();
});

it('an address of this very machine is known as one', () => {
  expect(['localhost', 'rosi.localhost', '127.0.0.1', '127.1.2.3', '[::1]'].map(onlyHere)).not.toContain(false);
  expect(['shop.example', 'localhost.example', '192.168.1.7', '127.example.com', 'rosi.local'].map(onlyHere)).not.toContain(true);
});

/** The page's first step, at an address. */
async function opened(hash: string, parent?: object) {
  const replaced: unknown[] = [];
  const window: Record<string, unknown> = {};
  window.parent = parent ?? window;
  vi.stubGlobal('window', window);
  vi.stubGlobal('location', { pathname: '/@cortado', search: '?ref=a', hash });
  vi.stubGlobal('history', { state: 'kept', replaceState: (...how: unknown[]) => replaced.push(how) });
  vi.resetModules();
  const { carried } = await import('../../src/lib/carried');
  return { carried, replaced };
}
afterEach(() => void vi.unstubAllGlobals());

it('a ticket is out of the address before anybody else looks at it; in a frame it is nobody’s', async () => {
  const out = [['kept', '', '/@cortado?ref=a#k=abc']];
  expect(await opened('#k=abc')).toEqual({ carried: null, replaced: [] });
  expect(await opened('#k=abc&c=0W3G')).toEqual({ carried: '0W3G', replaced: out });
  expect(await opened('#k=abc&c=')).toEqual({ carried: null, replaced: out });
  expect(await opened('#k=abc&c=0W3G', {})).toEqual({ carried: null, replaced: out });
  // No longer than what somebody may type.
  expect((await opened(`#k=abc&c=${'0'.repeat(500)}`)).carried).toHaveLength(120);
});
