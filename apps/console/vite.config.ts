import { join } from 'node:path';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vite';

export default defineConfig({
  base: '/console/',
  plugins: [svelte()],
  server: {
    // The palette is the chat's.
    fs: { allow: [join(import.meta.dirname, '..')] },
  },
  build: {
    target: 'es2022',
    // Its polyfill would be an inline script.
    modulePreload: { polyfill: false },
    // A `data:` URL is no source that the page's policy allows.
    assetsInlineLimit: 0,
  },
});
