/**
 * Being woken when the page is closed (Web Push). The browser subscribes at its maker's push service under the business's key; where that is,
 * goes to the business inside the conversation. A push says nothing: the words that are shown are kept here, for the service worker.
 */
import type { PushTo } from './engine/types';
import { shell } from './shell';

/** `unsupported`: this browser has no such thing, or not for this page; `denied`: the person, or somebody for them, has said no. */
export type Waking = 'unsupported' | 'denied' | 'off' | 'on';

export class WakeError extends Error {
  constructor(readonly why: 'denied' | 'failed') {
    super(why);
  }
}

/** What a notification says, and where it leads. */
export interface Words {
  title: string;
  body: string;
  url: string;
}

/** Where the words are: also named in `sw.ts`, which is a file of its own. */
const CACHE = 'wake';
const WORDS = '/wake-words.json';

async function registration(): Promise<ServiceWorkerRegistration | null> {
  return 'PushManager' in globalThis && 'Notification' in globalThis ? shell() : null;
}

/** Whether this browser is woken. */
export async function waking(): Promise<Waking> {
  const registered = await registration();
  if (!registered?.pushManager) return 'unsupported';
  if (Notification.permission === 'denied') return 'denied';
  const subscribed = Notification.permission === 'granted' && (await registered.pushManager.getSubscription());
  return subscribed ? 'on' : 'off';
}

const text = (bytes: ArrayBuffer | null) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes ?? new ArrayBuffer(0))))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');

/** Subscribes under the business's key, or finds that it is; asks the person if it must. */
export async function turnOn(key: string, words: Words): Promise<PushTo> {
  const registered = await registration();
  if (!registered) throw new WakeError('failed');
  if ((await Notification.requestPermission()) !== 'granted') throw new WakeError('denied');
  try {
    // One that was registered just now cannot subscribe before it is active.
    await navigator.serviceWorker.ready;
    await (await caches.open(CACHE)).put(WORDS, new Response(JSON.stringify(words)));
    const before = await registered.pushManager.getSubscription();
    // Under another key it is another business's, or of this one before it lost its own.
    if (before && text(before.options.applicationServerKey) !== key) await before.unsubscribe();
    const { endpoint, ...made } = await subscribed(registered.pushManager, key);
    return { endpoint, p256dh: text(made.p256dh), auth: text(made.auth) };
  } catch {
    throw new WakeError('failed');
  }
}

async function subscribed(manager: PushManager, key: string) {
  const made = await manager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  return { endpoint: made.endpoint, p256dh: made.getKey('p256dh'), auth: made.getKey('auth') };
}

/** Not any more. The push service forgets it as well, so that whoever sends there still is told. */
export async function turnOff(): Promise<void> {
  const registered = await registration();
  await (await registered?.pushManager?.getSubscription())?.unsubscribe();
}

/** The person is here: what was shown meanwhile is not news any more. */
export async function clear(): Promise<void> {
  const shown = await (await registration())?.getNotifications();
  for (const one of shown ?? []) one.close();
}
