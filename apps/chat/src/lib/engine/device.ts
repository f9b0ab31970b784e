/** What wasm-bindgen makes of `crates/web-core`. */
import type { Call } from './rpc';
import type { EngineEvent } from './types';

export type Device = { free(): void } & Record<Call, (...args: unknown[]) => Promise<unknown>>;

export interface WebCore {
  /** Fetches and starts the WASM. */
  default(): Promise<unknown>;
  Device: { create(onEvent: (event: EngineEvent) => void): Promise<Device> };
}
