import { afterEach, describe, expect, it, vi } from 'vitest';
import { fromFrame, fromHost } from '../../src/lib/embed';

/** The page in a frame: what it says to its parent, and how it is spoken to. */
async function frame(search = '?frame') {
  const said: [unknown, string][] = [];
  const parent = { postMessage: (message: unknown, to: string) => said.push([message, to]) };
  let hear: (event: unknown) => void = () => undefined;
  vi.stubGlobal('window', { parent });
  vi.stubGlobal('location', { search });
  vi.stubGlobal('addEventListener', (_type: string, listener: typeof hear) => (hear = listener));
  vi.resetModules();
  const page = await import('../../src/lib/frame');
  return { said, page, hear: (data: unknown, origin = 'https://www.shop.example', source: unknown = parent) => hear({ data, origin, source }) };
}

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const hello = { bulla: 1, type: 'hello' };
const count = (n: number) => ({ bulla: 1, type: 'unread', count: n });

describe('a page in a frame', () => {
  it('is one with the word in its address alone', async () => {
    expect((await frame()).page.framed).toBe(true);
    expect((await frame('?ref=frame')).page.framed).toBe(false);
  });

  it('tells nobody anything but that it is there, until somebody says hello', async () => {
    const { said, page, hear } = await frame();
    page.meetHost(() => undefined);
    page.tellUnread(3);
    expect(said).toEqual([[{ bulla: 1, type: 'ready' }, '*']]);
    hear(hello);
    page.tellUnread(4);
    expect(said.slice(1)).toEqual([3, 4].map((n) => [count(n), 'https://www.shop.example']));
  });

  it('hears its parent alone, from the origin that said hello and no other', async () => {
    const { said, page, hear } = await frame();
    const told = vi.fn();
    page.meetHost(told);
    hear({ ...hello, identity: 'a' }, 'https://www.shop.example', { other: 'window' });
    hear({ ...hello, identity: 'b' }, 'null');
    hear({ bulla: 1, type: 'identify', identity: 'before the hello' });
    expect(said).toHaveLength(1);
    hear({ ...hello, identity: 'c' });
    hear({ ...hello, identity: 'd' }, 'https://elsewhere.example');
    hear({ bulla: 1, type: 'identify', identity: 'e' }, 'https://elsewhere.example');
    hear({ bulla: 1, type: 'identify', identity: 'f' });
    expect(told.mock.calls).toEqual([['c'], ['f']]);
    expect(said.slice(1)).toEqual([[count(0), 'https://www.shop.example']]);
  });
});

it('put away, it has the focus nowhere, and says so to its host', async () => {
  const { said, page, hear } = await frame();
  class Button {
    blurred = false;
    blur = () => void (this.blurred = true);
  }
  const button = new Button();
  vi.stubGlobal('HTMLElement', Button);
  vi.stubGlobal('document', { activeElement: button });
  page.meetHost(() => undefined);
  hear(hello);
  page.leave();
  expect(button.blurred).toBe(true);
  expect(said.at(-1)).toEqual([{ bulla: 1, type: 'close' }, 'https://www.shop.example']);
});

describe('messages', () => {
  it('are what they should be, or nothing', () => {
    const error = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    for (const data of [null, 'ready', { type: 'ready' }, { bulla: 2, type: 'ready' }, { bulla: 1, type: 'hello' }, ...[-1, 1.5, NaN, Infinity, '1', undefined].map((count) => ({ bulla: 1, type: 'unread', count }))]) {
      expect(fromFrame(data)).toBeNull();
    }
    expect(fromFrame({ ...count(2), more: 'things' })).toEqual(count(2));
    for (const data of [null, 7, { bulla: '1', type: 'hello' }, { bulla: 1, type: 'ready' }]) expect(fromHost(data)).toBeNull();
    expect(error).not.toHaveBeenCalled();
    // A hello with something else in the place of a token is a hello.
    for (const identity of ['', 7, 'x'.repeat(2_049)]) {
      expect(fromHost({ ...hello, identity })).toEqual(hello);
      expect(fromHost({ bulla: 1, type: 'identify', identity })).toBeNull();
    }
    expect(error).toHaveBeenCalledTimes(6);
    expect(fromHost({ ...hello, identity: 'x'.repeat(2_048) })).toEqual({ ...hello, identity: 'x'.repeat(2_048) });
  });
});
