/** A relay and a business's gateway, as they are shipped, and whoever sits behind the gateway's API. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'vitest';

const root = join(import.meta.dirname, '../../../..');
export const programs = process.env.BULLA_PROGRAMS ?? join(root, 'target/debug');

interface Ready {
  public: string;
  api: string;
  businesses: { link: string; phone_number_id: string; waba_id: string; access_token: string }[];
}

/** One thing that the gateway told its webhook. */
export interface Told {
  from_user_id?: string;
  id: string;
  type?: string;
  status?: string;
  text?: { body: string };
  image?: { id: string; mime_type: string; sha256: string; caption?: string };
  context?: { id: string };
  interactive?: { type: string; button_reply?: object; list_reply?: object; nfm_reply?: { name: string; response_json: string } };
  location?: object;
  contacts?: object[];
  order?: object;
  reaction?: { message_id: string; emoji?: string };
  [other: string]: unknown;
}

/** `log`: a file for what it says besides, which otherwise stands among the tests' own lines. */
export async function started<T>(program: string, args: string[], env: Record<string, string> = {}, log?: number): Promise<{ process: ChildProcess; ready: T }> {
  const path = join(programs, program);
  if (!existsSync(path)) throw new Error(`${path} is not built: cargo build --workspace --bins`);
  const child = spawn(path, args, { stdio: ['ignore', 'pipe', log ?? 'inherit'], env: { ...process.env, ...env } });
  const lines = createInterface({ input: child.stdout! });
  const ready = await new Promise<T>((resolve, reject) => {
    lines.once('line', (line) => resolve(JSON.parse(line) as T));
    child.once('exit', (code) => reject(new Error(`${program} ended with ${code}`)));
  });
  return { process: child, ready };
}

export async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  await gone;
}

export class Business {
  /** What the webhook was told, in order. */
  readonly told: Told[] = [];
  /** Who said it, as the webhook was told with each. */
  private readonly contacts = new Map<string, object>();

  private constructor(
    private readonly folder: string,
    private readonly webhook: Server,
    private relay: ChildProcess,
    readonly relayAddress: string,
    private readonly gateway: ChildProcess,
    private readonly ready: Ready,
  ) {}

  /** `watched`: the relay logs all that it can, into a file of its folder's neighbour. */
  static async open(app: string, more: string[] = [], watched = false): Promise<Business> {
    const folder = mkdtempSync(join(tmpdir(), 'bulla-app-'));
    const log = watched ? openSync(join(folder, 'relay.log'), 'w') : undefined;
    const serve = ['serve', '--json', '--data', join(folder, 'relay'), '--listen', '127.0.0.1:0'];
    const relay = await started<{ listen: string; url: string }>('bulla-relay', serve, watched ? { RUST_LOG: 'trace' } : {}, log);
    let business: Business | undefined;
    const webhook = createServer((request, response) => {
      // Asked first whether it wants to be told.
      const challenge = new URL(request.url!, 'http://webhook').searchParams.get('hub.challenge');
      if (challenge !== null) return response.end(challenge);
      let body = '';
      request.on('data', (part) => (body += part));
      request.on('end', () => {
        business?.hears(body);
        response.end();
      });
    });
    await new Promise<void>((resolve) => webhook.listen(0, '127.0.0.1', resolve));
    const port = (webhook.address() as AddressInfo).port;
    const gateway = await started<Ready>('bulla', [
      ...['gateway', 'serve', '--json', '--data', join(folder, 'gateway'), '--relay', relay.ready.url, '--app', app],
      ...['--business', 'rosi=Rosi', '--business', 'mia=Mia', '--public-listen', '127.0.0.1:0', '--api-listen', '127.0.0.1:0', '--webhook', `http://127.0.0.1:${port}/`],
      ...more,
    ]);
    business = new Business(folder, webhook, relay.process, relay.ready.listen, gateway.process, gateway.ready);
    return business;
  }

  get link(): string {
    return this.account.link;
  }

  /** Of another business behind the same gateway, in the same origin. */
  get otherLink(): string {
    return this.ready.businesses.find(({ link }) => link.includes('/@mia#'))!.link;
  }

  get origin(): string {
    return new URL(this.link).origin;
  }

  private get account() {
    return this.ready.businesses.find(({ link }) => link.includes('/@rosi#'))!;
  }

  private hears(body: string): void {
    const value = (JSON.parse(body) as { entry: { changes: { value: { contacts?: object[]; messages?: Told[]; statuses?: Told[] } }[] }[] }).entry[0]!.changes[0]!.value;
    for (const message of value.messages ?? []) this.contacts.set(message.id, value.contacts![0]!);
    this.told.push(...(value.messages ?? []), ...(value.statuses ?? []));
  }

  contactOf(message: Told): object {
    return this.contacts.get(message.id)!;
  }

  /** What the webhook was told, once something like it was; the newest such. */
  async hearsOf(what: string, is: (told: Told) => boolean): Promise<Told> {
    await expect.poll(() => this.told.some(is), { timeout: 20_000, interval: 30, message: `the webhook is told of ${what}` }).toBe(true);
    return this.told.findLast(is)!;
  }

  text(body: string): (told: Told) => boolean {
    return (told) => told.text?.body === body;
  }

  private async call(body: object): Promise<{ messages?: { id: string }[] }> {
    const answer = await fetch(`http://${this.ready.api}/v23.0/${this.account.phone_number_id}/messages`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.account.access_token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ messaging_product: 'whatsapp', ...body }),
    });
    const value = await answer.json();
    if (!answer.ok) throw new Error(`the API answers ${answer.status}: ${JSON.stringify(value)}`);
    return value as { messages?: { id: string }[] };
  }

  /** Says something to a customer, as any SDK does; its id. */
  async says(recipient: string, body: string): Promise<string> {
    const sent = await this.call({ recipient, type: 'text', text: { body } });
    return sent.messages![0]!.id;
  }

  /** Uploads a file, as any SDK does; its id. */
  async uploads(name: string, type: string, bytes: Buffer): Promise<string> {
    const form = new FormData();
    form.set('messaging_product', 'whatsapp');
    form.set('type', type);
    form.set('file', new Blob([new Uint8Array(bytes)], { type }), name);
    const { access_token, phone_number_id } = this.account;
    const answer = await fetch(`http://${this.ready.api}/v23.0/${phone_number_id}/media`, {
      method: 'POST',
      headers: { authorization: `Bearer ${access_token}` },
      body: form,
    });
    const value = (await answer.json()) as { id: string };
    if (!answer.ok) throw new Error(`the API answers ${answer.status}: ${JSON.stringify(value)}`);
    return value.id;
  }

  async shows(recipient: string, media: string, caption: string): Promise<string> {
    const sent = await this.call({ recipient, type: 'image', image: { id: media, caption } });
    return sent.messages![0]!.id;
  }

  async files(recipient: string, media: string, caption: string): Promise<string> {
    const sent = await this.call({ recipient, type: 'document', document: { id: media, caption } });
    return sent.messages![0]!.id;
  }

  /** The bytes of a file that a customer sent. */
  async fetches(media: string): Promise<Buffer> {
    const { access_token } = this.account;
    const node = await fetch(`http://${this.ready.api}/v23.0/${media}`, { headers: { authorization: `Bearer ${access_token}` } });
    const { url } = (await node.json()) as { url: string };
    return Buffer.from(await (await fetch(url)).arrayBuffer());
  }

  /** A message of any type, as the Cloud API has it; its id. */
  async sends(recipient: string, type: string, content: object): Promise<string> {
    const sent = await this.call({ recipient, type, [type]: content });
    return sent.messages![0]!.id;
  }

  /** Any other route; `{phone}` and `{waba}` stand for this business's. */
  async route(method: string, path: string, body?: object): Promise<{ data?: { purpose: string; given: boolean; wording: string }[]; status?: string }> {
    const { access_token, phone_number_id, waba_id } = this.account;
    const place = path.replace('{phone}', phone_number_id).replace('{waba}', waba_id);
    const answer = await fetch(`http://${this.ready.api}/v23.0/${place}`, {
      method,
      headers: { authorization: `Bearer ${access_token}`, 'content-type': 'application/json' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const value = await answer.json();
    if (!answer.ok) throw new Error(`the API answers ${answer.status}: ${JSON.stringify(value)}`);
    return value as { status?: string };
  }

  async reads(message: string): Promise<void> {
    await this.call({ status: 'read', message_id: message });
  }

  async reacts(recipient: string, message: string, emoji: string): Promise<void> {
    await this.call({ recipient, type: 'reaction', reaction: { message_id: message, emoji } });
  }

  /** What a relay's owner has: its process, its data, what it logs; and the gateway's process, which has everything. */
  get sights(): { relay: number; gateway: number; data: string; log: string } {
    return { relay: this.relay.pid!, gateway: this.gateway.pid!, data: join(this.folder, 'relay'), log: join(this.folder, 'relay.log') };
  }

  async killRelay(): Promise<void> {
    await ended(this.relay, 'SIGKILL');
  }

  async startRelay(): Promise<void> {
    const args = ['serve', '--json', '--data', join(this.folder, 'relay'), '--listen', this.relayAddress];
    this.relay = (await started<object>('bulla-relay', args)).process;
  }

  async close(): Promise<void> {
    await ended(this.gateway, 'SIGTERM');
    await ended(this.relay, 'SIGTERM');
    this.webhook.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
