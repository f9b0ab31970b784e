/** Sheets that nobody opens at once. They are files of their own, so that what a link opens stays small. */
export { default as Attach } from './Attach.svelte';
export { default as Code } from './Code.svelte';
export { default as FormSheet } from './FormSheet.svelte';
export { default as Know } from './Know.svelte';
export { default as ListSheet } from './ListSheet.svelte';
export { default as PlaceSheet } from './PlaceSheet.svelte';
export { default as ProductsSheet } from './ProductsSheet.svelte';
export { default as RelayView } from './RelayView.svelte';
export { default as Settings } from './Settings.svelte';
export { default as StopSheet } from './StopSheet.svelte';
