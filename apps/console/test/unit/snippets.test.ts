/** What can be copied is run, as it is. */
import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import { ModuleKind, transpileModule } from 'typescript';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { call as snippets, LANGUAGES, subscribe, verification, type Language } from '../../src/lib/snippets';
import { call, payload, webhook } from './entries';

const run = promisify(execFile);
const TOKEN = "EAAB it's $HOME";
const SECRET = 'app"secret\'$1';

interface Heard {
  method: string;
  url: string;
  token: string;
  kind: string;
  body: string;
}

let server: Server;
let base: string;
let heard: Heard[] = [];
beforeAll(async () => {
  server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (part: string) => (body += part));
    request.on('end', () => {
      heard.push({ method: request.method!, url: request.url!, token: request.headers.authorization!, kind: request.headers['content-type'] ?? '', body });
      response.writeHead(request.url!.includes('refuse') ? 400 : 200).end('{"ok":"ä"}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

async function runs(language: Language, code: string): Promise<string> {
  const env = { ...process.env, BULLA_ACCESS_TOKEN: TOKEN, BULLA_APP_SECRET: SECRET, BULLA_APP_ID: '7', BULLA_VERIFY_TOKEN: 'v' };
  if (language === 'curl') return (await run('sh', ['-c', code], { env })).stdout;
  if (language === 'python') return (await run('python3', ['-c', code], { env })).stdout;
  const script = transpileModule(code, { compilerOptions: { module: ModuleKind.ESNext } }).outputText;
  return (await run('node', ['--input-type=module', '-e', script], { env })).stdout;
}

const nasty = JSON.stringify({ text: { body: `it's "quoted" \\ $HOME \`id\` $(id) @file\n\u2028 👋 ünï %s !` } });

it.each(LANGUAGES)('a call in %s is the same call', async (language) => {
  heard = [];
  const made = call(1, nasty, '{}', { path: '/v23.0/1/messages?a=b%20c&access_token=%E2%80%A6' });
  for (const token of [null, TOKEN]) expect(await runs(language, snippets(base, made, token)[language])).toContain('{"ok":"ä"}');
  const expected = { method: 'POST', url: '/v23.0/1/messages?a=b%20c', token: `Bearer ${TOKEN}`, kind: 'application/json', body: nasty };
  expect(heard).toEqual([expected, expected]);
});

it.each(LANGUAGES)('a call without a body, and a form, in %s', async (language) => {
  heard = [];
  await runs(language, snippets(base, call(1, null, '{}', { method: 'DELETE', path: '/refuse' }), null)[language]);
  const form = call(1, 'a=b&c=%20', '{}', { request: { kind: 'application/x-www-form-urlencoded', size: 9, text: 'a=b&c=%20' } });
  await runs(language, snippets(base, form, null)[language]);
  expect(heard.map(({ method, url, body }) => [method, url, body])).toEqual([
    ['DELETE', '/refuse', ''],
    ['POST', '/v23.0/1/messages', 'a=b&c=%20'],
  ]);
  expect(heard[1]!.kind).toBe('application/x-www-form-urlencoded');
});

it.each(LANGUAGES)('a signature is checked in %s, and a forged one found', async (language) => {
  const body = payload({ messages: [{ text: { body: 'it\'s "x" \\ %s $HOME' } }] });
  const sign = (secret: string) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
  const check = async (signature: string, secret: string | null) => (await runs(language, verification(webhook(1, {}, { body, signature }), secret)[language])).trim();
  expect(await check(sign(SECRET), null)).toBe('valid');
  expect(await check(sign(SECRET), SECRET)).toBe('valid');
  expect(await check(sign('other'), null)).toBe('forged');
  expect(await check('sha256=00', null)).toBe('forged');
});

it('a secret is in what is copied only if it was asked for', () => {
  const shown = [snippets(base, call(1, nasty, '{}'), null), verification(webhook(1, {}), null)].map((all) => JSON.stringify(all)).join();
  expect(shown).toContain('BULLA_ACCESS_TOKEN');
  expect(shown).toContain('BULLA_APP_SECRET');
});

it('the command that sets a webhook URL says all that the API asks for', async () => {
  heard = [];
  const business = { handle: 'shop', name: 'Shop', link: '', phone_number_id: '1', waba_id: '2', app_id: '7', dead_letters: 0 };
  await runs('curl', subscribe(base, business));
  expect(heard[0]).toMatchObject({ method: 'POST', url: '/v23.0/7/subscriptions', token: `Bearer 7|${SECRET}` });
  expect(Object.fromEntries(new URLSearchParams(heard[0]!.body))).toEqual({
    object: 'whatsapp_business_account',
    callback_url: 'http://127.0.0.1:9000/',
    verify_token: 'v',
  });
});
