import { mount } from 'svelte';
import App from './App.svelte';
import type { Engine } from './lib/engine/types';
import { language } from './lib/i18n';
import { apply, theme } from './lib/theme';

/** Paints the page over an engine. */
export function start(engine: Engine): void {
  document.documentElement.lang = language;
  apply(theme());
  mount(App, { target: document.getElementById('app')!, props: { engine } });
}
