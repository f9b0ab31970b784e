/** `widget.js`: one line on a business's own site puts the chat there. Everything that it is told stands in the line itself. */
import { takeTicket } from '../lib/carry';
import { identityOf } from '../lib/embed';
import { widget, type Bulla } from './widget';
import { words } from './words';

declare global {
  interface Window {
    bulla?: Bulla;
  }
}

const NAME = 'bulla-chat';

/** A chat's link on the script's own origin: a path that ends in `@handle`, and the fingerprint behind it. Null for anything else. */
function linkOf(script: string, said: string | undefined): URL | null {
  if (!said?.startsWith('/')) return null;
  const link = new URL(said, script);
  // Everybody who sees this page would have it.
  link.hash = takeTicket(link.hash).hash;
  // `//elsewhere` begins with a slash, too.
  const own = link.origin === new URL(script).origin;
  return own && /\/@[^/]+$/.test(link.pathname) && /[#&]k=./.test(link.hash) ? link : null;
}

function start(script: HTMLOrSVGScriptElement | null): void {
  // Included twice.
  if (customElements.get(NAME)) return;
  const { src, dataset } = script instanceof HTMLScriptElement ? script : { src: '', dataset: {} as DOMStringMap };
  const link = src ? linkOf(src, dataset.link) : null;
  if (!link) return console.error('bulla: widget.js is included by a <script> whose data-link is a link to the chat without its origin: /@handle#k=…');
  customElements.define(NAME, class extends HTMLElement {});
  const options = {
    link,
    label: dataset.label || null,
    side: dataset.position === 'left' ? ('left' as const) : ('right' as const),
    // Empty where nobody is signed in.
    identity: dataset.identity ? identityOf(dataset.identity) : null,
  };
  const put = () => {
    const host = document.createElement(NAME);
    const bulla = widget(host, options, words([document.documentElement.lang, ...navigator.languages]));
    document.body.append(host);
    Object.defineProperty(window, 'bulla', { value: bulla });
  };
  // Its end is not there yet.
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', put);
  else put();
}

start(document.currentScript);
