/** The main flow by keyboard alone, with the focus looked at after every step. */
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { DESKTOP } from './browser';
import { calls, focused, progress, receive, say, until, visit } from './page';
import { stage } from './stage';

const on = stage();

const press = async (page: Page, ...keys: string[]) => {
  for (const key of keys) await page.keyboard.press(key);
};
const texts = (page: Page) => page.locator('article .text, article .system').allInnerTexts();
const focusedMessage = (page: Page) => page.evaluate(() => document.activeElement?.closest('article')?.querySelector('.text')?.textContent ?? null);

it('from the link to an edited, answered and deleted message', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('welcome'), { viewport: DESKTOP });

  await page.locator('form').first().waitFor();
  // The first screen in its order: fingerprint, name, message, send.
  await press(page, 'Tab');
  await until(() => focused(page), 'SUMMARY');
  await press(page, 'Tab');
  await until(() => focused(page), 'name');
  await page.keyboard.type('Ana');
  await press(page, 'Tab');
  await until(() => focused(page), 'body');
  await page.keyboard.type('Hello');
  await press(page, 'Shift+Enter');
  await page.keyboard.type('is the shop open?');
  await press(page, 'Enter');

  // The chat: one can go on writing at once.
  await until(() => focused(page), 'Message');
  await until(() => texts(page), ['Hello\nis the shop open?']);
  expect(await calls(page, 'begin')).toEqual([['Ana']]);
  await until(() => page.locator('.ticks').last().getAttribute('data-status'), 'sent');

  // An answer is announced, and does not take the focus.
  const answer = await receive(page, { text: 'Yes, until six.' });
  await until(() => page.locator('[role=log]').innerText(), 'Cortado Coffee: Yes, until six.');
  await until(() => focused(page), 'Message');
  await until(() => calls(page, 'markRead'), [[answer.id]]);

  // Up into the messages; the menu opens on the one with the focus and gives it back.
  await press(page, 'Shift+Tab');
  await until(() => focusedMessage(page), 'Yes, until six.');
  await press(page, 'ArrowUp');
  await until(() => focusedMessage(page), 'Hello\nis the shop open?');
  await press(page, 'ArrowDown', 'Enter');
  await until(() => focused(page), 'React with 👍');
  await press(page, 'Escape');
  await until(() => focusedMessage(page), 'Yes, until six.');
  await press(page, 'Enter', 'ArrowRight', 'Enter');
  await until(() => focusedMessage(page), 'Yes, until six.');
  await until(() => page.locator('.chips').innerText(), '❤️\n❤️ from you');
  // The same reaction again takes it back.
  await press(page, 'Enter', 'ArrowRight');
  expect(await page.locator('[role=menuitemradio][aria-checked=true]').count()).toBe(1);
  await press(page, 'Enter');
  await until(() => page.locator('.chips').count(), 0);

  // Reply: the quote stands over the field, Escape leaves it, and the sent one shows it.
  await press(page, 'Enter', 'ArrowDown', 'Enter');
  await until(() => focused(page), 'Message');
  await until(() => page.locator('.about').innerText(), 'Reply to Cortado Coffee\n\nYes, until six.');
  await press(page, 'Escape');
  await until(() => page.locator('.about').count(), 0);
  await press(page, 'Shift+Tab', 'Enter', 'ArrowDown', 'Enter');
  await until(() => focused(page), 'Message');
  await page.keyboard.type('Great, see you');
  await press(page, 'Enter');
  await until(() => page.locator('article .quote').innerText(), 'Cortado Coffee\nYes, until six.');
  await until(() => page.locator('textarea').inputValue(), '');

  // Edit: the arrow up in an empty field takes the last own message.
  await press(page, 'ArrowUp');
  await until(() => page.locator('textarea').inputValue(), 'Great, see you');
  await press(page, 'End');
  await page.keyboard.type(' at five');
  await press(page, 'Enter');
  await until(async () => (await texts(page)).at(-1), 'Great, see you at five');
  await until(() => page.locator('article').last().locator('.meta').innerText(), 'edited\n11:42');

  // Delete asks first.
  await press(page, 'Shift+Tab', 'Enter', 'End', 'ArrowUp', 'Enter');
  await until(() => page.locator('dialog h2').innerText(), 'Delete this message?');
  await press(page, 'Escape');
  await until(async () => (await texts(page)).at(-1), 'Great, see you at five');
  await until(() => focusedMessage(page), 'Great, see you at five');
  await press(page, 'Enter', 'End', 'ArrowUp', 'Enter', 'Tab', 'Tab', 'Tab', 'Tab', 'Enter');
  await until(async () => (await texts(page)).at(-1), 'This message was deleted');
  await until(() => page.locator('dialog').count(), 0);

  expect(complaints).toEqual([]);
  await close();
});

it('what the business and the relay know, and the settings', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('chat'), { viewport: DESKTOP, colorScheme: 'light' });
  await page.locator('article').first().waitFor();
  await page.locator('.know').focus();
  await press(page, 'Enter');
  await until(() => page.locator('dialog h2').innerText(), 'What do they know about me?');
  expect(await page.locator('dialog').innerText()).toContain('relay.cortado.example carries sealed envelopes');
  await press(page, 'Escape');
  await until(() => page.evaluate(() => document.activeElement?.className.includes('know')), true);

  await press(page, 'Tab');
  await until(() => focused(page), 'Settings');
  await press(page, 'Enter', 'Tab', 'Tab', 'Tab');
  await until(() => focused(page), 'own-name');
  await page.keyboard.type('Ben');
  await press(page, 'Enter');
  await until(() => calls(page, 'setName'), [['Ben']]);
  await until(() => page.locator('dialog [role=status]').first().innerText(), 'Saved');
  await press(page, 'Tab', 'Tab', 'Space');
  await until(() => calls(page, 'decide'), [['notifications', true, 'Cortado Coffee may write to me about what concerns me, such as an order or an appointment, also when I have not written just before.']]);
  await press(page, 'Tab', 'Tab', 'ArrowRight', 'ArrowRight');
  await until(() => page.locator('html').getAttribute('data-theme'), 'dark');
  await press(page, 'Escape');
  await until(() => focused(page), 'Settings');
  await page.reload();
  await until(() => page.locator('html').getAttribute('data-theme'), 'dark');

  // A link and a quote, which are no stops of the tab key, are in the menu.
  await page.locator('article').nth(2).focus();
  await press(page, 'Enter', 'ArrowDown');
  const link = page.getByRole('menuitem', { name: 'Open cortado.example' });
  expect(await link.evaluate((element) => element === document.activeElement)).toBe(true);
  expect(await link.getAttribute('rel')).toBe('noopener noreferrer');
  await press(page, 'Escape');
  await page.locator('article').nth(9).focus();
  await press(page, 'Enter', 'ArrowDown', 'ArrowDown', 'Enter');
  await until(() => focusedMessage(page), 'I am at the door, is the side entrance open?');

  // One message's envelope, measured and not measured.
  await page.locator('article').nth(-2).focus();
  await press(page, 'Enter', 'End', 'Enter');
  await until(() => page.locator('dl dd').allInnerTexts(), ['1,024 bytes, padded', '08:00–09:00', 'the text, your name, and how long it really is']);
  await press(page, 'Escape', 'ArrowDown', 'Enter', 'End', 'Enter');
  await until(async () => (await page.locator('dl dd').allInnerTexts())[0], 'at least 1,024 bytes, padded');
  expect(complaints).toEqual([]);
  await close();
});

it('ticks, typing, and what must be seen', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('chat'), { viewport: DESKTOP });
  await page.locator('textarea').fill('One');
  await until(() => calls(page, 'typing'), [[true]]);
  await press(page, 'Enter');
  await until(() => calls(page, 'typing'), [[true], [false]]);
  await until(() => page.locator('article .text').last().innerText(), 'One');
  const message = { id: (await page.locator('article').last().getAttribute('data-id'))! } as Parameters<typeof progress>[1];
  for (const status of ['sent', 'delivered', 'read'] as const) {
    await progress(page, message, status);
    await until(() => page.locator('.ticks').last().getAttribute('data-status'), status);
  }
  await say(page, { type: 'typing', on: true });
  await page.locator('.typing.on').waitFor();
  await receive(page, { text: 'Two' });
  await page.locator('.typing:not(.on)').waitFor({ state: 'attached' });

  // A change of devices stays until it was confirmed, over a reload too.
  await say(page, { type: 'devices', added: ['Tablet'], removed: [] });
  await page.locator('.urgent h2').waitFor();
  await until(() => page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name)), ['bulla-page']);
  await until(
    () =>
      page.evaluate(
        () =>
          new Promise<unknown>((resolve) => {
            const open = indexedDB.open('bulla-page');
            open.onsuccess = () => {
              const keys = open.result.transaction('values').objectStore('values').getAllKeys();
              keys.onsuccess = () => (open.result.close(), resolve(keys.result));
            };
          }),
      ),
    ['notices-1', 'place-1'],
  );
  await page.reload();
  await page.locator('.urgent h2').waitFor();
  await page.getByRole('button', { name: 'I understand' }).press('Enter');
  await until(() => page.locator('.urgent').count(), 0);
  await until(() => focused(page), 'Message');
  expect(await page.locator('ol').innerText()).toContain('Tablet');
  expect(complaints).toEqual([]);
  await close();
});

it('what is written offline waits, and goes out when the connection is back', async () => {
  const { page, complaints, close } = await visit(on.browser, on.url('offline'), { viewport: DESKTOP });
  await until(() => page.locator('.banner p').innerText(), 'Offline. What you write is kept and goes out by itself. Next try in 8 seconds.');
  await page.locator('textarea').fill('Later');
  await press(page, 'Enter');
  await until(() => page.locator('.ticks').last().getAttribute('data-status'), 'queued');
  // Its envelope has not left: the page says so and names no hour.
  await press(page, 'Shift+Tab');
  await until(() => focusedMessage(page), 'Later');
  await press(page, 'Enter', 'End', 'Enter');
  await until(async () => (await page.locator('dl dd').allInnerTexts())[1], 'not yet: it has not left this device');
  await press(page, 'Escape');

  await say(page, { type: 'connection', connection: { kind: 'online' } });
  await until(() => page.locator('.banner').count(), 0);
  const id = (await page.locator('article').last().getAttribute('data-id'))!;
  await progress(page, { id } as Parameters<typeof progress>[1], 'sent');
  await until(() => page.locator('.ticks').last().getAttribute('data-status'), 'sent');
  expect(complaints).toEqual([]);
  await close();
});
