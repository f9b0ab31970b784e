/** A developer's first five minutes, with the real relay, gateway and a customer's terminal: nothing is scripted. */
import { createHmac } from 'node:crypto';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { DESKTOP, launch, PHONE, Receiver, up, violations, World } from './world';

let browser: Browser;
let world: World;
let context: BrowserContext;
let page: Page;
/** Whatever the browser complains about. */
let complaints: string[];

beforeAll(async () => {
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
});
beforeEach(async () => {
  world = await World.open();
  complaints = [];
  return async () => {
    await context?.close();
    await world.close();
    expect(complaints).toEqual([]);
  };
});

async function open(link: string, viewport = DESKTOP): Promise<Page> {
  context = await browser.newContext({ viewport, locale: 'en-GB', permissions: ['clipboard-read', 'clipboard-write'] });
  context.setDefaultTimeout(20_000);
  page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('dialog', (dialog) => {
    complaints.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(link);
  return page;
}

const log = () => page.getByRole('region', { name: 'What happens' });
const row = (text: string | RegExp) => log().getByRole('button', { name: text }).first();
const copied = () => page.evaluate(() => navigator.clipboard.readText());
const outcome = () => page.getByRole('form', { name: 'Write as the business' }).getByRole('status');

it('shows what a customer writes, answers, follows the ticks, sets a webhook and posts again', async () => {
  await open(world.ready.console);
  await page.getByText('Nothing has happened yet.').waitFor();
  expect(page.url()).toBe(`http://${world.ready.api}/console`);
  expect(await page.getByRole('link').getAttribute('href')).toBe(world.business.link);
  await page.getByText('No webhook URL is set').waitFor();
  expect(await violations(page)).toEqual([]);

  const ana = world.customer('Ana');
  ana.says('Do you have sourdough?');
  await row('Ana: Do you have sourdough?').click();
  const about = page.getByRole('article');
  await about.getByRole('heading', { name: 'Ana: Do you have sourdough?' }).waitFor();
  await about.getByText('waits', { exact: true }).waitFor();
  await about.getByText('As sent').click();
  const payload = await about.getByRole('region', { name: 'Payload' }).innerText();
  expect(JSON.parse(payload).entry[0].changes[0].value.messages[0].text.body).toBe('Do you have sourdough?');
  const signature = createHmac('sha256', world.business.app_secret).update(payload).digest('hex');
  expect(await about.getByRole('region', { name: 'Headers' }).innerText()).toContain(`X-Hub-Signature-256: sha256=${signature}`);
  expect(await violations(page)).toEqual([]);

  // What can be copied is run as it is.
  await about.getByRole('button', { name: 'Copy: Check the signature' }).click();
  expect((await world.shell(await copied())).trim()).toBe('valid');

  await about.getByRole('button', { name: 'Reply' }).click();
  await page.getByText('Reply to: Do you have sourdough?').waitFor();
  await page.getByLabel('Message', { exact: true }).fill('Two loaves left.');
  await page.keyboard.press('Enter');
  await expect.poll(() => ana.lines, { timeout: 20_000 }).toContainEqual(expect.stringContaining('Two loaves left.'));
  await outcome().getByText('sent ✓ delivered ✓✓ read ✓✓').waitFor();
  await row(/messages Two loaves left\. sent ✓ delivered ✓✓ read ✓✓/).click();
  await about.getByText('from the composer').waitFor();
  expect(await about.getByRole('region', { name: 'Request' }).innerText()).toContain('"Two loaves left."');

  // The token is in the page for as long as it is wanted.
  const token = world.business.access_token;
  expect(await page.content()).not.toContain(token);
  await about.getByRole('button', { name: 'Put the token in' }).click();
  await about.getByRole('region', { name: 'Make this call' }).getByText(token).waitFor();
  await about.getByRole('button', { name: 'Copy: Make this call' }).click();
  const again = await copied();
  await about.getByRole('button', { name: 'Take the token out' }).click();
  expect(await page.content()).not.toContain(token);
  expect(JSON.parse(await world.shell(again)).messages).toHaveLength(1);
  await expect.poll(() => ana.lines.filter((line) => line.includes('Two loaves left.')), { timeout: 20_000 }).toHaveLength(2);

  await page.getByText('Set one, while your receiver runs').click();
  const receiver = new Receiver();
  const url = await receiver.listen();
  try {
    await page.locator('details').getByRole('button', { name: 'Copy' }).click();
    await world.shell((await copied()).replace('http://127.0.0.1:9000/', url));
    await page.getByText(`Webhooks go to ${url}`).waitFor();
    await row('Ana: Do you have sourdough?').click();
    await about.getByText('delivered', { exact: true }).waitFor();
    await about.getByRole('cell', { name: 'answered 200' }).waitFor();
    expect(receiver.deliveries.filter(({ body }) => body === payload)).toHaveLength(1);
    await about.getByRole('button', { name: 'Replay' }).click();
    await about.getByRole('cell', { name: 'answered 200 · replay' }).waitFor();
    const posted = receiver.deliveries.filter(({ body }) => body === payload);
    expect(posted.map(({ headers }) => headers['x-hub-signature-256'])).toEqual([`sha256=${signature}`, `sha256=${signature}`]);
    expect(await violations(page)).toEqual([]);
    await about.getByRole('button', { name: 'React with 👍' }).click();
    await outcome().getByText('Reacted 👍').waitFor();
    await expect.poll(() => ana.lines, { timeout: 20_000 }).toContainEqual(expect.stringMatching(/^~ 👍/));
  } finally {
    receiver.close();
  }
});

it('lets nobody in without a link, nor twice with one', async () => {
  await open(`http://${world.ready.api}/console`);
  await page.getByText('This browser has no session').waitFor();
  await page.getByText('bulla console', { exact: true }).waitFor();
  expect(await violations(page)).toEqual([]);
  await context.close();

  await open(world.ready.console);
  await page.getByText('Nothing has happened yet.').waitFor();
  await page.reload();
  await page.getByText('Nothing has happened yet.').waitFor();
  await page.goto('about:blank');
  // From the history, in the browser that has a session.
  await page.goto(world.ready.console);
  await page.getByText('Nothing has happened yet.').waitFor();
  await context.close();

  await open(world.ready.console);
  await page.getByText('This link was used before').waitFor();
  await page.goto('about:blank');
  await page.goto(await world.link());
  await page.getByText('Nothing has happened yet.').waitFor();
  await page.getByRole('button', { name: 'Leave' }).click();
  await page.getByText('session is over').waitFor();
  await page.reload();
  await page.getByText('This browser has no session').waitFor();
  // What the browser says itself of answers that are refusals.
  complaints = complaints.filter((complaint) => !complaint.includes('401 (Unauthorized)'));
});

it('is used on a phone and by keyboard alone', async () => {
  await open(world.ready.console, PHONE);
  await page.getByText('Nothing has happened yet.').waitFor();
  expect(await violations(page)).toEqual([]);
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(await wide()).toBe(0);
  const ana = world.customer('Ana');
  ana.says('first');
  await row('Ana: first').waitFor();
  ana.says('second');
  await row('Ana: second').waitFor();

  const focused = () => page.evaluate(() => document.activeElement?.textContent?.replace(/\s+/g, ' ').trim() ?? '');
  await page.getByRole('radio', { name: 'Webhooks' }).focus();
  await page.keyboard.press('Tab');
  expect(await focused()).toContain('Ana: second');
  await page.keyboard.press('ArrowDown');
  expect(await focused()).toContain('Ana: first');
  await page.keyboard.press('Enter');
  await expect.poll(focused).toBe('Ana: first');
  expect(await page.getByLabel('Message', { exact: true }).isVisible()).toBe(false);
  expect(await violations(page)).toEqual([]);
  expect(await wide()).toBe(0);
  await page.keyboard.press('Shift+Tab');
  expect(await focused()).toBe('Back to the list');
  await page.keyboard.press('Enter');
  await expect.poll(focused).toContain('Ana: first');

  await page.getByLabel('Message', { exact: true }).focus();
  await page.keyboard.type('both heard');
  await page.keyboard.press('Enter');
  await outcome().getByText('read ✓✓').waitFor();
  await expect.poll(() => page.evaluate(() => document.activeElement?.id)).toBe('text');
  expect(await violations(page)).toEqual([]);
});

it('shows whatever customers call themselves and write as text', async () => {
  await open(world.ready.console);
  await page.getByText('Nothing has happened yet.').waitFor();
  const name = '<img src=x onerror=alert(1)>';
  const texts = ['<script>alert(1)</script>', '"><svg onload=alert(1)>', '{{constructor.constructor("alert(1)")()}}', 'javascript:alert(1)', '\u202egnp.exe {name}'];
  const mallory = world.customer(name);
  for (const text of texts) mallory.says(text);
  for (const text of texts) await row(`${name}: ${text.replace('\u202e', '')}`).click();
  await page.getByRole('article').getByRole('region', { name: 'Payload' }).getByText('onerror').waitFor();
  expect(await page.getByRole('combobox', { name: 'To' }).innerText()).toContain(name);
  expect(await page.locator('img[src=x], script:not([src]), [onload]').count()).toBe(0);
});

it('is the second line of the first run', async () => {
  const run = await up();
  try {
    const link = run.printed.find((line) => line.startsWith(' 2 Be the business '))?.split(' ').at(-1);
    expect(link, run.printed.join('\n')).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/console#code=\w{22}$/);
    await open(link!);
    await page.getByText('Nothing has happened yet.').waitFor();
    await page.getByText('Cortado Coffee (demo)').waitFor();
  } finally {
    await context.close();
    await run.end();
  }
});

it('says that the gateway is gone, and asks for a link when another has started', async () => {
  await open(world.ready.console);
  await page.getByText('Nothing has happened yet.').waitFor();
  await world.stopGateway();
  await page.getByText('The gateway does not answer.').waitFor();
  await world.startGateway();
  await page.getByText('the gateway has started anew since').waitFor();
  complaints = complaints.filter((complaint) => !/ERR_(CONNECTION|EMPTY_RESPONSE|INCOMPLETE)|401 \(Unauthorized\)/.test(complaint));
});
