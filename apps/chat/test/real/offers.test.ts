/** What a business offers over its API, chosen in a browser, and told to its webhook; what the customer allows, in its ledger. Nothing is scripted. */
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { DESKTOP, launch } from '../e2e/browser';
import { violations } from '../e2e/page';
import { Business } from './business';

let browser: Browser;
let business: Business;
let context: BrowserContext;
let page: Page;
let customer: string;
let complaints: string[];

beforeAll(async () => {
  browser = await launch();
  business = await Business.open(join(import.meta.dirname, '../../dist'));
});
afterAll(async () => {
  await browser?.close();
  await business?.close();
});
beforeEach(async ({ task }) => {
  complaints = [];
  context = await browser.newContext({ viewport: DESKTOP, locale: 'en-GB', permissions: ['geolocation'], geolocation: { latitude: 48.137154, longitude: 11.576124, accuracy: 10 } });
  page = await context.newPage();
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.goto(business.link);
  const words = `hello from ${task.id}`;
  await page.getByLabel('Your message').fill(words);
  await page.getByRole('button', { name: 'Send the first message' }).click();
  customer = (await business.hearsOf(words, business.text(words))).from_user_id!;
  return async () => {
    await context.close();
    expect(complaints).toEqual([]);
  };
});

const offers = (interactive: object) => business.sends(customer, 'interactive', interactive);
const article = (text: string) => page.locator('article').filter({ hasText: text }).first();
const answerTo = (offer: string) => business.hearsOf('an answer', (told) => told.context?.id === offer);

it('buttons, a list, a place, an address and a contact are answered, each in its form', async () => {
  const buttons = await offers({
    type: 'button',
    header: { type: 'text', text: 'Order 7' },
    body: { text: 'Deliver today?' },
    footer: { text: 'until 6 pm' },
    action: { buttons: [{ type: 'reply', reply: { id: 'yes', title: 'Yes' } }, { type: 'reply', reply: { id: 'no', title: 'No' } }] },
  });
  await article('Deliver today?').getByRole('button', { name: 'No' }).click();
  expect((await answerTo(buttons)).interactive).toEqual({ type: 'button_reply', button_reply: { id: 'no', title: 'No' } });
  expect(await article('Deliver today?').locator('.chosen').innerText()).toBe('No');

  const list = await offers({
    type: 'list',
    body: { text: 'Which coffee?' },
    action: { button: 'Coffees', sections: [{ title: 'Hot', rows: [{ id: 'r', title: 'Rosetta', description: 'with foam' }, { id: 'e', title: 'Espresso' }] }] },
  });
  await page.getByRole('button', { name: 'Coffees' }).click();
  await page.getByRole('dialog').getByLabel('Rosetta').check();
  await page.getByRole('dialog').getByRole('button', { name: 'Send' }).click();
  expect((await answerTo(list)).interactive).toEqual({ type: 'list_reply', list_reply: { id: 'r', title: 'Rosetta', description: 'with foam' } });

  // The page's own policy lets it ask the browser.
  const place = await offers({ type: 'location_request_message', body: { text: 'Where to?' }, action: { name: 'send_location' } });
  await article('Where to?').getByRole('button', { name: 'Send a place' }).click();
  await page.getByRole('button', { name: 'Use where this device is' }).click();
  await page.getByText('Found, to within 10 m.').waitFor();
  await page.getByLabel('What the place is called').fill('home');
  await page.getByRole('dialog').getByRole('button', { name: 'Send', exact: true }).click();
  expect((await answerTo(place)).location).toEqual({ latitude: 48.13715, longitude: 11.57612, name: 'home' });

  const address = await offers({ type: 'address_message', body: { text: 'Your address, please' }, action: { name: 'address_message', parameters: { country: 'IN', values: { city: 'Munich' } } } });
  await article('Your address, please').locator('button.choice').click();
  const dialog = page.getByRole('dialog');
  expect(await dialog.getByLabel('City').inputValue()).toBe('Munich');
  await dialog.getByLabel('Name', { exact: true }).fill('Zoë');
  await dialog.getByLabel('Street and number').fill('1 High St');
  await dialog.getByLabel('Postal code').fill('80331');
  expect(await violations(page)).toEqual([]);
  await dialog.locator('[type=submit]').click();
  const { nfm_reply } = (await answerTo(address)).interactive!;
  expect([nfm_reply!.name, (JSON.parse(nfm_reply!.response_json) as { values: object }).values]).toEqual(['address_message', { name: 'Zoë', address: '1 High St', in_pin_code: '80331', city: 'Munich' }]);
  await article('Your address, please').getByText('Answered').waitFor();

  const contact = await offers({ type: 'request_contact_info', body: { text: 'How do we reach you?' }, action: { name: 'request_contact_info' } });
  await article('How do we reach you?').locator('button.choice').click();
  await dialog.getByLabel('Name', { exact: true }).fill('Zoë');
  await dialog.getByLabel('Phone number').fill('+49 89 1234');
  await dialog.locator('[type=submit]').click();
  expect((await answerTo(contact)).contacts).toEqual([{ name: { formatted_name: 'Zoë' }, phones: [{ phone: '+49 89 1234', type: 'CELL' }] }]);
});

it('a page, a place and a person of the business are shown', async () => {
  await offers({ type: 'cta_url', body: { text: 'Track it' }, action: { name: 'cta_url', parameters: { display_text: 'Open', url: 'https://shop.example/t/7' } } });
  const to = page.getByRole('link', { name: 'Open' });
  expect(await to.getAttribute('href')).toBe('https://shop.example/t/7');
  await business.sends(customer, 'location', { latitude: 48.1, longitude: -11.5, name: 'Shop', address: '2 High St' });
  await page.getByText('48.10000, -11.50000').waitFor();
  await business.sends(customer, 'contacts', [{ name: { formatted_name: 'Rosi', first_name: 'Rosi' }, phones: [{ phone: '+49 89 12', type: 'WORK' }] }] as unknown as object);
  await page.locator('.person').getByRole('link', { name: '+49 89 12' }).waitFor();
  expect(await violations(page)).toEqual([]);
});

it('offers come once they were allowed, and no more once they were stopped, in the words of the page', async () => {
  const spring = { name: 'spring', language: 'en', category: 'MARKETING', components: [{ type: 'BODY', text: 'Everything is 10 % off this week.' }] };
  expect((await business.route('POST', '{waba}/message_templates', spring)).status).toBe('APPROVED');
  const send = () => business.sends(customer, 'template', { name: 'spring', language: { code: 'en' } });
  const failed = async (offer: string) => (await business.hearsOf('its failing', (told) => told.id === offer && told.status === 'failed')) as unknown as { errors: { code: number }[] };
  expect((await failed(await send())).errors[0]!.code).toBe(131_026);

  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByRole('switch', { name: 'Offers', exact: true }).check();
  await page.getByText('Allowed.').waitFor();
  await page.keyboard.press('Escape');
  const ledger = async () => (await business.route('GET', '{phone}/consents')).data!.map(({ purpose, given, wording }) => [purpose, given, wording]);
  await expect.poll(ledger, { timeout: 10_000 }).toEqual([['marketing', true, 'Rosi may send me offers.']]);
  const sent = await send();
  await article('10 % off').getByText('Message template · marketing').waitFor();
  await business.hearsOf('its being read', (told) => told.id === sent && told.status === 'read');
  expect(await page.locator('.breach').count()).toBe(0);

  await article('10 % off').getByRole('button', { name: 'Stop offers' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Stop offers' }).click();
  await article('10 % off').getByText('You have stopped offers.').waitFor();
  await expect.poll(ledger, { timeout: 10_000 }).toEqual([['marketing', true, 'Rosi may send me offers.'], ['marketing', false, 'Rosi may send me no offers any more.']]);
  expect((await failed(await send())).errors[0]!.code).toBe(131_050);

  // It is kept: the page that is opened again shows it.
  await page.reload();
  await article('10 % off').getByText('You have stopped offers.').waitFor();
});
