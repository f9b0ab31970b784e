import jsQR from 'jsqr';
import type { Page } from 'playwright-core';
import { PNG } from 'pngjs';

/** What a camera that is held to the screen reads: pixels alone. */
export async function scanned(page: Page): Promise<string | null> {
  const { width, height, data } = PNG.sync.read(await page.screenshot());
  // Not every camera reads light on dark.
  return jsQR(new Uint8ClampedArray(data), width, height, { inversionAttempts: 'dontInvert' })?.data ?? null;
}
