/**
 * The gateway's side of the console. A session is a cookie that scripts cannot read and a key that is kept here: the gateway asks for both,
 * since browsers send a cookie to every port of its host, and storage belongs to one origin.
 */
import type { Answer, Customer, News, State } from './types';

const KEY = 'console-key';

/** Why nothing came: no session, or no gateway. */
export class Locked extends Error {
  constructor(readonly why: 'code' | 'no-session') {
    super(why);
  }
}

/** The gateway refused this one thing. */
export class Refused extends Error {
  constructor(readonly code: string) {
    super(code);
  }
}

export class Api {
  #key: string | null = read();

  /** Whether there may be a session: the gateway decides. */
  get hasKey(): boolean {
    return this.#key !== null;
  }

  /** Exchanges a link's code for a session. */
  async enter(code: string): Promise<void> {
    const { key } = await this.#json<{ key: string }>('POST', 'session', { code });
    this.#key = key;
    try {
      localStorage.setItem(KEY, key);
    } catch {
      // Where nothing can be stored it holds until the page is loaded again.
    }
  }

  async leave(): Promise<void> {
    await this.#ask('DELETE', 'session').catch(() => undefined);
    this.#key = null;
    localStorage.removeItem(KEY);
  }

  state(): Promise<State> {
    return this.#json('GET', 'state');
  }

  news(after: number, signal: AbortSignal): Promise<News> {
    return this.#json('GET', `log?after=${after}`, undefined, signal);
  }

  async customers(handle: string): Promise<Customer[]> {
    return (await this.#json<{ customers: Customer[] }>('GET', `businesses/${handle}/customers`)).customers;
  }

  /** A message as any program sends it; the Cloud API's own answer, refusals included. */
  async send(handle: string, message: object): Promise<Answer> {
    return (await this.#ask('POST', `businesses/${handle}/messages`, message)).json() as Promise<Answer>;
  }

  async replay(id: number): Promise<void> {
    await this.#json('POST', `webhooks/${id}/replay`);
  }

  /** How many were queued again. */
  async revive(handle: string): Promise<number> {
    return (await this.#json<{ queued: number }>('POST', `businesses/${handle}/dead-letters`)).queued;
  }

  async secret(handle: string, which: 'token' | 'app-secret'): Promise<string> {
    return (await this.#json<{ secret: string }>('POST', `businesses/${handle}/${which}`)).secret;
  }

  async #json<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T> {
    const answer = await this.#ask(method, path, body, signal);
    const value = (await answer.json()) as T & { error?: { code: string } };
    if (!answer.ok) throw new Refused(value.error?.code ?? 'unknown');
    return value;
  }

  async #ask(method: string, path: string, body?: object, signal?: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { 'x-bulla-console': this.#key ?? '' };
    if (body) headers['content-type'] = 'application/json';
    const request: RequestInit = { method, headers, cache: 'no-store' };
    if (body) request.body = JSON.stringify(body);
    if (signal) request.signal = signal;
    const answer = await fetch(`/console/api/${path}`, request);
    // The Cloud API has a 401 of its own, which is an answer and not ours.
    const ours = answer.status === 401 ? ((await answer.clone().json()) as { error: { code: unknown } }).error.code : null;
    if (ours === 'code' || ours === 'no-session') throw new Locked(ours);
    return answer;
  }
}

function read(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
