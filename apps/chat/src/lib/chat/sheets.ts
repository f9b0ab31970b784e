/** Sheets that nobody opens at once. They are files of their own, so that what a link opens stays small. */
export { default as Code } from './Code.svelte';
export { default as Settings } from './Settings.svelte';
