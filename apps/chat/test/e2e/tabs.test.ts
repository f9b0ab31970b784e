/** The worker's own rules, with everything real but the device: one engine per origin, and who has it. */
import { expect, it } from 'vitest';
import { until } from './page';
import { stage } from './stage';

const on = stage();

it('a second tab has no engine until it takes it over, and then the first has none', async () => {
  const context = await on.browser.newContext({ locale: 'en-GB' });
  const url = on.url('chat&worker');
  const locks = () => first.evaluate(async () => (await navigator.locks.query()).held?.map(({ name }) => name));
  const [first, second] = [await context.newPage(), await context.newPage()];
  const complaints: string[] = [];
  for (const page of [first, second]) page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));

  await first.goto(url);
  await first.locator('article').first().waitFor();
  expect(await locks()).toEqual(['bulla-engine']);

  await second.goto(url);
  await until(() => second.locator('[role=alert]').innerText(), 'This conversation is already open in another tab or window.');
  const steals = await second.workers()[0]!.evaluateHandle(() => {
    const asked: LockOptions[] = [];
    const request = navigator.locks.request.bind(navigator.locks) as (name: string, options: LockOptions, held: LockGrantedCallback<unknown>) => Promise<unknown>;
    Object.defineProperty(navigator.locks, 'request', {
      value: (name: string, options: LockOptions, held: LockGrantedCallback<unknown>) => (asked.push(options), request(name, options, held)),
    });
    return asked;
  });
  await second.getByRole('button', { name: 'Use it here' }).click();
  await second.locator('article').first().waitFor();
  // A holder that listens is asked, and puts the engine down itself.
  expect(await steals.evaluate((asked) => asked.map(({ steal }) => steal ?? false))).toEqual([false]);
  await until(() => first.locator('[role=alert]').innerText(), 'This conversation was opened in another tab, and has stopped here.');
  expect(await locks()).toEqual(['bulla-engine']);

  // And back.
  await first.getByRole('button', { name: 'Use it here' }).click();
  await first.locator('article').first().waitFor();
  await second.locator('main .mark').waitFor();

  // A tab that is closed leaves it.
  await first.close();
  await second.getByRole('button', { name: 'Use it here' }).click();
  await second.locator('textarea').fill('Through the worker');
  await second.locator('textarea').press('Enter');
  await until(() => second.locator('article .text').last().innerText(), 'Through the worker');
  expect(complaints).toEqual([]);
  await context.close();
});

it('a holder that does not answer loses it', async () => {
  const context = await on.browser.newContext({ locale: 'en-GB' });
  const [first, second] = [await context.newPage(), await context.newPage()];
  await first.goto(on.origin);
  // Holds the lock and hears nobody, as a frozen tab does.
  await first.evaluate(() => void navigator.locks.request('bulla-engine', () => new Promise(() => undefined)).catch(() => undefined));
  await second.goto(on.url('chat&worker'));
  await second.getByRole('button', { name: 'Use it here' }).click();
  await second.locator('article').first().waitFor();
  await context.close();
});
