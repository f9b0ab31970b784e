/**
 * An engine that plays a part, for looking at states of the page and for testing them one by one. It seals nothing and talks to nobody.
 * `?state=` chooses the part. The word `SCRIPTED-ENGINE` must not be in a release; a test looks for it.
 */
import {
  EngineError,
  type Card,
  type Conversation,
  type Draft,
  type Engine,
  type EngineErrorCode,
  type EngineEvent,
  type Message,
  type MessageId,
  type NewFile,
  type OpenedFile,
  type Purpose,
  type PushTo,
  type Upload,
} from '../src/lib/engine/types';
import * as offers from './offers';

export const MARK = 'SCRIPTED-ENGINE';

/** The generator of P-256, which is nobody's key. */
const PUSH_KEY = 'BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU';

/** As it looks; it opens nothing. */
export const CODE = '0W3G-E1R7-0W3G-E1R7-0W3G-E1R7-0YJ5';

/** As it looks; nobody answers to it. */
export const TICKET = 'n3Jz0b7cQk2VtWxYpL5mRd8sFgHhJ4aBcDeFgUiOpQw';

const READERS = [
  { name: 'Front desk', role: 'agent' },
  { name: 'Order helper', role: 'bot' },
  { name: 'Helpdesk Ltd', role: 'vendor' },
];
const FINGERPRINT = '9f3c 71ab 04de 5520 c1f7 88e2 3b6a 90d4';
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** What a hostile business may put where. */
const HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>"\'`${1}{{1}}\u202Egnp.exe';

function id(order: number): MessageId {
  return `m${order}`;
}

/** A picture that every browser can draw: a cup on a counter, as few bytes as possible. */
async function cup(): Promise<Blob> {
  const canvas = new OffscreenCanvas(640, 420);
  const context = canvas.getContext('2d')!;
  for (const [colour, x, y, width, height] of [['#e9dcc5', 0, 0, 640, 420], ['#9a6b4a', 0, 300, 640, 120], ['#fffaf0', 230, 150, 180, 170], ['#fffaf0', 400, 190, 60, 70], ['#4b2e1e', 245, 160, 150, 30]] as const) {
    context.fillStyle = colour;
    context.fillRect(x, y, width, height);
  }
  return canvas.convertToBlob({ type: 'image/png' });
}

function shownOf(draft: Extract<Draft, { kind: 'answer' | 'location' | 'contacts' }>): Message['shown'] {
  switch (draft.kind) {
    case 'answer':
      return { kind: 'answer', answer: draft.answer };
    case 'contacts':
      return { kind: 'contacts', persons: draft.persons };
    case 'location':
      return { kind: 'location', location: { latitude: draft.latitude, longitude: draft.longitude, name: draft.name ?? null, address: draft.address ?? null } };
  }
}

type Line = Partial<Message> & { text?: string };

/** A story over three days that shows most of what a message can be. */
function story(now: number): Line[] {
  const at = (daysAgo: number, time: string) => {
    const [hours, minutes] = time.split(':').map(Number);
    return new Date(now - daysAgo * DAY).setHours(hours!, minutes!, 0, 0);
  };
  return [
    { own: true, text: 'Hello! Do you have the Yirgacheffe as whole beans again?', sentMs: at(2, '9:41'), status: 'read' },
    { text: 'Good morning! Yes, it was roasted yesterday. 250 g or 1 kg?', sentMs: at(2, '9:44') },
    { text: 'The tasting notes are here: https://cortado.example/beans/yirgacheffe', sentMs: at(2, '9:45') },
    { own: true, text: '1 kg, please. Can I pick it up tomorrow after six?', sentMs: at(2, '9:52'), status: 'read', replyTo: id(2), reactions: [{ own: false, emoji: '👍' }] },
    { text: 'Of course. It is set aside under your name.', sentMs: at(2, '9:53'), reactions: [{ own: true, emoji: '❤️' }] },
    { own: true, text: 'Perfect, thank you', sentMs: at(2, '9:53'), status: 'read', edited: true },
    { text: '☕️', sentMs: at(2, '9:54') },
    { own: true, sentMs: at(1, '18:10'), status: 'read', deleted: true, shown: { kind: 'deleted' } },
    { own: true, text: 'I am at the door, is the side entrance open?', sentMs: at(1, '18:11'), status: 'read' },
    { text: 'Yes! Come straight through to the bar.', sentMs: at(1, '18:12'), replyTo: id(9) },
    { text: 'How was the first cup? If the grind is off, we are happy to adjust it for your machine. Just tell us which one you have: a photo of the label is enough.', sentMs: at(0, '8:30') },
    { own: true, text: 'Wonderful. Blueberry and jasmine, just as it says.', sentMs: at(0, '8:41'), status: 'delivered', envelopeBytes: 1024 },
    { own: true, text: 'I will order another bag next week.', sentMs: at(0, '8:41'), status: 'sent' },
  ];
}

class Scripted implements Engine {
  readonly part: string;
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  #messages: Message[] = [];
  #conversation: Conversation | null;
  #order = 0;
  #uploads: Upload[] = [];
  readonly calls: { call: string; args: unknown[] }[] = [];

  constructor(part: string) {
    this.part = part;
    const begun = !part.startsWith('welcome') && !part.startsWith('error-');
    this.#conversation = begun ? this.#make('open') : null;
    if (begun) this.#cast();
  }

  #make(state: Conversation['state']): Conversation {
    const hostile = this.part.includes('hostile');
    return {
      id: 1,
      userId: 'ZZ.k4tq7vd2m5xw3nbhc6yrp2sje7zgaf4u',
      name: hostile ? HOSTILE : 'Cortado Coffee',
      handle: 'cortado',
      readers: hostile ? [{ name: HOSTILE, role: HOSTILE }] : READERS,
      lastHeardMs: Date.now(),
      state,
      unread: 0,
      fingerprint: FINGERPRINT,
      relay: 'relay.cortado.example',
      ownName: null,
      pushKey: this.part === 'wake' ? PUSH_KEY : null,
      consents: this.part === 'consents' ? [{ purpose: 'notifications', given: true, atMs: Date.now() - DAY }] : [],
    };
  }

  #add(line: Line): Message {
    const order = ++this.#order;
    const own = line.own ?? false;
    const sentMs = line.sentMs ?? Date.now();
    const message: Message = {
      order,
      id: id(order),
      own,
      shown: { kind: 'text', text: line.text ?? '' },
      replyTo: null,
      replaces: null,
      sentMs,
      storedMs: sentMs,
      status: own ? 'queued' : 'read',
      failure: null,
      edited: false,
      deleted: false,
      reactions: [],
      breach: false,
      by: null,
      ...line,
    };
    this.#messages.push(message);
    return message;
  }

  #cast(): void {
    const now = Date.now();
    const after = (work: () => void) => setTimeout(work);
    if (this.part === 'empty') {
      this.#conversation = this.#make('greeting');
      this.#add({ own: true, text: 'Hello, are you open on Sunday?', status: 'sent' });
      return;
    }
    if (this.part === 'long') {
      for (let n = 1; n <= 2000; n += 1) {
        this.#add({ own: n % 3 === 0, text: `Message ${n}${n % 7 === 0 ? '\nwith a second line\nand a third' : ''}`, sentMs: now - (2000 - n) * 7 * MINUTE, status: 'read' });
      }
      return;
    }
    for (const line of story(now)) this.#add(line);
    switch (this.part) {
      case 'unread':
        this.#add({ text: 'By the way: the new Kenya arrives on Thursday.', status: 'received' });
        this.#add({ text: 'Shall we keep a bag for you?', status: 'received' });
        break;
      case 'files':
        this.#add({ shown: { kind: 'file', file: { name: 'label.png', mediaType: 'image/png', size: 214_000, caption: 'Is it this one?', preview: null, expires: 0 } } });
        this.#add({ shown: { kind: 'file', file: { name: 'Invoice 2026-118.pdf', mediaType: 'application/pdf', size: 48_213, caption: '', preview: null, expires: 0 } } });
        this.#add({ own: true, status: 'read', shown: { kind: 'file', file: { name: 'grinder.jpg', mediaType: 'image/jpeg', size: 1_830_000, caption: 'This is my grinder.', preview: null, expires: 0 } } });
        this.#uploads = [
          { id: 'u1', file: { name: 'receipt.jpg', mediaType: 'image/jpeg', size: 2_140_000, caption: '', preview: null, expires: 0 }, createdMs: now, failed: null, sent: 1_000_000, of: 2_200_000 },
          { id: 'u2', file: { name: 'film.mp4', mediaType: 'video/mp4', size: 42_000_000, caption: '', preview: null, expires: 0 }, createdMs: now + 1, failed: 'refused', sent: 0, of: 43_000_000 },
        ];
        break;
      case 'choices':
        for (const shown of [offers.BUTTONS, offers.LIST, offers.TEMPLATE]) this.#add({ shown });
        break;
      case 'offers':
        for (const shown of [offers.OFFER, offers.PRODUCTS, offers.FORM]) this.#add({ shown });
        break;
      case 'places':
        for (const shown of [offers.PLACE, offers.PERSON, offers.CONTACT_FORM, offers.WHERE]) this.#add({ shown });
        break;
      case 'answered': {
        const said = (shown: Message['shown']) => this.#add({ shown }).id;
        const answer = (replyTo: MessageId, shown: Message['shown']) => this.#add({ own: true, status: 'read', replyTo, shown });
        const asked = [offers.BUTTONS, offers.LIST, offers.FORM, offers.PRODUCTS, offers.WHERE].map(said);
        answer(asked[0]!, { kind: 'answer', answer: { kind: 'button', id: 'later', title: 'An hour later, please' } });
        answer(asked[1]!, { kind: 'answer', answer: { kind: 'row', id: 'huila', title: 'Huila', description: 'Caramel and red apple' } });
        answer(asked[2]!, { kind: 'answer', answer: { kind: 'form', values: [{ name: 'street', values: ['Canal Street 5'] }, { name: 'extra', values: ['mug', 'filter'] }, { name: 'terms', values: ['true'] }] } });
        answer(asked[3]!, { kind: 'answer', answer: { kind: 'order', items: [{ id: 'yirga', quantity: 2 }, { id: 'mug', quantity: 1 }], text: 'Wrapped, please' } });
        answer(asked[4]!, { kind: 'location', location: { latitude: 52.5, longitude: 13.4, name: null, address: null } });
        break;
      }
      case 'stopped':
        this.#conversation = { ...this.#make('open'), consents: [{ purpose: 'marketing', given: false, atMs: now }] };
        this.#add({ shown: offers.OFFER, breach: true });
        break;
      case 'typing':
        after(() => this.#say({ type: 'typing', on: true }));
        break;
      case 'failed':
        this.#add({ own: true, text: 'Is anybody there?', status: 'failed', failure: 'refused' });
        this.#add({ own: true, text: 'And this one?', status: 'failed', failure: 'no-receipt' });
        break;
      case 'offline':
        this.#add({ own: true, text: 'One more thing: can you grind it for a French press?', status: 'queued' });
        after(() => this.#say({ type: 'connection', connection: { kind: 'offline', retryInMs: 8_000 } }));
        return;
      case 'connecting':
        return;
      case 'kinds':
        this.#add({ shown: { kind: 'unsupported', contentType: 'application/vnd.bulla.seat-map+cbor' } });
        this.#add({ shown: { kind: 'unreadable' } });
        this.#add({ text: 'A reminder you did not ask for.', breach: true });
        this.#add({ own: true, text: 'Written on the train', by: 'Phone', status: 'read' });
        break;
      case 'notices':
        after(() => {
          this.#say({ type: 'continued', byUs: false, reason: 'restored' });
          this.#say({ type: 'gap', missing: 2 });
          this.#say({ type: 'unreadable' });
          this.#say({ type: 'newer' });
        });
        break;
      case 'devices':
        after(() => this.#say({ type: 'devices', added: ['Firefox on Linux'], removed: [] }));
        break;
      case 'key-change':
        after(() => this.#say({ type: 'key-change', fingerprint: '01aa 77f0 9c3e 4411 d0b2 6e58 ff19 2a03' }));
        break;
      case 'hostile':
        this.#add({ text: HOSTILE });
        this.#add({ text: 'javascript:alert(1) data:text/html,<script>alert(1)</script> https://user:pass@evil.example/ https://xn--pypal-4ve.example/ https://раypal.example/a' });
        this.#add({ shown: { kind: 'unsupported', contentType: HOSTILE } });
        this.#add({ shown: { kind: 'file', file: { name: HOSTILE, mediaType: HOSTILE, size: 1, caption: HOSTILE, preview: { mediaType: 'image/png', bytes: new TextEncoder().encode(HOSTILE) }, expires: 0 } } });
        for (const shown of offers.hostileOffers(HOSTILE)) this.#add({ shown });
        break;
      case 'past-asked':
        this.#conversation = { ...this.#make('open'), past: 'asked' };
        break;
      case 'past':
        this.#conversation = { ...this.#make('open'), past: 'all' };
        break;
      case 'finding':
        this.#messages = [];
        this.#conversation = { ...this.#make('greeting'), past: 'sought' };
        break;
      case 'moved':
      case 'stuck':
      case 'removed':
      case 'outdated':
        this.#conversation = this.#make(this.part);
        break;
      case 'old-page':
      case 'old-relay':
        after(() => this.#say({ type: 'connection', connection: { kind: 'noCommonVersion', updateHere: this.part === 'old-page' } }));
        return;
      case 'cleared':
        after(() => this.#say({ type: 'cleared' }));
        break;
      case 'superseded':
        after(() => this.#say({ type: 'connection', connection: { kind: 'superseded' } }));
        return;
      case 'taken-over':
        after(() => this.#say({ type: 'taken-over' }));
        break;
    }
    after(() => this.#say({ type: 'connection', connection: { kind: 'online' } }));
  }

  #say(event: EngineEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** For tests: whatever the other side or the relay does. */
  say(event: EngineEvent): void {
    this.#say(event);
  }
  receive(line: Line): Message {
    const message = this.#add({ status: 'received', ...line });
    this.#say({ type: 'message', message });
    return message;
  }
  progress(message: Message, status: Message['status']): void {
    const now = this.#change(message.id, { status });
    if (now) this.#say({ type: 'status', message: now, atMs: Date.now() });
  }

  #change(messageId: MessageId, to: Partial<Message>): Message | null {
    const at = this.#messages.findIndex((message) => message.id === messageId);
    const before = this.#messages[at];
    if (!before) return null;
    return (this.#messages[at] = { ...before, ...to });
  }

  async open() {
    this.calls.push({ call: 'open', args: [] });
    if (this.part === 'opening') return new Promise<never>(() => undefined);
    if (this.part.startsWith('error-')) throw new EngineError(this.part.slice(6) as EngineErrorCode, 'as asked');
    return this.#conversation;
  }

  async card(): Promise<Card> {
    const { name, handle, readers } = this.#make('new');
    return { name, handle, readers: this.part === 'welcome-alone' ? [] : readers, fingerprint: FINGERPRINT, relay: 'relay.cortado.example' };
  }

  async begin(_link: string, name: string | null) {
    this.calls.push({ call: 'begin', args: [name] });
    this.#conversation = { ...this.#make('greeting'), ownName: name };
    setTimeout(() => this.#say({ type: 'connection', connection: { kind: 'online' } }));
    return this.#conversation;
  }

  /** A code that begins with 1 is mistyped; one that begins with 2 is nobody's. */
  async recover(link: string, code: string) {
    this.calls.push({ call: 'recover', args: [code, new URL(link).hash] });
    if (code.startsWith('1')) throw new EngineError('code-mistyped', 'as asked');
    const sought = (this.#conversation = { ...this.#make('greeting'), past: 'sought' as const });
    setTimeout(() => {
      this.#say({ type: 'connection', connection: { kind: 'online' } });
      if (code.startsWith('2')) {
        this.#conversation = null;
        return this.#say({ type: 'conversation', conversation: { ...sought, state: 'not-known' } });
      }
      this.#conversation = { ...sought, state: 'open', past: 'asked' };
      this.#say({ type: 'conversation', conversation: this.#conversation });
      for (const line of story(Date.now())) this.#add({ ...line, status: 'read' });
      this.#say({ type: 'history', added: this.#messages.length });
      this.#conversation = { ...this.#conversation, past: 'all' };
      this.#say({ type: 'conversation', conversation: this.#conversation });
    });
    return sought;
  }
  async recoveryCode() {
    return this.part.startsWith('code') ? CODE : null;
  }
  /** The ticket that is shown; `asks` is the other device. */
  #transfer: { resolve(number: string): void; reject(error: EngineError): void } | null = null;
  async offerTransfer(link: string) {
    this.calls.push({ call: 'offerTransfer', args: [link] });
    return TICKET;
  }
  transferAsked() {
    return new Promise<string>((resolve, reject) => (this.#transfer = { resolve, reject }));
  }
  /** For tests: another device asks, or the ticket fails. */
  asks(number: string): void {
    this.#transfer?.resolve(number);
  }
  transferFails(code: EngineErrorCode): void {
    this.#transfer?.reject(new EngineError(code, 'as asked'));
  }
  async giveTransfer() {
    this.calls.push({ call: 'giveTransfer', args: [] });
    if (this.part === 'code-taken') throw new EngineError('transfer-used', 'as asked');
  }
  async stopTransfer() {
    this.calls.push({ call: 'stopTransfer', args: [] });
    this.#transfer?.reject(new EngineError('stopped', 'as asked'));
    this.#taking?.reject(new EngineError('stopped', 'as asked'));
  }
  /** A ticket that begins with 1 is none, with 3 it was used; one that begins with 2 is of nobody whom the business knows. */
  #taking: { resolve(): void; reject(error: EngineError): void } | null = null;
  #asked = '';
  async askTransfer(link: string, ticket: string) {
    this.calls.push({ call: 'askTransfer', args: [ticket, new URL(link).hash] });
    if (ticket.startsWith('1')) throw new EngineError('transfer-link', 'as asked');
    if (ticket.startsWith('3')) throw new EngineError('transfer-used', 'as asked');
    this.#asked = ticket;
    return '402917';
  }
  async takeTransfer(link: string) {
    await new Promise<void>((resolve, reject) => (this.#taking = { resolve, reject }));
    return this.recover(link, this.#asked);
  }
  /** For tests: the other device's person says yes. */
  gives(): void {
    this.#taking?.resolve();
  }

  async takeBack() {
    this.calls.push({ call: 'takeBack', args: [] });
    this.#conversation = this.#make('open');
    this.#say({ type: 'conversation', conversation: this.#conversation });
  }
  async older() {
    this.calls.push({ call: 'older', args: [] });
  }

  async send(draft: Draft): Promise<Message> {
    this.calls.push({ call: 'send', args: [draft] });
    switch (draft.kind) {
      case 'text': {
        const message = this.#add({ own: true, text: draft.body, replyTo: draft.replyTo ?? null });
        this.#say({ type: 'message', message });
        if (this.part !== 'offline') setTimeout(() => this.progress(message, 'sent'));
        return message;
      }
      case 'answer':
      case 'location':
      case 'contacts': {
        if (this.part === 'refuses') throw new EngineError('not-offered', 'as asked');
        const message = this.#add({ own: true, shown: shownOf(draft), replyTo: (draft.kind === 'answer' ? draft.to : draft.replyTo) ?? null });
        this.#say({ type: 'message', message });
        if (this.part !== 'offline') setTimeout(() => this.progress(message, 'sent'));
        return message;
      }
      case 'reaction': {
        const of = this.#messages.find((message) => message.id === draft.to)!;
        const others = of.reactions.filter((reaction) => !reaction.own);
        const changed = this.#change(draft.to, { reactions: draft.emoji ? [...others, { own: true, emoji: draft.emoji }] : others })!;
        const message = this.#add({ own: true, shown: { kind: 'reaction', emoji: draft.emoji }, replyTo: draft.to });
        this.#say({ type: 'changed', message: changed });
        return message;
      }
      case 'edit': {
        const changed = this.#change(draft.of, { shown: { kind: 'text', text: draft.body }, edited: true })!;
        const message = this.#add({ own: true, shown: { kind: 'edit', text: draft.body }, replaces: draft.of });
        this.#say({ type: 'changed', message: changed });
        return message;
      }
      case 'delete': {
        const changed = this.#change(draft.of, { shown: { kind: 'deleted' }, deleted: true })!;
        const message = this.#add({ own: true, shown: { kind: 'deleted' }, replaces: draft.of });
        this.#say({ type: 'changed', message: changed });
        return message;
      }
    }
  }

  async attach(file: Blob, about: NewFile): Promise<Upload> {
    this.calls.push({ call: 'attach', args: [about.name, about.mediaType, about.caption, about.replyTo, about.preview?.mediaType ?? null, file.size] });
    const card = { name: about.name, mediaType: about.mediaType, size: file.size, caption: about.caption, preview: about.preview, expires: 0 };
    const upload: Upload = { id: `u${this.#uploads.length + 1}`, file: card, createdMs: Date.now(), failed: null, sent: 0, of: file.size };
    this.#uploads.push(upload);
    this.#say({ type: 'upload', upload });
    if (this.part !== 'offline') setTimeout(() => this.uploaded(upload.id));
    return upload;
  }
  /** For tests: the relay has it all. */
  uploaded(upload: string): void {
    const done = this.#uploads.find(({ id: of }) => of === upload);
    if (!done) return;
    this.#uploads = this.#uploads.filter(({ id: of }) => of !== upload);
    this.#say({ type: 'upload-moved', id: upload, sent: done.of });
    this.#say({ type: 'message', message: this.#add({ own: true, shown: { kind: 'file', file: done.file } }) });
    this.#say({ type: 'upload-ended', id: upload });
  }
  async uploads() {
    return [...this.#uploads];
  }
  async cancelUpload(upload: string) {
    this.calls.push({ call: 'cancelUpload', args: [upload] });
    this.#uploads = this.#uploads.filter(({ id: of }) => of !== upload);
    this.#say({ type: 'upload-ended', id: upload });
  }
  async retryUpload(upload: string) {
    this.calls.push({ call: 'retryUpload', args: [upload] });
    const again = this.#uploads.find(({ id: of }) => of === upload);
    if (again) this.#say({ type: 'upload', upload: { ...again, failed: null } });
  }
  async isHere(messageId: MessageId) {
    return this.#messages.find((message) => message.id === messageId)?.own ?? false;
  }
  async openFile(messageId: MessageId): Promise<OpenedFile> {
    this.calls.push({ call: 'openFile', args: [messageId] });
    const { shown } = this.#messages.find((message) => message.id === messageId)!;
    const file = shown.kind === 'file' || shown.kind === 'interactive' ? shown.file : null;
    if (!file) throw new EngineError('unknown', 'no file');
    this.#say({ type: 'file', id: messageId, received: file.size / 2, of: file.size });
    if (this.part === 'gone') throw new EngineError('gone', 'as asked');
    if (file.mediaType.startsWith('image/')) return { blob: await cup(), name: 'cup.png', picture: true };
    return { blob: new Blob(['%PDF-1.7']), name: 'file.pdf', picture: false };
  }
  async stopFile(messageId: MessageId) {
    this.calls.push({ call: 'stopFile', args: [messageId] });
  }
  async markRead(messageId: MessageId) {
    this.calls.push({ call: 'markRead', args: [messageId] });
  }
  async typing(on: boolean) {
    this.calls.push({ call: 'typing', args: [on] });
  }
  async identify(token: string) {
    this.calls.push({ call: 'identify', args: [token] });
  }
  async push(to: PushTo | null) {
    this.calls.push({ call: 'push', args: [to] });
  }
  async decide(purpose: Purpose, given: boolean, wording: string) {
    this.calls.push({ call: 'decide', args: [purpose, given, wording] });
    if (this.part === 'undecided') throw new EngineError('not-ready', 'as asked');
    const others = this.#conversation!.consents.filter((decision) => decision.purpose !== purpose);
    this.#conversation = { ...this.#conversation!, consents: [...others, { purpose, given, atMs: Date.now() }] };
    this.#say({ type: 'conversation', conversation: this.#conversation });
  }
  async setName(name: string) {
    this.calls.push({ call: 'setName', args: [name] });
  }
  async messages(before: number | null, limit: number) {
    const older = this.#messages.filter((message) => before === null || message.order < before);
    return older.slice(-limit);
  }
  onEvent(listener: (event: EngineEvent) => void) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

export type { Scripted };

export function scripted(part: string): Scripted {
  return new Scripted(part);
}
