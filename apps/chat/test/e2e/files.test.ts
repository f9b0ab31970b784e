/** Pictures and files: chosen, looked at before they go, on their way, shown and saved. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { DESKTOP } from './browser';
import { calls, focused, receive, say, until, violations, visit } from './page';
import { stage } from './stage';

const on = stage();
const ICON = readFileSync(join(import.meta.dirname, '../../public/icon-512.png'));

const choose = (page: Page, name: string, mimeType: string, buffer: Buffer) => page.locator('input[type=file]').setInputFiles({ name, mimeType, buffer });
const attached = (page: Page) => calls(page, 'attach');
const names = (page: Page) => page.locator('.attached .name').allInnerTexts();

it('a picture is drawn anew before it goes, unless the original is wanted', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('chat'), { viewport: DESKTOP });
  await page.locator('article').first().waitFor();
  await choose(page, 'IMG_2041.png', 'image/png', ICON);
  await page.locator('dialog img').waitFor();
  await page.getByLabel('What you want to say about it').fill('this one?');
  await page.getByRole('button', { name: 'Seal and send' }).click();
  await page.locator('article .attached').waitFor();
  await choose(page, 'IMG_2042.png', 'image/png', ICON);
  await page.getByLabel('Send the original file').check();
  await page.getByRole('button', { name: 'Seal and send' }).click();
  await until(async () => (await attached(page)).length, 2);
  const [drawn, original] = await attached(page);
  expect(drawn!.slice(0, 5)).toEqual(['IMG_2041.jpg', 'image/jpeg', 'this one?', null, 'image/webp']);
  expect(drawn![5]).not.toBe(ICON.length);
  expect(original).toEqual(['IMG_2042.png', 'image/png', '', null, 'image/webp', ICON.length]);
  expect(complaints).toEqual([]);
  await close();
});

it('a file goes as it is, as an answer; by keyboard the focus comes back', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('chat'), { viewport: DESKTOP });
  const last = page.locator('article').last();
  await last.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('menuitem', { name: 'Reply' }).click();
  await page.locator('.about').waitFor();
  await choose(page, 'list.pdf', 'application/pdf', Buffer.from('%PDF-1.7'));
  await page.locator('dialog').getByText('list.pdf').waitFor();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await until(() => focused(page), 'caption');
  await page.getByRole('button', { name: 'Seal and send' }).press('Enter');
  await until(() => page.locator('dialog').count(), 0);
  expect(await attached(page)).toEqual([['list.pdf', 'application/pdf', '', 'm13', null, 8]]);
  await until(() => page.locator('form > .about').count(), 0);
  await until(() => names(page), ['list.pdf']);
  expect(complaints).toEqual([]);
  await close();
});

it('what is on its way shows how far it is, and is stopped or tried again', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('files'), { viewport: DESKTOP });
  const list = page.getByRole('list', { name: 'Files on their way' });
  await list.waitFor();
  await until(() => list.getByRole('progressbar').getAttribute('value').then(Number), 1_000_000 / 2_200_000);
  await say(page, { type: 'upload-moved', id: 'u1', sent: 2_200_000 });
  await until(() => list.getByRole('progressbar').getAttribute('aria-label'), 'receipt.jpg: 100% sent');
  await list.getByText('does not take files from you').waitFor();
  await list.getByRole('button', { name: 'Try film.mp4 again' }).click();
  await until(() => calls(page, 'retryUpload'), [['u2']]);
  await until(() => list.getByRole('progressbar').count(), 2);
  await list.getByRole('button', { name: 'Do not send film.mp4' }).click();
  await until(() => list.getByRole('listitem').count(), 1);
  expect(complaints).toEqual([]);
  await close();
});

it('nothing is loaded by itself but what is here; a picture is shown, a file saved', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('files'), { viewport: DESKTOP });
  const theirs = page.locator('article').filter({ hasText: 'Is it this one?' });
  await page.locator('article').filter({ hasText: 'This is my grinder.' }).locator('img').waitFor();
  // The own one is here; the other side's two were not asked for.
  expect(await calls(page, 'openFile')).toEqual([['m16']]);
  await theirs.getByRole('button', { name: 'Show (214 kB)' }).click();
  await theirs.locator('img').waitFor();
  expect(await violations(page)).toEqual([]);
  const invoice = page.locator('article').filter({ hasText: 'Invoice 2026-118.pdf' });
  const [download] = await Promise.all([page.waitForEvent('download'), invoice.getByRole('button', { name: 'Save' }).click()]);
  expect(download.suggestedFilename()).toBe('file.pdf');
  expect(page.context().pages()).toHaveLength(1);

  // Once the person has set it, what is small enough comes by itself.
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByLabel('Load pictures without asking').selectOption('2000000');
  await page.keyboard.press('Escape');
  const file = { name: 'a.png', mediaType: 'image/png', size: 1_999_999, caption: 'small', preview: null, expires: 0 };
  const small = await receive(page, { shown: { kind: 'file', file } });
  await page.locator('article').filter({ hasText: 'small' }).locator('img').waitFor();
  await receive(page, { shown: { kind: 'file', file: { ...file, size: 2_000_001, caption: 'large' } } });
  await page.locator('article').filter({ hasText: 'large' }).getByRole('button', { name: 'Show' }).waitFor();
  expect((await calls(page, 'openFile')).at(-1)).toEqual([small.id]);
  expect(complaints).toEqual([]);
  await close();
});

it('what is too large or gone is a sentence', async () => {
  const { page, close } = await visit(on.browser, on.url('gone'), { viewport: DESKTOP });
  await receive(page, { shown: { kind: 'file', file: { name: 'a.pdf', mediaType: 'application/pdf', size: 5, caption: '', preview: null, expires: 0 } } });
  await page.locator('article').last().getByRole('button', { name: 'Save' }).click();
  await page.getByText('files are kept for 30 days').waitFor();
  // 100 MiB and one byte, without making them.
  await page.evaluate(() => {
    const input = document.querySelector<HTMLInputElement>('input[type=file]')!;
    const file = new File(['x'], 'film.mp4', { type: 'video/mp4' });
    Object.defineProperty(file, 'size', { value: 100 * 1024 * 1024 + 1 });
    Object.defineProperty(input, 'files', { value: [file] });
    input.dispatchEvent(new Event('change', { bubbles: true }));
  });
  await page.locator('dialog').getByText('100 MB are possible').waitFor();
  expect(await page.getByRole('button', { name: 'Seal and send' }).count()).toBe(0);
  await close();
});
