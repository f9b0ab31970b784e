/**
 * Which rows of a long list are in the document. A window over all rows, named by the keys of its ends, so that rows that come above or
 * below do not move it. An end that is null follows the newest row.
 */
export interface Window {
  top: string | null;
  bottom: string | null;
}

export const STEP = 60;
export const MOST = 240;

export const NEWEST: Window = { top: null, bottom: null };

/** The window as indexes: from `lo` to before `hi`. */
export function range(keys: readonly string[], window: Window): { lo: number; hi: number } {
  const bottom = window.bottom === null ? -1 : keys.indexOf(window.bottom);
  const hi = bottom < 0 ? keys.length : bottom + 1;
  const top = window.top === null ? -1 : keys.indexOf(window.top);
  const lo = top < 0 || top >= hi ? Math.max(0, hi - 2 * STEP) : top;
  return { lo, hi };
}

function between(keys: readonly string[], lo: number, hi: number): Window {
  return { top: keys[lo] ?? null, bottom: hi >= keys.length ? null : (keys[hi - 1] ?? null) };
}

/** More at the top; what is then too much goes at the bottom. */
export function up(keys: readonly string[], window: Window): Window {
  const { lo, hi } = range(keys, window);
  const top = Math.max(0, lo - STEP);
  return between(keys, top, Math.min(hi, top + MOST));
}

/** More at the bottom; what is then too much goes at the top. */
export function down(keys: readonly string[], window: Window): Window {
  const { lo, hi } = range(keys, window);
  const bottom = Math.min(keys.length, hi + STEP);
  return between(keys, Math.max(lo, bottom - MOST), bottom);
}

/** Around one row. */
export function around(keys: readonly string[], key: string): Window {
  const at = keys.indexOf(key);
  return at < 0 ? NEWEST : between(keys, Math.max(0, at - STEP), Math.min(keys.length, at + STEP));
}
