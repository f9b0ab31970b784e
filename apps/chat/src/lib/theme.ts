/** Light or dark by the person's choice. Kept in the clear: it is read before anything else, so that the page does not flash. */
export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

export function theme(): Theme {
  try {
    const chosen = localStorage.getItem('theme');
    return THEMES.find((known) => known === chosen) ?? 'auto';
  } catch {
    return 'auto';
  }
}

export function apply(chosen: Theme): void {
  if (chosen === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

export function choose(chosen: Theme): void {
  try {
    localStorage.setItem('theme', chosen);
  } catch {
    // Where nothing can be stored it holds until the page is closed.
  }
  apply(chosen);
}
