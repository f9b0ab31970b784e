import { join } from 'node:path';
import { defineConfig } from 'vite';
import { config } from './vite.base';

const here = import.meta.dirname;

export default defineConfig(
  config({ root: here, outDir: 'dist', input: { index: join(here, 'index.html'), sw: join(here, 'src/sw.ts') }, engine: true }),
);
