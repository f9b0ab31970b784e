/**
 * The page in a frame of the business's own site (`?frame`). It hears its parent and nobody else, and answers to the origin that said
 * hello. Which origins can be the parent at all is decided by the policy under which this page is served (`frame-ancestors`).
 */
import { fromHost, type FromFrame } from './embed';

export const framed = typeof window !== 'undefined' && window.parent !== window && new URLSearchParams(location.search).has('frame');

let host: string | null = null;
let unread = 0;

function say(message: FromFrame): void {
  if (host !== null) window.parent.postMessage(message, host);
}

/** Says that the page is there, and hears from then on. */
export function meetHost(identify: (token: string) => void): void {
  addEventListener('message', ({ source, origin, data }: MessageEvent<unknown>) => {
    // A page without an origin of its own cannot be answered.
    if (source !== window.parent || origin === 'null' || (host !== null && origin !== host)) return;
    const message = fromHost(data);
    if (message?.type === 'hello') {
      host = origin;
      say({ bulla: 1, type: 'unread', count: unread });
    }
    if (host !== null && message?.identity !== undefined) identify(message.identity);
  });
  // To whoever it is: this says nothing.
  window.parent.postMessage({ bulla: 1, type: 'ready' } satisfies FromFrame, '*');
}

export function tellUnread(count: number): void {
  unread = count;
  say({ bulla: 1, type: 'unread', count });
}

/** This page's address for a tab of its own. */
export function ownTab(): string {
  const url = new URL(location.href);
  url.searchParams.delete('frame');
  return url.href;
}

/** Has the host put the frame away. When it comes back, one begins with what one writes and not with this button: browsers differ in what they remember. */
export function leave(): void {
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  say({ bulla: 1, type: 'close' });
}
