/**
 * The service worker that keeps the page's files, registered once; null where there is none: refused, no certificate that the browser trusts, or
 * in a frame, which comes and goes with a page that is not ours.
 */
import { framed } from './frame';
import { scriptUrl } from './trusted';

let registered: Promise<ServiceWorkerRegistration | null> = Promise.resolve(null);

/** After the page is there: its files are cached when nothing else is waited for. */
export function register(): void {
  if (framed || !('serviceWorker' in navigator)) return;
  const loaded = new Promise<void>((resolve) => (document.readyState === 'complete' ? resolve() : addEventListener('load', () => resolve(), { once: true })));
  registered = loaded.then(() => navigator.serviceWorker.register(scriptUrl('/sw.js') as string)).catch(() => null);
}

export const shell = (): Promise<ServiceWorkerRegistration | null> => registered;
