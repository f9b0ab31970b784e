import { describe, expect, it } from 'vitest';
import type { Message } from '../../src/lib/engine/types';
import { firstUnread, isBubble, merge, mustBeSeen, reactionChips, rows, type Notice } from '../../src/lib/chat/timeline';

const NOON = new Date(2026, 4, 12, 12, 0).getTime();
const MINUTE = 60_000;

function message(order: number, over: Partial<Message> = {}): Message {
  return {
    order,
    id: `m${order}`,
    own: false,
    shown: { kind: 'text', text: `text ${order}` },
    replyTo: null,
    replaces: null,
    sentMs: NOON + order * 1000,
    storedMs: NOON + order * 1000,
    status: 'read',
    failure: null,
    edited: false,
    deleted: false,
    reactions: [],
    breach: false,
    by: null,
    ...over,
  };
}

const shape = (list: ReturnType<typeof rows>) =>
  list.map((row) => (row.type === 'message' ? `${row.message.id}${row.first ? ' first' : ''}${row.last ? ' last' : ''}` : row.type));

describe('rows', () => {
  it('groups what one side said within five minutes', () => {
    const list = [message(1), message(2), message(3, { own: true }), message(4, { own: true, storedMs: NOON + 6 * MINUTE })];
    expect(shape(rows(list, [], null))).toEqual(['day', 'm1 first', 'm2 last', 'm3 first last', 'm4 first last']);
  });

  it('does not group devices of the same customer', () => {
    const list = [message(1, { own: true }), message(2, { own: true, by: 'Phone' })];
    expect(shape(rows(list, [], null))).toEqual(['day', 'm1 first last', 'm2 first last']);
  });

  it('says each day once, also over midnight inside a group', () => {
    const midnight = new Date(2026, 4, 13).getTime();
    const list = [message(1, { storedMs: midnight - 1000 }), message(2, { storedMs: midnight + 1000 }), message(3, { storedMs: midnight + 2000 })];
    expect(shape(rows(list, [], null))).toEqual(['day', 'm1 first last', 'day', 'm2 first', 'm3 last']);
  });

  it('puts the unread marker before the first unread message and cuts the group there', () => {
    expect(shape(rows([message(1), message(2), message(3)], [], 'm2'))).toEqual(['day', 'm1 first last', 'unread', 'm2 first', 'm3 last']);
  });

  it('puts notices between messages by time, and those after all at the end', () => {
    const notice = (id: string, atMs: number): Notice => ({ id, atMs, what: { kind: 'continued' } });
    const list = [message(1), message(2)];
    const out = rows(list, [notice('b', NOON + 9 * MINUTE), notice('a', NOON + 1500)], null);
    expect(shape(out)).toEqual(['day', 'm1 first last', 'notice', 'm2 first last', 'notice']);
    expect(out.filter((row) => row.type === 'notice').map((row) => row.key)).toEqual(['notice-a', 'notice-b']);
  });

  it('has keys of their own for all rows, also when the clock went back, and keeps them when older messages come', () => {
    const day = 24 * 60 * MINUTE;
    const list = [message(2, { storedMs: NOON }), message(3, { storedMs: NOON - day }), message(4, { storedMs: NOON })];
    const keys = rows(list, [], null).map((row) => row.key);
    expect(new Set(keys).size).toBe(keys.length);
    const more = rows([message(1, { storedMs: NOON - 3 * day }), ...list], [], null).map((row) => row.key);
    expect(more).toEqual(expect.arrayContaining(keys));
  });
});

describe('messages', () => {
  it('are merged by id and ordered by order', () => {
    const merged = merge([message(3), message(1)], [message(2), message(3, { status: 'delivered' })]);
    expect(merged.map(({ id }) => id)).toEqual(['m1', 'm2', 'm3']);
    expect(merged[2]?.status).toBe('delivered');
  });

  it('that are about others are no bubbles; what is left of a deleted one is', () => {
    expect(isBubble(message(1))).toBe(true);
    expect(isBubble(message(1, { shown: { kind: 'unsupported', contentType: 'x/y' } }))).toBe(true);
    expect(isBubble(message(1, { shown: { kind: 'reaction', emoji: '👍' } }))).toBe(false);
    expect(isBubble(message(1, { shown: { kind: 'edit', text: '' }, replaces: 'm0' }))).toBe(false);
    expect(isBubble(message(1, { shown: { kind: 'deleted' }, replaces: 'm0' }))).toBe(false);
    expect(isBubble(message(1, { shown: { kind: 'deleted' }, deleted: true }))).toBe(true);
  });

  it('are unread from the first that was received and not read', () => {
    expect(firstUnread([message(1), message(2, { own: true, status: 'sent' })])).toBeNull();
    expect(firstUnread([message(1), message(2, { status: 'received' }), message(3, { status: 'received' })])).toBe('m2');
  });

  it('show one chip per emoji', () => {
    const chips = reactionChips(message(1, { reactions: [{ own: false, emoji: '👍' }, { own: true, emoji: '👍' }, { own: false, emoji: '🙏' }] }));
    expect(chips).toEqual([{ emoji: '👍', count: 2, own: true }, { emoji: '🙏', count: 1, own: false }]);
  });
});

it('a change of devices or of the key must be seen, the rest is quiet', () => {
  const seen = (what: Notice['what']) => mustBeSeen({ id: '', atMs: 0, what });
  expect(seen({ kind: 'devices', added: ['x'], removed: [] })).toBe(true);
  expect(seen({ kind: 'key-change', fingerprint: '' })).toBe(true);
  expect(seen({ kind: 'continued' })).toBe(false);
  expect(seen({ kind: 'gap', missing: 1 })).toBe(false);
});
