/** Everything the page says, in the person's language. Keys are checked by the compiler, catalogs against each other by a test. */
import { choose, fill, type Language, type Parameters } from './choose';
import de from './de.json';
import en from './en.json';
import es from './es.json';

export type Key = keyof typeof en;
type Catalog = Record<Key, string>;
/** Keys that come in plural forms: `chat.newPill` for `chat.newPill.one` and `chat.newPill.other`. */
export type PluralKey = Key extends infer K ? (K extends `${infer Base}.other` ? Base : never) : never;

export { choose, fill };
export const catalogs: Record<Language, Catalog> = { en, es, de };

const wanted = typeof navigator === 'undefined' ? [] : (navigator.languages ?? []);
export const language = choose(wanted);
/** Dates and numbers as the person's own region has them, where it is a region of the chosen language. */
export const locale = wanted.find((tag) => choose([tag]) === language && tag.toLowerCase().startsWith(language)) ?? language;

const catalog = catalogs[language];
const plurals = new Intl.PluralRules(locale);
const numbers = new Intl.NumberFormat(locale);

export function t(key: Key, parameters: Parameters = {}): string {
  return fill(catalog[key], parameters);
}

export function plural(key: PluralKey, count: number, parameters: Parameters = {}): string {
  // Spanish has `many` for millions: `other` says it as well.
  const form = plurals.select(count) === 'one' ? 'one' : 'other';
  return fill(catalog[`${key}.${form}`], { ...parameters, count: numbers.format(count) });
}

export function has(key: string): key is Key {
  return Object.hasOwn(en, key);
}

const clock = new Intl.DateTimeFormat(locale, { hour: 'numeric', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(locale, { weekday: 'long', day: 'numeric', month: 'long' });
const dated = new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'long', year: 'numeric' });
const listed = new Intl.ListFormat(locale, { type: 'conjunction' });

export const time = (ms: number): string => clock.format(ms);
/** Bytes for people: 1,000 to a kB, as file managers have it. */
export function bytes(value: number): string {
  const [unit, divisor] = value < 1_000 ? (['byte', 1] as const) : value < 1_000_000 ? (['kilobyte', 1e3] as const) : (['megabyte', 1e6] as const);
  const maximumFractionDigits = unit === 'megabyte' ? 1 : 0;
  return new Intl.NumberFormat(locale, { style: 'unit', unit, unitDisplay: 'short', maximumFractionDigits }).format(value / divisor);
}
const percents = new Intl.NumberFormat(locale, { style: 'percent' });
export const percent = (value: number): string => percents.format(value);
export const number = (value: number): string => numbers.format(value);
/** A price, of thousandths. A code that is none is written beside the number. */
export function money(thousandths: number, currency: string): string {
  try {
    return new Intl.NumberFormat(locale, { style: 'currency', currency }).format(thousandths / 1_000);
  } catch {
    return `${numbers.format(thousandths / 1_000)} ${currency}`;
  }
}
export const list = (values: string[]): string => listed.format(values);

/** `14:00–15:00`, with its day if it is not today. */
export function hour(ms: number, now: number = Date.now()): string {
  const span = clock.formatRange(ms, ms + 3_600_000);
  return new Date(ms).toDateString() === new Date(now).toDateString() ? span : `${day(ms, now)}, ${span}`;
}

export function seconds(value: number): string {
  return new Intl.NumberFormat(locale, { style: 'unit', unit: 'second', unitDisplay: 'long' }).format(value);
}

const DAY_MS = 86_400_000;

/** A day as people say it: today, yesterday, a weekday within the year, else the date. */
export function day(ms: number, now: number = Date.now()): string {
  const midnight = (at: number) => new Date(at).setHours(0, 0, 0, 0);
  const ago = Math.round((midnight(now) - midnight(ms)) / DAY_MS);
  if (ago === 0) return t('day.today');
  if (ago === 1) return t('day.yesterday');
  return ago > 1 && ago < 180 ? weekday.format(ms) : dated.format(ms);
}
