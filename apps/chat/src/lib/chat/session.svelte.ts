/** What the page knows: the engine's answers and events, as state that the components show. */
import { placeOf, withTicket } from '../carry';
import { framed } from '../frame';
import { has, t } from '../i18n';
import { keep, kept } from '../keep';
import * as wake from '../wake';
import {
  EngineError,
  type Card,
  type Connection,
  type Conversation,
  type Draft,
  type Engine,
  type EngineErrorCode,
  type EngineEvent,
  type FileCard,
  type Message,
  type MessageId,
  type OpenedFile,
  type Purpose,
  type Upload,
} from '../engine/types';
import type { Prepared } from './files';
import { answered, answerSummary, interactiveSummary, personSummary, placeSummary } from './offered';
import { plainName, plainText } from './plain';
import { firstUnread, isBubble, merge, mustBeSeen, type Notice } from './timeline';

export type Problem = EngineErrorCode | 'taken-over' | 'cleared';
export type Phase =
  | { kind: 'opening' }
  | { kind: 'problem'; problem: Problem }
  /** `refused`: a code was entered of which the business knows nobody. */
  | { kind: 'welcome'; card: Card; link: string; refused?: boolean }
  | { kind: 'chat' };

const PAGE = 60;
const MOST_UNREAD_PAGES = 10;
/** Typing that is not renewed ends by itself: the notice of its end may be lost. */
const TYPING_MS = 12_000;
const KEPT_NOTICES = 50;

export function problemOf(thrown: unknown): EngineErrorCode {
  return thrown instanceof EngineError ? thrown.code : 'unknown';
}

export function problemText(problem: Problem): string {
  const key = `error.${problem}`;
  return t(has(key) ? key : 'error.unknown');
}

const fileSummary = (file: FileCard) => plainText(file.caption) || t('file.summary', { name: plainName(file.name) || t('file.unnamed') });

/** Text of a message as one line, for quotes and for announcements. */
export function summary(message: Message): string {
  if (message.deleted || message.shown.kind === 'deleted') return t('message.deleted');
  switch (message.shown.kind) {
    case 'text':
    case 'edit':
      return plainText(message.shown.text);
    case 'file':
      return fileSummary(message.shown.file);
    case 'interactive':
      return interactiveSummary(message.shown.interactive) || (message.shown.file ? fileSummary(message.shown.file) : '');
    case 'answer':
      return answerSummary(message.shown.answer);
    case 'location':
      return placeSummary(message.shown.location);
    case 'contacts':
      return personSummary(message.shown.persons);
    case 'unsupported':
      return t('message.unsupported', { contentType: plainName(message.shown.contentType) });
    case 'reaction':
      return message.shown.emoji ?? '';
    case 'unreadable':
      return t('message.unreadable');
  }
}

const cleanReaders = (readers: Card['readers']) => readers.map(({ name, role }) => ({ name: plainName(name), role: plainName(role) }));

/** Names are cleaned once, where they come in: what is shown from here on can be put into a sentence. */
function clean<T extends Card | Conversation>(from: T): T {
  return { ...from, name: plainName(from.name), readers: cleanReaders(from.readers) };
}

export class Session {
  readonly #engine: Engine;
  phase = $state.raw<Phase>({ kind: 'opening' });
  conversation = $state.raw<Conversation | null>(null);
  connection = $state.raw<Connection>({ kind: 'connecting' });
  messages = $state.raw<Message[]>([]);
  notices = $state.raw<Notice[]>([]);
  typing = $state(false);
  /** Files on their way, oldest first. */
  uploads = $state.raw<Upload[]>([]);
  /** Files that are being opened: how much of each is here. */
  opening = $state.raw<ReadonlyMap<MessageId, { received: number; of: number }>>(new Map());
  /** Whether this device is told of an answer when the page is closed. */
  waking = $state<wake.Waking>('unsupported');
  /** Bytes of a picture that is loaded without being asked for. */
  autoload = $state<number>(0);
  /** The business's own word for who this is, from the page around this one. */
  #identity: string | null = null;
  /** The business is told, or will be with the first message, which of its customers this is. */
  identified = $state(false);
  /** Where the person left off; stays until they write. */
  unreadFrom = $state.raw<MessageId | null>(null);
  /** Everything that this device has is in `messages`. */
  #allRead = $state(false);
  /** New messages in words, for who listens instead of looking. */
  announced = $state.raw<{ id: string; text: string }[]>([]);
  bubbles = $derived(this.messages.filter(isBubble));
  byId = $derived(new Map(this.messages.map((message) => [message.id, message])));
  /** What the person has answered to each message that asked for it. */
  answered = $derived(answered(this.byId));
  urgent = $derived(this.notices.filter(mustBeSeen).filter((notice) => !this.confirmed.includes(notice.id)));
  confirmed = $state.raw<string[]>([]);
  /** A ticket that came in the address, until the person has said what becomes of it. Nothing is done with it before. */
  carried = $state.raw<string | null>(null);
  /** One came, and this device has a conversation: it is left alone, and the person is told. */
  passedOver = $state(false);
  /** What came and was not in sight of the person yet. */
  unread = $derived(this.bubbles.filter(({ own, status, order }) => !own && status === 'received' && order > this.#readUpTo).length);

  #typingEnds: ReturnType<typeof setTimeout> | undefined;
  #older: Promise<void> | null = null;
  #readUpTo = $state(0);
  /** The browser was asked to keep what is stored. */
  #persisted = false;

  /** There is nothing older, here or at the business. */
  get atBeginning(): boolean {
    return this.#allRead && !this.#hasPast;
  }

  /** The business may have older messages than this device. */
  get #hasPast(): boolean {
    return this.conversation?.past === 'more' || this.conversation?.past === 'asked';
  }

  constructor(engine: Engine, carried: string | null) {
    this.#engine = engine;
    this.carried = carried;
    engine.onEvent((event) => this.#happened(event));
  }

  /** Opens what is here, or shows who the link leads to. */
  async open(link: string, how?: 'take-over', refused = false): Promise<void> {
    this.phase = { kind: 'opening' };
    try {
      const begun = await this.#engine.open(link, how);
      this.conversation = begun && clean(begun);
      await this.#sayIdentity();
      if (begun) {
        this.passedOver ||= this.carried !== null;
        this.carried = null;
        await this.#enter();
      } else if (!new URL(link).hash.includes('k=')) this.phase = { kind: 'problem', problem: 'bad-link' };
      else this.phase = { kind: 'welcome', card: clean(await this.#engine.card(link)), link, refused };
    } catch (thrown) {
      this.phase = { kind: 'problem', problem: problemOf(thrown) };
    }
  }

  /** Begins with a first message. What was begun stays begun if only the message could not be kept: the chat then has it as a draft. */
  async begin(link: string, name: string | null, body: string): Promise<void> {
    this.conversation = clean(await this.#engine.begin(link, name));
    await this.#sayIdentity();
    try {
      await this.send({ kind: 'text', body });
    } catch (thrown) {
      this.keep('draft', body);
      throw thrown;
    } finally {
      await this.#enter();
    }
  }

  /** Comes back with the code that was written down. Whether the business knows it is heard later: until then the conversation is `sought`. */
  async recover(link: string, code: string): Promise<void> {
    await this.#comeBack(await this.#engine.recover(link, code));
  }

  async #comeBack(as: Conversation): Promise<void> {
    this.conversation = clean(as);
    this.carried = null;
    await this.#sayIdentity();
    await this.#enter();
    // Whoever had to come back once has lost what this browser kept.
    navigator.storage?.persist?.().catch(() => undefined);
  }

  /** Takes the business's own word for who this is. Before there is a conversation it waits for one. */
  identify(token: string): void {
    this.#identity = token;
    this.identified = true;
    void this.#sayIdentity();
  }

  /** Without it the conversation goes on as well: what was wrong is for whoever builds the business's site. */
  async #sayIdentity(): Promise<void> {
    if (this.#identity === null || !this.conversation) return;
    try {
      await this.#engine.identify(this.#identity);
      this.keep('identified', true);
    } catch (thrown) {
      this.identified = (await this.kept<boolean>('identified')) ?? false;
      console.error(`bulla: the identity was not taken (${problemOf(thrown)}).`);
    }
  }

  /** A link for another device, which shows its ticket; null where the conversation's own link is not known. */
  async offerTransfer(): Promise<string | null> {
    const place = await this.place();
    return place && withTicket(location.origin, place, await this.#engine.offerTransfer(location.origin + place));
  }

  transferAsked(): Promise<string> {
    return this.#engine.transferAsked();
  }

  giveTransfer(): Promise<void> {
    return this.#engine.giveTransfer();
  }

  /** Ended or gone with the worker, it is over. */
  stopTransfer(): void {
    this.#engine.stopTransfer().catch(() => undefined);
  }

  askTransfer(link: string, ticket: string): Promise<string> {
    return this.#engine.askTransfer(link, ticket);
  }

  async takeTransfer(link: string): Promise<void> {
    await this.#comeBack(await this.#engine.takeTransfer(link));
  }

  async recoveryCode(): Promise<string | null> {
    return this.#engine.recoveryCode();
  }

  /** Where the conversation's link leads, `/@handle#k=…`. An installed app and a notification open the page without it: it is kept from when it was there. */
  async place(): Promise<string | null> {
    return placeOf(location.href) ?? (await this.kept<string>('place'));
  }

  async takeBack(): Promise<void> {
    await this.#engine.takeBack();
  }

  /** Asks the business once more for what was said before. */
  async askPast(): Promise<void> {
    await this.#engine.older();
  }

  async send(draft: Draft): Promise<Message> {
    const message = await this.#engine.send(draft);
    this.messages = merge(this.messages, [message]);
    if (draft.kind === 'text') this.unreadFrom = null;
    return message;
  }

  /** Attaches a file; it is kept, and goes out by itself. */
  async attach({ file, name, mediaType, preview }: Prepared, caption: string, replyTo: MessageId | null): Promise<void> {
    this.#uploading(await this.#engine.attach(file, { name, mediaType, caption, preview, replyTo }));
    this.unreadFrom = null;
  }

  async cancelUpload(id: string): Promise<void> {
    await this.#engine.cancelUpload(id);
  }

  async retryUpload(id: string): Promise<void> {
    await this.#engine.retryUpload(id);
  }

  async openFile(id: MessageId): Promise<OpenedFile> {
    this.#moved(id, 0, 0);
    try {
      return await this.#engine.openFile(id);
    } finally {
      this.opening = new Map([...this.opening].filter(([of]) => of !== id));
    }
  }

  stopFile(id: MessageId): void {
    this.#engine.stopFile(id).catch(() => undefined);
  }

  /** Whether a picture is shown without being asked for: it is here already, or small enough for what the person has set. */
  async loadsItself(id: MessageId, size: number): Promise<boolean> {
    if (await this.#engine.isHere(id).catch(() => false)) return true;
    return size <= this.autoload && this.connection.kind === 'online';
  }

  setAutoload(most: number): void {
    this.autoload = most;
    this.keep('autoload', most);
  }

  /** Has this device told of an answer when the page is closed. */
  async wake(): Promise<void> {
    const key = this.conversation?.pushKey;
    if (!key) throw new EngineError('not-ready', 'the business has not said its key');
    try {
      const to = await wake.turnOn(key, this.#wakeWords());
      await this.#engine.push(to);
      this.keep('wake', to.endpoint);
    } finally {
      this.waking = await this.#nowWaking();
    }
  }

  async letSleep(): Promise<void> {
    await wake.turnOff();
    this.keep('wake', null);
    this.waking = await this.#nowWaking();
    await this.#engine.push(null);
  }

  #wakeWords(): wake.Words {
    const { name, handle } = this.conversation ?? { name: '', handle: '' };
    return { title: name, body: t('wake.notification'), url: `/@${handle}` };
  }

  /** A business that has no key cannot wake anybody. */
  async #nowWaking(): Promise<wake.Waking> {
    return this.conversation?.pushKey ? wake.waking() : 'unsupported';
  }

  /** Browsers change where they are woken, or forget it; and a conversation that is over here has nothing to wake for. */
  async #mindWaking(): Promise<void> {
    // A frame may not ask for it, and what it sees of it is not what holds for the page in a tab of its own.
    if (framed) return;
    const told = await this.kept<string>('wake');
    const key = this.conversation?.pushKey;
    if (told !== null && key) {
      if (!this.writable) {
        await wake.turnOff();
        this.keep('wake', null);
      } else if (Notification.permission !== 'granted') {
        this.keep('wake', null);
        await this.#engine.push(null);
      } else {
        const to = await wake.turnOn(key, this.#wakeWords());
        if (to.endpoint !== told) {
          await this.#engine.push(to);
          this.keep('wake', to.endpoint);
        }
      }
    }
    this.waking = await this.#nowWaking();
  }

  /** Keeps something of the page's own beside this conversation: an origin may have several. */
  keep(name: string, value: unknown): void {
    keep(`${name}-${this.conversation?.id}`, value);
  }

  kept<T>(name: string): Promise<T | null> {
    return kept<T>(`${name}-${this.conversation?.id}`);
  }

  /** Reads an older page of the history; false once there is none. */
  async older(): Promise<boolean> {
    this.#older ??= this.#readOlder().finally(() => (this.#older = null));
    await this.#older;
    return !this.atBeginning;
  }

  /** Reads back until a message is here. */
  async reach(id: MessageId): Promise<boolean> {
    while (!this.byId.has(id) && !this.atBeginning) {
      const before = this.messages.length;
      await this.older();
      // What the business still has comes when it comes.
      if (this.messages.length === before) break;
    }
    return this.byId.has(id);
  }

  /** The person has this message and all before it in sight. */
  seen(message: Message): void {
    if (message.own || message.order <= this.#readUpTo) return;
    this.#readUpTo = message.order;
    this.#engine.markRead(message.id).catch(() => (this.#readUpTo = 0));
  }

  sayTyping(on: boolean): void {
    // Lost, it matters to nobody.
    this.#engine.typing(on).catch(() => undefined);
  }

  async setName(name: string): Promise<void> {
    await this.#engine.setName(name);
    if (this.conversation) this.conversation = { ...this.conversation, ownName: name };
  }

  /** Whether the business may write for a purpose, as the person has decided; null where it has not, and then it may not either. */
  decision(purpose: Purpose): boolean | null {
    return this.conversation?.consents.find((decision) => decision.purpose === purpose)?.given ?? null;
  }

  /** Lets the business write for a purpose, or no more, under the words that the person saw. */
  async decide(purpose: Purpose, given: boolean, wording: string): Promise<void> {
    await this.#engine.decide(purpose, given, wording);
    if (!this.conversation) return;
    // The event that tells it may come later.
    const others = this.conversation.consents.filter((decision) => decision.purpose !== purpose);
    this.conversation = { ...this.conversation, consents: [...others, { purpose, given, atMs: Date.now() }] };
  }

  confirm(notice: Notice): void {
    this.confirmed = [...this.confirmed, notice.id];
    this.#keepNotices();
  }

  get writable(): boolean {
    const state = this.conversation?.state;
    const over = state === 'removed' || state === 'outdated' || state === 'moved' || state === 'not-known';
    return !over && this.connection.kind !== 'superseded';
  }

  async #enter(): Promise<void> {
    const place = placeOf(location.href);
    if (place !== null) this.keep('place', place);
    const page = await this.#engine.messages(null, PAGE);
    this.#allRead = page.length < PAGE;
    this.messages = merge(this.messages, page);
    // As far back as nothing was read, within reason: the marker belongs before the first unread message.
    for (let pages = 0; pages < MOST_UNREAD_PAGES && this.#allUnread() && (await this.older()); pages += 1);
    const before = await this.kept<{ notices: Notice[]; confirmed: string[] }>('notices');
    if (before) {
      const known = new Set(before.notices.map((notice) => notice.id));
      this.notices = [...before.notices, ...this.notices.filter((notice) => !known.has(notice.id))];
      this.confirmed = before.confirmed;
    }
    this.autoload = (await this.kept<number>('autoload')) ?? 0;
    this.identified ||= (await this.kept<boolean>('identified')) ?? false;
    this.uploads = await this.#engine.uploads();
    this.unreadFrom = firstUnread(this.bubbles);
    // What the browser refuses now, it may give the next time.
    this.#mindWaking().catch(() => undefined);
    void wake.clear();
    // Taken over while this was read, or not known to the business: that stands.
    if (this.phase.kind !== 'problem' && this.conversation) this.phase = { kind: 'chat' };
  }

  #allUnread(): boolean {
    return this.bubbles.every((message) => !message.own && message.status === 'received');
  }

  async #readOlder(): Promise<void> {
    const oldest = this.messages[0];
    const page = oldest ? await this.#engine.messages(oldest.order, PAGE) : [];
    this.#allRead = page.length < PAGE;
    this.messages = merge(this.messages, page);
    if (this.#allRead && this.#hasPast) await this.askPast();
  }

  /** Messages of before have come: they may be older than all that is shown, or between, where the conversation was on another device. */
  async #readAgain(): Promise<void> {
    const oldest = this.messages[0]?.order ?? Infinity;
    let page: Message[];
    let before: number | null = null;
    do {
      page = await this.#engine.messages(before, PAGE);
      this.messages = merge(this.messages, page);
      before = page[0]?.order ?? 0;
    } while (page.length === PAGE && before > oldest);
    this.#allRead = page.length < PAGE;
  }

  #happened(event: EngineEvent): void {
    switch (event.type) {
      case 'connection':
        this.connection = event.connection;
        break;
      case 'conversation': {
        const before = this.conversation;
        this.conversation = { ...before, ...clean(event.conversation) };
        if (before?.pushKey !== this.conversation.pushKey || before?.state !== this.conversation.state) {
          this.#mindWaking().catch(() => undefined);
        }
        if (event.conversation.state === 'not-known') void this.open(location.href, undefined, true);
        break;
      }
      case 'history':
        // What cannot be read now is read by the next scrolling.
        this.#readAgain().catch(() => undefined);
        break;
      case 'message':
        this.#arrived(event.message);
        break;
      case 'changed':
      case 'status':
        this.messages = merge(this.messages, [event.message]);
        break;
      case 'typing':
        this.#theyType(event.on);
        break;
      case 'upload':
        this.#uploading(event.upload);
        break;
      case 'upload-moved':
        this.uploads = this.uploads.map((upload) => (upload.id === event.id ? { ...upload, sent: event.sent } : upload));
        break;
      case 'upload-ended':
        this.uploads = this.uploads.filter((upload) => upload.id !== event.id);
        break;
      case 'file':
        this.#moved(event.id, event.received, event.of);
        break;
      case 'taken-over':
        this.phase = { kind: 'problem', problem: 'taken-over' };
        break;
      case 'cleared':
        // Where it was taken over, what is stored is the other tab's.
        if (this.phase.kind !== 'problem') this.phase = { kind: 'problem', problem: 'cleared' };
        break;
      case 'continued':
        this.#note({ kind: 'continued' });
        break;
      case 'unreadable':
      case 'newer':
        this.#note({ kind: event.type });
        break;
      case 'gap':
        this.#note({ kind: 'gap', missing: event.missing });
        break;
      case 'devices':
        this.#note({ kind: 'devices', added: event.added, removed: event.removed });
        break;
      case 'key-change':
        this.#note({ kind: 'key-change', fingerprint: event.fingerprint });
        break;
    }
  }

  #arrived(message: Message): void {
    this.messages = merge(this.messages, [message]);
    if (message.own || !isBubble(message)) return;
    this.#theyType(false);
    // Asked for only now: a person who was answered has a reason to say yes. Refused, the conversation still works.
    if (!this.#persisted) navigator.storage?.persist?.().catch(() => undefined);
    this.#persisted = true;
    const name = this.conversation?.name ?? '';
    this.announced = [...this.announced.slice(-2), { id: message.id, text: t('chat.announce', { name, text: summary(message) }) }];
    // Came while nobody looked: the marker shows where to go on.
    const marked = this.unreadFrom === null ? undefined : this.byId.get(this.unreadFrom);
    if (document.hidden && (!marked || marked.order <= this.#readUpTo)) this.unreadFrom = message.id;
  }

  #uploading(upload: Upload): void {
    const others = this.uploads.filter(({ id }) => id !== upload.id);
    this.uploads = [...others, upload].sort((a, b) => a.createdMs - b.createdMs);
  }

  #moved(id: MessageId, received: number, of: number): void {
    this.opening = new Map(this.opening).set(id, { received, of });
  }

  #theyType(on: boolean): void {
    clearTimeout(this.#typingEnds);
    this.typing = on;
    if (on) this.#typingEnds = setTimeout(() => (this.typing = false), TYPING_MS);
  }

  #note(what: Notice['what']): void {
    this.notices = [...this.notices, { id: crypto.randomUUID(), atMs: Date.now(), what }].slice(-KEPT_NOTICES);
    this.#keepNotices();
  }

  #keepNotices(): void {
    this.keep('notices', { notices: this.notices, confirmed: this.confirmed });
  }
}
