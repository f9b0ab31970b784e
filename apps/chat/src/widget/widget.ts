/**
 * The button and the panel with the chat's frame, as one element of the page around it. The frame is made when the panel is first opened:
 * before that nothing is asked for from the chat's origin.
 */
import { fromFrame, identityOf, type FromHost } from '../lib/embed';
import css from './widget.css?inline';
import type { Words } from './words';

export interface Options {
  /** The link that is shown, whole. */
  link: URL;
  /** What the button says instead of its own words. */
  label: string | null;
  side: 'left' | 'right';
  identity: string | null;
}

/** What a page can do with it, as `window.bulla`. */
export interface Bulla {
  open(): void;
  close(): void;
  /** Gives the business's signed word for who this visitor is. */
  identify(token: string): void;
}

/** A frame that has not said that it is there by then is not going to: it may not be shown on this page, or not store anything. */
const PATIENCE_MS = 6_000;
/** Where the panel would be about as large as the screen, it fills it, and the page behind cannot be reached meanwhile. */
const SMALL = '(max-width: 639px), (max-height: 479px)';
const SVG = 'http://www.w3.org/2000/svg';
const BUBBLE = 'M4.500 5h15a1.500 1.500 0 0 1 1.500 1.500v9a1.500 1.500 0 0 1-1.500 1.500H11l-4.500 3.500V17h-2A1.500 1.500 0 0 1 3 15.500v-9A1.500 1.500 0 0 1 4.500 5z';

/** Elements are made one by one: a page's policy may forbid HTML from strings, and styles in attributes. */
function put<E extends Element>(element: E, attributes: Record<string, string>, ...children: (Node | string)[]): E {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const make = <N extends keyof HTMLElementTagNameMap>(name: N, attributes: Record<string, string>, ...children: (Node | string)[]) =>
  put(document.createElement(name), attributes, ...children);

function icon(): SVGElement {
  const path = put(document.createElementNS(SVG, 'path'), { d: BUBBLE });
  const looks = { viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', 'stroke-width': '1.8', 'stroke-linejoin': 'round', 'aria-hidden': 'true' };
  return put(document.createElementNS(SVG, 'svg') as SVGElement, looks, path);
}

/** With `?frame` the page knows that it is shown in one. */
function framed(link: URL): string {
  const url = new URL(link);
  url.search += url.search ? '&frame' : '?frame';
  return url.href;
}

export function widget(host: HTMLElement, { link, label, side, identity }: Options, { language, t, news }: Words): Bulla {
  // Beside the button, so that it is announced; and in its name, so that it is found.
  const said = make('span', { id: 'news', class: 'said', role: 'status' });
  const button = make(
    'button',
    { class: 'button', type: 'button', 'aria-expanded': 'false', 'aria-controls': 'panel', 'aria-labelledby': 'label news', 'data-news': '' },
    icon(),
    make('span', { id: 'label' }, label ?? t('label')),
  );
  const sentence = make('p', { role: 'status' }, t('opening'));
  const elsewhere = make('a', { href: link.href, target: '_blank', rel: 'noopener' }, t('tab'));
  const dismiss = make('button', { class: 'close', type: 'button' }, t('close'));
  const panel = make('dialog', { id: 'panel', class: 'panel', 'aria-label': t('chat'), tabindex: '-1' }, make('div', { class: 'wait' }, sentence, elsewhere, dismiss));

  const root = host.attachShadow({ mode: 'closed' });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  root.adoptedStyleSheets = [sheet];
  root.append(make('div', { class: `all ${side}`, lang: language }, button, said, panel));

  const small = matchMedia(SMALL);
  let frame: HTMLIFrameElement | null = null;
  let patience: ReturnType<typeof setTimeout> | undefined;
  let unread = 0;
  /** So many of them were there already when the panel was last in sight. */
  let known = 0;

  const has = (state: 'ready' | 'refused') => panel.classList.contains(state);
  const focusInside = () => panel.contains(root.activeElement);
  const post = (message: FromHost) => frame?.contentWindow?.postMessage(message, link.origin);

  function load(): void {
    frame?.remove();
    panel.classList.remove('ready', 'refused');
    sentence.textContent = t('opening');
    frame = make('iframe', { src: framed(link), title: t('chat'), allow: 'clipboard-write', referrerpolicy: 'strict-origin' });
    panel.append(frame);
    clearTimeout(patience);
    patience = setTimeout(() => {
      panel.classList.add('refused');
      sentence.textContent = t('refused');
    }, PATIENCE_MS);
  }

  function greet(): void {
    clearTimeout(patience);
    panel.classList.remove('refused');
    panel.classList.add('ready');
    post(identity === null ? { bulla: 1, type: 'hello' } : { bulla: 1, type: 'hello', identity });
    // Whoever has gone on to something else on the page meanwhile is left there.
    if (panel.open && focusInside()) frame?.focus();
  }

  function count(now: number): void {
    unread = now;
    if (panel.open || now < known) known = now;
    const fresh = unread - known;
    // For the eye only; by the style sheet, because text inside a button is expected in its name.
    button.dataset.news = fresh > 99 ? '99+' : fresh ? String(fresh) : '';
    // Said once for each change: a status that is set again is read again.
    if (said.textContent !== news(fresh)) said.textContent = news(fresh);
  }

  function show(): void {
    panel.classList.toggle('full', small.matches);
    if (small.matches) panel.showModal();
    else panel.show();
    (has('ready') && frame ? frame : panel).focus();
  }

  function open(): void {
    if (panel.open) return;
    // What was refused may be there by now.
    if (!frame || has('refused')) load();
    show();
    button.setAttribute('aria-expanded', 'true');
    count(unread);
  }

  function close(): void {
    if (!panel.open) return;
    const back = focusInside();
    panel.close();
    button.setAttribute('aria-expanded', 'false');
    if (back) button.focus();
  }

  button.addEventListener('click', () => (panel.open ? close() : open()));
  dismiss.addEventListener('click', close);
  panel.addEventListener('cancel', (event) => {
    event.preventDefault();
    close();
  });
  document.addEventListener('keydown', (event) => {
    // What the page itself makes of it goes first.
    if (event.key === 'Escape' && !event.defaultPrevented) close();
  });
  small.addEventListener('change', () => {
    if (!panel.open) return;
    const inside = focusInside();
    const before = document.activeElement;
    panel.close();
    show();
    if (!inside && !small.matches && before instanceof HTMLElement) before.focus();
  });
  window.addEventListener('message', ({ source, origin, data }: MessageEvent<unknown>) => {
    if (!frame || source !== frame.contentWindow || origin !== link.origin) return;
    const message = fromFrame(data);
    if (message?.type === 'ready') greet();
    else if (message?.type === 'unread') count(message.count);
    else if (message?.type === 'close') close();
  });

  return Object.freeze({
    open,
    close,
    identify(token: string) {
      const checked = identityOf(token);
      if (checked === null) return;
      identity = checked;
      if (has('ready')) post({ bulla: 1, type: 'identify', identity });
    },
  });
}
