/** A shop's own site with the widget in it, and the gateway that says who may have it: a customer whom the shop knows writes from there. */
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, Frame, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DESKTOP, launch } from '../e2e/browser';
import { Business } from './business';

const SECRET = 'a secret of the shop and its gateway';

let browser: Browser;
let business: Business;
let shop: Server;
let folder: string;
/** What the shop's page has at present. */
let page = '';

beforeAll(async () => {
  browser = await launch();
  folder = mkdtempSync(join(tmpdir(), 'bulla-shop-'));
  writeFileSync(join(folder, 'identity'), SECRET);
  shop = createServer((_, response) => {
    const app = business.origin;
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.setHeader('content-security-policy', `default-src 'none'; script-src ${app}; frame-src ${app}`);
    response.end(page);
  });
  await new Promise<void>((resolve) => shop.listen(0, '127.0.0.1', resolve));
  business = await Business.open(join(import.meta.dirname, '../../dist'), ['--embed', site(), '--identity-key', `rosi=${join(folder, 'identity')}`]);
});
afterAll(async () => {
  await browser?.close();
  await business?.close();
  shop?.close();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Another site than the app's, not only another port of it. */
const site = () => `http://localhost:${(shop.address() as AddressInfo).port}`;

/** As the shop's backend signs it. */
function token(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

function included(identity: string): void {
  const link = new URL(business.link);
  page = `<!doctype html><html lang="en"><title>Rosi's shop</title><h1>Rosi's shop</h1>
    <script src="${business.origin}/widget.js" data-link="${link.pathname}${link.hash}" data-identity="${identity}" async></script></html>`;
}

/** Opens the panel as the shop's own page can, since nobody sees into the widget; the chat in it. */
async function opened(shown: Page): Promise<Frame> {
  await shown.waitForFunction(() => 'bulla' in window);
  await shown.evaluate(() => (window as unknown as { bulla: { open(): void } }).bulla.open());
  const inside = () => shown.frames().find((frame) => frame.url().startsWith(business.origin));
  await expect.poll(inside, { timeout: 20_000 }).toBeTruthy();
  return inside()!;
}

it('is opened on the shop’s page, and the shop hears which of its customers writes', async () => {
  included(token({ sub: 'customer 7', aud: 'rosi', exp: Math.floor(Date.now() / 1000) + 600 }));
  const context = await browser.newContext({ viewport: DESKTOP, locale: 'en-GB' });
  const shown = await context.newPage();
  const complaints: string[] = [];
  shown.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  await shown.goto(`${site()}/`);
  const frame = await opened(shown);
  await frame.getByLabel('Your message').fill('where is my parcel?');
  await frame.getByRole('button', { name: 'Send the first message' }).click();
  const asked = await business.hearsOf('the question', business.text('where is my parcel?'));
  expect(business.contactOf(asked)).toMatchObject({ customer_id: 'customer 7' });
  await business.says(asked.from_user_id!, 'it is on its way');
  await frame.getByText('it is on its way').waitFor();
  expect(complaints.filter((complaint) => !complaint.includes('favicon'))).toEqual([]);
  await context.close();
});

it('says nothing of who writes by a token that is not the shop’s', async () => {
  const real = token({ sub: 'customer 7', aud: 'rosi', exp: Math.floor(Date.now() / 1000) + 600 });
  included(real.replace(/^[^.]+\.[^.]+/, (head) => `${head.split('.')[0]}.${Buffer.from(JSON.stringify({ sub: 'customer 8', aud: 'rosi', exp: 4_000_000_000 })).toString('base64url')}`));
  const context = await browser.newContext({ viewport: DESKTOP, locale: 'en-GB' });
  const shown = await context.newPage();
  await shown.goto(`${site()}/`);
  const frame = await opened(shown);
  await frame.getByLabel('Your message').fill('I am somebody else');
  await frame.getByRole('button', { name: 'Send the first message' }).click();
  const asked = await business.hearsOf('it', business.text('I am somebody else'));
  expect(business.contactOf(asked)).not.toHaveProperty('customer_id');
  await context.close();
});

it('is in no frame of a site that the operator has not named', async () => {
  const context = await browser.newContext({ viewport: DESKTOP, locale: 'en-GB' });
  const shown = await context.newPage();
  included(token({ sub: 'customer 7', aud: 'rosi', exp: 0 }));
  // The same page by another name is another origin.
  await shown.goto(`http://127.0.0.1:${new URL(site()).port}/`);
  const refused = shown.waitForEvent('console', (message) => message.text().includes('frame-ancestors'));
  await shown.waitForFunction(() => 'bulla' in window);
  await shown.evaluate(() => (window as unknown as { bulla: { open(): void } }).bulla.open());
  await refused;
  expect(shown.frames().filter((frame) => frame.url().startsWith(business.origin))).toEqual([]);
  await context.close();
});
