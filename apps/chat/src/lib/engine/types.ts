/** What the page and the engine's worker say to each other. The Rust side is `crates/web-core`; both are checked against each other in tests. */

/** 32 bytes, base64url without padding. The same on both sides for ever. */
export type MessageId = string;

/** How far a message came. Incoming ones are `received` or `read`. */
export type Status = 'queued' | 'sent' | 'delivered' | 'read' | 'failed' | 'received';

export type Failure = 'window-closed' | 'refused' | 'no-receipt' | 'too-large' | 'no-consent';

export type Shown =
  | { kind: 'text'; text: string }
  | { kind: 'file'; file: FileCard }
  /** Something to choose from, and the file above it. */
  | { kind: 'interactive'; interactive: Interactive; file: FileCard | null }
  /** What was chosen in `replyTo`. */
  | { kind: 'answer'; answer: Answer }
  | { kind: 'location'; location: Location }
  | { kind: 'contacts'; persons: Person[] }
  /** A reaction to `replyTo`; null takes it back. */
  | { kind: 'reaction'; emoji: string | null }
  /** An edit of `replaces`. */
  | { kind: 'edit'; text: string }
  | { kind: 'deleted' }
  /** A kind that this version cannot show. */
  | { kind: 'unsupported'; contentType: string }
  | { kind: 'unreadable' };

/** What a business shows with something to choose. */
export interface Interactive {
  header: { kind: 'text'; value: string } | { kind: 'location'; value: Location } | null;
  body: string;
  footer: string | null;
  action:
    | { kind: 'nothing' }
    | { kind: 'buttons'; value: Button[] }
    | { kind: 'list'; value: { button: string; sections: { title: string; rows: Row[] }[] } }
    /** The customer is asked where he is. */
    | { kind: 'location' }
    | { kind: 'form'; value: Form }
    | { kind: 'products'; value: { catalog: string; button: string; items: Product[] } };
  /** It is a template: a text that the business sends to many. */
  template: { name: string; language: string; category: 'authentication' | 'marketing' | 'utility' } | null;
}

export type Button =
  | { kind: 'reply'; id: string; title: string }
  | { kind: 'url'; title: string; url: string }
  | { kind: 'phone'; title: string; number: string }
  | { kind: 'copy'; title: string; code: string };

export interface Row {
  id: string;
  title: string;
  description: string | null;
}

export interface Form {
  kind: 'flow' | 'address' | 'contact';
  button: string;
  screens: { title: string; text: string | null; fields: Field[]; button: string }[];
  token: string | null;
}

export interface Field {
  name: string;
  label: string;
  kind: 'text' | 'area' | 'number' | 'email' | 'phone' | 'date' | 'one' | 'some' | 'yes';
  required: boolean;
  options: { id: string; title: string }[];
  hint: string | null;
  value: string | null;
  /** Characters. */
  min: number | null;
  max: number | null;
}

export interface Product {
  id: string;
  name: string;
  description: string | null;
  /** In thousandths of the currency. */
  price: number;
  /** ISO 4217. */
  currency: string;
  section: string | null;
}

export type Answer =
  | { kind: 'button'; id: string; title: string }
  | { kind: 'row'; id: string; title: string; description: string | null }
  | { kind: 'form'; values: { name: string; values: string[] }[] }
  | { kind: 'order'; items: { id: string; quantity: number }[]; text: string };

/** Degrees (WGS 84). */
export interface Location {
  latitude: number;
  longitude: number;
  name: string | null;
  address: string | null;
}

/** A person's card, with the Cloud API's names. */
export interface Person {
  name: { formatted_name?: string; first_name?: string; last_name?: string };
  phones?: { phone?: string; type?: string }[];
  emails?: { email?: string; type?: string }[];
  addresses?: { street?: string; city?: string; state?: string; zip?: string; country?: string; type?: string }[];
  urls?: { url?: string; type?: string }[];
  org?: { company?: string; department?: string; title?: string };
  birthday?: string;
}

/** What a person decides about: whether the business may write for it without having been asked. */
export type Purpose = 'notifications' | 'marketing';

/** What is known of a file without its bytes. All of it is its sender's word. */
export interface FileCard {
  name: string;
  mediaType: string;
  /** Bytes. */
  size: number;
  /** What is said under it; empty for nothing. */
  caption: string;
  /** A small picture that its sender's device made. */
  preview: Preview | null;
  /** When it goes from the relay, Unix seconds; 0 for unknown. */
  expires: number;
}

/** `image/jpeg`, `image/png` or `image/webp`, at most 24 KiB. */
export interface Preview {
  mediaType: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** A file on its way to the relay; its message comes once it is there. */
export interface Upload {
  id: string;
  file: FileCard;
  createdMs: number;
  failed: 'refused' | 'too-large' | 'lost' | 'not-said' | null;
  /** Bytes at the relay, of so many; sealed, so a little more than the file has. */
  sent: number;
  of: number;
}

export interface NewFile {
  name: string;
  mediaType: string;
  caption: string;
  preview: Preview | null;
  replyTo: MessageId | null;
}

/** A file that was opened. Its type is what its bytes are, and its name one under which it may be saved. */
export interface OpenedFile {
  blob: Blob;
  name: string;
  /** A picture that may be shown. */
  picture: boolean;
}

export interface Message {
  /** Its place in the conversation: 1, 2, 3 … */
  order: number;
  id: MessageId;
  /** Said by this customer, on this device or another. */
  own: boolean;
  shown: Shown;
  replyTo: MessageId | null;
  replaces: MessageId | null;
  /** Unix ms. */
  sentMs: number;
  storedMs: number;
  status: Status;
  failure: Failure | null;
  edited: boolean;
  deleted: boolean;
  reactions: { own: boolean; emoji: string }[];
  /** The business wrote outside of the 24 hours in which it may. */
  breach: boolean;
  /** Another device of this customer's said it: its name. */
  by: string | null;
  /** Length of the sealed envelope in which it went or came, if the engine knows it: what the relay could see. */
  envelopeBytes?: number | null;
}

/**
 * `moved`: it goes on on another device, where the recovery code was entered; `not-known`: the business knows nobody of the code that was
 * entered, and the conversation leads nowhere.
 */
export type State = 'new' | 'greeting' | 'open' | 'stuck' | 'removed' | 'outdated' | 'moved' | 'not-known';

/**
 * What was said before a device came back with the recovery code. `sought`: whether the business knows this customer is not known yet; `more`: there
 * may be more than is here; `asked`: it was asked for; `all`: everything that the business has is here.
 */
export type Past = 'sought' | 'more' | 'asked' | 'all';

export interface Conversation {
  id: number;
  userId: string;
  /** The business's name. */
  name: string;
  handle: string;
  /** Everyone who can read on the business's side. */
  readers: { name: string; role: string }[];
  lastHeardMs: number;
  state: State;
  unread: number;
  /** On a device that came back; else null. */
  past?: Past | null;
  /** The business sends pushes under this key (P-256, uncompressed, base64url); else null. */
  pushKey?: string | null;
  /** What the person has decided; nothing of what it has not. */
  consents: { purpose: Purpose; given: boolean; atMs: number }[];
  /** As in `Card`; kept, so that they can be shown without the link and without a connection. */
  fingerprint?: string;
  relay?: string;
  /** The name that the customer gave, if one. */
  ownName?: string | null;
}

/** Where this browser is woken: of a `PushSubscription`, keys in base64url without padding. */
export interface PushTo {
  endpoint: string;
  p256dh: string;
  auth: string;
}

/** Who a link leads to, once its bundle has verified to the link's fingerprint. */
export interface Card {
  name: string;
  handle: string;
  /** The link's fingerprint in groups, for comparing with a printed one. */
  fingerprint: string;
  readers: { name: string; role: string }[];
  /** Host of the relay that carries the envelopes. */
  relay: string;
}

export type Connection =
  | { kind: 'connecting' }
  | { kind: 'online' }
  | { kind: 'offline'; retryInMs: number }
  /** Another copy of this device's data is in use: this one has stopped. */
  | { kind: 'superseded' }
  /** The relay speaks no version that this page speaks; `updateHere`: the page is the older one. What is said is kept until both do. */
  | { kind: 'noCommonVersion'; updateHere: boolean };

export type EngineEvent =
  | { type: 'connection'; connection: Connection }
  | { type: 'conversation'; conversation: Conversation }
  | { type: 'message'; message: Message }
  | { type: 'changed'; message: Message }
  | { type: 'status'; message: Message; atMs: number }
  | { type: 'typing'; on: boolean }
  | { type: 'upload'; upload: Upload }
  | { type: 'upload-moved'; id: string; sent: number }
  | { type: 'upload-ended'; id: string }
  /** A file that is being opened. */
  | { type: 'file'; id: MessageId; received: number; of: number }
  | { type: 'unreadable' }
  | { type: 'newer' }
  /** The conversation began again between the same identities: a quiet line. */
  | { type: 'continued'; byUs: boolean; reason: string }
  | { type: 'devices'; added: string[]; removed: string[] }
  | { type: 'key-change'; fingerprint: string }
  | { type: 'gap'; missing: number }
  /** Messages of before are here now, older than all others. */
  | { type: 'history'; added: number }
  /** The browser has taken away what was stored here: nothing more can be kept. */
  | { type: 'cleared' }
  /** Said by the worker, not by the device: another tab took the engine over, and this one has stopped. */
  | { type: 'taken-over' };

export type Draft =
  | { kind: 'text'; body: string; replyTo?: MessageId }
  | { kind: 'reaction'; to: MessageId; emoji: string | null }
  | { kind: 'answer'; to: MessageId; answer: Answer }
  | { kind: 'location'; latitude: number; longitude: number; name?: string; address?: string; replyTo?: MessageId }
  | { kind: 'contacts'; persons: Person[]; replyTo?: MessageId }
  | { kind: 'edit'; of: MessageId; body: string }
  | { kind: 'delete'; of: MessageId };

/**
 * `bad-link`: not a link, or without a fingerprint; `wrong-key`: what the origin serves is not of the link's key; `unreachable`: nothing
 * came; `storage`: this browser does not store (private mode, full, refused); `other-tab`: the engine runs in another tab; `wasm`: refused or
 * not supported; `code-length`, `code-symbol`, `code-mistyped`: not a recovery code, and nothing was sent; of transfers `transfer-link`: not a ticket;
 * `transfer-used`: another device was first; `transfer-expired`: its time has passed; `transfer-refused`: it is not from the other device; `moved`: the conversation goes on on
 * another device; `not-offered`: that message does not offer this, or the form is not filled in as it asks; `not-fitting`: too long, or empty; `too-long`, `not-ready`, `outdated`, `unknown`: as they say. Of files: `too-large`, `too-many-files`; `file`: it cannot be read any
 * more; `gone`: the relay has it no more; `damaged`: it is not what was sent; `stopped`: it was stopped, and goes on from there the next time.
 */
export type EngineErrorCode =
  | 'bad-link'
  | 'wrong-key'
  | 'unreachable'
  | 'storage'
  | 'other-tab'
  | 'wasm'
  | 'too-long'
  | 'not-ready'
  | 'outdated'
  | 'code-length'
  | 'code-symbol'
  | 'code-mistyped'
  | 'transfer-link'
  | 'transfer-used'
  | 'transfer-expired'
  | 'transfer-refused'
  | 'moved'
  | 'not-offered'
  | 'not-fitting'
  | 'too-large'
  | 'too-many-files'
  | 'file'
  | 'gone'
  | 'damaged'
  | 'stopped'
  | 'unknown';

export class EngineError extends Error {
  constructor(
    readonly code: EngineErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** One customer's device at the business whose link was opened. */
export interface Engine {
  /**
   * Opens what this browser has of the link's business, or for a link without a fingerprint the newest of its handle; null if nothing was begun here.
   * `take-over`: also if another tab has it, which then stops.
   */
  open(link: string, how?: 'take-over'): Promise<Conversation | null>;
  /** Fetches and verifies who a link leads to. Nothing is stored, nothing leaves but the fetch. */
  card(link: string): Promise<Card>;
  /** Begins the conversation; nothing leaves before the first message. */
  begin(link: string, name: string | null): Promise<Conversation>;
  /** Comes back as who was here before, with the code that was written down. Whether the business knows it comes as the conversation's state. */
  recover(link: string, code: string): Promise<Conversation>;
  /** The code to write down; null if this conversation has none. */
  recoveryCode(): Promise<string | null>;
  /**
   * A ticket to show to another device of this customer's, which gets the recovery code for it once: it is good for ten minutes, until the next is
   * offered or `stopTransfer`. `link` is the conversation's.
   */
  offerTransfer(link: string): Promise<string>;
  /** The number of the device that asks with the ticket; waits until one does. Nothing is given by that. */
  transferAsked(): Promise<string>;
  /** The person has compared the number and said yes. */
  giveTransfer(): Promise<void>;
  /** Asks with a ticket that was scanned; the number to compare. */
  askTransfer(link: string, ticket: string): Promise<string>;
  /** Waits for the yes, and comes back as `recover` does. */
  takeTransfer(link: string): Promise<Conversation>;
  /** Ends a transfer, at either end; whoever waits in it is told `stopped`. */
  stopTransfer(): Promise<void>;
  /** Brings a conversation back that has `moved`. */
  takeBack(): Promise<void>;
  /** Asks the business for older messages than are here; they come with `history`. */
  older(): Promise<void>;
  /** Returns once it is durable in the outbox. */
  send(draft: Draft): Promise<Message>;
  /** Returns once the file is kept and its upload durable: it is said when the relay has it. */
  attach(file: Blob, about: NewFile): Promise<Upload>;
  /** Files that wait to be uploaded, oldest first. */
  uploads(): Promise<Upload[]>;
  cancelUpload(id: string): Promise<void>;
  retryUpload(id: string): Promise<void>;
  /** Whether the file of a message is here, so that opening it fetches nothing. */
  isHere(id: MessageId): Promise<boolean>;
  /** Opens the file of a message, and fetches it if it is not here; events of type `file` tell how far it is. */
  openFile(id: MessageId): Promise<OpenedFile>;
  stopFile(id: MessageId): Promise<void>;
  markRead(id: MessageId): Promise<void>;
  typing(on: boolean): Promise<void>;
  setName(name: string): Promise<void>;
  /** Lets the business write for a purpose, or no more, under the words that the person saw. */
  decide(purpose: Purpose, given: boolean, wording: string): Promise<void>;
  /** Gives the business's own word for who this is; it goes with the next message. Only the business's gateway looks at it. */
  identify(token: string): Promise<void>;
  /** Tells the business where this browser is woken when the page is closed; null: nowhere any more. Durable once it returns. */
  push(to: PushTo | null): Promise<void>;
  /**
   * Up to `limit` messages before an order (the newest without), oldest first. Reactions, edits and deletions are among them, as messages
   * of their own; what came of them is in the message that they are about: `reactions`, the new text in `shown`, `deleted`.
   */
  messages(before: number | null, limit: number): Promise<Message[]>;
  onEvent(listener: (event: EngineEvent) => void): () => void;
}
