/** Pictures of the real thing. `SHOTS=FOLDER` says where to; the README's are made so. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { DESKTOP, launch, PHONE, Receiver, World, type Customer } from './world';

const folder = process.env.SHOTS ?? join(import.meta.dirname, '../../shots');

let browser: Browser;
let world: World;
let receiver: Receiver;
let ana: Customer;
beforeAll(async () => {
  mkdirSync(folder, { recursive: true });
  browser = await launch();
  world = await World.open();
  receiver = new Receiver();
  const url = await receiver.listen();
  const { app_id, app_secret, verify_token } = world.business;
  const set = await fetch(`http://${world.ready.api}/v23.0/${app_id}/subscriptions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${app_id}|${app_secret}` },
    body: JSON.stringify({ object: 'whatsapp_business_account', callback_url: url, verify_token }),
  });
  expect(set.status).toBe(200);
  ana = world.customer('Ana');
  ana.says('Hi! Do you still have sourdough today?');
});
afterAll(async () => {
  await browser?.close();
  await world?.close();
  receiver?.close();
});

it.each([
  ['desktop', 'light', DESKTOP],
  ['desktop', 'dark', DESKTOP],
  ['phone', 'light', PHONE],
  ['phone', 'dark', PHONE],
] as const)('%s, %s', async (device, colorScheme, viewport) => {
  const context = await browser.newContext({ viewport, colorScheme, locale: 'en-GB', deviceScaleFactor: 2 });
  const page = await context.newPage();
  const shot = (what: string) => page.screenshot({ path: join(folder, `console-${what}-${device}-${colorScheme}.png`), animations: 'disabled' });
  await page.goto(await world.link());
  const asked = page.getByRole('button', { name: 'Ana: Hi! Do you still have sourdough today?' });
  await asked.waitFor();
  if (device === 'desktop' && colorScheme === 'light') {
    await page.getByLabel('Message', { exact: true }).fill('Good morning Ana! Two loaves left, still warm.');
    await page.keyboard.press('Enter');
  }
  await page.getByRole('button', { name: /Good morning Ana! .* read ✓✓/ }).first().waitFor();
  await page.getByRole('button', { name: /Good morning Ana! .* → read ✓✓/ }).first().waitFor();
  await shot('log');
  await asked.click();
  await page.getByRole('cell', { name: 'answered 200' }).waitFor();
  await shot('webhook');
  if (device === 'phone') await page.getByRole('button', { name: 'Back to the list' }).click();
  await page.getByRole('button', { name: /\/messages Good morning Ana!/ }).click();
  await page.getByRole('heading', { name: /messages/ }).waitFor();
  await shot('call');
  await context.close();
});
