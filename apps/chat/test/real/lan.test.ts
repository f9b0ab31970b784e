/** What `bulla up --lan` serves, opened as a phone in the same network opens it: warned once, and accepted by hand. */
import { createServer, type Server } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, BrowserContextOptions } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PHONE, launch } from '../e2e/browser';
import { ended, programs, started } from './business';

interface Ready {
  link: string;
  relay_url: string;
  api_base: string;
  phone_number_id: string;
  access_token: string;
}

interface Told {
  from_user_id: string;
  text?: { body: string };
}

let browser: Browser;
let folder: string;
let webhook: Server;
let up: Awaited<ReturnType<typeof started<Ready>>>;
const told: Told[] = [];

beforeAll(async () => {
  browser = await launch();
  folder = mkdtempSync(join(tmpdir(), 'bulla-lan-'));
  webhook = createServer((request, response) => {
    const challenge = new URL(request.url!, 'http://webhook').searchParams.get('hub.challenge');
    if (challenge !== null) return response.end(challenge);
    let body = '';
    request.on('data', (part) => (body += part));
    request.on('end', () => {
      const value = (JSON.parse(body) as { entry: { changes: { value: { messages?: Told[] } }[] }[] }).entry[0]!.changes[0]!.value;
      told.push(...(value.messages ?? []));
      response.end();
    });
  });
  await new Promise<void>((resolve) => webhook.listen(0, '127.0.0.1', resolve));
  const hook = `http://127.0.0.1:${(webhook.address() as AddressInfo).port}/`;
  up = await started<Ready>('bulla', ['up', '--json', '--lan', '127.0.0.1', '--listen', '127.0.0.1:0', '--data', folder, '--webhook', hook], {
    BULLA_APP: join(import.meta.dirname, '../../dist'),
    BULLA_RELAY_BIN: join(programs, 'bulla-relay'),
  });
});
afterAll(async () => {
  await browser?.close();
  if (up) await ended(up.process, 'SIGTERM');
  webhook?.close();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

async function answers(question: string, answer: string): Promise<void> {
  const asked = () => told.find(({ text }) => text?.body === question);
  await expect.poll(asked, { timeout: 20_000, interval: 30, message: `the webhook is told of ${question}` }).toBeTruthy();
  const { api_base, phone_number_id, access_token } = up.ready;
  const sent = await fetch(`${api_base}/v23.0/${phone_number_id}/messages`, {
    method: 'POST',
    headers: { authorization: `Bearer ${access_token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ messaging_product: 'whatsapp', recipient: asked()!.from_user_id, type: 'text', text: { body: answer } }),
  });
  expect(sent.status).toBe(200);
}

/** Who opens the link, and goes on when the browser warns. */
const ways: [string, BrowserContextOptions, boolean][] = [
  ['by a person who reads the warning', {}, true],
  ['by a browser that is told to', { ignoreHTTPSErrors: true }, false],
];

it.each(ways)('chats under a certificate that was accepted %s', async (who, options, warned) => {
  const { link, relay_url } = up.ready;
  expect(link).toMatch(/^https:\/\/127\.0\.0\.1:/);
  // A page may speak to this machine without TLS, and to no other: that it could here would show nothing.
  expect(relay_url).toMatch(/^wss:\/\/127\.0\.0\.1:/);
  const context = await browser.newContext({ viewport: PHONE, locale: 'en-GB', ...options });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    // No service worker comes from where the certificate is nobody's: the app does without.
    const worker = message.text().includes('An SSL certificate error occurred when fetching the script');
    if (['error', 'warning'].includes(message.type()) && !worker) complaints.push(message.text());
  });
  if (warned) {
    await expect(page.goto(link)).rejects.toThrow('ERR_CERT_AUTHORITY_INVALID');
    await page.getByRole('button', { name: 'Advanced' }).click();
    await page.getByRole('link', { name: 'Proceed to 127.0.0.1' }).click();
  } else {
    await page.goto(link);
  }
  await page.getByText('Verified by the link you opened').waitFor();
  expect(await page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length)).toBe(0);
  const question = `are you open? asks one who came ${who}`;
  await page.getByLabel('Your message').fill(question);
  await page.getByRole('button', { name: 'Send the first message' }).click();
  await answers(question, `until six, you who came ${who}`);
  const answer = page.locator('article .text', { hasText: `until six, you who came ${who}` });
  await answer.waitFor();

  // It is all there after the page was closed: what is stored does not need the worker.
  await page.goto('about:blank');
  await page.goto(link);
  await answer.waitFor();
  await context.close();
  expect(complaints).toEqual([]);
});
