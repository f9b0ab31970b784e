/** What the gateway tells the console, as `crates/gateway/src/console` writes it. */
export interface Business {
  handle: string;
  name: string;
  link: string;
  phone_number_id: string;
  waba_id: string;
  app_id: string;
  /** Webhooks that nobody took in 7 days. */
  dead_letters: number;
}

export interface State {
  api_base: string;
  /** How many of each the gateway keeps. */
  kept: { webhooks: number; calls: number };
  businesses: Business[];
}

export interface Customer {
  user_id: string;
  name: string;
  heard_ms: number;
}

/** A body; of one that is no text or too large only the size is kept. */
export interface Body {
  kind: string;
  size: number;
  text: string | null;
}

interface Entry {
  id: number;
  revision: number;
  at_ms: number;
  business: string | null;
}

export interface Call extends Entry {
  kind: 'call';
  method: string;
  path: string;
  status: number;
  ms: number;
  composed: boolean;
  request: Body;
  response: Body;
}

export interface Attempt {
  at_ms: number;
  ms: number;
  status: number | null;
  error: string | null;
  replay: boolean;
}

export interface Webhook extends Entry {
  kind: 'webhook';
  body: string;
  signature: string;
  state: 'waiting' | 'delivered' | 'expired';
  next_ms?: number | null;
  attempts: Attempt[];
  tries: number;
}

export type Logged = Call | Webhook;

export type Receiver = { state: 'none' } | { state: 'unverified'; url: string; reason: string | null } | { state: 'ready'; url: string };

export interface News {
  revision: number;
  more: boolean;
  entries: Logged[];
  receivers: Record<string, Receiver>;
}

/** What the Cloud API answers to a message. */
export interface Answer {
  messages?: { id: string }[];
  error?: { message: string; code: number; error_data?: { details?: string } };
}
