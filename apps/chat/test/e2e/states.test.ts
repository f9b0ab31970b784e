/** Every state of the page: nothing against WCAG 2.2 AA, nothing against the page's own policy, nothing wider than a small phone. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DESKTOP, launch, PHONE } from './browser';
import { asks, until, violations, visit } from './page';
import { serve, type Served } from './serve';

const ROOT = join(import.meta.dirname, '../..');
const SHOTS = join(ROOT, 'shots');

const openMenu = async (page: Page) => {
  await page.locator('article').last().focus();
  await page.keyboard.press('Enter');
  await page.getByRole('menu').waitFor();
};

/** Chooses a picture, as a person would. */
const attachPicture = async (page: Page) => {
  await page.locator('input[type=file]').setInputFiles({ name: 'grinder.png', mimeType: 'image/png', buffer: readFileSync(join(ROOT, 'public/icon-192.png')) });
  await page.locator('dialog form img').waitFor();
};

const openOffer = async (page: Page, name: string) => {
  await page.getByRole('button', { name }).click();
  await page.locator('dialog form').waitFor();
};

const showQr = async (page: Page) => {
  await page.locator('.offer .primary').click();
  await page.locator('dialog section .button').click();
  await page.locator('dialog svg[role=img]').waitFor();
};

/** A name, the part the engine plays (and what came in the link with it), what is waited for, and what is done then. */
const STATES: [name: string, part: string, sign: string, act?: (page: Page) => Promise<void>][] = [
  ['opening', 'opening', 'main.opening'],
  ['welcome', 'welcome', 'form'],
  ['welcome-fingerprint', 'welcome', 'form', (page) => page.locator('summary').first().click()],
  ['welcome-alone', 'welcome-alone', 'form'],
  ['welcome-empty', 'welcome', 'form', (page) => page.locator('button[type=submit]').first().click()],
  ...['bad-link', 'wrong-key', 'unreachable', 'storage', 'other-tab', 'wasm', 'outdated', 'unknown'].map(
    (code): [string, string, string] => [`error-${code}`, `error-${code}`, '[role=alert]'],
  ),
  ['taken-over', 'taken-over', 'main .mark'],
  ['empty', 'empty', '.greeting'],
  ['chat', 'chat', 'article'],
  ['unread', 'unread', '.unread'],
  ['typing', 'typing', '.typing.on'],
  ['failed', 'failed', '.failure'],
  ['offline', 'offline', '.banner'],
  ['connecting', 'connecting', '.banner'],
  ['kinds', 'kinds', '.breach'],
  ['notices', 'notices', 'p.strong'],
  ['files', 'files', '.picture img'],
  ['choices', 'choices', '.choice'],
  ['list', 'choices', '.choice', (page) => openOffer(page, 'See the beans')],
  ['offers', 'offers', '.choice'],
  ['products', 'offers', '.choice', async (page) => (await openOffer(page, 'See what there is'), await page.locator('dialog .count button').nth(1).click())],
  ['form', 'offers', '.choice', (page) => openOffer(page, 'Fill it in')],
  ['form-wrong', 'offers', '.choice', async (page) => (await openOffer(page, 'Fill it in'), await page.locator('dialog [type=submit]').click(), await page.locator('dialog .problem:not(:empty)').first().waitFor())],
  ['form-second', 'offers', '.choice', async (page) => (await openOffer(page, 'Fill it in'), await page.locator('dialog input').first().fill('Canal Street 5'), await page.locator('dialog [type=submit]').click(), await page.locator('dialog fieldset').first().waitFor())],
  ['stop-offers', 'offers', '.choice', (page) => page.locator('.stop').click().then(() => page.locator('dialog .wording').waitFor())],
  ['places', 'places', '.location'],
  ['place', 'places', '.location', (page) => page.locator('article').last().locator('button.choice').click().then(() => page.locator('dialog form').waitFor())],
  ['answered', 'answered', '.choice.chosen'],
  ['answered-order', 'answered', '.choice.chosen', (page) => openOffer(page, 'See what there is')],
  ['stopped', 'stopped', '.answer'],
  ['attach', 'chat', 'article', attachPicture],
  ['devices', 'devices', '.urgent h2'],
  ['key-change', 'key-change', '.urgent h2'],
  ['stuck', 'stuck', '.banner'],
  ['removed', 'removed', '.banner'],
  ['moved', 'moved', '.banner .button'],
  ['finding', 'finding', 'h1'],
  ['past', 'past', 'article'],
  ['past-asked', 'past-asked', 'article'],
  ['code-offer', 'code', '.offer'],
  ['code', 'code', '.offer', (page) => page.locator('.offer .primary').click().then(() => page.locator('.code').waitFor())],
  ['qr', 'code', '.offer', showQr],
  ['qr-asked', 'code', '.offer', async (page) => (await showQr(page), await asks(page, '402917'), await page.locator('dialog .number').waitFor())],
  ['qr-used', 'code', '.offer', async (page) => (await showQr(page), await asks(page, '402917'), await page.locator('dialog section .button').last().click(), await page.locator('dialog section .help:not(:empty)').waitFor())],
  ['continue', 'welcome&c=0right', 'main .warning'],
  ['continue-number', 'welcome&c=0right', 'main .warning', async (page) => (await page.locator('main .button').first().click(), await page.locator('main .number').waitFor())],
  ['continue-refused', 'welcome&c=1wrong', 'main .warning', async (page) => (await page.locator('main .button').first().click(), await page.locator('.problem:not(:empty)').waitFor())],
  ['continue-passed-over', 'chat&c=0right', '.toast p'],
  ['before', 'welcome', 'form', async (page) => (await page.locator('summary').last().click(), await page.locator('#code').waitFor())],
  ['outdated', 'outdated', '.banner'],
  ['superseded', 'superseded', '.banner'],
  ['old-page', 'old-page', '.banner .button'],
  ['old-relay', 'old-relay', '.banner'],
  ['cleared', 'cleared', 'main .mark'],
  ['long', 'long', 'article'],
  ['hostile', 'hostile', 'article'],
  ['know', 'chat', 'article', async (page) => page.locator('.know').click()],
  ['settings', 'chat', 'article', async (page) => page.getByRole('button', { name: 'Settings' }).or(page.getByRole('button', { name: 'Einstellungen' })).click()],
  ['settings-wake', 'wake', 'article', async (page) => page.getByRole('button', { name: 'Settings' }).or(page.getByRole('button', { name: 'Einstellungen' })).click()],
  ['menu', 'chat', 'article', openMenu],
  ['relay', 'chat', 'article', async (page) => (await openMenu(page), await page.getByRole('menuitem').last().click(), page.locator('dialog dl').waitFor())],
  ['delete', 'chat', 'article', async (page) => (await openMenu(page), await page.locator('[role=menuitem].danger').click(), page.locator('dialog .choice').waitFor())],
  ['reply', 'chat', 'article', async (page) => (await openMenu(page), await page.getByRole('menuitem').first().click(), page.locator('.about').waitFor())],
  ['too-long', 'chat', 'article', (page) => page.locator('textarea').fill('a'.repeat(4100))],
];

let browser: Browser;
let served: Served;
beforeAll(async () => {
  mkdirSync(SHOTS, { recursive: true });
  browser = await launch();
  served = await serve(join(ROOT, 'dist-dev'));
});
afterAll(async () => {
  await browser.close();
  served.server.close();
});

const url = (part: string) => {
  const [state, ...more] = part.split('&');
  return `${served.origin}/@cortado?state=${state}#${['k=abc', ...more].join('&')}`;
};

describe.each([
  ['phone-light', { viewport: PHONE, colorScheme: 'light', hasTouch: true, isMobile: true, deviceScaleFactor: 2 }],
  ['desktop-dark', { viewport: DESKTOP, colorScheme: 'dark' }],
] as const)('%s', (look, options) => {
  it.each(STATES)('%s', async (name, part, sign, act) => {
    const { page, complaints, close } = await visit(browser, url(part), options);
    await page.locator(sign).first().waitFor();
    await act?.(page);
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(SHOTS, `${name}-${look}.png`) });
    expect(complaints).toEqual([]);
    await close();
  });
});

it.each(STATES)('%s is not wider than a small phone, in the longest language', async (_name, part, sign, act) => {
  const { page, close } = await visit(browser, url(part), { viewport: { width: 320, height: 640 }, locale: 'de-DE' });
  await page.locator(sign).first().waitFor();
  expect(await page.locator('html').getAttribute('lang')).toBe('de');
  await act?.(page);
  const wide = await page.evaluate(() =>
    [...document.querySelectorAll<HTMLElement>('body, body *')]
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 0.5 && !element.closest('.hidden, svg, .know span, .name, .quote'))
      .map((element) => element.outerHTML.slice(0, 120)),
  );
  expect(wide).toEqual([]);
  await close();
});

it('the axe run is alive: a missing name is found', async () => {
  const { page, close } = await visit(browser, url('chat'));
  await page.locator('.send').evaluate((button) => button.removeAttribute('aria-label'));
  expect((await violations(page)).join()).toContain('button-name');
  await close();
});

it('what a hostile business writes is text wherever it is shown', async () => {
  for (const part of ['hostile', 'welcome-hostile']) {
    const { page, complaints, close } = await visit(browser, url(part));
    if (part === 'hostile') {
      await page.locator('.know').click();
      await page.locator('dialog').waitFor();
    }
    expect(await page.evaluate(() => (globalThis as { pwned?: unknown }).pwned)).toBeUndefined();
    expect(await page.locator('img:not([src="/icon.svg"], [src^="blob:"]), script:not([src]), iframe').count()).toBe(0);
    for (const link of await page.locator('a').all()) {
      expect(await link.getAttribute('href')).toMatch(/^https?:\/\/[^@]*$|^tel:\+?\d+$|^mailto:[\w.+-]+@[\w.-]+$/);
      expect(await link.getAttribute('rel')).toBe('noopener noreferrer');
    }
    // No override of the writing direction is left to make a name read as another.
    expect(await page.locator('body').innerText()).not.toMatch(/[\u202d\u202e]/);
    expect(complaints).toEqual([]);
    await close();
  }
});

it('opens what was begun without the link; without either it says what is missing', async () => {
  const begun = await visit(browser, `${served.origin}/?state=chat`);
  await begun.page.locator('article').first().waitFor();
  await begun.close();
  const nothing = await visit(browser, `${served.origin}/@cortado?state=welcome`);
  await until(() => nothing.page.locator('[role=alert]').innerText(), 'This link is not complete. Open the link or scan the code from the business once more.');
  await nothing.close();
});

it('keeps what was written on the first screen when it cannot begin, and begins once it can', async () => {
  const { page, close } = await visit(browser, url('welcome'));
  await page.evaluate(() => {
    const { engine } = globalThis as unknown as { engine: { begin: unknown } };
    const begin = engine.begin;
    engine.begin = () => {
      engine.begin = begin;
      return Promise.reject(Object.assign(new Error(), { code: 'unreachable' }));
    };
  });
  await page.locator('#body').fill('Hello');
  await page.locator('main form button.primary').click();
  // Whatever was thrown, the person reads a sentence.
  await page.locator('#problem:not(:empty)').waitFor();
  expect(await page.locator('#body').inputValue()).toBe('Hello');
  await page.locator('main form button.primary').click();
  await until(() => page.locator('article .text').allInnerTexts(), ['Hello']);
  expect(page.url()).toContain('#k=abc');
  await close();
});
