/** A customer who closed the page is told that there is something, and the push service is told nothing else. */
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PHONE, launch } from '../e2e/browser';
import { violations } from '../e2e/page';
import { Business } from './business';
import { PushService, deliver, sender } from './push';

let browser: Browser;
let business: Business;
let service: PushService;

beforeAll(async () => {
  browser = await launch();
  service = await PushService.open();
  business = await Business.open(join(import.meta.dirname, '../../dist'), ['--push-network', '127.0.0.0/8']);
});
afterAll(async () => {
  await browser?.close();
  await business?.close();
  service?.close();
});

const bubble = (page: Page, text: string) => page.locator('article').filter({ has: page.locator('.text', { hasText: text }) });
const shown = (context: BrowserContext) =>
  context.serviceWorkers()[0]!.evaluate(async () => {
    const { registration } = self as unknown as ServiceWorkerGlobalScope;
    return (await registration.getNotifications()).map(({ title, body, tag }) => ({ title, body, tag }));
  });

it('wakes a device of which nothing runs, once, and not one that is there', async () => {
  const context = await browser.newContext({ viewport: PHONE, locale: 'en-GB', permissions: ['notifications'] });
  await service.serves(context);
  let page = await context.newPage();
  await page.goto(business.link);
  await page.getByLabel('Your message').fill('is my order ready?');
  await page.getByRole('button', { name: 'Send the first message' }).click();
  const customer = (await business.hearsOf('the question', business.text('is my order ready?'))).from_user_id!;
  await business.says(customer, 'not yet');
  await bubble(page, 'not yet').waitFor();

  // One offer after the other, and axe finds nothing in the second either.
  await page.getByRole('region', { name: 'Keep this conversation' }).getByRole('button', { name: 'Not now' }).click();
  const offer = page.getByRole('region', { name: 'Know when Rosi answers' });
  await offer.waitFor();
  expect(await violations(page)).toEqual([]);
  await offer.getByRole('button', { name: 'Tell me' }).click();
  await offer.waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'What do they know about me?' }).first().click();
  await page.getByText('an address at which this device can be woken').waitFor();
  await page.keyboard.press('Escape');

  // Here: delivered, and nobody is woken. What comes after this in the test says that nothing came of it.
  const seen = await business.says(customer, 'in an hour');
  await business.hearsOf('its being read', (told) => told.id === seen && told.status === 'read');

  await page.close();
  service.answers.push(503);
  const waits = await business.says(customer, 'now it is: the words of a secret');
  const push = await service.receives(1);
  expect(service.answers, 'a push service in trouble is asked again').toEqual([]);
  expect(push.payload).toBe('{"bulla":1}');
  expect(push.path).toBe('/wake/canary-of-one-device');
  const { ttl, urgency, topic, 'content-encoding': coding, 'user-agent': agent } = push.headers;
  expect({ ttl, urgency, topic, coding }).toEqual({ ttl: '604800', urgency: 'high', topic: 'bulla', coding: 'aes128gcm' });
  expect(agent).toMatch(/^bulla\/[\d.]+$/);
  const { claims } = sender(push);
  expect({ aud: claims.aud, sub: claims.sub }).toEqual({ aud: service.origin, sub: business.origin });
  expect(service.pushes).toHaveLength(1);
  expect(business.told.some((told) => told.id === waits && told.status === 'delivered')).toBe(false);

  const nobody = await context.newPage();
  await deliver(await context.newCDPSession(nobody), business.origin, push.payload);
  await expect.poll(() => shown(context)).toEqual([{ title: 'Rosi', body: 'There is something new for you.', tag: 'news' }]);

  // The person comes: what was shown is not news any more, and what was said is here.
  page = await context.newPage();
  await page.goto(`${business.origin}/@rosi`);
  await bubble(page, 'the words of a secret').waitFor();
  await business.hearsOf('its being read', (told) => told.id === waits && told.status === 'read');
  await expect.poll(() => shown(context)).toEqual([]);

  // Looked at, a push shows nothing: the page does.
  await page.bringToFront();
  await deliver(await context.newCDPSession(nobody), business.origin, push.payload);
  expect(await shown(context)).toEqual([]);

  // Not any more.
  await page.getByRole('button', { name: 'Settings' }).click();
  const told = page.getByRole('switch', { name: 'Tell me when Rosi has written' });
  await expect.poll(() => told.isChecked()).toBe(true);
  expect(await violations(page)).toEqual([]);
  await told.uncheck();
  await expect.poll(() => page.evaluate(() => localStorage.getItem('subscribed-under'))).toBe(null);
  expect(service.pushes).toHaveLength(1);
  await context.close();
});

it('says so where the person has said no', async () => {
  const context = await browser.newContext({ viewport: PHONE, locale: 'en-GB' });
  await service.serves(context);
  await context.addInitScript(() => Object.defineProperty(Notification, 'permission', { get: () => 'denied' }));
  const page = await context.newPage();
  await page.goto(business.link);
  await page.getByLabel('Your message').fill('no notices, please');
  await page.getByRole('button', { name: 'Send the first message' }).click();
  const customer = (await business.hearsOf('it', business.text('no notices, please'))).from_user_id!;
  await business.says(customer, 'as you like');
  await bubble(page, 'as you like').waitFor();
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByText('This browser does not let the page tell you').waitFor();
  expect(await page.getByRole('switch', { name: 'Tell me when' }).isDisabled()).toBe(true);
  expect(await violations(page)).toEqual([]);
  await context.close();
});
