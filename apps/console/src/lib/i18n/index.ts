/** Everything the console says. It is for developers, and speaks English; keys are checked by the compiler. */
import en from './en.json';

export type Key = keyof typeof en;
export const catalog: Record<Key, string> = en;
export const language = 'en';

export type Parameters = Record<string, string | number>;

/** Fills `{name}` in. A value is never searched for placeholders itself: it may be anybody's text. */
export function fill(text: string, parameters: Parameters): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (Object.hasOwn(parameters, name) ? String(parameters[name]) : whole));
}

export function t(key: Key, parameters: Parameters = {}): string {
  return fill(catalog[key], parameters);
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dated = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit' });
const numbers = new Intl.NumberFormat('en-GB');

/** The time of day, with its day if that is not today. */
export function time(ms: number, now: number = Date.now()): string {
  return new Date(ms).toDateString() === new Date(now).toDateString() ? clock.format(ms) : dated.format(ms);
}

export const number = (value: number): string => numbers.format(value);
