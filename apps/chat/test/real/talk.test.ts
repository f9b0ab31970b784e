/** A customer in a browser and a business behind its API, with the real relay and gateway between: nothing is scripted. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { DESKTOP, PHONE, launch } from '../e2e/browser';
import { scanned } from '../e2e/camera';
import { violations } from '../e2e/page';
import { Business } from './business';

let browser: Browser;
let business: Business;
let context: BrowserContext;
let page: Page;
/** Whatever the browser complains about, but that a relay which was killed is not there. */
let complaints: string[];

beforeAll(async () => {
  browser = await launch();
  business = await Business.open(join(import.meta.dirname, '../../dist'));
});
afterAll(async () => {
  await browser?.close();
  await business?.close();
});
beforeEach(async () => {
  complaints = [];
  context = await browser.newContext({ viewport: PHONE, locale: 'en-GB' });
  page = await open();
  return async () => {
    await context.close();
    expect(complaints).toEqual([]);
  };
});

async function open(link = business.link): Promise<Page> {
  const page = await context.newPage();
  page.on('console', (message) => {
    const gone = message.text().includes('ERR_CONNECTION_REFUSED');
    if (['error', 'warning'].includes(message.type()) && !gone) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.goto(link);
  return page;
}

/** The message that says this; one that quotes it is another. */
const bubble = (text: string) => page.locator('article').filter({ has: page.locator('.text', { hasText: text }) });
const ticks = (text: string, state: string) => bubble(text).getByLabel(state, { exact: true });

/** The first words; the customer's id. */
async function begin(words: string): Promise<string> {
  await page.getByLabel('Your message').fill(words);
  await page.getByRole('button', { name: 'Send the first message' }).click();
  const heard = await business.hearsOf(words, business.text(words));
  return heard.from_user_id!;
}

async function write(words: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(words);
  await page.keyboard.press('Enter');
}

async function choose(text: string, action: string): Promise<void> {
  await bubble(text).hover();
  await bubble(text).getByRole('button', { name: 'Actions for this message' }).click();
  const menu = page.getByRole('menu');
  await menu.getByRole('menuitem', { name: action }).or(menu.getByRole('menuitemradio', { name: action })).click();
}

it('opens a link, writes, is answered, and both see what was read', async () => {
  await page.getByText('Verified by the link you opened').waitFor();
  expect(await violations(page)).toEqual([]);
  const customer = await begin('is the shop open?');
  await ticks('is the shop open?', 'Delivered').waitFor();
  const asked = await business.hearsOf('the question', business.text('is the shop open?'));
  await business.reads(asked.id);
  await ticks('is the shop open?', 'Read').waitFor();

  const answer = await business.says(customer, 'until six today');
  await bubble('until six today').waitFor();
  await business.hearsOf('its being read', (told) => told.id === answer && told.status === 'read');
  expect(await violations(page)).toEqual([]);
});

it('replies, reacts, edits and takes back', async () => {
  const customer = await begin('two loaves, please');
  const answer = await business.says(customer, 'rye or wheat?');
  await choose('rye or wheat?', 'Reply');
  await write('rye');
  const reply = await business.hearsOf('the reply', business.text('rye'));
  expect(reply.context?.id).toBe(answer);

  await choose('rye or wheat?', 'React with 👍');
  const reaction = await business.hearsOf('the reaction', (told) => told.type === 'reaction');
  expect(reaction.reaction).toEqual({ message_id: answer, emoji: '👍' });
  await business.reacts(customer, reply.id, '🙏');
  await page.getByText('🙏 from Rosi').waitFor({ state: 'attached' });

  await choose('two loaves', 'Edit');
  await page.getByLabel('Message', { exact: true }).fill('three loaves, please');
  await page.keyboard.press('Enter');
  await bubble('three loaves, please').getByText('edited').waitFor();
  await choose('three loaves', 'Delete');
  await page.getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByText('This message was deleted').waitFor();
});

it('sends a picture and is sent one, and has both when the tab comes back', async () => {
  const customer = await begin('is it this one?');
  await ticks('is it this one?', 'Delivered').waitFor();
  const icon = readFileSync(join(import.meta.dirname, '../../public/icon-512.png'));
  await page.locator('input[type=file]').setInputFiles({ name: 'label.png', mimeType: 'image/png', buffer: icon });
  await page.getByLabel('Send the original file').check();
  await page.getByLabel('What you want to say about it').fill('the label');
  await page.getByRole('button', { name: 'Seal and send' }).click();
  const image = (await business.hearsOf('the picture', (told) => told.image?.caption === 'the label')).image!;
  expect(image.mime_type).toBe('image/png');
  expect(await business.fetches(image.id)).toEqual(icon);
  await page.locator('article').filter({ hasText: 'the label' }).locator('.picture img:not(.small)').waitFor();

  // Nothing is fetched before the person asks.
  const fetched: string[] = [];
  page.on('request', (request) => request.method() === 'GET' && request.url().includes('/v1/blobs/') && fetched.push(request.url()));
  const media = await business.uploads('cup.png', 'image/png', icon);
  await business.shows(customer, media, 'your cup');
  const theirs = page.locator('article').filter({ hasText: 'your cup' });
  await theirs.getByRole('button', { name: 'Show' }).waitFor();
  expect(fetched).toEqual([]);
  await theirs.getByRole('button', { name: 'Show' }).click();
  const shown = theirs.locator('.picture img');
  await shown.waitFor();
  expect(await shown.evaluate((image: HTMLImageElement) => image.decode().then(() => image.naturalWidth))).toBe(512);

  // It is here now, without the relay.
  await business.killRelay();
  await page.reload();
  await shown.waitFor();
  const [download] = await Promise.all([page.waitForEvent('download'), theirs.getByRole('button', { name: 'Save' }).click()]);
  expect(download.suggestedFilename()).toBe('cup.png');
  expect(readFileSync(await download.path())).toEqual(icon);
  // What is attached meanwhile goes out when the relay is back.
  await page.locator('input[type=file]').setInputFiles({ name: 'more.png', mimeType: 'image/png', buffer: icon });
  await page.getByRole('button', { name: 'Seal and send' }).click();
  await page.getByRole('list', { name: 'Files on their way' }).waitFor();
  await business.startRelay();
  await business.hearsOf('the second picture', (told) => told.image?.mime_type === 'image/jpeg');
  await page.getByRole('list', { name: 'Files on their way' }).waitFor({ state: 'detached' });
});

it('keeps what is written while the relay is dead, and sends it once', async () => {
  const customer = await begin('are you there?');
  await ticks('are you there?', 'Delivered').waitFor();
  await business.killRelay();
  await page.getByText('Offline. What you write is kept').waitFor();
  await write('written while it was dead');
  await ticks('written while it was dead', 'Waiting to be sent').waitFor();
  await business.startRelay();
  await ticks('written while it was dead', 'Delivered').waitFor({ timeout: 45_000 });
  const answer = await business.says(customer, 'now we are');
  await bubble('now we are').waitFor();
  await business.hearsOf('its delivery', (told) => told.id === answer && told.status === 'delivered');
  expect(business.told.filter(business.text('written while it was dead'))).toHaveLength(1);
});

it('is there again after a reload in the middle of sending, and has said it once', async () => {
  const customer = await begin('hello');
  await write('just before the reload');
  // It is in the outbox once it is shown; where it is then is for the next page to find out.
  await bubble('just before the reload').waitFor();
  await page.reload();
  await bubble('hello').waitFor();
  await ticks('just before the reload', 'Delivered').waitFor();
  await business.says(customer, 'welcome back');
  await bubble('welcome back').waitFor();
  expect(business.told.filter(business.text('just before the reload'))).toHaveLength(1);
  expect(await bubble('just before the reload').count()).toBe(1);
});

it('is the same customer after everything was cleared, with the code that was written down', async () => {
  const customer = await begin('before it was lost');
  await ticks('before it was lost', 'Delivered').waitFor();
  const answer = await business.says(customer, 'worth keeping');
  await bubble('worth keeping').waitFor();
  await choose('worth keeping', 'React with 👍');
  await business.hearsOf('its being read', (told) => told.id === answer && told.status === 'read');
  await page.getByRole('button', { name: 'Show the code' }).click();
  await page.locator('.code span').first().waitFor();
  const groups = await page.locator('.code span').allInnerTexts();
  expect(groups).toHaveLength(7);
  await page.keyboard.press('Escape');

  await page.goto('about:blank');
  const browserItself = await context.newCDPSession(page);
  await browserItself.send('Storage.clearDataForOrigin', { origin: business.origin, storageTypes: 'all' });
  await page.goto(business.link);
  await page.getByText('I was here before').click();
  const field = page.getByLabel('Your code');
  await field.fill(groups.join(' ').replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')));
  await page.getByRole('button', { name: 'Bring my conversation back' }).click();
  await page.getByText('mistyped').waitFor();
  await field.fill(groups.join(' ').toLowerCase());
  await page.getByRole('button', { name: 'Bring my conversation back' }).click();
  await bubble('worth keeping').waitFor();
  await bubble('before it was lost').waitFor();
  await bubble('worth keeping').getByText('👍 from you').waitFor({ state: 'attached' });
  await page.getByText('as Rosi has kept it').waitFor();
  expect(await page.locator('.unread').count()).toBe(0);
  expect(await violations(page)).toEqual([]);

  await write('here I am again');
  const heard = await business.hearsOf('what was said then', business.text('here I am again'));
  expect(heard.from_user_id).toBe(customer);
  await business.says(customer, 'welcome back');
  await bubble('welcome back').waitFor();
  expect(business.told.filter(business.text('before it was lost'))).toHaveLength(1);
});

it('goes on on a phone that scanned the code from a desktop, which hands over', async () => {
  await page.setViewportSize(DESKTOP);
  const customer = await begin('begun on the desktop');
  await ticks('begun on the desktop', 'Delivered').waitFor();
  const answer = await business.says(customer, 'worth going on with');
  await bubble('worth going on with').waitFor();
  await business.hearsOf('its being read', (told) => told.id === answer && told.status === 'read');
  await page.getByRole('button', { name: 'Show the code' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Show the QR code' }).click();
  await page.locator('dialog').getByRole('img', { name: 'QR code that continues', exact: false }).waitFor();
  const link = (await scanned(page))!;
  expect(link.startsWith(`${business.link}&c=`)).toBe(true);
  expect(link).not.toContain((await page.locator('dialog .code').innerText()).replace(/\W/g, ''));

  const [desktop, desktops] = [page, context];
  context = await browser.newContext({ viewport: PHONE, hasTouch: true, isMobile: true, locale: 'en-GB' });
  // One whose end was cut off: it is asked as ever, and refused here.
  page = await open(link.slice(0, -1));
  await page.getByRole('button', { name: 'Continue here', exact: true }).click();
  await page.getByRole('alert').getByText('This link is not whole').waitFor();
  await page.close();

  page = await open(link);
  await page.getByRole('heading', { name: 'Continue on this device?' }).waitFor();
  expect(page.url()).toBe(business.link);
  expect(await violations(page)).toEqual([]);
  // Looked at, it has moved nothing.
  expect(await desktop.getByText('goes on on another device').count()).toBe(0);
  await page.getByRole('button', { name: 'Continue here', exact: true }).click();
  const number = await page.locator('main .number').innerText();
  await desktop.locator('dialog .number').getByText(number).waitFor();
  expect(await desktop.locator('dialog svg[role=img]').count()).toBe(0);
  // Whoever has photographed the screen is too late, and learns nothing.
  const stranger = await browser.newContext({ locale: 'en-GB' });
  const late = await stranger.newPage();
  await late.goto(link);
  await late.getByRole('button', { name: 'Continue here', exact: true }).click();
  await late.getByRole('alert').getByText('Another device has used this QR code already').waitFor();
  await desktop.locator('dialog').getByRole('button', { name: 'Yes, hand over to it' }).click();
  await desktop.locator('dialog').getByText('was used and does nothing any more').waitFor();
  await bubble('worth going on with').waitFor();
  await bubble('begun on the desktop').waitFor();
  await page.getByText('as Rosi has kept it').waitFor();
  await desktop.getByRole('alert').getByText('goes on on another device').waitFor();

  await write('from the phone now');
  const heard = await business.hearsOf('what was said then', business.text('from the phone now'));
  expect(heard.from_user_id).toBe(customer);
  await business.says(customer, 'good to hear');
  await bubble('good to hear').waitFor();
  // The same picture once more: this phone has the conversation by now.
  await page.goto('about:blank');
  await page.goto(link);
  await page.getByText('This device already has a conversation with Rosi.', { exact: false }).waitFor();
  await bubble('good to hear').waitFor();
  expect(page.url()).toBe(business.link);
  await late.getByRole('button', { name: 'Continue here', exact: true }).click();
  await late.getByRole('alert').getByText('Another device has used this QR code already').waitFor();
  await stranger.close();
  await desktops.close();
});

it('runs in one tab at a time, in whichever one wants it', async () => {
  await begin('first tab');
  await ticks('first tab', 'Delivered').waitFor();
  const first = page;
  page = await open();
  await page.getByText('already open in another tab').waitFor();
  await page.getByRole('button', { name: 'Use it here' }).click();
  await bubble('first tab').waitFor();
  await first.getByText('was opened in another tab').waitFor();
  await write('second tab');
  await business.hearsOf('what was said in the second tab', business.text('second tab'));
});

it('shows each business its own conversation where two share an origin', async () => {
  const customer = await begin('for Rosi');
  await ticks('for Rosi', 'Delivered').waitFor();
  await page.goto(business.otherLink);
  await page.getByRole('heading', { name: 'Mia' }).waitFor();
  await begin('for Mia');
  await business.says(customer, 'only for who talks to Rosi');
  await ticks('for Mia', 'Delivered').waitFor();
  expect(await bubble('Rosi').count()).toBe(0);

  await page.goto('about:blank');
  await page.goto(business.link);
  await bubble('only for who talks to Rosi').waitFor();
  await bubble('for Rosi').first().waitFor();
  expect(await bubble('for Mia').count()).toBe(0);
  // An installed app has no fragment; the handle tells.
  await page.goto('about:blank');
  await page.goto(business.otherLink.split('#')[0]!);
  await bubble('for Mia').waitFor();
});
