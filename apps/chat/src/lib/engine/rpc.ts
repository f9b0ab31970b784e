/** What goes over the wire between page and worker. Plain values, and blobs. */
import type { EngineErrorCode, EngineEvent } from './types';

export const CALLS = [
  'open', 'card', 'begin', 'recover', 'recoveryCode', 'offerTransfer', 'transferAsked', 'giveTransfer', 'askTransfer',
  'takeTransfer', 'stopTransfer', 'takeBack', 'older', 'send', 'markRead', 'typing', 'setName', 'decide', 'identify', 'push', 'messages',
  'attach', 'uploads', 'cancelUpload', 'retryUpload', 'isHere', 'openFile', 'stopFile',
] as const;
export type Call = (typeof CALLS)[number];

export interface Request {
  id: number;
  call: Call;
  args: unknown[];
}

export type Reply =
  | { id: number; ok: unknown }
  | { id: number; error: { code: EngineErrorCode; message: string } }
  | { event: EngineEvent };

const CODES: readonly EngineErrorCode[] = [
  'bad-link', 'wrong-key', 'unreachable', 'storage', 'other-tab', 'wasm', 'too-long', 'not-ready', 'outdated',
  'code-length', 'code-symbol', 'code-mistyped', 'moved', 'not-offered', 'not-fitting',
  'transfer-link', 'transfer-used', 'transfer-expired', 'transfer-refused',
  'too-large', 'too-many-files', 'file', 'gone', 'damaged', 'stopped', 'unknown',
];

/** Whatever was thrown, as a code and a message: errors of the device carry a `code` of their own. */
export function describe(thrown: unknown): { code: EngineErrorCode; message: string } {
  const { code, message } = Object(thrown) as { code?: unknown; message?: unknown };
  return {
    code: CODES.find((known) => known === code) ?? 'unknown',
    message: typeof message === 'string' ? message : String(thrown),
  };
}
