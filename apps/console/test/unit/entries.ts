/** Entries as the gateway tells them. */
import type { Call, Webhook } from '../../src/lib/types';

export const payload = (value: object): string =>
  JSON.stringify({ object: 'whatsapp_business_account', entry: [{ id: '1', changes: [{ field: 'messages', value }] }] });

export const webhook = (id: number, value: object, more: Partial<Webhook> = {}): Webhook => ({
  ...{ kind: 'webhook', id, revision: id, at_ms: id * 1_000, business: 'shop', body: payload(value), signature: 'sha256=00' },
  ...{ state: 'delivered', attempts: [], tries: 0 },
  ...more,
});

export const call = (id: number, request: string | null, response: string, more: Partial<Call> = {}): Call => ({
  ...{ kind: 'call', id, revision: id, at_ms: id * 1_000, business: 'shop', method: 'POST', path: '/v23.0/1/messages', status: 200, ms: 2 },
  composed: false,
  request: { kind: 'application/json', size: request?.length ?? 0, text: request },
  response: { kind: 'application/json', size: response.length, text: response },
  ...more,
});
