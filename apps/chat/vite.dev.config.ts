import { join } from 'node:path';
import { defineConfig } from 'vite';
import { config } from './vite.base';

const here = import.meta.dirname;

/** The same page over a scripted engine: for looking at states, and for the tests of single states. Never released. */
export default defineConfig(
  config({ root: join(here, 'dev'), outDir: 'dist-dev', input: { index: join(here, 'dev/index.html') }, engine: false }),
);
