/**
 * What a relay could see of a message: one sealed envelope, of a padded size, in some hour. The engine knows the exact size; without it
 * the page says the smallest it can have been.
 */
import type { Message } from '../engine/types';

/** The length to which `length` bytes are padded: 1, 2 or 4 KiB, above that the next Padmé length. As in the protocol, section 6. */
export function paddedSize(length: number): number {
  if (length <= 1024) return 1024;
  if (length <= 2048) return 2048;
  if (length <= 4096) return 4096;
  const exponent = Math.floor(Math.log2(length));
  const mantissa = Math.floor(Math.log2(exponent)) + 1;
  const step = 2 ** (exponent - mantissa);
  return Math.ceil(length / step) * step;
}

/** Version, nonce, AEAD tag, kind and length of an envelope. The MLS message inside adds to that; how much, only the engine knows. */
const ENVELOPE_OVERHEAD = 46;

export interface RelayView {
  bytes: number;
  /** The engine measured it; otherwise it is the smallest it can have been. */
  exact: boolean;
  /** The hour in which it went or came, as its first millisecond. Null while it has not left. */
  hourMs: number | null;
}

export function relayView(message: Message): RelayView {
  const hour = new Date(message.own ? message.sentMs : message.storedMs);
  hour.setMinutes(0, 0, 0);
  const hourMs = message.own && message.status === 'queued' ? null : hour.getTime();
  if (message.envelopeBytes) return { bytes: message.envelopeBytes, exact: true, hourMs };
  const { shown } = message;
  const said = shown.kind === 'text' ? shown.text : shown.kind === 'interactive' ? shown.interactive.body : '';
  const text = new TextEncoder().encode(said).length;
  return { bytes: paddedSize(text + ENVELOPE_OVERHEAD), exact: false, hourMs };
}
