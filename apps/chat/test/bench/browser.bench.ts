/** What a customer waits for, in Debian's Chromium with the real programs: writes figures to `BULLA_BENCH_OUT`, as JSON and as a table. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PHONE, launch } from '../e2e/browser';
import { Business, type Told } from '../real/business';
import { SLOW_4G, slow } from './slow';

const RUNS = 15;
/** Where one run takes seconds. */
const LONG_RUNS = 5;
const MESSAGES = 60;
const FILE = 100_000_000;
const FILE_RUNS = 3;
const LOAD = loadavg()[0]!;
const DIST = join(import.meta.dirname, '../../dist');

let browser: Browser;
let business: Business;

beforeAll(async () => {
  browser = await launch();
  business = await Business.open(DIST);
});
afterAll(async () => {
  await browser?.close();
  await business?.close();
});

interface Figure {
  what: string;
  unit: string;
  median: number;
  low: number;
  high: number;
}
const figures: Figure[] = [];

function note(what: string, unit: string, all: number[]): void {
  const sorted = [...all].sort((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
  figures.push({ what, unit, median: at(0.5), low: sorted[0]!, high: sorted.at(-1)! });
}

/** When something first was in the page, in ms since the navigation began; watched from inside, so that no polling is in the figure. */
async function watched(page: Page, selector: string): Promise<() => Promise<number>> {
  await page.addInitScript((selector) => {
    const seen = new Promise<number>((resolve) => {
      const look = () => document.querySelector(selector) && (observer.disconnect(), requestAnimationFrame(() => resolve(performance.now())));
      const observer = new MutationObserver(look);
      observer.observe(document, { childList: true, subtree: true });
    });
    (globalThis as unknown as { seen: Promise<number> }).seen = seen;
  }, selector);
  return () => page.evaluate(() => (globalThis as unknown as { seen: Promise<number> }).seen);
}

const painted = (page: Page) => page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0);

type Options = Parameters<Browser['newContext']>[0];

/** Opens a link with nothing in any cache. */
async function cold(options: Options = {}): Promise<{ paint: number; ready: number }> {
  const context = await browser.newContext({ viewport: PHONE, locale: 'en-GB', serviceWorkers: 'block', ...options });
  const page = await context.newPage();
  const seen = await watched(page, '#body');
  await page.goto(business.link);
  const ready = await seen();
  const paint = await painted(page);
  await context.close();
  return { paint, ready };
}

/** What a browser that has nothing is sent: each file compressed, where it is. */
function bytes(): number {
  const names = readdirSync(DIST, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const asked = names.filter((name) => !name.endsWith('.br') && !name.endsWith('SHA256SUMS.txt') && !name.endsWith('widget.js'));
  return asked.reduce((sum, name) => sum + statSync(names.includes(`${name}.br`) ? `${name}.br` : name).size, 0);
}

async function begun(options: Options = {}): Promise<{ context: BrowserContext; page: Page; customer: string }> {
  const context = await browser.newContext({ viewport: PHONE, locale: 'en-GB', ...options });
  const page = await context.newPage();
  await page.goto(business.link);
  const words = `bench ${crypto.randomUUID()}`;
  await page.getByLabel('Your message').fill(words);
  await page.getByRole('button', { name: 'Send the first message' }).click();
  const customer = (await business.hearsOf('the first message', business.text(words))).from_user_id!;
  return { context, page, customer };
}

it('link to ready, cold', async () => {
  const all: Awaited<ReturnType<typeof cold>>[] = [];
  for (let run = 0; run < RUNS; run += 1) all.push(await cold());
  note('nothing cached: link opened → first paint', 'ms', all.map(({ paint }) => paint));
  note('nothing cached: link opened → business verified, first message can be written', 'ms', all.map(({ ready }) => ready));
  note('all files of the app, as they go over the wire', 'bytes', [bytes()]);
});

/** Opened before, with messages and the service worker there: how long until it is all back. */
async function warm(runs: number, options: Options = {}): Promise<{ paint: number[]; ready: number[] }> {
  const { context, page, customer } = await begun(options);
  for (let n = 0; n < 50; n += 1) await business.says(customer, `message ${n}`);
  await page.getByText('message 49', { exact: true }).waitFor();
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  await page.close();
  const [ready, paint]: [number[], number[]] = [[], []];
  for (let run = 0; run < runs; run += 1) {
    const page = await context.newPage();
    const seen = await watched(page, 'article');
    await page.goto(business.link);
    ready.push(await seen());
    paint.push(await painted(page));
    await page.close();
  }
  await context.close();
  return { paint, ready };
}

it('link to ready, warm', async () => {
  const { paint, ready } = await warm(RUNS);
  note('opened before: link opened → first paint', 'ms', paint);
  note('opened before: link opened → a conversation of 51 messages is there and can go on', 'ms', ready);
});

it('link to ready on a slow network, cold and warm', async () => {
  const line = await slow(SLOW_4G);
  // Chromium's own throttling does not reach what a worker fetches, and that is most of it.
  const proxy = { server: line.server, bypass: '<-loopback>' };
  const all: Awaited<ReturnType<typeof cold>>[] = [];
  for (let run = 0; run < LONG_RUNS; run += 1) all.push(await cold({ proxy }));
  note('Slow 4G, nothing cached: link opened → first paint', 'ms', all.map(({ paint }) => paint));
  note('Slow 4G, nothing cached: link opened → business verified, first message can be written', 'ms', all.map(({ ready }) => ready));
  const { paint, ready } = await warm(LONG_RUNS, { proxy });
  note('Slow 4G, opened before: link opened → first paint', 'ms', paint);
  note('Slow 4G, opened before: link opened → a conversation of 51 messages is there and can go on', 'ms', ready);
  line.close();
  // The line was in the way: the bytes alone take this long.
  expect(Math.min(...all.map(({ ready }) => ready))).toBeGreaterThan((0.9 * bytes() * 8_000) / SLOW_4G.down / 2);
});

it('a file of 100 MB, there and back', async () => {
  const { context, page, customer } = await begun();
  context.setDefaultTimeout(120_000);
  const folder = mkdtempSync(join(tmpdir(), 'bulla-bench-'));
  const content = randomBytes(FILE);
  const path = join(folder, 'film.bin');
  writeFileSync(path, content);
  const [up, down]: [number[], number[]] = [[], []];
  const about = (caption: string) => (told: Told) => JSON.stringify(told).includes(caption);
  for (let run = 0; run < FILE_RUNS; run += 1) {
    await page.locator('input[type=file]').setInputFiles(path);
    await page.getByLabel('What you want to say about it').fill(`film ${run}`);
    const began = performance.now();
    await page.getByRole('button', { name: 'Seal and send' }).click();
    await expect.poll(() => business.told.some(about(`film ${run}`)), { timeout: 120_000, interval: 10 }).toBe(true);
    up.push((performance.now() - began) / 1_000);

    const media = await business.uploads(`back-${run}.bin`, 'application/pdf', Buffer.concat([Buffer.from('%PDF-1.7\n'), content.subarray(9)]));
    await business.files(customer, media, `back ${run}`);
    const theirs = page.locator('article').filter({ hasText: `back ${run}` });
    await theirs.getByRole('button', { name: 'Save' }).waitFor();
    const asked = performance.now();
    const [download] = await Promise.all([page.waitForEvent('download'), theirs.getByRole('button', { name: 'Save' }).click()]);
    await download.path();
    down.push((performance.now() - asked) / 1_000);
    await download.delete();
  }
  note('a file of 100 MB: the customer sends it → the business’s webhook is told', 's', up);
  note('a file of 100 MB: the customer wants it → fetched, opened, checked and saved', 's', down);
  rmSync(folder, { recursive: true, force: true });
  await context.close();
});

it('said to shown', async () => {
  const { context, page, customer } = await begun();
  await business.says(customer, 'a first one');
  await page.getByText('a first one', { exact: true }).waitFor();
  const [there, back]: [number[], number[]] = [[], []];
  for (let n = 0; n < MESSAGES; n += 1) {
    const text = `answer ${n} of ${MESSAGES}`;
    const shown = page.evaluate(
      (text) =>
        new Promise<number>((resolve) => {
          const look = () => [...document.querySelectorAll('article')].at(-1)?.textContent?.includes(text) && (observer.disconnect(), requestAnimationFrame(() => resolve(performance.timeOrigin + performance.now())));
          const observer = new MutationObserver(look);
          observer.observe(document.body, { childList: true, subtree: true, characterData: true });
        }),
      text,
    );
    // The observer is there once the page has answered something later.
    await page.evaluate(() => undefined);
    const began = performance.timeOrigin + performance.now();
    await business.says(customer, text);
    there.push((await shown) - began);
    const heard = `question ${n} of ${MESSAGES}`;
    await page.getByLabel('Message', { exact: true }).fill(heard);
    const asked = performance.timeOrigin + performance.now();
    await page.keyboard.press('Enter');
    await expect.poll(() => business.told.some(business.text(heard)), { timeout: 20_000, interval: 1 }).toBe(true);
    back.push(performance.timeOrigin + performance.now() - asked);
  }
  note('the business calls its API → shown in the page', 'ms', there);
  note('the customer presses Enter → the business’s webhook is called', 'ms', back);
  await context.close();
});

it('is written down', () => {
  const out = process.env.BULLA_BENCH_OUT ?? join(import.meta.dirname, '../../../../bench/results');
  const commit = process.env.BULLA_BENCH_COMMIT ?? execFileSync('git', ['rev-parse', '--short=10', 'HEAD']).toString().trim();
  const date = new Date().toISOString().slice(0, 10);
  const machine = `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores`;
  const number = (value: number) => value.toLocaleString('en', { maximumFractionDigits: value < 10 ? 1 : 0 });
  const rows = figures.map(({ what, unit, median, low, high }) => `| ${what} | ${number(median)} | ${number(low)} – ${number(high)} | ${unit} |`);
  const text = [
    `# In a browser: figures of ${commit}`,
    '',
    `Measured on ${date} at commit \`${commit}\` with \`cargo xtask bench --browser\`.`,
    `Machine: ${machine}; relay, gateway, webhook and Chromium ${browser.version()} share it, over loopback: a network's time comes on top. Slow 4G is a proxy in the browser's way: ${SLOW_4G.down / 1e6} Mbit/s down, ${SLOW_4G.up / 1e6} Mbit/s up, ${SLOW_4G.roundTripMs} ms. Load when it began: ${LOAD.toFixed(1)}. Median of ${RUNS} runs (Slow 4G ${LONG_RUNS}, files ${FILE_RUNS}, ${MESSAGES} messages), with the lowest and the highest. Ratios to compare with, not promises.`,
    '',
    '| | median | lowest – highest | |',
    '|---|---:|---:|---|',
    ...rows,
    '',
  ].join('\n');
  mkdirSync(out, { recursive: true });
  const path = join(out, `${date}-${commit}-browser`);
  writeFileSync(`${path}.json`, `${JSON.stringify({ commit, date, machine, chromium: browser.version(), runs: RUNS, messages: MESSAGES, load: LOAD, figures }, null, 2)}\n`);
  writeFileSync(`${path}.md`, text);
  console.log(text);
  expect(figures).toHaveLength(13);
});
