/** Pictures of the real thing, on a phone and on a desk, by day and by night. `SHOTS=FOLDER` says where to; the README's are made so. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DESKTOP, PHONE, launch } from '../e2e/browser';
import { violations } from '../e2e/page';
import { Business } from './business';

const folder = process.env.SHOTS ?? join(import.meta.dirname, '../../shots');

let browser: Browser;
let business: Business;
beforeAll(async () => {
  mkdirSync(folder, { recursive: true });
  browser = await launch();
  business = await Business.open(join(import.meta.dirname, '../../dist'));
});
afterAll(async () => {
  await browser?.close();
  await business?.close();
});

it.each([
  ['phone', 'light', PHONE],
  ['phone', 'dark', PHONE],
  ['desktop', 'light', DESKTOP],
  ['desktop', 'dark', DESKTOP],
] as const)('%s, %s', async (device, colorScheme, viewport) => {
  const context = await browser.newContext({ viewport, colorScheme, locale: 'en-GB', deviceScaleFactor: 2 });
  const page = await context.newPage();
  const said = (text: string) => page.locator('article').filter({ has: page.locator('.text', { hasText: text }) });
  const shot = (what: string) => page.screenshot({ path: join(folder, `app-${what}-${device}-${colorScheme}.png`), animations: 'disabled' });
  await page.goto(business.link);
  await page.getByText('Verified by the link you opened').waitFor();
  await page.getByLabel('Your name').fill('Ana');
  await page.getByLabel('Your message').fill('Hi! Do you still have sourdough today?');
  await shot('welcome');
  expect(await violations(page)).toEqual([]);
  await page.getByRole('button', { name: 'Send the first message' }).click();
  const asked = await business.hearsOf('the question', (told) => told.text?.body?.startsWith('Hi! Do you still') ?? false);
  const customer = asked.from_user_id!;
  await business.reads(asked.id);
  await business.says(customer, 'Good morning Ana! Two loaves left, still warm. Shall I put one aside for you?');
  await said('Two loaves left').waitFor();
  await page.getByLabel('Message', { exact: true }).fill('Both, please. I am there at six.');
  await page.keyboard.press('Enter');
  const both = await business.hearsOf('the order', (told) => told.text?.body?.startsWith('Both, please') ?? false);
  await business.reads(both.id);
  await business.reacts(customer, both.id, '👍');
  await business.says(customer, 'They are yours. See you at six: https://shop.example/where');
  await said('They are yours').waitFor();
  await page.getByText('👍 from Rosi').waitFor({ state: 'attached' });
  await said('Both, please').getByLabel('Read', { exact: true }).waitFor();
  await shot('chat');
  await page.getByRole('button', { name: 'What do they know about me?' }).click();
  await page.getByRole('dialog').waitFor();
  expect(await violations(page)).toEqual([]);
  await shot('know');
  business.told.length = 0;
  await context.close();
});
