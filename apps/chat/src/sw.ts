/// <reference lib="webworker" />
/**
 * Keeps the page's own files, so that it opens at once and offline. A new version is fetched in the background and used from the next
 * start on: never two versions in one run. It sees no message: those go through the engine's worker, over a connection of its own.
 */
const scope = self as unknown as ServiceWorkerGlobalScope;

// Both are filled in after the build.
const VERSION = '__VERSION__';
const SHELL = '__SHELL__' as unknown as string[];
const CACHE = `bulla-${VERSION}`;

scope.addEventListener('install', (event) => {
  // Past the HTTP cache: what is kept must be what the server has now.
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL.map((url) => new Request(url, { cache: 'reload' })))));
});

scope.addEventListener('activate', (event) => {
  event.waitUntil(
    caches.keys().then((names) => Promise.all(names.filter((name) => name.startsWith('bulla-') && name !== CACHE).map((name) => caches.delete(name)))),
  );
});

// Said by a page that is too old to go on.
scope.addEventListener('message', (event) => {
  if (event.data === 'update') void scope.skipWaiting();
});

scope.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== 'GET' || url.origin !== scope.location.origin) return;
  const page = event.request.mode === 'navigate' && (url.pathname === '/' || url.pathname.startsWith('/@'));
  const key = page ? '/' : url.pathname;
  if (!SHELL.includes(key)) return;
  event.respondWith(
    caches
      .open(CACHE)
      .then((cache) => cache.match(key))
      .then((kept) => kept ?? fetch(event.request)),
  );
});

// A push says that there is something. Who has written and what, the page's engine hears in the conversation.
scope.addEventListener('push', (event) => event.waitUntil(notify()));

scope.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(show());
});

/** As `lib/wake.ts` keeps them. */
async function words(): Promise<{ title: string; body: string; url: string }> {
  const kept = await (await caches.open('wake')).match('/wake-words.json');
  return kept?.json().catch(() => null) ?? { title: scope.location.host, body: '', url: '/' };
}

async function windows(): Promise<readonly WindowClient[]> {
  return scope.clients.matchAll({ type: 'window', includeUncontrolled: true });
}

async function notify(): Promise<void> {
  // Somebody is looking at it.
  if ((await windows()).some((window) => window.visibilityState === 'visible')) return;
  const { title, body } = await words();
  // One, however much has come; a later one rings again.
  await scope.registration.showNotification(title, { body, tag: 'news', renotify: true, icon: '/icon-192.png' } as NotificationOptions);
}

async function show(): Promise<void> {
  // A frame on the business's site may be put away: the focus would go to nowhere.
  const open = (await windows()).find(({ frameType }) => frameType !== 'nested');
  if (open) await open.focus();
  else await scope.clients.openWindow((await words()).url);
}
