/** What a business offers to choose from is answered: by a press, in a sheet, by keyboard; and what the person decides about offers reaches the engine in the words that stood there. */
import type { BrowserContext, Page } from 'playwright-core';
import { expect, it } from 'vitest';
import { BUTTONS, FORM, LIST, OFFER, TEMPLATE } from '../../dev/offers';
import { DESKTOP } from './browser';
import { calls, progress, receive, until, violations, visit } from './page';
import { stage } from './stage';

const on = stage();
const show = (state: string, options = {}, prepare?: (context: BrowserContext) => Promise<unknown>) => visit(on.browser, on.url(state), { viewport: DESKTOP, ...options }, prepare);
const sent = async (page: Page) => (await calls(page, 'send')).map(([draft]) => draft);
const article = (page: Page, text: string) => page.locator('article').filter({ hasText: text }).first();
const last = (page: Page) => page.locator('article').last();

it('a reply button answers at once; then it is marked, the others are off, and the answer stands below', async () => {
  const { page, complaints, close } = await show('choices');
  const offer = article(page, 'Your table on Friday');
  await offer.getByRole('button', { name: 'An hour later, please' }).click();
  await until(() => sent(page), [{ kind: 'answer', to: 'm14', answer: { kind: 'button', id: 'later', title: 'An hour later, please' } }]);
  await until(() => last(page).locator('.text').innerText(), '✓ An hour later, please');
  expect(await last(page).locator('.quote-text').innerText()).toMatch(/^We have you down/);
  await until(() => offer.locator('.choice').evaluateAll((all) => all.map((one) => [one.getAttribute('aria-pressed'), one.getAttribute('aria-disabled')].join())), ['false,true', 'true,true', 'false,true']);
  expect(await violations(page)).toEqual([]);
  // Off is off.
  await offer.getByRole('button', { name: 'No, cancel it' }).click({ force: true });
  expect(await sent(page)).toHaveLength(1);
  expect(complaints).toEqual([]);
  await close();
});

it('an answer that could not be delivered, or was refused at once, can be given again', async () => {
  const { page, close } = await show('chat');
  await receive(page, { shown: BUTTONS });
  const offer = article(page, 'Your table on Friday');
  await offer.getByRole('button', { name: 'No, cancel it' }).click();
  await until(() => offer.locator('.chosen').count(), 1);
  await progress(page, { id: 'm15' } as never, 'failed');
  await until(() => offer.locator('.chosen').count(), 0);
  await offer.getByRole('button', { name: 'Yes, we are coming' }).click();
  await until(() => offer.locator('.chosen').innerText(), 'Yes, we are coming');
  await close();

  const refused = await show('refuses');
  await receive(refused.page, { shown: BUTTONS });
  await article(refused.page, 'Your table').getByRole('button', { name: 'No, cancel it' }).click();
  await refused.page.getByText('That message does not offer this any more.').waitFor();
  expect(await refused.page.locator('.chosen').count()).toBe(0);
  await refused.close();
});

it('a page says where it leads, a number is dialled, a code is copied; nothing of that answers', async () => {
  const { page, complaints, close } = await show('choices', { permissions: ['clipboard-read', 'clipboard-write'] });
  const offer = article(page, 'Order 1207');
  expect(await offer.locator('.small').first().innerText()).toBe('Message template · about your affairs');
  const to = offer.getByRole('link', { name: 'Where it is' });
  expect([await to.getAttribute('href'), await to.getAttribute('rel'), await to.getAttribute('target')]).toEqual(['https://cortado.example/orders/1207?utm=x', 'noopener noreferrer', '_blank']);
  expect(await to.innerText()).toContain('cortado.example');
  expect(await offer.getByRole('link', { name: 'Call us' }).getAttribute('href')).toBe('tel:+49301234567');
  await offer.getByRole('button', { name: 'Copy the code' }).click();
  await until(() => offer.getByRole('status').innerText(), 'Copied: 4417');
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe('4417');
  expect(await sent(page)).toEqual([]);
  expect(complaints).toEqual([]);
  await close();
});

it('an address that hides where it leads is no link', async () => {
  const { page, close } = await show('chat');
  const { interactive } = TEMPLATE as Extract<typeof TEMPLATE, { kind: 'interactive' }>;
  const url = (title: string, url: string) => ({ kind: 'url', title, url });
  await receive(page, { shown: { kind: 'interactive', file: null, interactive: { ...interactive, action: { kind: 'buttons', value: [url('Your bank', 'https://bank.example@evil.example/'), url('A cafe', 'https://саfe.example/')] } } } });
  expect(await last(page).getByRole('link', { name: 'Your bank' }).count()).toBe(0);
  await last(page).getByText('This does not lead to a page that can be opened.').waitFor();
  expect(await last(page).getByRole('link', { name: 'A cafe' }).innerText()).toMatch(/xn--/);
  await close();
});

it('from the keyboard: the newest message, its buttons, and the sheet that one opens, which gives the focus back', async () => {
  const { page, complaints, close } = await show('chat');
  await receive(page, { shown: BUTTONS });
  await receive(page, { shown: LIST });
  await page.locator('article').last().getByRole('button', { name: 'See the beans' }).waitFor();
  await page.getByLabel('Message', { exact: true }).focus();
  await page.keyboard.press('Shift+Tab');
  await until(() => page.evaluate(() => document.activeElement?.textContent?.trim() ?? ''), 'See the beans');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog', { name: 'See the beans' }).waitFor();
  await until(() => page.evaluate(() => document.activeElement?.tagName), 'H2');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Space');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await until(() => page.getByRole('dialog').count(), 0);
  await until(() => sent(page), [{ kind: 'answer', to: 'm15', answer: { kind: 'row', id: 'huila', title: 'Huila', description: 'Caramel and red apple' } }]);
  expect(await violations(page)).toEqual([]);

  // A list that was answered shows what was chosen, and no way to choose again.
  await article(page, 'Which beans').getByRole('button', { name: 'See the beans' }).click();
  const dialog = page.getByRole('dialog');
  expect(await dialog.getByRole('radio').evaluateAll((all) => all.map((one) => [(one as HTMLInputElement).checked, (one as HTMLInputElement).disabled].join()))).toEqual(['false,true', 'false,true', 'true,true']);
  expect(await dialog.getByRole('button', { name: 'Send' }).count()).toBe(0);
  expect(complaints).toEqual([]);
  await close();
});

it('a list is not sent before something is chosen', async () => {
  const { page, close } = await show('choices');
  await page.getByRole('button', { name: 'See the beans' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Send' }).click();
  await page.getByRole('alert').filter({ hasText: 'Choose one of them first.' }).waitFor();
  expect(await sent(page)).toEqual([]);
  await close();
});

it('a form is asked screen by screen, says what is wrong where it is, and is answered once', async () => {
  const { page, complaints, close } = await show('chat');
  await receive(page, { shown: FORM });
  await page.getByRole('button', { name: 'Fill it in' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Step 1 of 2').waitFor();
  await dialog.getByLabel('Street and number').fill('ab');
  await dialog.getByLabel('E-mail').fill('ana@example');
  await dialog.getByLabel('Floor').fill('second');
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await until(() => dialog.locator('.field-of .problem').allInnerTexts(), ['It must have at least 3 characters.', 'This is not an e-mail address, such as ana@example.org.', 'This is not a number, such as 12 or 12.5.']);
  const street = dialog.getByLabel('Street and number');
  expect(await street.evaluate((input) => [document.activeElement === input, input.getAttribute('aria-invalid'), document.getElementById(input.getAttribute('aria-describedby')!)?.textContent])).toEqual([true, 'true', 'It must have at least 3 characters.']);
  expect(await violations(page)).toEqual([]);
  await street.fill('Canal Street 5');
  await until(() => dialog.locator('.field-of .problem').first().innerText(), '');
  await dialog.getByLabel('E-mail').fill('ana@example.org');
  await dialog.getByLabel('Floor').fill('');
  await dialog.getByRole('button', { name: 'Continue' }).click();

  await dialog.getByText('Step 2 of 2').waitFor();
  await until(() => page.evaluate(() => document.activeElement?.textContent ?? ''), 'When and how');
  await dialog.getByRole('button', { name: 'Send it' }).click();
  await until(() => dialog.locator('.problem').filter({ hasText: 'must be answered' }).count(), 3);
  await dialog.getByLabel('Day').fill('2026-12-24');
  await dialog.getByLabel('Afternoon').check();
  await dialog.getByLabel('A mug').check();
  await dialog.getByLabel('Filters').check();
  await dialog.getByLabel('A mug').uncheck();
  await dialog.getByLabel('District').selectOption('Harbour');
  await dialog.getByLabel('I have read the terms').check();
  // What was filled in before is still there.
  await dialog.getByRole('button', { name: 'Back' }).click();
  expect(await street.inputValue()).toBe('Canal Street 5');
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await dialog.getByRole('button', { name: 'Send it' }).click();
  await until(() => page.getByRole('dialog').count(), 0);
  const values = { street: ['Canal Street 5'], mail: ['ana@example.org'], day: ['2026-12-24'], time: ['pm'], extra: ['filter'], town: ['Harbour'], terms: ['true'] };
  await until(() => sent(page), [{ kind: 'answer', to: 'm14', answer: { kind: 'form', values: Object.entries(values).map(([name, values]) => ({ name, values })) } }]);
  await article(page, 'For the delivery').getByText('Answered').waitFor();
  expect(await page.getByRole('button', { name: 'Fill it in' }).count()).toBe(0);
  expect(await last(page).locator('.text').innerText()).toContain('With it: Filters');
  expect(complaints).toEqual([]);
  await close();
});

it('a form that is refused stays open with what was filled in', async () => {
  const { page, close } = await show('refuses');
  await receive(page, { shown: FORM });
  await page.getByRole('button', { name: 'Fill it in' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Street and number').fill('Canal Street 5');
  await dialog.getByRole('button', { name: 'Continue' }).click();
  await dialog.getByLabel('Day').fill('2026-12-24');
  await dialog.getByLabel('Morning').check();
  await dialog.getByLabel('I have read the terms').check();
  await dialog.getByRole('button', { name: 'Send it' }).click();
  await dialog.getByText('That message does not offer this any more.').waitFor();
  expect(await dialog.getByLabel('Morning').isChecked()).toBe(true);
  await close();
});

it('who asks how one can be reached gets a card', async () => {
  const { page, close } = await show('places');
  await page.getByRole('button', { name: 'Share contact' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('Ana');
  await dialog.getByLabel('Phone number').fill('+49 30 1234567');
  await dialog.getByRole('button', { name: 'Share', exact: true }).click();
  await until(() => sent(page), [{ kind: 'contacts', persons: [{ name: { formatted_name: 'Ana' }, phones: [{ phone: '+49 30 1234567', type: 'CELL' }], emails: [] }], replyTo: 'm16' }]);
  await article(page, 'How can the courier').getByText('Answered').waitFor();
  await close();
});

it('products are counted, summed and ordered; the order can be looked at afterwards', async () => {
  const { page, complaints, close } = await show('offers');
  await page.getByRole('button', { name: 'See what there is' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Send the order' }).click();
  await dialog.getByText('Choose something first.').waitFor();
  await dialog.getByRole('button', { name: 'One more: Yirgacheffe, 250 g' }).click();
  await dialog.getByRole('button', { name: 'One more: Yirgacheffe, 250 g' }).click();
  await dialog.getByLabel('How many: Mug').fill('500');
  await dialog.getByLabel('How many: Mug').blur();
  expect(await dialog.getByLabel('How many: Mug').inputValue()).toBe('99');
  await dialog.getByLabel('How many: Mug').fill('1');
  await dialog.getByLabel('How many: Mug').blur();
  await dialog.getByRole('button', { name: 'One less: Yirgacheffe, 250 g' }).click();
  await until(() => dialog.locator('output').innerText(), '€30.50');
  await dialog.getByLabel('What you want to say with it').fill('Wrapped, please');
  expect(await violations(page)).toEqual([]);
  await dialog.getByRole('button', { name: 'Send the order' }).click();
  await until(() => page.getByRole('dialog').count(), 0);
  await until(() => sent(page), [{ kind: 'answer', to: 'm15', answer: { kind: 'order', items: [{ id: 'yirga', quantity: 1 }, { id: 'mug', quantity: 1 }], text: 'Wrapped, please' } }]);
  expect(await last(page).locator('.text').innerText()).toBe('1 × Yirgacheffe, 250 g\n1 × Mug\nTotal: €30.50\nWrapped, please');
  await page.getByRole('button', { name: 'See what there is' }).click();
  await until(() => dialog.locator('output').innerText(), '€30.50');
  expect(await dialog.getByRole('button', { name: 'Send the order' }).count()).toBe(0);
  expect(complaints).toEqual([]);
  await close();
});

const HERE = { geolocation: { latitude: 52.5170365, longitude: 13.3888599, accuracy: 12.3 } };
/** How often the page has asked the browser where it is. */
const counting = (context: BrowserContext) =>
  context.addInitScript(() => {
    const real = navigator.geolocation.getCurrentPosition.bind(navigator.geolocation);
    const counted = globalThis as unknown as { asked: number };
    counted.asked = 0;
    navigator.geolocation.getCurrentPosition = (...args) => ((counted.asked += 1), real(...args));
  });
const asked = (page: Page) => page.evaluate(() => (globalThis as unknown as { asked: number }).asked);

it('the browser is asked where one is after a press and not before; then a place is sent', async () => {
  const { page, complaints, close } = await show('places', { ...HERE, permissions: ['geolocation'] }, counting);
  await last(page).getByRole('button', { name: 'Send a place' }).click();
  const dialog = page.getByRole('dialog', { name: 'Send a place to Cortado Coffee' });
  await dialog.getByRole('button', { name: 'Send', exact: true }).click();
  await dialog.getByText('Say where it is first.').waitFor();
  expect(await asked(page)).toBe(0);
  await dialog.getByRole('button', { name: 'Use where this device is' }).click();
  await until(() => dialog.getByRole('status').innerText(), 'Found, to within 13 m. Look at it, then send.');
  expect(await asked(page)).toBe(1);
  expect(await sent(page)).toEqual([]);
  await dialog.getByLabel('What the place is called').fill('At the fountain');
  await dialog.getByRole('button', { name: 'Send', exact: true }).click();
  await until(() => sent(page), [{ kind: 'location', latitude: 52.51704, longitude: 13.38886, name: 'At the fountain', replyTo: 'm17' }]);
  expect(await last(page).locator('.location').innerText()).toContain('At the fountain');
  await article(page, 'Where shall the courier go?').getByText('Answered').waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it('without the browser’s help a place is typed: coordinates, or words that go as a text', async () => {
  const { page, close } = await show('places', { permissions: [] });
  await last(page).getByRole('button', { name: 'Send a place' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Use where this device is' }).click();
  await dialog.getByText('The browser does not let this page know where you are.').waitFor();
  await dialog.getByLabel('Coordinates').fill('behind the church');
  await dialog.getByRole('button', { name: 'Send', exact: true }).click();
  await dialog.getByText('These are no coordinates').waitFor();
  await dialog.getByLabel('Coordinates').fill('');
  await dialog.getByLabel('What the place is called').fill('Behind the church');
  await dialog.getByRole('button', { name: 'Send', exact: true }).click();
  await until(() => sent(page), [{ kind: 'text', body: 'Behind the church', replyTo: 'm17' }]);
  await close();
});

it('a place and a person are read without anything being fetched', async () => {
  const { page, complaints, close } = await show('places');
  const elsewhere: string[] = [];
  page.on('request', (request) => request.url().startsWith(on.origin) || elsewhere.push(request.url()));
  const place = page.locator('.location').first();
  expect((await place.innerText()).split('\n').filter(Boolean)).toEqual(['Cortado Coffee', 'Market Square 3, Berlin', '52.51704, 13.38886', 'Open a map (openstreetmap.org)']);
  expect(await place.getByRole('link').getAttribute('href')).toBe('https://openstreetmap.org/?mlat=52.5170365&mlon=13.3888599#map=16/52.5170365/13.3888599');
  const person = page.locator('.person');
  expect(await person.getByRole('link').evaluateAll((all) => all.map((one) => one.getAttribute('href')))).toEqual(['tel:+49301234567', 'mailto:ana@cortado.example', 'https://cortado.example/ana']);
  expect((await person.innerText()).split('\n').filter(Boolean)).toContain('Roaster, Cortado Coffee');
  expect([elsewhere, complaints]).toEqual([[], []]);
  await close();
});

it('the file above an offer is as any file: nothing is loaded before it is asked for', async () => {
  const { page, close } = await show('offers');
  expect(await calls(page, 'openFile')).toEqual([]);
  await article(page, 'A second bag').getByRole('button', { name: 'Show (214 kB)' }).click();
  await article(page, 'A second bag').locator('img').waitFor();
  await close();
});

it('offers are stopped where they come, after a question, in the words of the question', async () => {
  const { page, complaints, close } = await show('offers');
  const offer = article(page, 'A second bag');
  expect(await offer.locator('.small').first().innerText()).toBe('Message template · marketing');
  await offer.getByRole('button', { name: 'Stop offers' }).click();
  const dialog = page.getByRole('dialog');
  const wording = await dialog.locator('.wording').innerText();
  expect(wording).toBe('Cortado Coffee may send me no offers any more.');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  expect(await calls(page, 'decide')).toEqual([]);
  await offer.getByRole('button', { name: 'Stop offers' }).click();
  await dialog.getByRole('button', { name: 'Stop offers' }).click();
  await until(() => page.getByRole('dialog').count(), 0);
  expect(await calls(page, 'decide')).toEqual([['marketing', false, wording]]);
  await offer.getByText('You have stopped offers.').waitFor();
  expect(complaints).toEqual([]);
  await close();
});

it('an offer that came as an answer is said to be one', async () => {
  const { page, close } = await show('stopped');
  await page.getByText('sent this offer as if it were an answer to you').waitFor();
  await close();
});

it.each([
  ['en-GB', 'Settings', 'Offers', 'Cortado Coffee may send me offers.', 'Allowed.'],
  ['de-DE', 'Einstellungen', 'Angebote', 'Cortado Coffee darf mir Angebote schicken.', 'Erlaubt.'],
  ['es-ES', 'Ajustes', 'Ofertas', 'Cortado Coffee puede enviarme ofertas.', 'Permitido.'],
])('in the settings both purposes are switched, and the sentence on the screen is what is signed (%s)', async (locale, settings, offers, wording, allowed) => {
  const { page, complaints, close } = await show('consents', { locale });
  await page.getByRole('button', { name: settings }).click();
  const switches = page.getByRole('dialog').getByRole('switch');
  await until(() => switches.evaluateAll((all) => all.slice(0, 2).map((one) => (one as HTMLInputElement).checked)), [true, false]);
  const toggle = page.getByRole('switch', { name: offers, exact: true });
  const described = await toggle.evaluate((one) => document.getElementById(one.getAttribute('aria-describedby')!.split(' ')[0]!)!.textContent);
  expect(described).toBe(wording);
  await toggle.check();
  await page.getByText(allowed).waitFor();
  await toggle.uncheck();
  await until(() => calls(page, 'decide'), [['marketing', true, wording], ['marketing', false, wording]]);
  expect(await toggle.isChecked()).toBe(false);
  expect(await violations(page)).toEqual([]);
  expect(complaints).toEqual([]);
  await close();
});

it('a decision that could not be kept is said, and the switch shows what is', async () => {
  const { page, close } = await show('undecided');
  await page.getByRole('button', { name: 'Settings' }).click();
  const toggle = page.getByRole('switch', { name: 'Offers', exact: true });
  await toggle.click();
  await page.getByText('The conversation is not ready for that yet.').waitFor();
  expect(await toggle.isChecked()).toBe(false);
  await page.keyboard.press('Escape');
  await receive(page, { shown: OFFER });
  await page.getByRole('button', { name: 'Stop offers' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Stop offers' }).click();
  await page.getByRole('dialog').getByText('The conversation is not ready for that yet.').waitFor();
  await close();
});

it('what is chosen from the menu of an offer: answering, copying its words, the links in them', async () => {
  const { page, close } = await show('chat', { permissions: ['clipboard-read', 'clipboard-write'] });
  await receive(page, { shown: BUTTONS });
  await last(page).focus();
  await page.keyboard.press('Enter');
  const menu = page.getByRole('menu');
  await menu.waitFor();
  expect(await menu.getByRole('menuitem').allInnerTexts()).toEqual(['Open cortado.example', 'Reply', 'Copy text', 'What did the relay see?']);
  await menu.getByRole('menuitem', { name: 'Copy text' }).click();
  await until(() => page.evaluate(() => navigator.clipboard.readText()), 'We have you down for four at 19:30. Does that still suit you? https://cortado.example/table');
  await close();
});
