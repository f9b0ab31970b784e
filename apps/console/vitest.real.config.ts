import { defineConfig } from 'vitest/config';

/** With the real programs: each file starts a relay, a gateway and a Chromium of its own. */
export default defineConfig({
  test: { include: ['test/real/**/*.test.ts'], fileParallelism: false, testTimeout: 60_000, hookTimeout: 60_000 },
});
