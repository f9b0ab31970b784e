/** Fetches the newest version of the page and starts it. */
export async function update(): Promise<void> {
  const registration = await navigator.serviceWorker?.getRegistration();
  const fresh = await registration?.update().then(
    (updated) => updated.installing ?? updated.waiting,
    () => null,
  );
  if (!fresh) return location.reload();
  navigator.serviceWorker.addEventListener('controllerchange', () => location.reload(), { once: true });
  const go = () => fresh.state === 'installed' && fresh.postMessage('update');
  fresh.addEventListener('statechange', go);
  go();
}
