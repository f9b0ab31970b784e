/** A browser, and the page over the scripted engine under the real policy: for all tests of a file. */
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import { launch } from './browser';
import { serve } from './serve';

export interface Stage {
  browser: Browser;
  origin: string;
  /** The page in a state of `dev/scripted.ts`. */
  url(state: string): string;
}

export function stage(): Stage {
  const made: Stage = {
    browser: undefined as unknown as Browser,
    origin: '',
    url: (state) => `${made.origin}/@cortado?state=${state}#k=abc`,
  };
  let close = () => {};
  beforeAll(async () => {
    made.browser = await launch();
    const served = await serve(join(import.meta.dirname, '../../dist-dev'));
    made.origin = served.origin;
    close = () => served.server.close();
  });
  afterAll(async () => {
    await made.browser?.close();
    close();
  });
  return made;
}
