/**
 * A push service (RFC 8030) that a test can look into, and the browser's end of one. Chromium's own needs its maker's servers: what stands in for
 * them is `PushManager`, whose subscription leads here; everything else is the browser's, from the permission to the notification.
 */
import { createECDH, createPublicKey, verify, type ECDH } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import ece from 'http_ece';
import type { BrowserContext, CDPSession } from 'playwright-core';
import { expect } from 'vitest';

const AUTH = Buffer.from('0123456789abcdef');

/** A push, opened as the browser would. */
export interface Push {
  path: string;
  headers: IncomingHttpHeaders;
  payload: string;
  /** Bytes on the wire. */
  length: number;
}

/** The claims of the token, once its signature has verified under the key that came with it; that key. */
export function sender(push: Push): { claims: { aud: string; exp: number; sub: string }; key: string } {
  const { token, key } = /^vapid t=(?<token>[\w.-]+), k=(?<key>[\w-]+)$/.exec(push.headers.authorization!)!.groups!;
  const [header, claims, signature] = token!.split('.');
  const point = Buffer.from(key!, 'base64url');
  const jwk = { kty: 'EC', crv: 'P-256', x: point.subarray(1, 33).toString('base64url'), y: point.subarray(33).toString('base64url') };
  const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
  const good = verify('sha256', Buffer.from(`${header}.${claims}`), { key: publicKey, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature!, 'base64url'));
  expect(good).toBe(true);
  return { claims: JSON.parse(Buffer.from(claims!, 'base64url').toString()), key: key! };
}

export class PushService {
  readonly pushes: Push[] = [];
  /** What is answered next; 201 when nothing is said. */
  readonly answers: number[] = [];
  readonly #device: ECDH = createECDH('prime256v1');

  private constructor(private readonly server: Server) {
    this.#device.generateKeys();
  }

  static async open(): Promise<PushService> {
    const server = createServer();
    const service = new PushService(server);
    server.on('request', (request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const body = Buffer.concat(parts);
        response.statusCode = service.answers.shift() ?? 201;
        response.end();
        if (response.statusCode !== 201) return;
        const payload = ece.decrypt(body, { version: 'aes128gcm', privateKey: service.#device, authSecret: AUTH.toString('base64url') }).toString();
        service.pushes.push({ path: request.url!, headers: request.headers, payload, length: body.length });
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return service;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Every page of the context subscribes here. */
  async serves(context: BrowserContext): Promise<void> {
    const p256dh = this.#device.getPublicKey().toString('base64url');
    await context.addInitScript(
      ({ endpoint, keys }) => {
        const bytes = (text: string) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0)).buffer;
        const kept = () => localStorage.getItem('subscribed-under');
        const subscription = () => ({
          endpoint,
          options: { applicationServerKey: bytes(kept()!) },
          getKey: (name: 'p256dh' | 'auth') => bytes(keys[name]),
          unsubscribe: async () => (localStorage.removeItem('subscribed-under'), true),
        });
        PushManager.prototype.getSubscription = async () => (kept() ? (subscription() as unknown as PushSubscription) : null);
        PushManager.prototype.subscribe = async (options) => {
          if (Notification.permission !== 'granted' || !options?.userVisibleOnly) throw new DOMException('refused', 'NotAllowedError');
          localStorage.setItem('subscribed-under', options.applicationServerKey as string);
          return subscription() as unknown as PushSubscription;
        };
      },
      { endpoint: `${this.origin}/wake/canary-of-one-device`, keys: { p256dh, auth: AUTH.toString('base64url') } },
    );
  }

  async receives(count: number): Promise<Push> {
    await expect.poll(() => this.pushes.length, { timeout: 30_000, interval: 30, message: `push ${count}` }).toBeGreaterThanOrEqual(count);
    return this.pushes[count - 1]!;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** Hands a push to the service worker of an origin, as the browser does when one comes from its push service. */
export async function deliver(session: CDPSession, origin: string, data: string): Promise<void> {
  const registered = new Promise<string>((resolve) =>
    session.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
      const ours = registrations.find(({ scopeURL, isDeleted }) => scopeURL === `${origin}/` && !isDeleted);
      if (ours) resolve(ours.registrationId);
    }),
  );
  await session.send('ServiceWorker.enable');
  await session.send('ServiceWorker.deliverPushMessage', { origin, registrationId: await registered, data });
}
