/**
 * A desktop's notification service, and the bus on which Chromium speaks to it (D-Bus, as far as it is spoken here). What a page shows as a notification
 * comes here, and a click goes back as a desktop's would: only such a one is allowed to open or focus a window.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const BUS = 'org.freedesktop.DBus';
const SERVICE = 'org.freedesktop.Notifications';
const PATH = '/org/freedesktop/Notifications';
const OWNER = ':1.1';
const CLIENT = ':1.2';
const enum Kind {
  Call = 1,
  Return,
  Failure,
  Signal,
}
/** Header fields by number, with their types. */
const FIELDS = { path: [1, 'o'], interface: [2, 's'], member: [3, 's'], error: [4, 's'], replyTo: [5, 'u'], destination: [6, 's'], sender: [7, 's'], signature: [8, 'g'] } as const;

const align = (at: number, to: number) => Math.ceil(at / to) * to;

/** Values of the types that are said here: `s` (and `o`), `g`, `u`, `b`, `as`. */
class Writer {
  #bytes: number[] = [];
  pad(to: number): this {
    while (this.#bytes.length % to) this.#bytes.push(0);
    return this;
  }
  put(...bytes: number[]): this {
    this.#bytes.push(...bytes);
    return this;
  }
  u32(value: number): this {
    return this.pad(4).put(value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24);
  }
  value(type: string, value: unknown): this {
    if (type === 'u' || type === 'b') return this.u32(Number(value));
    if (type === 'as') {
      const items = new Writer();
      for (const item of value as string[]) items.value('s', item);
      return this.u32(items.done().length).put(...items.done());
    }
    const text = Buffer.from(String(value));
    return (type === 'g' ? this.put(text.length) : this.u32(text.length)).put(...text, 0);
  }
  done(): Buffer {
    return Buffer.from(this.#bytes);
  }
}

let serial = 0;

function message(kind: Kind, about: { [Field in keyof typeof FIELDS]?: string | number }, body: [type: string, value: unknown][] = []): Buffer {
  const content = new Writer();
  for (const [type, value] of body) content.value(type, value);
  const fields = new Writer();
  const all = body.length ? { ...about, signature: body.map(([type]) => type).join('') } : about;
  for (const [name, value] of Object.entries(all)) {
    const [number, type] = FIELDS[name as keyof typeof FIELDS];
    fields.pad(8).put(number).value('g', type).value(type, value);
  }
  const bytes = fields.done();
  const head = new Writer().put(0x6c, kind, 0, 1).u32(content.done().length).u32((serial += 1)).u32(bytes.length);
  return Buffer.concat([head.put(...bytes).pad(8).done(), content.done()]);
}

interface Call {
  serial: number;
  wantsReply: boolean;
  path: string;
  interface: string;
  member: string;
  destination: string;
  /** The texts and numbers that its body begins with. */
  arguments(types: string): (string | number)[];
}

function read(bytes: Buffer, body: number): Call {
  const found: Record<number, string> = {};
  const end = 16 + bytes.readUInt32LE(12);
  for (let at = 16; at < end; ) {
    at = align(at, 8);
    const field = bytes[at]!;
    const type = String.fromCharCode(bytes[at + 2]!);
    at = type === 'g' ? at + 4 : align(at + 4, 4);
    const length = type === 'u' ? 0 : type === 'g' ? bytes[at]! : bytes.readUInt32LE(at);
    const text = at + (type === 'g' ? 1 : 4);
    found[field] = bytes.toString('utf8', text, text + length);
    at = type === 'u' ? text : text + length + 1;
  }
  return {
    serial: bytes.readUInt32LE(8),
    wantsReply: !(bytes[2]! & 1),
    path: found[1] ?? '',
    interface: found[2] ?? '',
    member: found[3] ?? '',
    destination: found[6] ?? '',
    arguments(types) {
      let at = body;
      return [...types].map((type) => {
        at = align(at - body, 4) + body;
        const value = bytes.readUInt32LE(at);
        at += 4;
        if (type === 'u') return value;
        at += value + 1;
        return bytes.toString('utf8', at - value - 1, at - 1);
      });
    },
  };
}

export interface Notification {
  id: number;
  title: string;
  body: string;
}

export class Desktop {
  /** What is shown. */
  shown: Notification[] = [];
  readonly #folder = mkdtempSync(join(tmpdir(), 'bulla-bus-'));
  readonly #server = createServer((socket) => this.#met(socket));
  readonly #sockets = new Set<Socket>();
  #asked: Socket | null = null;
  #last = 0;

  static async open(): Promise<Desktop> {
    const desktop = new Desktop();
    await new Promise<void>((resolve) => desktop.#server.listen(join(desktop.#folder, 'bus'), resolve));
    return desktop;
  }

  /** For a browser that is started. */
  get environment(): Record<string, string> {
    return { DBUS_SESSION_BUS_ADDRESS: `unix:path=${join(this.#folder, 'bus')}` };
  }

  click({ id }: Notification): void {
    this.#asked?.write(message(Kind.Signal, { path: PATH, interface: SERVICE, member: 'ActionInvoked', sender: OWNER }, [['u', id], ['s', 'default']]));
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #met(socket: Socket): void {
    let kept: Buffer = Buffer.alloc(0);
    let begun = false;
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (more: Buffer) => {
      kept = Buffer.concat([kept, more]);
      for (let end; !begun && (end = kept.indexOf('\r\n')) >= 0; kept = kept.subarray(end + 2)) {
        const line = kept.toString('latin1', 0, end);
        begun = line === 'BEGIN';
        if (!begun) socket.write(line.includes('AUTH EXTERNAL') ? `OK ${'0'.repeat(32)}\r\n` : 'ERROR\r\n');
      }
      while (begun && kept.length >= 16) {
        const body = align(16 + kept.readUInt32LE(12), 8);
        const length = body + kept.readUInt32LE(4);
        if (kept.length < length) return;
        if (kept[1] === Kind.Call) this.#called(socket, read(kept.subarray(0, length), body));
        kept = kept.subarray(length);
      }
    });
  }

  #called(socket: Socket, call: Call): void {
    const answer = call.destination === BUS ? this.#bus(call) : call.destination === SERVICE ? this.#service(socket, call) : null;
    if (!call.wantsReply) return;
    const about = { replyTo: call.serial, destination: CLIENT, sender: call.destination === BUS ? BUS : OWNER };
    socket.write(answer ? message(Kind.Return, about, answer) : message(Kind.Failure, { ...about, error: `${BUS}.Error.ServiceUnknown` }));
  }

  #bus(call: Call): [string, unknown][] | null {
    const ours = () => call.arguments('s')[0] === SERVICE;
    switch (call.member) {
      case 'Hello':
        return [['s', CLIENT]];
      case 'AddMatch':
      case 'RemoveMatch':
        return [];
      case 'NameHasOwner':
        return [['b', ours()]];
      case 'GetNameOwner':
        return ours() ? [['s', OWNER]] : null;
      case 'StartServiceByName':
        return ours() ? [['u', 2]] : null;
      case 'ListNames':
      case 'ListActivatableNames':
        return [['as', [BUS, SERVICE]]];
      default:
        return null;
    }
  }

  #service(socket: Socket, call: Call): [string, unknown][] | null {
    switch (call.member) {
      case 'GetCapabilities':
        return [['as', ['actions', 'body', 'persistence']]];
      case 'GetServerInformation':
        return ['test', 'test', '1', '1.2'].map((text) => ['s', text]);
      case 'Notify': {
        const [, replaces, , title, body] = call.arguments('susss') as [string, number, string, string, string];
        const id = replaces || (this.#last += 1);
        this.#asked = socket;
        this.shown = [...this.shown.filter((one) => one.id !== id), { id, title, body }];
        return [['u', id]];
      }
      case 'CloseNotification': {
        const [id] = call.arguments('u');
        this.shown = this.shown.filter((one) => one.id !== id);
        socket.write(message(Kind.Signal, { path: PATH, interface: SERVICE, member: 'NotificationClosed', sender: OWNER }, [['u', id], ['u', 3]]));
        return [];
      }
      default:
        return null;
    }
  }
}
