import jsQR from 'jsqr';
import type { Page } from 'playwright-core';
import { PNG } from 'pngjs';

/** What a camera that is held to the screen reads: pixels alone. */
export async function scanned(page: Page): Promise<string | null> {
  const { width, height, data } = PNG.sync.read(await page.screenshot());
  // Not every camera reads light on dark.
  // Three corners that happen to stand in lines of text make one with nothing in it, which no camera shows.
  return jsQR(new Uint8ClampedArray(data), width, height, { inversionAttempts: 'dontInvert' })?.data || null;
}
