import { expect, it } from 'vitest';
import type { Message } from '../../src/lib/engine/types';
import { paddedSize, relayView } from '../../src/lib/chat/padding';

// From `bucket` of crates/e2ee/src/envelope.rs, worked out by hand: above 4,096 the low bits of a length are zero.
it.each([
  [0, 1024],
  [1024, 1024],
  [1025, 2048],
  [2048, 2048],
  [2049, 4096],
  [4096, 4096],
  [4097, 4352],
  [4352, 4352],
  [4353, 4608],
  [8192, 8192],
  [8193, 8704],
  [65537, 67584],
])('%i bytes are padded to %i', (length, padded) => {
  expect(paddedSize(length)).toBe(padded);
});

it('never shrinks, never grows by more than 12 % above 4 KiB, and is its own class', () => {
  for (let length = 4097; length < 300_000; length += 37) {
    const padded = paddedSize(length);
    expect(padded).toBeGreaterThanOrEqual(length);
    expect(padded).toBeLessThanOrEqual(length * 1.12);
    expect(paddedSize(padded)).toBe(padded);
  }
});

const at = new Date(2026, 4, 12, 14, 37, 12).getTime();
const said = (over: Partial<Message>): Message => ({
  order: 1, id: 'm', own: true, shown: { kind: 'text', text: 'hi' }, replyTo: null, replaces: null, sentMs: at, storedMs: at, status: 'sent',
  failure: null, edited: false, deleted: false, reactions: [], breach: false, by: null, ...over,
});

it('says the measured size if the engine knows it, else the smallest it can have been', () => {
  expect(relayView(said({ envelopeBytes: 2048 }))).toMatchObject({ bytes: 2048, exact: true });
  expect(relayView(said({}))).toMatchObject({ bytes: 1024, exact: false });
  expect(relayView(said({ shown: { kind: 'text', text: 'é'.repeat(600) } }))).toMatchObject({ bytes: 2048, exact: false });
});

it('says the hour and no more, and none for what has not left', () => {
  expect(relayView(said({})).hourMs).toBe(new Date(2026, 4, 12, 14).getTime());
  expect(relayView(said({ status: 'queued' })).hourMs).toBeNull();
});
