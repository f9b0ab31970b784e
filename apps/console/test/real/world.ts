/** A relay and a gateway with its console, as they are shipped; a customer in a terminal; and a receiver for webhooks. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { promisify } from 'node:util';
import { chromium, type Browser, type Page } from 'playwright-core';

const root = join(import.meta.dirname, '../../../..');
const programs = process.env.BULLA_PROGRAMS ?? join(root, 'target/debug');
const run = promisify(execFile);

interface Ready {
  api: string;
  console: string;
  businesses: { handle: string; link: string; app_id: string; phone_number_id: string; access_token: string; app_secret: string; verify_token: string }[];
}

const dist = join(import.meta.dirname, '../../dist');

function start(program: string, args: string[], input: 'ignore' | 'pipe' = 'ignore', env: NodeJS.ProcessEnv = {}): { child: ChildProcess; lines: Interface } {
  const path = join(programs, program);
  if (!existsSync(path)) throw new Error(`${path} is not built: cargo build --workspace --bins`);
  const child = spawn(path, args, { stdio: [input, 'pipe', 'inherit'], env: { ...process.env, ...env } });
  return { child, lines: createInterface({ input: child.stdout! }) };
}

async function started<T>(program: string, args: string[]): Promise<{ child: ChildProcess; ready: T }> {
  const { child, lines } = start(program, args);
  const ready = await new Promise<T>((resolve, reject) => {
    lines.once('line', (line) => resolve(JSON.parse(line) as T));
    child.once('exit', (code) => reject(new Error(`${program} ended with ${code}`)));
  });
  return { child, ready };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}

export interface Delivery {
  headers: IncomingHttpHeaders;
  body: string;
}

/** Takes every webhook, after its challenge. */
export class Receiver {
  readonly deliveries: Delivery[] = [];
  #server!: Server;

  async listen(): Promise<string> {
    this.#server = createServer((request, response) => {
      const challenge = new URL(request.url!, 'http://webhook').searchParams.get('hub.challenge');
      if (challenge !== null) return response.end(challenge);
      let body = '';
      request.on('data', (part) => (body += part));
      request.on('end', () => {
        this.deliveries.push({ headers: request.headers, body });
        response.end();
      });
    });
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  close(): void {
    this.#server?.close();
  }
}

/** `bulla chat --plain`. */
export class Customer {
  readonly lines: string[] = [];

  constructor(
    private readonly child: ChildProcess,
    lines: Interface,
  ) {
    lines.on('line', (line) => this.lines.push(line));
  }

  says(text: string): void {
    this.child.stdin!.write(`${text}\n`);
  }

  leave(): Promise<void> {
    return ended(this.child);
  }
}

/** `bulla up` with pages for both, as `cargo xtask up` starts it. What it prints first, until it has said it all. */
export async function up(): Promise<{ printed: string[]; end(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'bulla-up-'));
  const env = { BULLA_APP: dist, BULLA_CONSOLE: dist, BULLA_RELAY_BIN: join(programs, 'bulla-relay') };
  const { child, lines } = start('bulla', ['up', '--listen', '127.0.0.1:0', '--data', folder], 'ignore', env);
  const printed: string[] = [];
  for await (const line of lines) {
    printed.push(line);
    if (line.startsWith('Write "hello"')) break;
  }
  return {
    printed,
    async end() {
      await ended(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export class World {
  readonly #customers: Customer[] = [];

  private constructor(
    readonly folder: string,
    private readonly relay: ChildProcess,
    private readonly relayUrl: string,
    private gateway: ChildProcess,
    readonly ready: Ready,
  ) {}

  static async open(): Promise<World> {
    const folder = mkdtempSync(join(tmpdir(), 'bulla-console-'));
    const relay = await started<{ url: string }>('bulla-relay', ['serve', '--json', '--data', join(folder, 'relay'), '--listen', '127.0.0.1:0']);
    const gateway = await World.#gateway(folder, relay.ready.url, '127.0.0.1:0');
    return new World(folder, relay.child, relay.ready.url, gateway.child, gateway.ready);
  }

  static #gateway(folder: string, relay: string, api: string) {
    return started<Ready>('bulla', [
      ...['gateway', 'serve', '--json', '--data', join(folder, 'gateway'), '--relay', relay, '--console', dist],
      ...['--business', 'rosi=Rosi', '--public-listen', '127.0.0.1:0', '--api-listen', api],
    ]);
  }

  get business() {
    return this.ready.businesses[0]!;
  }

  customer(name: string): Customer {
    const data = join(this.folder, `customer-${this.#customers.length}`);
    const { child, lines } = start('bulla', ['chat', '--plain', '--data', data, '--name', name, this.business.link], 'pipe');
    const customer = new Customer(child, lines);
    this.#customers.push(customer);
    return customer;
  }

  /** What `bulla console` prints. */
  async link(): Promise<string> {
    return (await run(join(programs, 'bulla'), ['console', '--data', join(this.folder, 'gateway')])).stdout.trim();
  }

  /** Runs what was copied, with what `eval "$(bulla env)"` sets. */
  async shell(command: string): Promise<string> {
    const env = await run(join(programs, 'bulla'), ['env', '--data', join(this.folder, 'gateway')]);
    return (await run('sh', ['-c', `${env.stdout}\n${command}`])).stdout;
  }

  async stopGateway(): Promise<void> {
    await ended(this.gateway);
  }

  /** At the same address. */
  async startGateway(): Promise<void> {
    this.gateway = (await World.#gateway(this.folder, this.relayUrl, this.ready.api)).child;
  }

  async close(): Promise<void> {
    for (const customer of this.#customers) await customer.leave();
    await ended(this.gateway);
    await ended(this.relay);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1280, height: 860 };

/** Debian's Chromium, or the one that `CHROMIUM` names. */
export async function launch(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  if (!existsSync(executablePath)) throw new Error(`no Chromium at ${executablePath}: apt-get install chromium, or set CHROMIUM`);
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  return chromium.launch({ executablePath, headless: true, args });
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Everything that axe finds against WCAG 2.2 AA and below. */
export async function violations(page: Page): Promise<string[]> {
  interface Violation {
    id: string;
    nodes: { html: string; failureSummary?: string }[];
  }
  // A colour in between two is nobody's.
  await page.evaluate(async () => {
    await Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => undefined)));
  });
  await page.evaluate(axeSource);
  const found: Violation[] = await page.evaluate(async () => {
    const axe = (globalThis as unknown as { axe: { run(context: Document, options: object): Promise<{ violations: Violation[] }> } }).axe;
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
    return (await axe.run(document, { runOnly: { type: 'tag', values: tags } })).violations;
  });
  return found.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)} ${node.failureSummary ?? ''}`));
}
