import { expect, it } from 'vitest';
import { around, down, MOST, NEWEST, range, STEP, up, type Window } from '../../src/lib/chat/window';

const keys = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => `k${from + at}`);

it('follows the newest row', () => {
  expect(range(keys(0, 10), NEWEST)).toEqual({ lo: 0, hi: 10 });
  expect(range(keys(0, 1000), NEWEST)).toEqual({ lo: 1000 - 2 * STEP, hi: 1000 });
});

it('reaches every row on the way up and back down, and is never larger than it may be', () => {
  const all = keys(0, 1000);
  const seen = new Set<string>();
  let window: Window = NEWEST;
  const look = () => {
    const { lo, hi } = range(all, window);
    expect(hi - lo).toBeLessThanOrEqual(MOST);
    for (const key of all.slice(lo, hi)) seen.add(key);
    return { lo, hi };
  };
  while (look().lo > 0) window = up(all, window);
  expect(seen.size).toBe(1000);
  seen.clear();
  while (look().hi < 1000) window = down(all, window);
  expect(seen.size).toBe(1000);
  expect(window.bottom).toBeNull();
});

it('stays where it is when rows come above and below', () => {
  const window = around(keys(100, 500), 'k300');
  const { lo, hi } = range(keys(100, 500), window);
  const after = range(keys(0, 600), window);
  expect(keys(0, 600).slice(after.lo, after.hi)).toEqual(keys(100, 500).slice(lo, hi));
});

it('of a row that is not there is the newest', () => {
  expect(around(keys(0, 10), 'other')).toEqual(NEWEST);
});
