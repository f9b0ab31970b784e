import { WorkerEngine, type Port } from './client';
import type { Engine } from './types';
import { scriptUrl } from '../trusted';
import workerUrl from './worker?worker&url';

/** The real engine. Its worker starts at once, so that the WASM is on its way while the page paints. */
export function startEngine(): Engine {
  // What is asked for is a URL's string; under Trusted Types it is a `TrustedScriptURL`, which the types do not know.
  return new WorkerEngine(new Worker(scriptUrl(workerUrl) as string, { type: 'module' }) as unknown as Port);
}
