/** The engine's store in a real browser's IndexedDB: the suite that every store of the engine passes, run inside its WASM. */
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { launch } from '../e2e/browser';

const wasm = join(import.meta.dirname, '../../src/wasm');
const types: Record<string, string> = { '.js': 'text/javascript', '.wasm': 'application/wasm' };

const PAGE = `<!doctype html><title>store</title><script type="module">
  import * as core from '/web_core.js';
  globalThis.core = core.default().then(() => core);
</script>`;

type Suites = Record<string, ((name: string) => Promise<void>) | undefined>;

let browser: Browser;
let server: Server;
let page: Page;
beforeAll(async () => {
  browser = await launch();
  server = createServer((request, response) => {
    const path = join(wasm, new URL(request.url!, 'http://here').pathname);
    const type = types[extname(path)];
    response.setHeader('content-type', type ?? 'text/html');
    response.end(type && existsSync(path) ? readFileSync(path) : PAGE);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`, { waitUntil: 'load' });
});
afterAll(async () => {
  await browser?.close();
  server?.close();
});

/** What one of the module's suites comes to: nothing, or why it failed. */
const run = (suite: string) =>
  page.evaluate(async (suite) => {
    const core = await (globalThis as unknown as { core: Promise<Suites> }).core;
    if (!core[suite]) return 'the engine was built without its suites: cargo xtask app --contract';
    return core[suite]!(`${suite}-${Math.random()}`).then(() => null, String);
  }, suite);

it('keeps the contract of every store', async () => {
  expect(await run('storeKeepsTheContract')).toBeNull();
});

it('keeps the parts of attached files', async () => {
  expect(await run('partsKeepTheContract')).toBeNull();
});

it('is written by whoever opened it last, and by nobody else', async () => {
  expect(await run('onlyTheLastHolderWrites')).toBeNull();
});

it('keeps its root key, under a key that no script can read', async () => {
  expect(await run('rootKeyStays')).toBeNull();
  const kept = await page.evaluate(async () => {
    const databases = (await indexedDB.databases()).filter((d) => d.name!.startsWith('rootKeyStays') && !d.name!.endsWith('-media'));
    const open = indexedDB.open(databases[0]!.name!);
    await new Promise((resolve) => (open.onsuccess = resolve));
    const get = open.result.transaction('keys').objectStore('keys').get('device');
    await new Promise((resolve) => (get.onsuccess = resolve));
    const key = get.result as CryptoKey;
    const exported = await crypto.subtle.exportKey('raw', key).then(() => 'exported', (e: Error) => e.name);
    return { extractable: key.extractable, exported };
  });
  expect(kept).toEqual({ extractable: false, exported: 'InvalidAccessError' });
});
