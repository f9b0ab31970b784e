import { startEngine } from './lib/engine';
import { scriptUrl } from './lib/trusted';
import { start } from './start';

start(startEngine());

if ('serviceWorker' in navigator) {
  // After the page is there: its files are cached when nothing else is waited for.
  addEventListener('load', () => {
    navigator.serviceWorker.register(scriptUrl('/sw.js') as string).catch(() => undefined);
  });
}
