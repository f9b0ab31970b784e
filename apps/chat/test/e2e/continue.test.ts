/** "Continue on your phone": the QR code that is shown, and what its link does where it is opened. */
import type { Page } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { TICKET } from '../../dev/scripted';
import { DESKTOP, PHONE } from './browser';
import { scanned } from './camera';
import { asks, calls, focused, gives, transferFails, until, violations, visit } from './page';
import { stage } from './stage';

const on = stage();
const carrying = (state: string, ticket: string) => `${on.url(state)}&c=${ticket}`;
const picture = (page: Page) => page.locator('dialog').getByRole('img', { name: 'QR code that continues', exact: false });

const press = async (page: Page, ...keys: string[]) => {
  for (const key of keys) await page.keyboard.press(key);
};
const name = (page: Page) => page.evaluate(() => document.activeElement?.textContent?.trim());

async function openCode(page: Page): Promise<void> {
  await page.locator('.offer').getByRole('button', { name: 'Show the code' }).click();
  await page.locator('dialog .code').waitFor();
}

describe.each([
  ['phone', 'light', PHONE],
  ['phone', 'dark', PHONE],
  ['desktop', 'light', DESKTOP],
  ['desktop', 'dark', DESKTOP],
] as const)('on a %s, %s', (_name, colorScheme, viewport) => {
  it('shows after a press a QR code that a camera reads, dark on light, and hides it with the sheet', async () => {
    const { page, complaints, close } = await visit(on.browser, on.url('code'), { viewport, colorScheme });
    await openCode(page);
    expect(await picture(page).count()).toBe(0);
    expect(await scanned(page)).toBeNull();
    const show = page.locator('dialog').getByRole('button', { name: 'Show the QR code' });
    expect(await show.getAttribute('aria-expanded')).toBe('false');
    await show.click();
    await picture(page).waitFor();
    expect(await violations(page)).toEqual([]);
    expect(await scanned(page)).toBe(`${on.origin}/@cortado#k=abc&c=${TICKET}`);
    // Held by a hand at an arm's length; and all of it is in sight.
    const { x, y, width, height } = (await picture(page).boundingBox())!;
    expect(width).toBeGreaterThanOrEqual(300);
    expect(x >= 0 && y >= 0 && x + width <= viewport.width && y + height <= viewport.height).toBe(true);
    const status = page.locator('dialog section [role=status]');
    expect(await status.innerText()).toContain('does nothing any more when you hide it or close this');
    // This test's address is one.
    await page.locator('dialog').getByText('a phone cannot open it').waitFor();

    await page.locator('dialog').getByRole('button', { name: 'Hide the QR code' }).click();
    expect(await scanned(page)).toBeNull();
    // Hidden, it is worth nothing; shown again, it is another one.
    await until(async () => (await calls(page, 'stopTransfer')).length, 1);
    await show.click();
    expect(await calls(page, 'offerTransfer')).toEqual([[`${on.origin}/@cortado#k=abc`], [`${on.origin}/@cortado#k=abc`]]);
    await picture(page).waitFor();
    await press(page, 'Escape');
    await until(() => page.locator('dialog').count(), 0);
    await until(async () => (await calls(page, 'stopTransfer')).length, 2);
    // Opened again, it waits for another press.
    await page.getByRole('button', { name: 'Settings' }).click();
    await page.locator('dialog').getByRole('button', { name: 'Show the code' }).click();
    await show.waitFor();
    expect(await picture(page).count()).toBe(0);
    expect(complaints).toEqual([]);
    await close();
  });

  it('says the number of the device that asks, gives after a yes, and says that it was used', async () => {
    const { page, complaints, close } = await visit(on.browser, on.url('code'), { viewport, colorScheme });
    await openCode(page);
    await page.locator('dialog').getByRole('button', { name: 'Show the QR code' }).click();
    await picture(page).waitFor();
    await asks(page, '402917');
    const status = page.locator('dialog section [role=status]');
    await status.getByText('does it show this number?').waitFor();
    expect(await status.innerText()).toContain('402 917');
    // Nobody else needs to see it now, and nothing is given yet.
    expect(await picture(page).count()).toBe(0);
    expect(await calls(page, 'giveTransfer')).toEqual([]);
    expect(await violations(page)).toEqual([]);
    await page.locator('dialog').getByRole('button', { name: 'Yes, hand over to it' }).click();
    await status.getByText('was used and does nothing any more').waitFor();
    expect(await calls(page, 'giveTransfer')).toHaveLength(1);
    expect(complaints).toEqual([]);
    await close();
  });

  it('asks before a link with a ticket is followed, shows the number, and follows it', async () => {
    const { page, complaints, close } = await visit(on.browser, carrying('welcome', '0right'), { viewport, colorScheme });
    await page.getByRole('heading', { name: 'Continue on this device?' }).waitFor();
    // Not in the address, nor in what lies behind it.
    expect(page.url()).toBe(on.url('welcome'));
    expect(await page.evaluate(() => [history.length, document.referrer, JSON.stringify(history.state)].join())).not.toContain('0right');
    expect(await page.locator('main form, main input').count()).toBe(0);
    expect(await page.locator('main').innerText()).toContain('the conversation with Cortado Coffee that was begun on another one');
    expect(await page.locator('.warning').innerText()).toBe('Only go on if you scanned this from your own screen. Whoever sent you this link could read what you write here.');
    expect(await violations(page)).toEqual([]);
    // Nothing has happened by itself, however long one looks.
    await page.waitForTimeout(500);
    expect(await calls(page, 'askTransfer')).toEqual([]);
    await page.getByRole('button', { name: 'Continue here', exact: true }).click();
    const status = page.locator('main [role=status]');
    await status.getByText('Say yes there if it is this one').waitFor();
    expect(await status.innerText()).toContain('402 917');
    expect(await page.locator('.warning').count()).toBe(0);
    expect(await page.getByRole('button').allInnerTexts()).toEqual(['No, begin anew']);
    await until(() => name(page), 'Continue on this device?');
    expect(await violations(page)).toEqual([]);
    // Nothing is here before the other device has said yes.
    expect(await calls(page, 'recover')).toEqual([]);
    await gives(page);
    await until(() => page.locator('article').count(), 13);
    // With the link as the business gave it.
    expect(await calls(page, 'askTransfer')).toEqual([['0right', '#k=abc']]);
    expect(await calls(page, 'begin')).toEqual([]);
    expect(complaints).toEqual([]);
    await close();
  });
});

it('the address is clean before anything else on the page reads it, and stays so in the tab', async () => {
  const { page, complaints, close } = await visit(on.browser, `${on.url('welcome').replace('#', '&worker#')}&c=0right`, { viewport: PHONE }, (context) =>
    context.addInitScript(() => {
      // Whatever the page does first with its address, it does after this.
      const seen: string[] = [];
      Object.assign(globalThis, { seen });
      const replace = history.replaceState.bind(history);
      history.replaceState = (...how) => (seen.push('replaced'), replace(...how));
      const append = Node.prototype.appendChild;
      Node.prototype.appendChild = function <T extends Node>(node: T) {
        seen.push(location.hash);
        return append.call(this, node) as T;
      };
      globalThis.Worker = new Proxy(Worker, { construct: (made, args: ConstructorParameters<typeof Worker>) => (seen.push(`worker ${location.hash}`), new made(...args)) });
    }),
  );
  await page.getByRole('heading', { name: 'Continue on this device?' }).waitFor();
  const seen = await page.evaluate(() => (globalThis as unknown as { seen: string[] }).seen);
  expect(seen[0]).toBe('replaced');
  expect(seen).toContain('worker #k=abc');
  expect(seen.join()).not.toContain('c=');
  // The tab's history has it as it is now.
  await page.goto(on.url('empty'));
  await page.locator('article').waitFor();
  await page.goBack();
  await page.locator('main').waitFor();
  expect(page.url()).toBe(on.url('welcome').replace('#', '&worker#'));
  expect(complaints).toEqual([]);
  await close();
});

it('a link that is opened in the tab of another is followed as well, and as clean', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('welcome'), { viewport: PHONE });
  await page.getByLabel('Your message').waitFor();
  // The browser takes it for the same page.
  await page.evaluate(() => (location.hash += '&c=0right'));
  await page.getByRole('heading', { name: 'Continue on this device?' }).waitFor();
  expect(page.url()).toBe(on.url('welcome'));
  expect(complaints).toEqual([]);
  await close();
});

it.each([
  ['transfer-expired', 'ten minutes are over'],
  ['transfer-refused', 'is not from your other device'],
  ['unreachable', 'could not be reached'],
] as const)('a ticket that ends by itself (%s) is gone, with a sentence, and another can be shown', async (problem, sentence) => {
  const { page, complaints, close } = await visit(on.browser, on.url('code'), { viewport: PHONE });
  await openCode(page);
  await page.locator('dialog').getByRole('button', { name: 'Show the QR code' }).click();
  await picture(page).waitFor();
  await transferFails(page, problem);
  await page.locator('dialog section [role=status]').getByText(sentence).waitFor();
  expect(await picture(page).count()).toBe(0);
  await page.locator('dialog').getByRole('button', { name: 'Show the QR code' }).click();
  await picture(page).waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it('a no gives nothing, and says so; a yes that comes too late says that too', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('code-taken'), { viewport: PHONE });
  await openCode(page);
  const show = page.locator('dialog').getByRole('button', { name: 'Show the QR code' });
  const status = page.locator('dialog section [role=status]');
  await show.click();
  await picture(page).waitFor();
  await asks(page, '000042');
  await page.locator('dialog').getByRole('button', { name: 'No, stop' }).click();
  await status.getByText('Nothing was handed over').waitFor();
  expect(await calls(page, 'giveTransfer')).toEqual([]);
  await until(async () => (await calls(page, 'stopTransfer')).length, 1);
  await show.click();
  await picture(page).waitFor();
  await asks(page, '000042');
  await page.locator('dialog').getByRole('button', { name: 'Yes, hand over to it' }).click();
  await status.getByText('Another device has used this QR code already').waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it('a second device is told that it was not the first', async () => {
  const { page, complaints, close } = await visit(on.browser, carrying('welcome', '3used'), { viewport: PHONE });
  await page.getByRole('button', { name: 'Continue here', exact: true }).click();
  await page.locator('main').getByRole('alert').getByText('Another device has used this QR code already').waitFor();
  expect(await calls(page, 'recover')).toEqual([]);
  expect(complaints).toEqual([]);
  await close();
});

it('whoever stops while the other device is asked begins anew, and waits for nothing', async () => {
  const { page, complaints, close } = await visit(on.browser, carrying('welcome', '0right'), { viewport: PHONE });
  await page.getByRole('button', { name: 'Continue here', exact: true }).click();
  await page.locator('main [role=status]').getByText('402 917').waitFor();
  await page.getByRole('button', { name: 'No, begin anew', exact: true }).click();
  await page.getByLabel('Your message').waitFor();
  expect(await calls(page, 'stopTransfer')).toHaveLength(1);
  expect(await calls(page, 'recover')).toEqual([]);
  expect(complaints).toEqual([]);
  await close();
});

it('by the keyboard alone: the code, the QR code and away again', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('code'), { viewport: DESKTOP });
  await page.locator('.offer').getByRole('button', { name: 'Show the code' }).focus();
  await press(page, 'Enter');
  await until(() => name(page), 'Your recovery code');
  await page.locator('dialog .code').waitFor();
  // Close, the sheet itself, copy, print.
  await press(page, 'Tab', 'Tab', 'Tab', 'Tab', 'Tab');
  await until(() => name(page), 'Show the QR code');
  await press(page, 'Enter');
  await picture(page).waitFor();
  // The focus stays where it hides it again, and what to do is said.
  await until(() => name(page), 'Hide the QR code');
  expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-expanded'))).toBe('true');
  await press(page, 'Enter');
  await until(() => name(page), 'Show the QR code');
  expect(await picture(page).count()).toBe(0);
  await press(page, 'Enter', 'Escape');
  await until(() => page.locator('dialog').count(), 0);
  expect(complaints).toEqual([]);
  await close();
});

it('by the keyboard alone: the yes is another button than the one that has the focus', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('code'), { viewport: DESKTOP });
  await openCode(page);
  await page.locator('dialog').getByRole('button', { name: 'Show the QR code' }).focus();
  await press(page, 'Enter');
  await picture(page).waitFor();
  await asks(page, '402917');
  // A hasty Enter is a no.
  await until(() => name(page), 'No, stop');
  await press(page, 'Tab');
  await until(() => name(page), 'Yes, hand over to it');
  await press(page, 'Enter');
  await page.locator('dialog section [role=status]').getByText('was used').waitFor();
  expect(await calls(page, 'giveTransfer')).toHaveLength(1);
  expect(complaints).toEqual([]);
  await close();
});

it('by the keyboard alone: a refused ticket, then anew; a hasty Enter does nothing', async () => {
  const { page, complaints, close } = await visit(on.browser, carrying('welcome', '1wrong'), { viewport: DESKTOP });
  await until(() => name(page), 'Continue on this device?');
  await press(page, 'Enter', 'Space');
  expect(await calls(page, 'askTransfer')).toEqual([]);
  await press(page, 'Tab');
  await until(() => name(page), 'Continue here');
  await press(page, 'Enter');
  // The sentence of one that is not whole; nothing was sent.
  await page.locator('main').getByRole('alert').getByText('This link is not whole').waitFor();
  expect(await calls(page, 'askTransfer')).toEqual([['1wrong', '#k=abc']]);
  await until(() => name(page), 'Continue here');
  await press(page, 'Tab');
  await until(() => name(page), 'No, begin anew');
  await press(page, 'Enter');
  // The ordinary first screen, from its beginning on.
  await until(() => name(page), 'Cortado Coffee');
  await press(page, 'Tab', 'Tab');
  await until(() => focused(page), 'name');
  await press(page, 'Tab');
  await page.keyboard.type('Hello');
  await press(page, 'Enter');
  await page.locator('article', { hasText: 'Hello' }).waitFor();
  expect(await calls(page, 'begin')).toHaveLength(1);
  expect(await calls(page, 'recover')).toEqual([]);
  expect(complaints).toEqual([]);
  await close();
});

it('anew is anew: the ticket is in no field, and another opening does not ask again', async () => {
  const { page, complaints, close } = await visit(on.browser, carrying('welcome', '0right'), { viewport: PHONE });
  await page.getByRole('button', { name: 'No, begin anew', exact: true }).click();
  await page.getByLabel('Your message').waitFor();
  expect(await page.locator('input').evaluateAll((fields) => fields.map((field) => (field as HTMLInputElement).value))).toEqual(['', '']);
  await page.reload();
  await page.getByLabel('Your message').waitFor();
  expect(await calls(page, 'askTransfer')).toEqual([]);
  expect(complaints).toEqual([]);
  await close();
});

it('a customer whom the business does not know comes to the first screen with a sentence, and it is not tried again', async () => {
  const { page, complaints, close } = await visit(on.browser, carrying('welcome', '2nobody'), { viewport: PHONE });
  await page.getByRole('button', { name: 'Continue here', exact: true }).click();
  await page.locator('main [role=status]').getByText('402 917').waitFor();
  await gives(page);
  await page.locator('#code-problem', { hasText: 'knows nobody with this code' }).waitFor();
  await page.getByLabel('Your message').waitFor();
  expect(await calls(page, 'recover')).toHaveLength(1);
  expect(complaints).toEqual([]);
  await close();
});

it.each(['chat', 'moved'])('a device that has a conversation (%s) keeps it, and says so', async (state) => {
  const { page, complaints, close } = await visit(on.browser, carrying(state, '0right'), { viewport: PHONE });
  await page.locator('.toast').getByText('This device already has a conversation with Cortado Coffee. The QR code was not used and nothing was changed.').waitFor();
  expect(page.url()).toBe(on.url(state));
  expect(await page.locator('article').count()).toBe(13);
  expect(await calls(page, 'askTransfer')).toEqual([]);
  expect(await page.getByText('Continue on this device?').count()).toBe(0);
  // Once: it was about that link.
  await page.reload();
  await page.locator('article').first().waitFor();
  expect(await page.locator('.toast p').count()).toBe(0);
  expect(complaints).toEqual([]);
  await close();
});

it('where the page was opened without its link, it is the one of before', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('code'), { viewport: DESKTOP });
  await page.locator('article').first().waitFor();
  // As an installed app, or after a notification.
  await page.goto(`${on.origin}/?state=code`);
  await openCode(page);
  await page.locator('dialog').getByRole('button', { name: 'Show the QR code' }).click();
  await picture(page).waitFor();
  expect(await scanned(page)).toBe(`${on.origin}/@cortado#k=abc&c=${TICKET}`);
  await close();

  const never = await visit(on.browser, `${on.origin}/?state=code`, { viewport: DESKTOP });
  await openCode(never.page);
  await never.page.locator('dialog').getByRole('button', { name: 'Show the QR code' }).click();
  await never.page.locator('dialog section').getByText('Open the link from the business once more').waitFor();
  expect(await picture(never.page).count()).toBe(0);
  expect([...complaints, ...never.complaints]).toEqual([]);
  await never.close();
});

it('on paper there is no QR code', async () => {
  const { page, close } = await visit(on.browser, on.url('code'), { viewport: DESKTOP });
  await openCode(page);
  await page.locator('dialog').getByRole('button', { name: 'Show the QR code' }).click();
  await picture(page).waitFor();
  await page.emulateMedia({ media: 'print' });
  expect(await page.locator('dialog .code').isVisible()).toBe(true);
  expect(await page.locator('dialog svg[role=img]').isVisible()).toBe(false);
  await close();
});
