/**
 * What the list on the screen is made of. Pure: messages in, rows out.
 *
 * The engine keeps reactions, edits and deletions as messages of their own, in the same order; the message that they are about carries
 * what came of them. So only those that stand for themselves become bubbles.
 */
import type { Message, MessageId } from '../engine/types';

/** One sender's messages within this time are one group. */
const GROUP_MS = 5 * 60_000;

/** Something that happened to the conversation and was not said by anybody. */
export interface Notice {
  id: string;
  atMs: number;
  what:
    | { kind: 'continued' }
    | { kind: 'unreadable' }
    | { kind: 'newer' }
    | { kind: 'gap'; missing: number }
    | { kind: 'devices'; added: string[]; removed: string[] }
    | { kind: 'key-change'; fingerprint: string };
}

/** What nobody may miss stays in sight until it was confirmed; the rest is a quiet line. */
export function mustBeSeen(notice: Notice): boolean {
  return notice.what.kind === 'devices' || notice.what.kind === 'key-change';
}

export type Row =
  | { type: 'day'; key: string; atMs: number }
  | { type: 'unread'; key: string }
  | { type: 'notice'; key: string; notice: Notice }
  | { type: 'message'; key: string; message: Message; first: boolean; last: boolean };

export function isBubble(message: Message): boolean {
  switch (message.shown.kind) {
    case 'reaction':
    case 'edit':
      return false;
    case 'deleted':
      // With `replaces` it is the act of deleting; without, what is left of the message.
      return message.replaces === null;
    default:
      return true;
  }
}

/** Puts messages into a list ordered by `order`; what is there with the same id gives way. Makes a new list. */
export function merge(list: readonly Message[], more: readonly Message[]): Message[] {
  const byId = new Map<MessageId, Message>();
  for (const message of list) byId.set(message.id, message);
  for (const message of more) byId.set(message.id, message);
  return [...byId.values()].sort((a, b) => a.order - b.order);
}

function sameDay(a: number, b: number): boolean {
  return new Date(a).toDateString() === new Date(b).toDateString();
}

function sameGroup(a: Message, b: Message): boolean {
  return a.own === b.own && a.by === b.by && Math.abs(b.storedMs - a.storedMs) < GROUP_MS && sameDay(a.storedMs, b.storedMs);
}

/**
 * Rows for messages that are bubbles, in their order, with notices between them by time. `unreadFrom` is the first message that was not
 * read when the person came.
 */
export function rows(bubbles: readonly Message[], notices: readonly Notice[], unreadFrom: MessageId | null): Row[] {
  const out: Row[] = [];
  const waiting = [...notices].sort((a, b) => a.atMs - b.atMs);
  let before: Message | null = null;
  let day: number | null = null;
  /** A clock that went back makes a day come twice; its key must not depend on what is above it, which grows. */
  const days = new Map<string, number>();
  const newDay = (atMs: number) => {
    if (day !== null && sameDay(day, atMs)) return;
    day = atMs;
    const name = new Date(atMs).toDateString();
    const times = (days.get(name) ?? 0) + 1;
    days.set(name, times);
    out.push({ type: 'day', key: `day-${name}-${times}`, atMs });
  };
  for (const message of bubbles) {
    let cut = before === null || !sameGroup(before, message);
    while (waiting[0] && waiting[0].atMs < message.storedMs) {
      const notice = waiting.shift()!;
      newDay(notice.atMs);
      out.push({ type: 'notice', key: `notice-${notice.id}`, notice });
      cut = true;
    }
    newDay(message.storedMs);
    if (message.id === unreadFrom) {
      out.push({ type: 'unread', key: 'unread' });
      cut = true;
    }
    const previous = out.at(-1);
    if (cut && previous?.type === 'message') previous.last = true;
    out.push({ type: 'message', key: message.id, message, first: cut, last: false });
    before = message;
  }
  for (const notice of waiting) {
    newDay(notice.atMs);
    out.push({ type: 'notice', key: `notice-${notice.id}`, notice });
  }
  // A group also ends where something else than a message follows.
  out.forEach((row, at) => {
    if (row.type === 'message' && out[at + 1]?.type !== 'message') row.last = true;
  });
  return out;
}

/** The first incoming message that was not read yet; null if all were. */
export function firstUnread(bubbles: readonly Message[]): MessageId | null {
  return bubbles.find((message) => !message.own && message.status === 'received')?.id ?? null;
}

/** One reaction chip per emoji, in the order in which they first came. */
export function reactionChips(message: Message): { emoji: string; count: number; own: boolean }[] {
  const chips = new Map<string, { emoji: string; count: number; own: boolean }>();
  for (const { emoji, own } of message.reactions) {
    const chip = chips.get(emoji) ?? { emoji, count: 0, own: false };
    chip.count += 1;
    chip.own ||= own;
    chips.set(emoji, chip);
  }
  return [...chips.values()];
}
