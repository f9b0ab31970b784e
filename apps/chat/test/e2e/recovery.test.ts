/** The code: offered once, shown, entered again; and what is said where it is wrong, or where the conversation is elsewhere. */
import { expect, it } from 'vitest';
import { DESKTOP, PHONE } from './browser';
import { calls, say, until, visit } from './page';
import { stage } from './stage';

const on = stage();

it('is offered once, and can be read in the settings afterwards', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('code'), { viewport: PHONE });
  const offer = page.locator('.offer');
  await offer.getByRole('button', { name: 'Show the code' }).click();
  await until(() => page.locator('.code span').allInnerTexts(), ['0W3G', 'E1R7', '0W3G', 'E1R7', '0W3G', 'E1R7', '0YJ5']);
  await page.keyboard.press('Escape');
  await until(() => offer.count(), 0);
  await page.reload();
  await page.locator('article').first().waitFor();
  // The state says whether it would be offered: with the settings open, the question has been answered.
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.locator('dialog').getByRole('button', { name: 'Show the code' }).click();
  await page.locator('.code').waitFor();
  expect(await offer.count()).toBe(0);
  expect(complaints).toEqual([]);
  await close();
});

it('brings somebody back by the keyboard alone, and says whose memory is shown', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('welcome'), { viewport: DESKTOP });
  await page.getByText('I was here before').focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  await page.keyboard.type('1wrong');
  await page.keyboard.press('Enter');
  await page.locator('#code-problem', { hasText: 'mistyped' }).waitFor();
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('code');
  expect(await page.locator('#code').inputValue()).toBe('1wrong');

  await page.locator('#code').fill('2nobody');
  await page.keyboard.press('Enter');
  await page.locator('#code-problem', { hasText: 'knows nobody with this code' }).waitFor();
  await page.getByLabel('Your message').waitFor();

  await page.locator('#code').fill('0right');
  await page.keyboard.press('Enter');
  await page.getByText('as Cortado Coffee has kept it', { exact: false }).waitFor({ state: 'attached' });
  await until(() => page.locator('article').count(), 13);
  await until(() => calls(page, 'recover'), [['1wrong', '#k=abc'], ['2nobody', '#k=abc'], ['0right', '#k=abc']]);
  expect(await page.locator('.unread').count()).toBe(0);
  await page.getByLabel('Message', { exact: true }).fill('I am back');
  await page.keyboard.press('Enter');
  await page.locator('article', { hasText: 'I am back' }).waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it('says where a conversation is that was brought elsewhere, and brings it back', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('moved'), { viewport: PHONE });
  await page.getByRole('alert').getByText('goes on on another device').waitFor();
  expect(await page.getByLabel('Message', { exact: true }).count()).toBe(0);
  await page.getByRole('button', { name: 'Continue here' }).click();
  await page.getByLabel('Message', { exact: true }).waitFor();
  expect(await calls(page, 'takeBack')).toHaveLength(1);
  expect(complaints).toEqual([]);
  await close();
});

it('asks for older messages while the top is looked at, and says when none come', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('past-asked'), { viewport: PHONE });
  await page.clock.install();
  await page.reload();
  await page.locator('article').first().waitFor();
  await page.locator('section.scroller').evaluate((scroller) => (scroller.scrollTop = 0));
  await until(async () => (await calls(page, 'older')).length > 0, true);
  await page.getByText('is coming from Cortado Coffee').waitFor();
  await page.clock.fastForward(21_000);
  await page.getByText('has not sent what was said before').waitFor();
  const before = (await calls(page, 'older')).length;
  await page.getByRole('button', { name: 'Ask again' }).click();
  await until(async () => (await calls(page, 'older')).length > before, true);
  await say(page, { type: 'history', added: 0 });
  expect(complaints).toEqual([]);
  await close();
});
