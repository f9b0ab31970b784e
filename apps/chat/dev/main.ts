import '../src/lib/carried';
import { WorkerEngine, type Port } from '../src/lib/engine/client';
import { scriptUrl } from '../src/lib/trusted';
import { start } from '../src/start';
import { MARK, scripted } from './scripted';
import workerUrl from './worker?worker&url';

const asked = new URL(location.href).searchParams;
const state = asked.get('state') ?? 'chat';

// `?worker` puts it behind the real client and the real worker's rules.
if (asked.has('worker')) {
  start(new WorkerEngine(new Worker(scriptUrl(`${workerUrl}?state=${state}`) as string, { type: 'module' }) as unknown as Port));
} else {
  const engine = scripted(state);
  Object.assign(globalThis, { engine, mark: MARK });
  start(engine);
}
