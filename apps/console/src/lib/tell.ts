/** What entries of the log are about: pure, from the bytes that were sent. */
import { plainName, plainText } from '../../../chat/src/lib/chat/plain';
import type { Answer, Call, Logged, Webhook } from './types';

export const STATUSES = ['sent', 'delivered', 'read', 'failed'] as const;
export type Status = (typeof STATUSES)[number];

export interface Said {
  what: 'text' | 'file' | 'reaction' | 'edit' | 'revoke' | 'other';
  id: string;
  user: string;
  name: string;
  text: string;
}

export interface Progress {
  what: 'status';
  id: string;
  user: string;
  status: Status;
  reason: string;
}

interface Payload {
  entry?: { changes?: { value?: Value }[] }[];
}
interface Value {
  contacts?: { profile?: { name?: string } }[];
  messages?: Message[];
  statuses?: { id?: string; status?: string; recipient_user_id?: string; errors?: { title?: string }[] }[];
}
interface File {
  caption?: string;
  filename?: string;
  mime_type?: string;
}
interface Message {
  image?: File;
  video?: File;
  audio?: File;
  document?: File;
  id?: string;
  from_user_id?: string;
  type?: string;
  text?: { body?: string };
  reaction?: { emoji?: string };
  edit?: { message?: { text?: { body?: string } } };
}

/** JSON, or nothing. */
export function parsed<T>(text: string | null | undefined): T | null {
  try {
    return JSON.parse(text ?? '') as T;
  } catch {
    return null;
  }
}

const known = new Map<string, Said | Progress | null>();

/** What a webhook says, or nothing if it is none that this page has words for. */
export function said(webhook: Webhook): Said | Progress | null {
  // Bodies never change, and the list asks again and again.
  const seen = known.get(webhook.body);
  if (seen !== undefined) return seen;
  if (known.size > 2_000) known.clear();
  const found = read(parsed<Payload>(webhook.body));
  known.set(webhook.body, found);
  return found;
}

function read(payload: Payload | null): Said | Progress | null {
  const value = payload?.entry?.[0]?.changes?.[0]?.value;
  const message = value?.messages?.[0];
  if (message) return { ...content(message), id: message.id ?? '', user: message.from_user_id ?? '', name: plainName(value.contacts?.[0]?.profile?.name ?? '') };
  const status = value?.statuses?.[0];
  const word = STATUSES.find((one) => one === status?.status);
  if (!status || !word) return null;
  return { what: 'status', id: status.id ?? '', user: status.recipient_user_id ?? '', status: word, reason: status.errors?.[0]?.title ?? '' };
}

function content(message: Message): Pick<Said, 'what' | 'text'> {
  switch (message.type) {
    case 'text':
      return { what: 'text', text: plainText(message.text?.body ?? '') };
    case 'image':
    case 'video':
    case 'audio':
    case 'document': {
      const { caption, filename, mime_type } = message[message.type] ?? {};
      return { what: 'file', text: plainText(caption || filename || mime_type || '') };
    }
    case 'reaction':
      return { what: 'reaction', text: plainText(message.reaction?.emoji ?? '') };
    case 'edit':
      return { what: 'edit', text: plainText(message.edit?.message?.text?.body ?? '') };
    case 'revoke':
      return { what: 'revoke', text: '' };
    default:
      return { what: 'other', text: '' };
  }
}

/** The message that a call sent: its id and what it says. */
export function sent(call: Call): { id: string; user: string; text: string } | null {
  if (call.status !== 200 || !call.path.split('?')[0]!.endsWith('/messages')) return null;
  const id = parsed<Answer>(call.response.text)?.messages?.[0]?.id;
  if (!id) return null;
  const request = parsed<{ recipient?: string; text?: { body?: string }; reaction?: { emoji?: string } }>(call.request.text);
  return { id, user: request?.recipient ?? '', text: plainText(request?.text?.body ?? request?.reaction?.emoji ?? '') };
}

/** How far each message of the business came, and what is known of each message's text. */
export function progress(entries: readonly Logged[]): { statuses: Map<string, Set<Status>>; texts: Map<string, string> } {
  const [statuses, texts] = [new Map<string, Set<Status>>(), new Map<string, string>()];
  for (const entry of entries) {
    if (entry.kind === 'call') {
      const message = sent(entry);
      if (message) texts.set(message.id, message.text);
      continue;
    }
    const about = said(entry);
    if (about?.what === 'status') {
      const so = statuses.get(about.id) ?? new Set();
      statuses.set(about.id, so.add(about.status));
    } else if (about) {
      texts.set(about.id, about.text);
    }
  }
  return { statuses, texts };
}

/** Entries and what is newer of them, in the order in which things happened. At most so many. */
export function merged(entries: readonly Logged[], news: readonly Logged[], most: number): Logged[] {
  const all = new Map(entries.map((entry) => [entry.id, entry]));
  for (const entry of news) all.set(entry.id, entry);
  return [...all.values()].sort((a, b) => a.at_ms - b.at_ms || a.id - b.id).slice(-most);
}
