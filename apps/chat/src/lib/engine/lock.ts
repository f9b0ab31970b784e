/**
 * One engine per origin: two of them would seal two messages under one key. The Web Lock is the rule; the channel only asks its holder to
 * put the engine down first, so that a take-over normally finds nothing half done. A holder that does not answer (frozen, crashed) loses
 * the lock by `steal`.
 */
import { EngineError } from './types';

const NAME = 'bulla-engine';
/** How long a holder has to put the engine down before the lock is taken from it. */
const PATIENCE_MS = 3_000;

export interface Lock {
  release(): void;
}

/** Takes the lock; null if somebody else has it. `lost` is called once, if it is asked for or taken away later; it must let go at once. */
export async function acquire(how: 'take-over' | undefined, lost: () => Promise<void>): Promise<Lock | null> {
  const channel = new BroadcastChannel(NAME);
  if (how === 'take-over') channel.postMessage('release');
  const attempts: LockOptions[] =
    how === 'take-over' ? [{ signal: AbortSignal.timeout(PATIENCE_MS) }, { steal: true }] : [{ ifAvailable: true }];
  for (const options of attempts) {
    const lock = await hold(options, channel, lost);
    if (lock) return lock;
  }
  channel.close();
  return null;
}

function hold(options: LockOptions, channel: BroadcastChannel, lost: () => Promise<void>): Promise<Lock | null> {
  return new Promise((resolve, reject) => {
    let held = false;
    let ended = false;
    const end = async () => {
      if (ended) return;
      ended = true;
      channel.onmessage = null;
      await lost();
    };
    navigator.locks
      .request(NAME, options, (granted) => {
        if (!granted) return resolve(null);
        held = true;
        return new Promise<void>((release) => {
          channel.onmessage = () => void end().then(release);
          resolve({ release });
        });
      })
      .catch((error: unknown) => {
        // Stolen while held; or, before that, waited for in vain.
        if (held) void end();
        else if (error instanceof DOMException && (error.name === 'TimeoutError' || error.name === 'AbortError')) resolve(null);
        // A frame of another site in which the person keeps nothing is refused the locks first of all.
        else reject(error instanceof DOMException && error.name === 'SecurityError' ? new EngineError('storage', error.message) : error);
      });
  });
}
