/// <reference lib="webworker" />
/** Runs the engine beside the page, so that sealing and storing never stall it. Loads the WASM at the first call and not before. */
import type { Device, WebCore } from './device';
import { acquire } from './lock';
import { CALLS, describe, type Reply, type Request } from './rpc';
import { EngineError } from './types';

const scope = self as unknown as DedicatedWorkerGlobalScope;

// A glob, because the engine is built apart: without it the page can still be built and looked at, and says that it cannot encrypt.
const built = import.meta.glob<WebCore>('../../wasm/web_core.js');

const say = (reply: Reply) => scope.postMessage(reply);

let device: Device | null = null;
let starting: Promise<Device> | null = null;

/** Another tab takes over: put everything down, say so, and be gone. */
async function stop() {
  say({ event: { type: 'taken-over' } });
  device?.free();
  device = null;
  scope.close();
}

async function load(): Promise<WebCore> {
  const import_ = built['../../wasm/web_core.js'];
  if (!import_ || typeof WebAssembly === 'undefined') throw new EngineError('wasm', 'no WebAssembly');
  const core = await import_();
  try {
    await core.default();
  } catch (error) {
    // Refused by policy, not supported, or not fetched: only the last gets better by trying again.
    const offline = error instanceof TypeError && !(error instanceof WebAssembly.CompileError);
    throw new EngineError(offline ? 'unreachable' : 'wasm', String(error));
  }
  return core;
}

async function start(how: 'take-over' | undefined): Promise<Device> {
  if (!navigator.locks) throw new EngineError('wasm', 'no Web Locks');
  const lock = await acquire(how, stop);
  if (!lock) throw new EngineError('other-tab', 'the engine runs in another tab');
  try {
    const core = await load();
    device = await core.Device.create((event) => say({ event }));
    return device;
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function answer({ call, args }: Request): Promise<unknown> {
  const how = call === 'open' && args[0] === 'take-over' ? 'take-over' : undefined;
  starting ??= start(how);
  try {
    const started = await starting;
    if (!CALLS.includes(call)) throw new EngineError('unknown', `no call ${call}`);
    return await started[call](...(call === 'open' ? [] : args));
  } finally {
    // What could not start is tried again by the next call.
    if (!device) starting = null;
  }
}

scope.onmessage = ({ data }: MessageEvent<Request>) => {
  answer(data).then(
    (ok) => say({ id: data.id, ok }),
    (thrown: unknown) => say({ id: data.id, error: describe(thrown) }),
  );
};
