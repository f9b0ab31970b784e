/** What the page knows: the gateway's log as far as it was told, and what the person is doing. */
import { Api, Locked, Refused } from './api';
import { merged, progress, said, sent, type Said } from './tell';
import type { Business, Customer, Logged, Receiver, State, Webhook } from './types';

/** Entries that the page keeps: what the gateway keeps, and a little of what it forgot meanwhile. */
const MOST = 1_500;

/** Between two questions to a gateway that does not answer. */
const AGAIN_MS = 1_000;

const WINDOW_MS = 24 * 3_600_000;

export type Phase = { kind: 'opening' } | { kind: 'locked'; why: 'code' | 'no-session' | 'left' } | { kind: 'open' };

/** What came of the last thing that was sent. */
export type Outcome = { id: string; text: string; what: 'text' | 'reaction' } | { code: number; message: string };

export class Session {
  readonly api = new Api();
  phase = $state.raw<Phase>({ kind: 'opening' });
  state = $state.raw<State>({ api_base: '', kept: { webhooks: 0, calls: 0 }, businesses: [] });
  entries = $state.raw<Logged[]>([]);
  receivers = $state.raw<Record<string, Receiver>>({});
  customers = $state.raw<Customer[]>([]);
  /** The gateway does not answer. */
  lost = $state(false);
  handle = $state('');
  chosen = $state<number | null>(null);
  to = $state('');
  replying = $state.raw<Said | null>(null);
  outcome = $state.raw<Outcome | null>(null);
  #stop = new AbortController();

  readonly business = $derived<Business | undefined>(this.state.businesses.find(({ handle }) => handle === this.handle));
  /** Of this business, and of nobody. */
  readonly shown = $derived(this.entries.filter(({ business }) => business === null || business === this.handle));
  readonly entry = $derived(this.shown.find(({ id }) => id === this.chosen));
  readonly receiver = $derived<Receiver>(this.receivers[this.handle] ?? { state: 'none' });
  readonly #progress = $derived(progress(this.shown));

  /** Opens with a link's code, or with the session that this browser has. */
  async open(code: string | null): Promise<void> {
    try {
      if (code !== null) await this.api.enter(code);
      this.state = await this.api.state();
      this.handle = this.state.businesses[0]?.handle ?? '';
      await this.#readCustomers();
      this.phase = { kind: 'open' };
      void this.#follow();
    } catch (error) {
      // A link that was used stays in the browser's history: who has a session needs none.
      if (code !== null && error instanceof Locked && this.api.hasKey) return this.open(null);
      this.#failed(error);
      if (this.lost) setTimeout(() => void this.open(code), AGAIN_MS);
    }
  }

  async leave(): Promise<void> {
    this.#stop.abort();
    await this.api.leave();
    this.entries = [];
    this.phase = { kind: 'locked', why: 'left' };
  }

  async choose(handle: string): Promise<void> {
    this.handle = handle;
    this.chosen = this.replying = this.outcome = null;
    this.to = '';
    await this.#readCustomers().catch((error: unknown) => this.#failed(error));
  }

  /** What a message of the business has become. */
  statuses(id: string) {
    return this.#progress.statuses.get(id);
  }

  textOf(id: string): string | undefined {
    return this.#progress.texts.get(id);
  }

  /** Whether a free text to the chosen customer comes too late. */
  get isClosed(): boolean {
    const customer = this.customers.find(({ user_id }) => user_id === this.to);
    return customer !== undefined && customer.heard_ms + WINDOW_MS < Date.now();
  }

  reply(to: Said): void {
    this.to = to.user;
    this.replying = to;
  }

  /** Whether it was taken. */
  async send(text: string): Promise<boolean> {
    const context = this.replying ? { context: { message_id: this.replying.id } } : {};
    const taken = await this.#send({ recipient: this.to, type: 'text', text: { body: text }, ...context }, { what: 'text', text });
    if (taken) this.replying = null;
    return taken;
  }

  react(to: Said, emoji: string): Promise<boolean> {
    return this.#send({ recipient: to.user, type: 'reaction', reaction: { message_id: to.id, emoji } }, { what: 'reaction', text: emoji });
  }

  /** What was done, or why not: a word for [`i18n`]. */
  async replay(webhook: Webhook): Promise<'replayed' | 'tried' | 'forgotten' | 'no-receiver' | 'busy' | 'other'> {
    try {
      await this.api.replay(webhook.id);
      return webhook.state === 'waiting' ? 'tried' : 'replayed';
    } catch (error) {
      this.#failed(error);
      const code = error instanceof Refused ? error.code : '';
      return code === 'forgotten' || code === 'no-receiver' || code === 'busy' ? code : 'other';
    }
  }

  /** Has everything posted again that nobody took in 7 days. */
  async revive(): Promise<void> {
    try {
      await this.api.revive(this.handle);
      this.state = await this.api.state();
    } catch (error) {
      this.#failed(error);
    }
  }

  async secret(which: 'token' | 'app-secret'): Promise<string | null> {
    try {
      return await this.api.secret(this.handle, which);
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  async #send(message: object, said: { what: 'text' | 'reaction'; text: string }): Promise<boolean> {
    try {
      const answer = await this.api.send(this.handle, { messaging_product: 'whatsapp', ...message });
      const id = answer.messages?.[0]?.id;
      if (id) this.outcome = { id, ...said };
      else this.outcome = { code: answer.error?.code ?? 0, message: answer.error?.error_data?.details ?? answer.error?.message ?? '' };
      return id !== undefined;
    } catch (error) {
      this.#failed(error);
      return false;
    }
  }

  async #readCustomers(): Promise<void> {
    if (!this.handle) return;
    this.customers = await this.api.customers(this.handle);
    if (!this.customers.some(({ user_id }) => user_id === this.to)) this.to = this.customers[0]?.user_id ?? '';
  }

  /** Asks for news until the page is closed or locked. */
  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    for (let revision = 0; !signal.aborted; ) {
      try {
        const news = await this.api.news(revision, signal);
        this.lost = false;
        revision = news.revision;
        this.receivers = news.receivers;
        if (news.entries.length === 0) continue;
        this.entries = merged(this.entries, news.entries, MOST);
        // Who wrote may be new, or be called otherwise now; and the time of the last word has moved.
        if (news.entries.some((entry) => entry.kind === 'webhook' && entry.business === this.handle && said(entry)?.what !== 'status')) await this.#readCustomers();
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        if (this.phase.kind === 'locked') return;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  #failed(error: unknown): void {
    if (error instanceof Locked) {
      this.#stop.abort();
      this.phase = { kind: 'locked', why: error.why };
    } else if (!(error instanceof Refused)) {
      this.lost = true;
    }
  }
}

export { said, sent };
