/** The engine as the page has it: calls go to a worker, each with a number, and come back under it; events come in between. */
import type { Call, Reply, Request } from './rpc';
import { describe } from './rpc';
import { EngineError, type Card, type Conversation, type Draft, type Engine, type EngineEvent, type Message, type MessageId, type NewFile, type OpenedFile, type Purpose, type PushTo, type Upload } from './types';

/** What this needs of a `Worker`. */
export interface Port {
  postMessage(request: Request): void;
  onmessage: ((event: { data: Reply }) => void) | null;
  onerror: ((event: { message?: string; preventDefault?(): void }) => void) | null;
}

interface Waiting {
  resolve(value: never): void;
  reject(error: EngineError): void;
}

export class WorkerEngine implements Engine {
  readonly #port: Port;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  #next = 1;
  /** Set once the worker is gone: nothing comes any more. */
  #dead: EngineError | null = null;

  constructor(port: Port) {
    this.#port = port;
    port.onmessage = ({ data }) => this.#received(data);
    port.onerror = (event) => this.#died(event.message ?? 'worker failed');
  }

  open(link: string, how?: 'take-over') {
    return this.#call<Conversation | null>('open', link, how);
  }
  card(link: string) {
    return this.#call<Card>('card', link);
  }
  begin(link: string, name: string | null) {
    return this.#call<Conversation>('begin', link, name);
  }
  recover(link: string, code: string) {
    return this.#call<Conversation>('recover', link, code);
  }
  recoveryCode() {
    return this.#call<string | null>('recoveryCode');
  }
  offerTransfer(link: string) {
    return this.#call<string>('offerTransfer', link);
  }
  transferAsked() {
    return this.#call<string>('transferAsked');
  }
  giveTransfer() {
    return this.#call<void>('giveTransfer');
  }
  askTransfer(link: string, ticket: string) {
    return this.#call<string>('askTransfer', link, ticket);
  }
  takeTransfer(link: string) {
    return this.#call<Conversation>('takeTransfer', link);
  }
  stopTransfer() {
    return this.#call<void>('stopTransfer');
  }
  takeBack() {
    return this.#call<void>('takeBack');
  }
  older() {
    return this.#call<void>('older');
  }
  send(draft: Draft) {
    return this.#call<Message>('send', draft);
  }
  attach(file: Blob, about: NewFile) {
    return this.#call<Upload>('attach', file, about);
  }
  uploads() {
    return this.#call<Upload[]>('uploads');
  }
  cancelUpload(id: string) {
    return this.#call<void>('cancelUpload', id);
  }
  retryUpload(id: string) {
    return this.#call<void>('retryUpload', id);
  }
  isHere(id: MessageId) {
    return this.#call<boolean>('isHere', id);
  }
  openFile(id: MessageId) {
    return this.#call<OpenedFile>('openFile', id);
  }
  stopFile(id: MessageId) {
    return this.#call<void>('stopFile', id);
  }
  markRead(id: MessageId) {
    return this.#call<void>('markRead', id);
  }
  typing(on: boolean) {
    return this.#call<void>('typing', on);
  }
  decide(purpose: Purpose, given: boolean, wording: string) {
    return this.#call<void>('decide', purpose, given, wording);
  }

  setName(name: string) {
    return this.#call<void>('setName', name);
  }
  identify(token: string) {
    return this.#call<void>('identify', token);
  }
  push(to: PushTo | null) {
    return this.#call<void>('push', to);
  }
  messages(before: number | null, limit: number) {
    return this.#call<Message[]>('messages', before, limit);
  }
  onEvent(listener: (event: EngineEvent) => void) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #call<T>(call: Call, ...args: unknown[]): Promise<T> {
    if (this.#dead) return Promise.reject(this.#dead);
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#port.postMessage({ id, call, args });
    });
  }

  #received(reply: Reply) {
    if ('event' in reply) {
      // The worker is gone after this: nobody is left to answer.
      if (reply.event.type === 'taken-over') this.#end(new EngineError('other-tab', 'taken over by another tab'));
      for (const listener of this.#listeners) listener(reply.event);
      return;
    }
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (!waiting) return;
    if ('error' in reply) {
      const { code, message } = describe(reply.error);
      waiting.reject(new EngineError(code, message));
    } else {
      waiting.resolve(reply.ok as never);
    }
  }

  /** A worker that could not be loaded or that panicked answers nothing. */
  #died(message: string) {
    this.#end(new EngineError(typeof WebAssembly === 'undefined' ? 'wasm' : 'unknown', message));
  }

  /** Whoever waits hears of it now, and whoever asks later at once. */
  #end(error: EngineError) {
    this.#dead = error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
