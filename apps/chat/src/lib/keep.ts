/**
 * Small things of the page's own (a draft, notices that were not confirmed), encrypted under a key that this browser does not give out, as
 * the engine keeps its own. Where nothing can be stored they live as long as the page does.
 */
const DATABASE = 'bulla-page';

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

interface Opened {
  database: IDBDatabase;
  key: CryptoKey;
}

interface Sealed {
  iv: Uint8Array<ArrayBuffer>;
  sealed: ArrayBuffer;
}

async function openDatabase(): Promise<Opened> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore('keys');
    request.result.createObjectStore('values');
  };
  const database = await done(request);
  const fresh = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
  // Look and put in one transaction: two tabs that start at once must end with one key.
  const keys = database.transaction('keys', 'readwrite').objectStore('keys');
  const key = ((await done(keys.get('page'))) as CryptoKey | undefined) ?? fresh;
  if (key === fresh) await done(keys.put(fresh, 'page'));
  return { database, key };
}

let opened: Promise<Opened> | null = null;
const here = new Map<string, unknown>();
/** Writes go one after the other: a later value must not be overtaken by an earlier one that was slower to encrypt. */
let writing: Promise<void> = Promise.resolve();

const context = (name: string) => new TextEncoder().encode(name);

async function write(name: string, value: unknown): Promise<void> {
  const { database, key } = await (opened ??= openDatabase());
  const values = () => database.transaction('values', 'readwrite').objectStore('values');
  if (value === null) return void (await done(values().delete(name)));
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const plain = new TextEncoder().encode(JSON.stringify(value));
  const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: context(name) }, key, plain);
  await done(values().put({ iv, sealed } satisfies Sealed, name));
}

/** Keeps a value; null forgets it. */
export function keep(name: string, value: unknown): void {
  here.set(name, value);
  writing = writing.then(() => write(name, value)).catch(() => undefined);
}

/** What was kept; null if nothing was, or if it cannot be read any more. */
export async function kept<T>(name: string): Promise<T | null> {
  if (here.has(name)) return here.get(name) as T | null;
  try {
    const { database, key } = await (opened ??= openDatabase());
    const found = (await done(database.transaction('values').objectStore('values').get(name))) as Sealed | undefined;
    if (!found) return null;
    const plain = await crypto.subtle.decrypt({ name: 'AES-GCM', iv: found.iv, additionalData: context(name) }, key, found.sealed);
    return JSON.parse(new TextDecoder().decode(plain)) as T;
  } catch {
    return null;
  }
}
