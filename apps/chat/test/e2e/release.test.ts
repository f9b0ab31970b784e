/** What is released: nothing of the tests in it, small, under the strict policy, and there without a network. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MARK } from '../../dev/scripted';
import { launch } from './browser';
import { until } from './page';
import { serve } from './serve';

const DIST = join(import.meta.dirname, '../../dist');
const files = () => readdirSync(DIST, { recursive: true, encoding: 'utf8', withFileTypes: true }).filter((entry) => entry.isFile() && !entry.name.endsWith('.br')).map((entry) => join(entry.parentPath, entry.name));
/** Files with a hash in their names; the compressed ones beside them are the gateway's matter. */
const assets = () => readdirSync(join(DIST, 'assets')).filter((file) => !file.endsWith('.br'));
const text = (file: string) => readFileSync(file, 'latin1');

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());

it('has nothing of the scripted engine, which the other build has', () => {
  const has = (dir: string) => readdirSync(join(dir, 'assets')).some((file) => text(join(dir, 'assets', file)).includes(MARK));
  expect(has(join(DIST, '../dist-dev'))).toBe(true);
  expect(files().filter((file) => text(file).includes(MARK))).toEqual([]);
});

it('needs no inline script or style, no HTML from strings and no eval', () => {
  const page = text(join(DIST, 'index.html'));
  expect(page).not.toMatch(/<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/);
  for (const file of files().filter((file) => file.endsWith('.js'))) {
    expect(text(file)).not.toMatch(/\.innerHTML\s*=|\.outerHTML\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function\(/);
  }
});

it('is well under 100 KB compressed without the engine, with hashed names', () => {
  const all = files().filter((file) => /\.(html|js|css)$/.test(file) && !file.endsWith('widget.js'));
  // What the first screen does not wait for; nothing that it needs is among it.
  const later = all.filter((file) => /\/sheets-[\w-]{8}\.(js|css)$/.test(file));
  expect(later).toHaveLength(2);
  const shell = all.filter((file) => !later.includes(file));
  const sum = (files: string[], pack: (bytes: Buffer) => Buffer) => files.reduce((total, file) => total + pack(readFileSync(file)).length, 0);
  const [gzip, brotli] = [sum(shell, gzipSync), sum(shell, brotliCompressSync)];
  const rest = sum(later, gzipSync);
  console.log(`shell: ${gzip} bytes gzip, ${brotli} bytes brotli; ${rest} bytes gzip later`);
  expect(gzip).toBeLessThan(90_000);
  expect(gzip + rest).toBeLessThan(110_000);
  for (const file of assets()) expect(file).toMatch(/-[\w-]{8}\.\w+$/);
});

it('has a widget for the pages of others: small, one plain script, nothing in their global scope, and no part of the app', () => {
  const widget = readFileSync(join(DIST, 'widget.js'));
  const gzip = gzipSync(widget).length;
  console.log(`widget: ${gzip} bytes gzip, ${brotliCompressSync(widget).length} bytes brotli`);
  expect(gzip).toBeLessThan(6_000);
  expect(String(widget)).toMatch(/^\(function\(\)\{"use strict";[^]*\}\)\(\);\s*$/);
  expect(String(widget)).not.toMatch(/\bimport\b|\bexport\b/);
  expect(text(join(DIST, 'sw.js'))).not.toContain('widget.js');
});

it('shows itself under the policy, says what is missing, and is there again without a network', async () => {
  const served = await serve(DIST);
  const context = await browser.newContext({ locale: 'en-GB' });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  const asked: string[] = [];
  context.on('request', (request) => asked.push(request.url()));
  await page.goto(`${served.origin}/@cortado#k=abc`);
  // This build may have been made without its engine: that too is a sentence.
  await page.locator('[role=alert], form').first().waitFor();
  await page.evaluate(async () => void (await navigator.serviceWorker.ready));
  const worker = text(join(DIST, 'sw.js'));
  for (const file of assets()) expect(worker).toContain(`/assets/${file}`);
  expect(complaints).toEqual([]);
  expect(asked.filter((url) => !url.startsWith(served.origin))).toEqual([]);

  await page.reload();
  await until(() => page.evaluate(() => navigator.serviceWorker.controller !== null), true);
  served.server.closeAllConnections();
  served.server.close();
  await page.reload();
  await page.locator('[role=alert], form').first().waitFor();
  // The link is still whole.
  expect(page.url()).toBe(`${served.origin}/@cortado#k=abc`);
  await context.close();
});
