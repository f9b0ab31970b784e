/** A long conversation: it stays where one looks, brings in what is wanted and lets go of what is not. And drafts. */
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { MOST } from '../../src/lib/chat/window';
import { calls, receive, until, visit } from './page';
import { stage } from './stage';

const on = stage();

const away = (page: Page) => page.locator('.scroller').evaluate((element) => Math.round(element.scrollHeight - element.scrollTop - element.clientHeight));
const scrollTo = (page: Page, top: number) => page.locator('.scroller').evaluate((element, top) => element.scrollTo({ top, behavior: 'instant' }), top);
const frames = (page: Page) => page.evaluate(() => new Promise<void>((done) => requestAnimationFrame(() => requestAnimationFrame(() => done()))));
const articles = (page: Page) => page.locator('article').count();
const first = (page: Page) => page.locator('article .text').first().innerText();
/** Where each message is on the screen. */
const places = (page: Page) =>
  page.locator('article').evaluateAll((all) => Object.fromEntries(all.map((one) => [(one as HTMLElement).dataset.id!, Math.round(one.getBoundingClientRect().top)])));

it('two thousand messages, up to the first and back, with few in the document', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('long'));
  await until(() => page.locator('article .text').last().innerText(), 'Message 2000');
  await until(() => away(page), 0);

  // Up: page after page, until the beginning.
  for (let round = 0; (await first(page)) !== 'Message 1'; round += 1) {
    expect(round).toBeLessThan(200);
    const before = await first(page);
    await scrollTo(page, 0);
    await until(async () => (await first(page)) !== before, true);
    expect(await articles(page)).toBeLessThanOrEqual(MOST);
  }
  await until(async () => (await page.locator('.beginning').innerText()).trim(), 'The beginning of your conversation with Cortado Coffee. It is sealed from end to end.');

  // And back with one button.
  await page.locator('.pill').click();
  await until(() => away(page), 0);
  await until(() => page.locator('article .text').last().innerText(), 'Message 2000');
  await until(() => page.locator('.pill').count(), 0);
  expect(complaints).toEqual([]);
  await close();
});

it('what one looks at stays in its place while older messages come in above', async () => {
  const { page, close } = await visit(on.browser, on.url('long'));
  await until(() => away(page), 0);
  const count = await articles(page);
  // In one go: where everything is before the page has heard of the scrolling.
  const before: Record<string, number> = await page.locator('.scroller').evaluate((element) => {
    element.scrollTop = 400;
    return Object.fromEntries([...element.querySelectorAll('article')].map((one) => [one.dataset.id!, Math.round(one.getBoundingClientRect().top)]));
  });
  await until(async () => (await articles(page)) > count, true);
  await frames(page);
  const after = await places(page);
  const seen = Object.entries(before).filter(([, top]) => top > 70 && top < 700);
  expect(seen.length).toBeGreaterThan(5);
  for (const [id, top] of seen) expect(Math.abs(after[id]! - top)).toBeLessThanOrEqual(2);
  await close();
});

it('somebody who reads above is told of new messages and not moved; somebody at the end follows', async () => {
  const { page, close } = await visit(on.browser, on.url('long'));
  await until(() => away(page), 0);
  await receive(page, { text: 'At the end' });
  await until(() => away(page), 0);
  await until(() => page.locator('article .text').last().innerText(), 'At the end');

  await scrollTo(page, 2500);
  await page.locator('.pill.plain').waitFor();
  await frames(page);
  const before = await places(page);
  const read = (await calls(page, 'markRead')).length;
  await receive(page, { text: 'Above' });
  await receive(page, { text: 'And another' });
  await until(() => page.locator('.pill').innerText(), '2 new messages');
  const after = await places(page);
  for (const [id, top] of Object.entries(before)) if (top > 70 && top < 700) expect(Math.abs(after[id]! - top)).toBeLessThanOrEqual(2);
  // What was not in sight was not read.
  expect((await calls(page, 'markRead')).length).toBe(read);

  await page.locator('.pill').click();
  await until(() => away(page), 0);
  await until(() => page.locator('article .text').last().innerText(), 'And another');
  await until(async () => (await calls(page, 'markRead')).at(-1), [await page.locator('article').last().getAttribute('data-id')]);
  await close();
});

it('a quote leads to its message, and the marker to where one left off', async () => {
  const { page, close } = await visit(on.browser, on.url('unread'));
  await page.locator('.unread').waitFor();
  await until(() => page.locator('.unread + li .text').innerText(), 'By the way: the new Kenya arrives on Thursday.');
  const quote = page.locator('.quote').first();
  await quote.scrollIntoViewIfNeeded();
  await quote.click();
  await until(() => page.evaluate(() => (document.activeElement as HTMLElement).dataset.id), 'm2');
  await close();
});

it('a draft outlives a reload, encrypted, and is gone once it was sent', async () => {
  const { page, close } = await visit(on.browser, on.url('chat'));
  const stored = () =>
    page.evaluate(
      () =>
        new Promise<string[]>((resolve) => {
          const open = indexedDB.open('bulla-page');
          open.onsuccess = () => {
            const all = open.result.transaction('values').objectStore('values').getAll(IDBKeyRange.bound('draft-', 'draft-~'));
            all.onsuccess = () => {
              open.result.close();
              resolve((all.result as { sealed: ArrayBuffer }[]).map(({ sealed }) => new TextDecoder('latin1').decode(sealed)));
            };
          };
        }),
    );
  await page.locator('textarea').fill('Half a sentence');
  await until(async () => (await stored()).length, 1);
  expect((await stored()).join()).not.toContain('Half');
  await page.reload();
  await until(() => page.locator('textarea').inputValue(), 'Half a sentence');
  await page.locator('textarea').press('Enter');
  await until(() => page.locator('article .text').last().innerText(), 'Half a sentence');
  await until(async () => (await stored()).length, 0);
  await close();
});

it('what could not be kept is back in the field', async () => {
  const { page, close } = await visit(on.browser, on.url('chat'));
  await page.evaluate(() => {
    const { engine } = globalThis as unknown as { engine: { send: unknown } };
    engine.send = () => Promise.reject(Object.assign(new Error('full'), { code: 'storage' }));
  });
  await page.locator('textarea').fill('Do not lose me');
  await page.locator('textarea').press('Enter');
  await page.locator('.problem:not(:empty)').waitFor();
  expect(await page.locator('textarea').inputValue()).toBe('Do not lose me');
  await close();
});
