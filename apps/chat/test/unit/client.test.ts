import { describe, expect, it, vi } from 'vitest';
import { WorkerEngine, type Port } from '../../src/lib/engine/client';
import { describe as describeError, type Request } from '../../src/lib/engine/rpc';
import { EngineError } from '../../src/lib/engine/types';

function pair() {
  const asked: Request[] = [];
  const port: Port = { onmessage: null, onerror: null, postMessage: (request) => void asked.push(request) };
  return { asked, port, engine: new WorkerEngine(port) };
}

describe('the engine over a worker', () => {
  it('gives each answer to whoever asked, in whatever order they come', async () => {
    const { asked, port, engine } = pair();
    const first = engine.messages(null, 10);
    const second = engine.open('link', 'take-over');
    expect(asked.map(({ call, args }) => [call, args])).toEqual([['messages', [null, 10]], ['open', ['link', 'take-over']]]);
    port.onmessage?.({ data: { id: asked[1]!.id, ok: null } });
    port.onmessage?.({ data: { id: asked[0]!.id, ok: [] } });
    expect(await second).toBeNull();
    expect(await first).toEqual([]);
  });

  it('rejects with the code that came', async () => {
    const { asked, port, engine } = pair();
    const card = engine.card('x');
    port.onmessage?.({ data: { id: asked[0]!.id, error: { code: 'wrong-key', message: 'no' } } });
    await expect(card).rejects.toMatchObject({ code: 'wrong-key' });
  });

  it('tells listeners of events until they leave', () => {
    const { port, engine } = pair();
    const heard = vi.fn();
    const leave = engine.onEvent(heard);
    port.onmessage?.({ data: { event: { type: 'typing', on: true } } });
    leave();
    port.onmessage?.({ data: { event: { type: 'typing', on: false } } });
    expect(heard.mock.calls).toEqual([[{ type: 'typing', on: true }]]);
  });

  it('leaves nobody waiting for a worker that died, nor anybody who asks later', async () => {
    const { asked, port, engine } = pair();
    const waiting = engine.setName('x');
    port.onerror?.({ message: 'gone' });
    await expect(waiting).rejects.toBeInstanceOf(EngineError);
    await expect(engine.setName('y')).rejects.toMatchObject({ code: 'unknown' });
    expect(asked).toHaveLength(1);
  });

  it('that another tab took over answers nobody any more, and says so', async () => {
    const { port, engine } = pair();
    const heard = vi.fn();
    engine.onEvent(heard);
    const waiting = engine.typing(true);
    port.onmessage?.({ data: { event: { type: 'taken-over' } } });
    await expect(waiting).rejects.toMatchObject({ code: 'other-tab' });
    await expect(engine.typing(false)).rejects.toMatchObject({ code: 'other-tab' });
    expect(heard).toHaveBeenCalledOnce();
  });

  it('makes a code of whatever was thrown', () => {
    expect(describeError({ code: 'storage', message: 'full' })).toEqual({ code: 'storage', message: 'full' });
    expect(describeError(new Error('x'))).toEqual({ code: 'unknown', message: 'x' });
    expect(describeError({ code: 'toString' })).toMatchObject({ code: 'unknown' });
    expect(describeError('plain')).toEqual({ code: 'unknown', message: 'plain' });
    expect(describeError(undefined)).toEqual({ code: 'unknown', message: 'undefined' });
  });
});
