/// <reference lib="webworker" />
/** The worker's side: takes the origin's lock, starts the device at the first call and not before, and answers calls. */
import type { Device, WebCore } from './device';
import { acquire } from './lock';
import { CALLS, describe, type Reply, type Request } from './rpc';
import { EngineError } from './types';

const scope = self as unknown as DedicatedWorkerGlobalScope;

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

async function start(load: () => Promise<WebCore>, how: 'take-over' | undefined): Promise<Device> {
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

async function answer(load: () => Promise<WebCore>, { call, args }: Request): Promise<unknown> {
  const how = call === 'open' && args[1] === 'take-over' ? 'take-over' : undefined;
  starting ??= start(load, how);
  try {
    const started = await starting;
    if (!CALLS.includes(call)) throw new EngineError('unknown', `no call ${call}`);
    return await started[call](...(call === 'open' ? args.slice(0, 1) : args));
  } finally {
    // What could not start is tried again by the next call.
    if (!device) starting = null;
  }
}

export function serve(load: () => Promise<WebCore>): void {
  scope.onmessage = ({ data }: MessageEvent<Request>) => {
    answer(load, data).then(
      (ok) => say({ id: data.id, ok }),
      (thrown: unknown) => say({ id: data.id, error: describe(thrown) }),
    );
  };
}
