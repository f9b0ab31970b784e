/** Runs the engine beside the page, so that sealing and storing never stall it. */
import type { WebCore } from './device';
import { serve } from './serve';
import { EngineError } from './types';

// A glob, because the engine is built apart: without it the page can still be built and looked at, and says that it cannot encrypt.
const built = import.meta.glob<WebCore>('../../wasm/web_core.js');

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

serve(load);
