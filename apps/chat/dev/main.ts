import { start } from '../src/start';
import { MARK, scripted } from './scripted';

const engine = scripted(new URL(location.href).searchParams.get('state') ?? 'chat');
Object.assign(globalThis, { engine, mark: MARK });
start(engine);
