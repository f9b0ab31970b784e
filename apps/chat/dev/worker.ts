/** The engine's worker with the scripted engine in the place of the WASM: locks, calls and events are the real ones. */
import { serve } from '../src/lib/engine/serve';
import type { Device } from '../src/lib/engine/device';
import { scripted } from './scripted';

const state = new URL(location.href).searchParams.get('state') ?? 'chat';

serve(async () => ({
  default: async () => undefined,
  Device: {
    create: async (onEvent) => {
      const engine = scripted(state);
      engine.onEvent(onEvent);
      return Object.assign(engine, { free: () => undefined }) as unknown as Device;
    },
  },
}));
