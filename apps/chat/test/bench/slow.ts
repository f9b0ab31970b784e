/** A slow network between a browser and this machine: a SOCKS proxy (RFC 1928) that lets so many bits through in a second, so many milliseconds late. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** What Chromium's tools and Lighthouse call "Slow 4G". */
export const SLOW_4G = { down: 1_600_000, up: 750_000, roundTripMs: 150 };
export type Line = typeof SLOW_4G;

/** One direction of the line: what it carries is of all connections together, one after the other. */
class Way {
  #free = 0;
  constructor(
    private readonly bits: number,
    readonly lateMs: number,
  ) {}

  /** In how many ms the line has taken so many bytes. */
  takes(bytes: number): number {
    const now = performance.now();
    this.#free = Math.max(this.#free, now) + (bytes * 8_000) / this.bits;
    return this.#free - now;
  }
}

/** Small pieces, so that connections share the line as packets do. */
const PIECE = 1_440;

function carry(from: Socket, to: Socket, way: Way): void {
  // In the order in which they came: timers that end together have none.
  const under: (Buffer | 'end')[] = [];
  const arrives = () => {
    const next = under.shift();
    if (next === 'end') to.end();
    else if (next && to.writable) to.write(next);
  };
  from.on('data', (data: Buffer) => {
    // What the line has not taken waits at whoever sends it.
    from.pause();
    let taken = 0;
    for (let at = 0; at < data.length; at += PIECE) {
      const piece = data.subarray(at, at + PIECE);
      under.push(piece);
      taken = way.takes(piece.length);
      setTimeout(arrives, taken + way.lateMs);
    }
    setTimeout(() => from.resume(), taken);
  });
  from.on('end', () => {
    under.push('end');
    setTimeout(arrives, way.takes(0) + way.lateMs);
  });
  from.on('error', () => to.destroy());
}

/** Its URL, as a browser takes it for a proxy. */
export async function slow({ down, up, roundTripMs }: Line): Promise<{ server: string; close(): void }> {
  const [downwards, upwards] = [new Way(down, roundTripMs / 2), new Way(up, roundTripMs / 2)];
  const proxy = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      // No authentication.
      socket.write(Buffer.from([5, 0]));
      socket.once('data', (request: Buffer) => {
        const named = request[3] === 3;
        const length = named ? request[4]! : 4;
        const start = named ? 5 : 4;
        const address = request.subarray(start, start + length);
        const host = named ? address.toString() : address.join('.');
        const target = connect(request.readUInt16BE(start + length), host);
        target.on('error', () => socket.destroy());
        target.once('connect', () => {
          // A connection takes a round trip.
          setTimeout(() => {
            carry(socket, target, upwards);
            carry(target, socket, downwards);
            socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
          }, roundTripMs);
        });
      });
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return { server: `socks5://127.0.0.1:${(proxy.address() as AddressInfo).port}`, close: () => void proxy.close() };
}
