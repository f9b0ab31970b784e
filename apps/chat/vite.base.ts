import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { build, type Plugin, type UserConfig } from 'vite';

const here = import.meta.dirname;

/** A release without its engine would be a page that can do nothing: refuse to build one by accident. */
function needsEngine(): Plugin {
  return {
    name: 'needs-engine',
    apply: 'build',
    buildStart() {
      if (process.env.SHELL_ONLY || existsSync(join(here, 'src/wasm/web_core.js'))) return;
      this.error('src/wasm/web_core.js is missing: build the engine first (cargo xtask apps), or run `npm run build:shell`');
    },
  };
}

function filesUnder(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(dir, join(entry.parentPath, entry.name)))
    .sort();
}

/**
 * `widget.js`, which runs on pages of others: one plain script under a stable name, with nothing of it in their global scope. A build with several
 * entries can only make modules, so it has one of its own. It is no
 * part of the app that a service worker keeps, and is made after the list of that.
 */
function widget(outDir: string): Plugin {
  return {
    name: 'widget',
    apply: 'build',
    async closeBundle() {
      await build({
        configFile: false,
        root: here,
        logLevel: 'warn',
        build: {
          outDir,
          emptyOutDir: false,
          copyPublicDir: false,
          target: 'es2022',
          rollupOptions: { input: join(here, 'src/widget/main.ts'), output: { format: 'iife', entryFileNames: 'widget.js' } },
        },
      });
    },
  };
}

/** Tells the service worker which files make the app, and which version that is: a hash over all of them. */
function shellList(outDir: string): Plugin {
  return {
    name: 'shell-list',
    apply: 'build',
    closeBundle() {
      const worker = join(outDir, 'sw.js');
      if (!existsSync(worker)) return;
      const files = filesUnder(outDir).filter((file) => file !== 'sw.js');
      const hash = createHash('sha256');
      for (const file of files) hash.update(file).update(readFileSync(join(outDir, file)));
      const version = hash.digest('hex').slice(0, 16);
      const urls = files.map((file) => (file === 'index.html' ? '/' : `/${file}`));
      const source = readFileSync(worker, 'utf8');
      // Both quote styles: the minifier chooses.
      const filled = source.replace(/(["'`])__VERSION__\1/, JSON.stringify(version)).replace(/(["'`])__SHELL__\1/, JSON.stringify(urls));
      if (filled.includes('__SHELL__') || filled.includes('__VERSION__')) throw new Error('sw.js: placeholders not found');
      writeFileSync(worker, filled);
    },
  };
}

export function config(options: { root: string; outDir: string; input: Record<string, string>; engine: boolean }): UserConfig {
  const outDir = join(here, options.outDir);
  return {
    root: options.root,
    publicDir: join(here, 'public'),
    base: '/',
    plugins: [svelte({ configFile: join(here, 'svelte.config.js') }), ...(options.engine ? [needsEngine()] : []), shellList(outDir), widget(outDir)],
    worker: { format: 'es' },
    build: {
      outDir,
      emptyOutDir: true,
      target: 'es2022',
      // Its polyfill would be an inline script.
      modulePreload: { polyfill: false },
      // A `data:` URL is no source that the page's policy allows.
      assetsInlineLimit: 0,
      rollupOptions: {
        input: options.input,
        output: { entryFileNames: (chunk) => (chunk.name === 'sw' ? 'sw.js' : 'assets/[name]-[hash].js') },
      },
    },
  };
}
