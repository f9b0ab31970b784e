/** The chat on a business's own site: another site, a strict policy, and the button and the frame that one line puts there. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BrowserContextOptions, Frame, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Browser } from 'playwright-core';
import { DESKTOP, launch, PHONE } from './browser';
import { host, type Host } from './host';
import { calls, receive, until, violations, visit, type Watched } from './page';
import { serve, type Served } from './serve';

const ROOT = join(import.meta.dirname, '../..');
const SHOTS = join(ROOT, 'shots');
const LINK = 'data-link="/@cortado?state=chat#k=abc"';
const NEW = 'data-link="/@cortado?state=welcome#k=abc"';

let browser: Browser;
let shop: Host;
let app: Served;
beforeAll(async () => {
  mkdirSync(SHOTS, { recursive: true });
  browser = await launch();
  shop = await host();
  app = await serve(join(ROOT, 'dist-dev'), `${shop.origin} ${shop.neighbour}`);
});
afterAll(async () => {
  await browser.close();
  app.server.close();
  shop.close();
});

type Page_ = Omit<Parameters<Host['page']>[0], 'app' | 'scripts'>;

/** Its shadow root is open here, so that the test and axe can see what they look at; that it is closed has a test of its own. */
async function at(script: string | string[], { from, ...page }: Page_ & { app?: string; from?: string } = {}, options: BrowserContextOptions = {}): Promise<Watched> {
  const path = shop.page({ app: app.origin, scripts: [script].flat(), ...page });
  return visit(browser, (from ?? shop.origin) + path, { viewport: DESKTOP, ...options }, (context) =>
    context.addInitScript(() => {
      const attach = Element.prototype.attachShadow;
      Element.prototype.attachShadow = function (how) {
        return attach.call(this, { ...how, mode: 'open' });
      };
    }),
  );
}

const button = (page: Page) => page.locator('bulla-chat .button');
const panel = (page: Page) => page.locator('bulla-chat dialog');

async function chat(page: Page): Promise<Frame> {
  const frame = await (await page.locator('bulla-chat iframe').elementHandle())!.contentFrame();
  await frame!.locator('main').waitFor();
  await panel(page).locator('iframe').waitFor({ state: 'visible' });
  return frame!;
}

const opened = async (page: Page) => (await button(page).click(), chat(page));

/** What has the focus on the page around, looked for in the shadow root, too. */
const focused = (page: Page) =>
  page.evaluate(() => {
    const outer = document.activeElement;
    const inner = outer?.shadowRoot?.activeElement ?? outer;
    return inner?.className || inner?.tagName || '';
  });
/** What has it in the frame; null while the frame has it not. */
const focusedIn = (frame: Frame) =>
  frame.evaluate(() => (document.hasFocus() ? document.activeElement?.getAttribute('aria-label') || document.activeElement?.id || document.activeElement?.tagName : null));
const name = (page: Page) => page.locator('bulla-chat').getByRole('button').first().evaluate((element) => {
  const root = element.getRootNode() as ShadowRoot;
  return element.getAttribute('aria-labelledby')!.split(' ').map((id) => root.getElementById(id)!.textContent).join(' ').trim();
});
const press = async (page: Page, ...keys: string[]) => {
  for (const key of keys) await page.keyboard.press(key);
};

/** Counts what is posted to the page from now on, heeded or not. */
async function hearing(page: Page): Promise<() => Promise<number>> {
  await page.evaluate(() => {
    Object.assign(window, { heard: 0 });
    addEventListener('message', () => ((window as unknown as { heard: number }).heard += 1));
  });
  return () => page.evaluate(() => (window as unknown as { heard: number }).heard);
}

describe.each([
  ['phone-light', { viewport: PHONE, colorScheme: 'light', hasTouch: true, isMobile: true, deviceScaleFactor: 2 }],
  ['phone-dark', { viewport: PHONE, colorScheme: 'dark', hasTouch: true, isMobile: true, deviceScaleFactor: 2 }],
  ['desktop-light', { viewport: DESKTOP, colorScheme: 'light' }],
  ['desktop-dark', { viewport: DESKTOP, colorScheme: 'dark' }],
] as const)('%s', (look, options) => {
  it('has nothing against WCAG 2.2 AA, closed, open and inside, and nothing against a strict policy', async () => {
    const { page, complaints, close } = await at(LINK, {}, options);
    await button(page).waitFor();
    expect((await button(page).boundingBox())!.height).toBeGreaterThanOrEqual(48);
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(SHOTS, `widget-closed-${look}.png`) });
    const frame = await opened(page);
    await frame.locator('article').first().waitFor();
    expect(await violations(page)).toEqual([]);
    expect(await violations(frame)).toEqual([]);
    // Whole, and at the side where the button is.
    const [{ x, y, width, height }, at_] = [(await panel(page).boundingBox())!, (await button(page).boundingBox())!];
    expect(x >= 0 && y >= 0 && x + width <= options.viewport.width && y + height <= options.viewport.height).toBe(true);
    expect(x + width).toBeGreaterThanOrEqual(at_.x + at_.width);
    await page.screenshot({ path: join(SHOTS, `widget-open-${look}.png`) });
    expect(complaints).toEqual([]);
    await close();
  });
});

it('the axe run is alive in the shadow root: a missing name is found', async () => {
  const { page, close } = await at(LINK);
  await button(page).evaluate((button) => (button.removeAttribute('aria-labelledby'), button.replaceChildren()));
  expect((await violations(page)).join()).toContain('button-name');
  await close();
});

it('nothing but the script is fetched before it is opened; by keyboard alone one writes, closes and comes back', async () => {
  const asked: string[] = [];
  const url = shop.origin + shop.page({ app: app.origin, scripts: [LINK] });
  const { page, complaints, close } = await visit(browser, url, { viewport: DESKTOP }, async (context) => {
    context.on('request', (request) => request.url().startsWith(app.origin) && asked.push(request.url()));
  });
  await page.locator('bulla-chat').waitFor({ state: 'attached' });
  expect(await page.evaluate(() => document.body.lastElementChild?.tagName)).toBe('BULLA-CHAT');
  // As it is: nobody looks into it.
  expect(await page.evaluate(() => document.querySelector('bulla-chat')!.shadowRoot)).toBeNull();
  expect(asked).toEqual([`${app.origin}/widget.js`]);
  // Nor is there a frame that another window could reach by its number.
  await press(page, 'Tab', 'Tab', 'Enter');
  await until(async () => page.frames().length, 2);
  expect(await page.evaluate(() => window.length)).toBe(0);
  const frame = page.frames()[1]!;
  await until(async () => frame.url(), `${app.origin}/@cortado?state=chat&frame#k=abc`);

  // The field has the focus.
  await until(() => focusedIn(frame), 'Message');
  await page.keyboard.type('From the shop');
  await press(page, 'Enter');
  await until(() => frame.locator('article .text').last().innerText(), 'From the shop');

  // The header's last button closes it; the focus is back on the button, which opens it again.
  await frame.getByRole('button', { name: 'Settings' }).focus();
  await press(page, 'Tab');
  await until(() => focusedIn(frame), 'Close the chat');
  await press(page, 'Enter');
  await until(() => focusedIn(frame), null);
  expect(await page.evaluate(() => document.activeElement?.tagName)).toBe('BULLA-CHAT');
  await press(page, 'Enter');
  // One goes on writing.
  await until(() => focusedIn(frame), 'Message');
  await page.keyboard.type('Again');
  await until(() => frame.locator('textarea').inputValue(), 'Again');
  expect(asked.filter((url) => url.includes('/@cortado'))).toHaveLength(1);
  expect(complaints).toEqual([]);
  await close();
});

it('closes by its button and by Escape on the page, and says that it is open', async () => {
  const { page, complaints, close } = await at(LINK);
  const expanded = () => button(page).getAttribute('aria-expanded');
  await page.getByRole('link').focus();
  await press(page, 'Tab');
  await until(() => focused(page), 'button');
  expect(await expanded()).toBe('false');
  await press(page, 'Enter');
  const frame = await chat(page);
  await until(() => focusedIn(frame), 'Message');
  expect(await expanded()).toBe('true');
  expect(await panel(page).getAttribute('aria-label')).toBe('Chat');
  expect(await page.locator('bulla-chat iframe').getAttribute('title')).toBe('Chat');

  // Beside the page, not over it: the way out of the frame is the way in.
  for (let steps = 0; (await focused(page)) !== 'button' && steps < 30; steps += 1) await press(page, 'Shift+Tab');
  await until(() => focused(page), 'button');
  await press(page, 'Escape');
  await until(expanded, 'false');
  expect(await panel(page).isVisible()).toBe(false);
  await until(() => focused(page), 'button');

  // Somebody who has gone on on the page is not taken from there.
  await press(page, 'Enter');
  await until(() => focusedIn(frame), 'Message');
  await page.getByRole('link').focus();
  await press(page, 'Escape');
  await until(expanded, 'false');
  expect(await focused(page)).toBe('A');

  await button(page).click();
  await until(() => focusedIn(frame), 'Message');
  await button(page).click();
  await until(expanded, 'false');
  expect(await focused(page)).toBe('button');
  // By the page itself.
  await page.evaluate(() => window.bulla!.open());
  await until(expanded, 'true');
  await page.evaluate(() => window.bulla!.close());
  await until(expanded, 'false');
  // Then the button is where one can go on, too: what opened it may be gone.
  await page.getByRole('link').focus();
  await page.evaluate(() => window.bulla!.open());
  await until(() => focusedIn(frame), 'Message');
  await frame.getByRole('button', { name: 'Close the chat' }).press('Enter');
  await until(expanded, 'false');
  expect(await focused(page)).toBe('button');
  // An Escape that the page used for something of its own is not ours.
  await page.evaluate(() => (window.bulla!.open(), addEventListener('keydown', (event) => event.preventDefault(), { capture: true, once: true })));
  await page.getByRole('link').focus();
  await press(page, 'Escape');
  expect(await expanded()).toBe('true');
  expect(await page.evaluate(() => [Object.isFrozen(window.bulla), Object.keys(window.bulla!)])).toEqual([true, ['open', 'close', 'identify']]);
  expect(complaints).toEqual([]);
  await close();
});

it('counts what came while it was closed, says it, and forgets it when it is opened', async () => {
  const { page, complaints, close } = await at(LINK);
  const badge = () => button(page).getAttribute('data-news');
  const frame = await opened(page);
  await frame.locator('textarea').waitFor();
  await until(() => focusedIn(frame), 'Message');
  await button(page).click();
  expect(await name(page)).toBe('Write to us');
  const before = await calls(frame, 'markRead');
  await receive(frame, { text: 'One' });
  await until(badge, '1');
  expect(await name(page)).toBe('Write to us 1 new message');
  const second = await receive(frame, { text: 'Two' });
  await until(badge, '2');
  expect(await page.locator('bulla-chat [role=status]#news').textContent()).toBe('2 new messages');
  expect(await violations(page)).toEqual([]);
  // What nobody has looked at is not said to be read.
  expect(await calls(frame, 'markRead')).toEqual(before);

  await button(page).click();
  await until(badge, '');
  await until(async () => (await calls(frame, 'markRead')).at(-1), [second.id]);
  expect(await name(page)).toBe('Write to us');

  // What came beside somebody who looks at the page is no news when it is closed.
  await page.getByRole('link').focus();
  const heard = await hearing(page);
  await receive(frame, { text: 'Three' });
  await until(heard, 1);
  await press(page, 'Escape');
  await receive(frame, { text: 'Four' });
  await until(badge, '1');
  expect(complaints).toEqual([]);
  await close();
});

it('fills a phone, where the page behind is out of reach, and stays what it was when the screen turns', async () => {
  const { page, complaints, close } = await at(LINK, {}, { viewport: PHONE, hasTouch: true, isMobile: true });
  await button(page).tap();
  const frame = await chat(page);
  expect(await panel(page).boundingBox()).toEqual({ x: 0, y: 0, ...PHONE });
  expect(await panel(page).evaluate((dialog) => dialog.matches(':modal'))).toBe(true);
  expect(await frame.evaluate(() => innerWidth)).toBe(PHONE.width);
  await frame.locator('textarea').fill('A draft');
  await page.setViewportSize(DESKTOP);
  await until(() => panel(page).evaluate((dialog) => dialog.matches(':modal')), false);
  expect((await panel(page).boundingBox())!.width).toBeLessThan(500);
  await page.setViewportSize(PHONE);
  await until(() => panel(page).evaluate((dialog) => dialog.matches(':modal')), true);
  // The same frame, which was not loaded anew.
  expect(await frame.locator('textarea').inputValue()).toBe('A draft');
  await frame.getByRole('button', { name: 'Close the chat' }).tap();
  await until(() => panel(page).isVisible(), false);
  await until(() => focused(page), 'button');
  expect(complaints).toEqual([]);
  await close();
});

it('where the app does not let itself be framed, there is a sentence and a way', async () => {
  const strict = await serve(join(ROOT, 'dist-dev'));
  const { page, close } = await at(LINK, { app: strict.origin });
  await button(page).click();
  const refused = page.locator('bulla-chat .refused');
  await refused.waitFor({ timeout: 15_000 });
  await until(() => refused.locator('p').innerText(), 'The chat could not be opened on this page.');
  const link = refused.getByRole('link');
  expect(await link.getAttribute('href')).toBe(`${strict.origin}/@cortado?state=chat#k=abc`);
  expect(await violations(page)).toEqual([]);
  await page.screenshot({ path: join(SHOTS, 'widget-refused-desktop-light.png') });
  const [tab] = await Promise.all([page.waitForEvent('popup'), link.press('Enter')]);
  await tab.locator('article').first().waitFor();
  await page.bringToFront();
  await refused.getByRole('button').press('Enter');
  await until(() => focused(page), 'button');
  // What was refused is tried again.
  await button(page).press('Enter');
  await until(() => page.locator('bulla-chat .wait p').innerText(), 'Opening …');
  await close();
  strict.server.close();
});

it('the business’s word for who this is comes before the first message, and later at once', async () => {
  const { page, complaints, close } = await at(`${NEW} data-identity="first.token.x"`);
  const frame = await opened(page);
  // Where nothing in the frame takes the focus by itself, one begins at its beginning.
  await until(() => focusedIn(frame), 'BODY');
  await frame.locator('#body').fill('Hello');
  // Before anything leaves, the person reads that it is told.
  expect(await frame.locator('#private').innerText()).toContain('this site tells Cortado Coffee which of its customers you are');
  expect(await calls(frame, 'identify')).toEqual([]);
  await frame.locator('#body').press('Enter');
  await frame.locator('article').first().waitFor();
  const order = () => frame.evaluate(() => (globalThis as unknown as { engine: { calls: { call: string }[] } }).engine.calls.map(({ call }) => call).filter((call) => /^(begin|identify|send)$/.test(call)));
  expect(await order()).toEqual(['begin', 'identify', 'send']);
  expect(await calls(frame, 'identify')).toEqual([['first.token.x']]);
  await page.evaluate(() => window.bulla!.identify('second.token.x'));
  await until(() => calls(frame, 'identify'), [['first.token.x'], ['second.token.x']]);
  await frame.locator('.know').click();
  expect(await frame.locator('dialog').innerText()).toContain('which of its own customers you are');
  expect(complaints).toEqual([]);

  // Neither of these is a token.
  await page.evaluate(() => {
    window.bulla!.identify('x'.repeat(2_049));
    window.bulla!.identify(7 as unknown as string);
  });
  expect(complaints).toEqual(Array(2).fill('bulla: an identity is a text of at most 2048 characters; this one was not used.'));
  await page.evaluate(() => window.bulla!.identify('x'.repeat(2_048)));
  await until(async () => (await calls(frame, 'identify')).length, 3);
  await close();
});

it('a token that came while it was closed is said with the hello; nobody is identified without one', async () => {
  const { page, complaints, close } = await at(`${LINK} data-identity=""`);
  await button(page).waitFor();
  await page.evaluate(() => window.bulla!.identify('while.it.was.closed'));
  await until(async () => calls(await opened(page), 'identify'), [['while.it.was.closed']]);
  await close();
  const nobody = await at(`${LINK} data-identity=""`);
  const frame = await opened(nobody.page);
  await frame.locator('.know').click();
  expect(await frame.locator('dialog').innerText()).not.toContain('which of its own customers you are');
  expect(await calls(frame, 'identify')).toEqual([]);
  expect([...complaints, ...nobody.complaints]).toEqual([]);
  await nobody.close();
});

it('what others post is heard by nobody', async () => {
  const frames = `${shop.origin} ${shop.neighbour}`;
  const body = `<iframe title="Ours" src="${shop.origin}/empty"></iframe><iframe title="Theirs" src="${shop.neighbour}/empty"></iframe><iframe title="App" src="${app.origin}/icon.svg"></iframe>`;
  const { page, complaints, close } = await at(`${LINK} data-identity="the.shops.own"`, { frames, body });
  const frame = await opened(page);
  await until(() => calls(frame, 'identify'), [['the.shops.own']]);

  // Another window of the very same origin as the page around it is not the page around it.
  const other = page.frames().find((frame) => frame.url() === `${shop.origin}/empty`)!;
  await other.evaluate(() => {
    const frame = parent.document.querySelector('bulla-chat')!.shadowRoot!.querySelector('iframe')!;
    for (const type of ['hello', 'identify']) frame.contentWindow!.postMessage({ bulla: 1, type, identity: 'somebody.elses.x' }, '*');
  });
  // Nor is what the page itself posts in another version, or in no form at all.
  await page.evaluate(() => {
    const frame = document.querySelector('bulla-chat')!.shadowRoot!.querySelector('iframe')!;
    for (const said of [{ bulla: 2, type: 'identify', identity: 'x' }, { type: 'identify', identity: 'x' }, { bulla: 1, type: 'identify' }, null, 'identify']) frame.contentWindow!.postMessage(said, '*');
  });
  await page.evaluate(() => window.bulla!.identify('the.last.one'));
  await until(async () => (await calls(frame, 'identify')).at(-1), ['the.last.one']);
  expect(await calls(frame, 'identify')).toEqual([['the.shops.own'], ['the.last.one']]);

  // Another frame counts nothing and closes nothing, be it somebody else's or of the app's own origin.
  for (const url of [`${shop.neighbour}/empty`, `${app.origin}/icon.svg`]) {
    await page.frames().find((frame) => frame.url() === url)!.evaluate(() => {
      for (const said of [{ bulla: 1, type: 'close' }, { bulla: 1, type: 'unread', count: 7 }]) parent.postMessage(said, '*');
    });
  }
  expect(await panel(page).isVisible()).toBe(true);
  // Nor does the chat's own, if it is led elsewhere; and it is told nothing there.
  const heard = await hearing(page);
  await button(page).click();
  await frame.goto(`${shop.neighbour}/empty`);
  await frame.evaluate(() => {
    Object.assign(window, { heard: [] });
    addEventListener('message', ({ data }) => (window as unknown as { heard: unknown[] }).heard.push(data));
    for (const said of [{ bulla: 1, type: 'ready' }, { bulla: 1, type: 'unread', count: 7 }]) parent.postMessage(said, '*');
  });
  await until(heard, 2);
  await page.evaluate(() => window.bulla!.identify('not.for.them'));
  expect(await name(page)).toBe('Write to us');
  expect(await frame.evaluate(() => (window as unknown as { heard: unknown[] }).heard)).toEqual([]);
  // The browser's own word that what was for the app did not go to them.
  expect(complaints.filter((text) => !text.includes("Failed to execute 'postMessage'"))).toEqual(['bulla: an identity is a text of at most 2048 characters; this one was not used.']);
  await close();
});

it.each([
  ['of the line', 'data-link="/@cortado?state=welcome#k=abc&c=0right"', '#k=abc'],
  ['that the frame is given by another way', 'data-link="/@cortado?state=welcome#k=abc"', '#k=abc&c=0right'],
])('a code %s is dropped: a page around it may not have somebody continue', async (_which, script, hash) => {
  const { page, complaints, close } = await at(script);
  const frame = await opened(page);
  await page.locator('bulla-chat iframe').evaluate((frame: HTMLIFrameElement, hash) => (frame.src = frame.src.replace(/#.*/, hash)), hash);
  await frame.getByLabel('Your message').waitFor();
  await until(async () => frame.url(), `${app.origin}/@cortado?state=welcome&frame#k=abc`);
  expect(await page.locator('bulla-chat a').getAttribute('href')).toBe(`${app.origin}/@cortado?state=welcome#k=abc`);
  expect(await frame.getByText('Continue on this device?').count()).toBe(0);
  expect(await calls(frame, 'recover')).toEqual([]);
  expect(complaints).toEqual([]);
  await close();
});

it('included twice it is there once', async () => {
  const { page, complaints, close } = await at([LINK, NEW]);
  await button(page).waitFor();
  await page.waitForLoadState('networkidle');
  expect(await page.locator('bulla-chat').count()).toBe(1);
  const frame = await opened(page);
  expect(complaints).toEqual([]);
  expect(frame.url()).toContain('frame#k=abc');
  await close();
});

it.each(['', 'data-link=""', 'data-link="https://elsewhere.example/@cortado#k=abc"', 'data-link="//elsewhere.example/@cortado#k=abc"', 'data-link="/\\elsewhere.example/@cortado#k=abc"', 'data-link="/@cortado"', 'data-link="/@cortado#x=abc"', 'data-link="/#k=abc"', 'data-link="javascript:alert(1)//@x#k=a"', 'data-link="@cortado#k=abc"'])(
  'is not there for what is no link of its origin: %s',
  async (link) => {
    const { page, complaints, close } = await at(link);
    await until(async () => complaints.length, 1);
    expect(complaints[0]).toMatch(/^bulla: widget\.js is included by a <script> whose data-link is/);
    expect(await page.locator('bulla-chat').count()).toBe(0);
    expect(await page.evaluate(() => window.bulla)).toBeUndefined();
    await close();
  },
);

it('speaks the page’s language, else the browser’s, and says what the page gives it to say, where it wants it', async () => {
  for (const [lang, locale, want, says] of [
    ['de-CH', 'en-GB', 'de', 'Schreiben Sie uns'],
    ['fr', 'es-ES', 'es', 'Escríbenos'],
    ['', 'fr-FR', 'en', 'Write to us'],
  ] as const) {
    const { page, close } = await at(LINK, { lang }, { locale });
    await until(() => button(page).innerText(), says);
    expect(await page.locator('bulla-chat [lang]').first().getAttribute('lang')).toBe(want);
    await close();
  }
  const { page, close } = await at(`${LINK} data-label="&lt;b&gt;Ask&lt;/b&gt;" data-position="left"`);
  await until(() => button(page).innerText(), '<b>Ask</b>');
  expect((await button(page).boundingBox())!.x).toBeLessThan(100);
  await opened(page);
  expect((await panel(page).boundingBox())!.x).toBeLessThan(100);
  await close();
});

it('where the browser lets a frame of another site keep nothing, that is said in it, with the way to a tab', async () => {
  // As this Chromium's private windows do, for everything from `sessionStorage` to the locks of the engine's worker.
  const { page, complaints, close } = await at('data-link="/@cortado?worker#k=abc"');
  const frame = await opened(page);
  expect(await frame.evaluate(() => navigator.locks.request('any', () => null).catch(({ name }: DOMException) => name))).toBe('SecurityError');
  await until(() => frame.locator('[role=alert]').innerText(), 'This browser does not let the page keep anything, so your conversation would be lost. Leave the private window or make room, then try again.');
  expect(await violations(frame)).toEqual([]);
  await page.screenshot({ path: join(SHOTS, 'widget-storage-desktop-light.png') });
  const link = frame.getByRole('link', { name: 'Open in a tab of its own' });
  const [tab] = await Promise.all([page.waitForEvent('popup'), link.click()]);
  await tab.locator('article').first().waitFor();
  expect(tab.url()).toBe(`${app.origin}/@cortado?worker=#k=abc`);
  await tab.close();
  await frame.getByRole('button', { name: 'Close the chat' }).click();
  await until(() => panel(page).isVisible(), false);
  expect(complaints).toEqual([]);
  await close();
});

it('on the shop’s own site it is one conversation with that of a tab', async () => {
  const { page, complaints, close } = await at('data-link="/@cortado?worker#k=abc"', { from: shop.neighbour });
  const frame = await opened(page);
  await frame.locator('article').first().waitFor();
  const tab = await page.context().newPage();
  await tab.goto(`${app.origin}/@cortado?worker#k=abc`);
  await until(() => tab.locator('[role=alert]').innerText(), 'This conversation is already open in another tab or window.');
  await tab.getByRole('button', { name: 'Use it here' }).click();
  await tab.locator('article').first().waitFor();
  await until(() => frame.locator('[role=alert]').innerText(), 'This conversation was opened in another tab, and has stopped here.');
  // And back, for which the frame begins anew.
  await page.bringToFront();
  await frame.getByRole('button', { name: 'Use it here' }).click();
  await frame.locator('article').first().waitFor();
  await frame.getByRole('button', { name: 'Close the chat' }).click();
  await until(() => panel(page).isVisible(), false);
  expect(complaints).toEqual([]);
  await close();
});

it('the released app in a frame says that it is there, under its policy, and leaves no service worker behind', async () => {
  const released = await serve(join(ROOT, 'dist'), shop.neighbour);
  const { page, complaints, close } = await at('data-link="/@cortado#k=abc"', { app: released.origin, from: shop.neighbour });
  const frame = await opened(page);
  // Whether this build has its engine or not: it says something.
  await frame.locator('[role=alert], form').first().waitFor();
  const registered = (where: Page | Frame) => where.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length);
  expect(await registered(frame)).toBe(0);
  // In a tab it would be there by now.
  const tab = await page.context().newPage();
  await tab.goto(`${released.origin}/@cortado#k=abc`);
  await until(() => registered(tab), 1);
  await tab.close();
  await frame.getByRole('button', { name: 'Close the chat' }).click();
  await until(() => panel(page).isVisible(), false);
  expect(complaints).toEqual([]);
  await close();
  released.server.close();
});
