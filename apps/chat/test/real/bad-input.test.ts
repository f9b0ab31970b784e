/** What goes wrong at a customer's: each is a sentence that a person understands, in the real page over the real programs. */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { cpSync, mkdtempSync, openSync, readdirSync, closeSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Browser, BrowserContext, Page, Route } from 'playwright-core';
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest';
import { PHONE, launch } from '../e2e/browser';
import { Business, type Told } from './business';

/** The largest file that goes. */
const MOST = 100 * 1024 * 1024;

const DIST = join(import.meta.dirname, '../../dist');

let browser: Browser;
let business: Business;
let context: BrowserContext;
let page: Page;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'bulla-bad-'));
  browser = await launch();
  business = await Business.open(DIST);
});
afterAll(async () => {
  await browser?.close();
  await business?.close();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  // What the tests put before the worker's script must not come out of a cache.
  context = await browser.newContext({ viewport: PHONE, locale: 'en-GB', serviceWorkers: 'block' });
  context.setDefaultTimeout(15_000);
  page = await context.newPage();
  return () => context.close();
});

const bubble = (text: string) => page.locator('article').filter({ has: page.locator('.text', { hasText: text }) });
const said = (sentence: string) => page.getByText(sentence, { exact: false }).first().waitFor();

/** The first words; the customer's id. */
async function begin(words: string): Promise<string> {
  await page.getByLabel('Your message').fill(words);
  await page.getByRole('button', { name: 'Send the first message' }).click();
  return (await business.hearsOf(words, business.text(words))).from_user_id!;
}

async function write(words: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(words);
  await page.keyboard.press('Enter');
}

/** A browser in which something of the engine's worker is otherwise. */
async function worker(before: string): Promise<void> {
  await context.route('**/assets/worker-*.js', async (route: Route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, body: `${before};${await answer.text()}` });
  });
}

it.each([
  ['cut before its key', (link: string) => link.split('#')[0]!],
  ['with an empty key', (link: string) => link.replace(/#k=.*/, '#k=')],
  ['cut in its key', (link: string) => link.slice(0, -5)],
  ['with a letter that no key has', (link: string) => link.replace(/.$/, '!')],
])('a link %s', async (_how, broken) => {
  await page.goto(broken(business.link));
  await said('This link is not complete.');
  expect(await page.getByLabel('Your message').count()).toBe(0);
});

it('a link with the fingerprint of somebody else', async () => {
  const [place, key] = business.link.split('#k=') as [string, string];
  await page.goto(`${place}#k=${key.startsWith('A') ? 'B' : 'A'}${key.slice(1)}`);
  await said('is not the business this link was made for, so nothing was sent');
  expect(await page.getByLabel('Your message').count()).toBe(0);
});

it('a link to a business that is not there', async () => {
  await page.goto(business.link.replace('/@rosi#', '/@nobody#'));
  await said('There is nothing here.');
});

it('a browser that stores nothing for the page', async () => {
  await worker('IDBFactory.prototype.open = () => { throw new DOMException("refused", "SecurityError"); }');
  await page.goto(business.link);
  await said('does not let the page keep anything');
  await page.getByRole('button', { name: 'Try again' }).waitFor();
});

it('a browser without WebAssembly, and one that refuses it', async () => {
  await worker('delete globalThis.WebAssembly');
  await page.goto(business.link);
  await said('This browser cannot run the encryption.');
  await context.unroute('**/assets/worker-*.js');
  await worker('WebAssembly.instantiate = WebAssembly.instantiateStreaming = async () => { throw new WebAssembly.CompileError("refused"); }');
  await page.reload();
  await said('This browser cannot run the encryption.');
});

/** A business whose app has a worker with another clock. (A script that a test answers for is not let to a relay on this machine by Chromium.) */
async function elsewhen(days: number): Promise<Business> {
  const app = join(folder, `app${days}`);
  cpSync(DIST, app, { recursive: true });
  for (const name of readdirSync(join(app, 'assets')).filter((name) => name.startsWith('worker-'))) {
    const path = join(app, 'assets', name);
    if (name.endsWith('.js')) writeFileSync(path, `{ const now = Date.now.bind(Date); Date.now = () => now() + ${days * 86_400_000}; }${readFileSync(path, 'utf8')}`);
    else rmSync(path);
  }
  return Business.open(app);
}

it.each([
  ['behind', -1],
  ['ahead', 1],
])('a clock a day %s: one talks all the same, in the order in which it was said', { timeout: 60_000 }, async (_how, days) => {
  const here = business;
  business = await elsewhen(days);
  onTestFinished(async () => {
    await business.close();
    business = here;
  });
  await page.goto(business.link);
  const words = `said ${days} days away`;
  const customer = await begin(words);
  // It is another time there.
  await page.getByText(days < 0 ? 'Yesterday' : new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'long', year: 'numeric' }).format(Date.now() + 86_400_000)).waitFor();
  await business.says(customer, 'it is today here');
  await bubble('it is today here').waitFor();
  await write('and it goes on');
  await business.hearsOf('the next', business.text('and it goes on'));
  expect(await page.locator('article .text').allInnerTexts()).toEqual([words, 'it is today here', 'and it goes on']);
  expect(await page.locator('article .breach').count()).toBe(0);
});

it('no room any more: what was written is still in the field, and goes once there is room', { timeout: 120_000 }, async () => {
  await page.goto(business.link);
  await begin('there is room');
  await bubble('there is room').getByLabel('Delivered', { exact: true }).waitFor();
  // A full disk ends a transaction. Chromium's own quota does so only when it has used up what it handed out in advance, which may take minutes.
  const [engine] = page.workers();
  if (!engine) throw new Error('no engine runs');
  await engine.evaluate(() => {
    const put = IDBObjectStore.prototype.put;
    IDBObjectStore.prototype.put = function (...args) {
      const request = put.apply(this, args);
      const { transaction } = this;
      queueMicrotask(() => {
        try {
          transaction.abort();
        } catch {
          // It has ended already.
        }
      });
      return request;
    };
    Object.assign(globalThis, { room: () => (IDBObjectStore.prototype.put = put) });
  });
  const field = page.getByLabel('Message', { exact: true });
  const words = 'is there room?';
  await write(words);
  await page.getByText('does not let the page keep anything', { exact: false }).first().waitFor();
  expect(await field.inputValue()).toBe(words);
  await engine.evaluate(() => (globalThis as unknown as { room(): void }).room());
  // The engine looks for room by itself.
  await expect
    .poll(
      async () => {
        if (await field.inputValue()) await field.press('Enter');
        return business.told.filter(business.text(words)).length;
      },
      { timeout: 60_000, interval: 1_000 },
    )
    .toBe(1);
  await bubble(words).getByLabel('Delivered', { exact: true }).waitFor();
  expect(business.told.filter(business.text(words))).toHaveLength(1);
});

it('storage that is cleared under an open page: it says so, and begins from nothing after that', async () => {
  await page.goto(business.link);
  await begin('kept here');
  await bubble('kept here').getByLabel('Delivered', { exact: true }).waitFor();
  const storage = await context.newCDPSession(page);
  await storage.send('Storage.clearDataForOrigin', { origin: business.origin, storageTypes: 'indexeddb' });
  await said('was cleared, so it has stopped here');
  await page.getByRole('button', { name: 'Load again' }).click();
  await page.getByLabel('Your message').waitFor();
});

/** Something at the relay's address that says which versions of the protocol it speaks, and nothing else. */
async function relayOf(version: number, at: string): Promise<{ close(): Promise<void> }> {
  const bytes = (field: number, value: Buffer) => Buffer.concat([Buffer.from([(field << 3) | 2, value.length]), value]);
  // `ServerFrame{hello}` of proto/relay.proto.
  const hello = Buffer.concat([bytes(1, Buffer.from([version])), bytes(2, Buffer.from('relay')), bytes(3, Buffer.alloc(16, 1)), bytes(5, Buffer.alloc(32, 2)), Buffer.from([6 << 3, 1])]);
  const frame = bytes(2, hello);
  const open = new Set<Duplex>();
  const server = createServer((_request, response) => response.writeHead(404).end());
  server.on('upgrade', (request, socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`);
    socket.write(Buffer.concat([Buffer.from([0x82, frame.length]), frame]));
  });
  const [host, port] = at.split(':') as [string, string];
  await new Promise<void>((resolve) => server.listen(Number(port), host, resolve));
  return {
    close: () =>
      new Promise((resolve) => {
        for (const socket of open) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

it.each([
  ['a newer relay, to which the page is too old', 2, 'This page is older than the relay of Rosi', true],
  ['an older relay', 0, 'The relay of Rosi is older than this page', false],
] as const)('%s: it is said which to update, and what is written meanwhile arrives', async (_which, version, sentence, here) => {
  await page.goto(business.link);
  const words = `before version ${version}`;
  await begin(words);
  await bubble(words).getByLabel('Delivered', { exact: true }).waitFor();
  await business.killRelay();
  const other = await relayOf(version, business.relayAddress);
  try {
    await page.getByRole('alert').getByText(sentence).waitFor({ timeout: 40_000 });
    expect(await page.getByRole('alert').getByRole('button', { name: 'Update now' }).count()).toBe(here ? 1 : 0);
    await write(`during version ${version}`);
    await bubble(`during version ${version}`).waitFor();
  } finally {
    await other.close();
    await business.startRelay();
  }
  await business.hearsOf('what was written meanwhile', business.text(`during version ${version}`));
  await page.getByText(sentence).waitFor({ state: 'detached', timeout: 40_000 });
  expect(business.told.filter(business.text(`during version ${version}`))).toHaveLength(1);
});

/** An uncompressed picture of about so many bytes: each line another shade. */
function bitmap(path: string, bytes: number): void {
  const width = 5_600;
  const height = Math.floor((bytes - 54) / (width * 3));
  const header = Buffer.alloc(54);
  header.write('BM');
  header.writeUInt32LE(54 + width * height * 3, 2);
  header.writeUInt32LE(54, 10);
  header.writeUInt32LE(40, 14);
  header.writeInt32LE(width, 18);
  header.writeInt32LE(height, 22);
  header.writeUInt16LE(1, 26);
  header.writeUInt16LE(24, 28);
  header.writeUInt32LE(width * height * 3, 34);
  const file = openSync(path, 'w');
  writeSync(file, header);
  for (let line = 0; line < height; line += 1) writeSync(file, Buffer.alloc(width * 3, line & 0xff));
  closeSync(file);
}

/** What the page's process has taken of memory at most since this was called, in MB. */
async function memory(): Promise<() => Promise<number>> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  const renderers = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
  const now = () => Math.max(...renderers.map((pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024));
  let most = now();
  const timer = setInterval(() => (most = Math.max(most, now())), 50);
  return async () => {
    clearInterval(timer);
    await session.detach();
    return Math.round(Math.max(most, now()));
  };
}

const about = (caption: string) => (told: Told) => JSON.stringify(told).includes(caption);

it('a picture of 100 MB: it goes, small or as it is, and one byte too many is a sentence', { timeout: 300_000 }, async () => {
  context.setDefaultTimeout(120_000);
  await page.goto(business.link);
  await begin('here comes a picture');
  const path = join(folder, 'huge.bmp');
  bitmap(path, MOST);
  const before = await (await memory())();
  const drawing = await memory();
  await page.locator('input[type=file]').setInputFiles(path);
  await page.getByLabel('What you want to say about it').fill('drawn anew');
  await page.getByRole('button', { name: 'Seal and send' }).click();
  const image = (await business.hearsOf('the picture', about('drawn anew'))).image!;
  expect(image.mime_type).toBe('image/jpeg');
  expect((await business.fetches(image.id)).length).toBeLessThan(4_000_000);
  const drawn = await drawing();

  const sealing = await memory();
  await page.locator('input[type=file]').setInputFiles(path);
  await page.getByLabel('Send the original file').check();
  await page.getByLabel('What you want to say about it').fill('as it is');
  await page.getByRole('button', { name: 'Seal and send' }).click();
  await expect.poll(() => business.told.some(about('as it is')), { timeout: 120_000, interval: 100 }).toBe(true);
  const original = await sealing();
  const told = business.told.find(about('as it is'))! as Told & Record<string, { id: string; sha256: string }>;
  const digest = createHash('sha256').update(readFileSync(path)).digest();
  const got = createHash('sha256').update(await business.fetches(told[told.type!]!.id)).digest();
  expect(got).toEqual(digest);

  // The same bytes under a name that is no picture's: nothing is decoded, and the file goes through in pieces.
  const plain = join(folder, 'huge.bin');
  cpSync(path, plain);
  const streaming = await memory();
  const start = await (await memory())();
  await page.locator('input[type=file]').setInputFiles(plain);
  await page.getByLabel('What you want to say about it').fill('no picture');
  await page.getByRole('button', { name: 'Seal and send' }).click();
  await expect.poll(() => business.told.some(about('no picture')), { timeout: 120_000, interval: 100 }).toBe(true);
  const streamed = await streaming();
  // Printed and not asserted: when a browser collects what is dead is its own affair, and on a busy machine that is hundreds of MB later.
  console.log(`the tab's memory in MB: ${before} before; at most ${drawn} while a picture of 100 MB was drawn anew, ${original} while it got a preview and went as it is; ${start}, then at most ${streamed} while as many bytes went that are no picture`);

  writeSync(openSync(path, 'a'), Buffer.alloc(MOST));
  await page.locator('input[type=file]').setInputFiles(path);
  await page.locator('dialog').getByText('100 MB are possible').waitFor();
  expect(await page.getByRole('button', { name: 'Seal and send' }).count()).toBe(0);
});

it('a file of the business that lies about its type is not shown, and is saved under what it is', async () => {
  await page.goto(business.link);
  const customer = await begin('show me something');
  const page_ = Buffer.from('<!doctype html><script>document.title = "pwned"</script>');
  const media = await business.uploads('cup.png', 'image/png', page_);
  await business.shows(customer, media, 'your cup');
  const theirs = page.locator('article').filter({ hasText: 'your cup' });
  await theirs.getByRole('button', { name: 'Show' }).click();
  await theirs.getByRole('alert').getByText('is not the picture that it was said to be').waitFor();
  expect(await theirs.locator('img').count()).toBe(0);
  const [download] = await Promise.all([page.waitForEvent('download'), theirs.getByRole('button', { name: 'Save' }).click()]);
  // Its name ends with what it is.
  expect(download.suggestedFilename()).toBe('cup.html');
  expect(await page.title()).not.toBe('pwned');
});

it('a file of the customer’s that lies about its type is not drawn, and goes as it is', async () => {
  await page.goto(business.link);
  await begin('look at this');
  const buffer = Buffer.concat([Buffer.from('MZ'), Buffer.alloc(4_000, 7)]);
  await page.locator('input[type=file]').setInputFiles({ name: 'holiday.png', mimeType: 'image/png', buffer });
  await page.getByLabel('What you want to say about it').fill('a holiday');
  expect(await page.locator('dialog img').count()).toBe(0);
  await page.getByRole('button', { name: 'Seal and send' }).click();
  const told = (await business.hearsOf('the file', about('a holiday'))) as Told & Record<string, { id: string; mime_type: string }>;
  expect(await business.fetches(told[told.type!]!.id)).toEqual(buffer);
  expect([told.type, told[told.type!]!.mime_type]).toEqual(['document', 'application/octet-stream']);
});
