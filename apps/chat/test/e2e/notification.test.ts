/** A click on the notification: the released service worker, a push as the browser hands it over, and a click as a desktop sends it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BrowserContext, Page, Worker } from 'playwright-core';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { deliver } from '../real/push';
import { launchProfile, PHONE } from './browser';
import { Desktop } from './desktop';
import { host, type Host } from './host';
import { until } from './page';
import { serve, type Served } from './serve';

let desktop: Desktop;
let app: Served;
let shop: Host;
let context: BrowserContext;
/** Another page, so that the browser stays. */
let other: Page;

beforeEach(async () => {
  desktop = await Desktop.open();
  shop = await host();
  app = await serve(join(import.meta.dirname, '../../dist'), shop.neighbour);
  const folder = mkdtempSync(join(tmpdir(), 'bulla-profile-'));
  context = await launchProfile(folder, desktop.environment, { viewport: PHONE, locale: 'en-GB', permissions: ['notifications'] });
  context.setDefaultTimeout(8_000);
  other = context.pages()[0]!;
  return () => rmSync(folder, { recursive: true, force: true });
});
afterEach(async () => {
  await context?.close();
  app?.server.close();
  shop?.close();
  desktop?.close();
});

/** Opens the page, whose worker is then there, and keeps what `lib/wake.ts` keeps for it. */
async function opened(words?: { title: string; body: string; url: string }): Promise<{ page: Page; worker: Worker }> {
  const page = await context.newPage();
  await page.goto(`${app.origin}/@rosi#k=abc`);
  await page.evaluate(async (words) => {
    await navigator.serviceWorker.ready;
    if (words) await (await caches.open('wake')).put('/wake-words.json', new Response(JSON.stringify(words)));
  }, words);
  await until(async () => context.serviceWorkers().length, 1);
  return { page, worker: context.serviceWorkers()[0]! };
}

const WORDS = { title: 'Rosi', body: 'There is something new for you.', url: '/@rosi' };
const pages = () => context.pages().map((page) => page.url());
const shown = () => expect.poll(() => desktop.shown.length, { timeout: 8_000 }).toBe(1);
/** Has one shown though a page is in sight. */
const show = (worker: Worker) =>
  worker.evaluate(async () => (self as unknown as ServiceWorkerGlobalScope).registration.showNotification('Rosi', { tag: 'news' }));

it.each([
  ['its conversation', WORDS, '/@rosi', 'Rosi'],
  ['the page, where no words are kept', undefined, '/', '127.0.0.1:'],
])('with no page open, a click opens %s in a window, and the notification is gone', async (_what, words, path, title) => {
  const { page } = await opened(words);
  await page.close();
  await deliver(await context.newCDPSession(other), app.origin, '{"bulla":1}');
  await shown();
  expect(desktop.shown[0]!.title).toContain(title);
  if (words) expect(desktop.shown[0]!.body).toContain(words.body);
  const coming = context.waitForEvent('page');
  desktop.click(desktop.shown[0]!);
  const window = await coming;
  await window.waitForURL(app.origin + path);
  // It is the app.
  await window.locator('main').waitFor();
  await until(async () => desktop.shown, []);
  expect(context.pages()).toHaveLength(2);
});

it('with the page open behind another, a click brings it to the front and opens nothing', async () => {
  const { page, worker } = await opened(WORDS);
  // Tests have every page believe that it is in front; here it is told the truth.
  for (const one of [page, other]) await (await context.newCDPSession(one)).send('Emulation.setFocusEmulationEnabled', { enabled: false });
  const inFront = () => page.evaluate(() => document.hasFocus());
  await other.bringToFront();
  await until(inFront, false);
  const before = pages();
  await show(worker);
  await shown();
  desktop.click(desktop.shown[0]!);
  await until(inFront, true);
  await until(async () => desktop.shown, []);
  expect(pages()).toEqual(before);
});

it('with the chat in a frame of a page alone, which may have put it away, a click opens a window', async () => {
  const { page, worker } = await opened(WORDS);
  await page.close();
  await other.goto(shop.neighbour + shop.page({ app: app.origin, scripts: ['data-link="/@rosi#k=abc"'] }));
  await other.locator('bulla-chat').evaluate(() => window.bulla!.open());
  const nested = () =>
    worker.evaluate(async () => (await (self as unknown as ServiceWorkerGlobalScope).clients.matchAll({ type: 'window', includeUncontrolled: true })).map(({ frameType }) => frameType));
  await until(nested, ['nested']);
  await show(worker);
  await shown();
  const coming = context.waitForEvent('page');
  desktop.click(desktop.shown[0]!);
  await (await coming).waitForURL(`${app.origin}/@rosi`);
  await until(async () => desktop.shown, []);
});
