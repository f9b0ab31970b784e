import { defineConfig } from 'vitest/config';

/** In a browser, one file after the other: each starts a Chromium of its own. */
export default defineConfig({
  test: { include: ['test/e2e/**/*.test.ts'], fileParallelism: false, testTimeout: 60_000, hookTimeout: 60_000 },
});
