import { defineConfig } from 'vitest/config';

/** Figures, not tests: `cargo xtask bench --browser` runs it over release builds. */
export default defineConfig({
  test: { include: ['test/bench/**/*.bench.ts'], fileParallelism: false, testTimeout: 600_000, hookTimeout: 60_000, disableConsoleIntercept: true },
});
