/** A page in a state, watched: whatever the browser complains about fails the test. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser, BrowserContext, BrowserContextOptions, Frame, Page } from 'playwright-core';
import { expect } from 'vitest';
import type { EngineErrorCode, EngineEvent, Message, Status } from '../../src/lib/engine/types';
import { PHONE } from './browser';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** All that stories tell is before this moment. */
const NOW = new Date('2026-11-26T10:42:00Z');

export interface Watched {
  page: Page;
  complaints: string[];
  close(): Promise<void>;
}

/** `prepare`: what is done to the browser before the page is there. */
export async function visit(browser: Browser, url: string, options: BrowserContextOptions = {}, prepare?: (context: BrowserContext) => Promise<unknown>): Promise<Watched> {
  const context = await browser.newContext({ viewport: PHONE, locale: 'en-GB', timezoneId: 'Europe/Berlin', ...options });
  // Less than a test has: what was waited for in vain is then in the failure.
  context.setDefaultTimeout(8_000);
  await prepare?.(context);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.clock.setFixedTime(NOW);
  await page.goto(url);
  await page.locator('main').waitFor();
  return { page, complaints, close: () => context.close() };
}

interface Violation {
  id: string;
  nodes: { html: string; failureSummary?: string }[];
}

/** Everything that axe finds against WCAG 2.2 AA and below. Animations are over by then: a colour in between is nobody's. */
export async function violations(page: Page | Frame): Promise<string[]> {
  await page.evaluate(async () => {
    const finite = document.getAnimations().filter((animation) => animation.effect?.getComputedTiming().iterations !== Infinity);
    await Promise.all(finite.map((animation) => animation.finished.catch(() => undefined)));
  });
  await page.evaluate(axeSource);
  const found: Violation[] = await page.evaluate(async () => {
    const axe = (globalThis as unknown as { axe: { run(context: Document, options: object): Promise<{ violations: Violation[] }> } }).axe;
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
    return (await axe.run(document, { runOnly: { type: 'tag', values: tags }, iframes: false })).violations;
  });
  return found.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary ?? ''}`));
}

export async function focused(page: Page): Promise<string> {
  return page.evaluate(() => {
    const element = document.activeElement;
    return element?.getAttribute('aria-label') || element?.id || element?.tagName || '';
  });
}

interface ScriptedOnPage {
  engine: {
    calls: { call: string; args: unknown[] }[];
    say(event: EngineEvent): void;
    receive(line: object): Message;
    progress(message: Message, status: Status): void;
    asks(number: string): void;
    gives(): void;
    transferFails(code: EngineErrorCode): void;
  };
}

export const receive = (page: Page | Frame, line: object) => page.evaluate((line) => (globalThis as unknown as ScriptedOnPage).engine.receive(line), line);
export const say = (page: Page, event: EngineEvent) => page.evaluate((event) => (globalThis as unknown as ScriptedOnPage).engine.say(event), event);
export const progress = (page: Page, message: Message, status: Status) =>
  page.evaluate(([message, status]) => (globalThis as unknown as ScriptedOnPage).engine.progress(message, status), [message, status] as const);
/** The other device of a transfer: asks with the ticket that is shown, or says yes to what was asked. */
export const asks = (page: Page, number: string) => page.evaluate((number) => (globalThis as unknown as ScriptedOnPage).engine.asks(number), number);
export const gives = (page: Page) => page.evaluate(() => (globalThis as unknown as ScriptedOnPage).engine.gives());
export const transferFails = (page: Page, code: EngineErrorCode) =>
  page.evaluate((code) => (globalThis as unknown as ScriptedOnPage).engine.transferFails(code), code);
export const calls = (page: Page | Frame, call: string) =>
  page.evaluate((call) => (globalThis as unknown as ScriptedOnPage).engine.calls.filter((made) => made.call === call).map((made) => made.args), call);

/** Waits until something holds; what was last is in the failure. */
export async function until<T>(look: () => Promise<T>, want: T): Promise<void> {
  await expect.poll(look, { timeout: 10_000, interval: 30 }).toEqual(want);
}
