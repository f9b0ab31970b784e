/** What the widget says. Its catalog is its own, because it goes to every visitor of somebody's site and must be small. */
import { choose, fill, type Language } from '../lib/i18n/choose';
import de from './de.json';
import en from './en.json';
import es from './es.json';

export type Key = keyof typeof en;
export const catalogs: Record<Language, Record<Key, string>> = { en, es, de };

export interface Words {
  language: Language;
  t(key: Key): string;
  /** So many new messages; empty for none. */
  news(count: number): string;
}

export function words(wanted: readonly string[]): Words {
  const language = choose(wanted);
  const catalog = catalogs[language];
  const plurals = new Intl.PluralRules(language);
  return {
    language,
    t: (key) => catalog[key],
    news: (count) => (count ? fill(catalog[plurals.select(count) === 'one' ? 'news.one' : 'news.other'], { count }) : ''),
  };
}
