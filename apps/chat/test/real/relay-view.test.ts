/** Fifty people talk in browsers, and everything that the relay has of it is searched: its memory, its files, its log, and what it discloses. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PHONE, launch } from '../e2e/browser';
import { Business, programs } from './business';
import { PushService } from './push';

const PEOPLE = 50;

let browser: Browser;
let business: Business;
let service: PushService;

beforeAll(async () => {
  browser = await launch();
  service = await PushService.open();
  business = await Business.open(join(import.meta.dirname, '../../dist'), ['--push-network', '127.0.0.0/8'], true);
});
afterAll(async () => {
  await browser?.close();
  await business?.close();
  service?.close();
});

/** Whether bytes that come in pieces have a text in them, also across two pieces. */
function search(pieces: Iterable<Buffer>, texts: string[]): Set<string> {
  const found = new Set<string>();
  const longest = Math.max(...texts.map((text) => text.length));
  let tail: Buffer = Buffer.alloc(0);
  for (const piece of pieces) {
    const whole = Buffer.concat([tail, piece]);
    for (const text of texts) if (whole.includes(text)) found.add(text);
    tail = whole.subarray(-longest);
  }
  return found;
}

/** Everything that a process can write to. */
function* memory(pid: number): Generator<Buffer> {
  const file = openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (!from || !to) continue;
      for (let at = BigInt(`0x${from}`); at < BigInt(`0x${to}`); at += 1n << 20n) {
        const piece = Buffer.alloc(Number((BigInt(`0x${to}`) - at) < 1n << 20n ? BigInt(`0x${to}`) - at : 1n << 20n));
        // Gone meanwhile, or never there.
        try {
          readSync(file, piece, 0, piece.length, at as unknown as number);
        } catch {
          continue;
        }
        yield piece;
      }
    }
  } finally {
    closeSync(file);
  }
}

function* files(folder: string): Generator<Buffer> {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) yield readFileSync(join(entry.parentPath, entry.name));
  }
}

it('has no word, no name, no customer, no push service and no page that somebody came from', async () => {
  const searched: string[] = [];
  for (let person = 0; person < PEOPLE; person += 1) {
    const context = await browser.newContext({ viewport: PHONE, locale: 'en-GB', permissions: ['notifications'] });
    const woken = person % 10 === 0;
    if (woken) await service.serves(context);
    const page = await context.newPage();
    const [words, name, answer] = [`canary-words-${person}`, `canary-name-${person}`, `canary-answer-${person}`];
    // From a page of somebody else's, as people come.
    await page.goto('data:text/html,<a href="' + business.link.replace('#', '?ref=canary-referrer#') + '">canary-page</a>');
    await page.getByRole('link').click();
    await page.getByLabel('Your name').fill(name);
    await page.getByLabel('Your message').fill(words);
    await page.getByRole('button', { name: 'Send the first message' }).click();
    const customer = (await business.hearsOf(words, business.text(words))).from_user_id!;
    if (woken) {
      await business.says(customer, 'welcome');
      await page.getByRole('region', { name: 'Keep this conversation' }).getByRole('button', { name: 'Not now' }).click();
      await page.getByRole('button', { name: 'Tell me' }).click();
      await expect.poll(() => page.evaluate(() => localStorage.getItem('subscribed-under'))).toBeTruthy();
    }
    // The last of every ten lies at the relay while it is searched.
    if (person % 10 === 9) await page.close();
    await business.says(customer, answer);
    if (person % 10 !== 9) await page.getByText(answer).waitFor();
    await context.close();
    searched.push(words, name, answer, customer);
  }
  searched.push('canary-of-one-device', 'canary-referrer', 'canary-page', 'canary-');

  const { relay, gateway, data, log } = business.sights;
  // The search finds what is there: the gateway handles all of it in the clear.
  const control = search(memory(gateway), searched);
  expect(control.has('canary-')).toBe(true);
  expect([...Array(PEOPLE).keys()].filter((person) => control.has(`canary-answer-${person}`)).length).toBeGreaterThan(PEOPLE / 2);
  expect(control.has('canary-of-one-device')).toBe(true);

  const disclosed = execFileSync(join(programs, 'bulla-relay'), ['disclose', '--json', '--data', data]);
  const logged = readFileSync(log);
  expect(JSON.parse(disclosed.toString())).toBeTruthy();
  expect(logged.length).toBeGreaterThan(1_000);
  for (const [where, pieces] of Object.entries({ memory: memory(relay), files: files(data), log: [logged], disclosed: [disclosed] })) {
    expect([...search(pieces, searched)], where).toEqual([]);
  }
  // Of a page that somebody came from, a server could only be told in a header.
  for (const [where, pieces] of Object.entries({ files: files(data), log: [logged], disclosed: [disclosed] })) {
    expect([...search(pieces, ['referer', 'Referer', business.origin])], where).toEqual([]);
  }
});
