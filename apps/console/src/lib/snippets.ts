/**
 * Calls and checks as code that runs as it is: shell, Python's standard library, and what Node and browsers have. Values are the real
 * ones; token and secret come from the environment, as `eval "$(bulla env)"` sets it, unless they were asked for.
 */
import type { Business, Call, Webhook } from './types';

export const LANGUAGES = ['curl', 'python', 'typescript'] as const;
export type Language = (typeof LANGUAGES)[number];
export type Snippets = Record<Language, string>;

/** In single quotes, so that no shell reads anything into it. */
const shell = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
/** JSON's strings are JavaScript's and Python's. */
const literal = (text: string) => JSON.stringify(text);

/** What a call sent, without what was taken out of its address. */
function url(base: string, path: string): string {
  const [plain, query] = path.split('?');
  const kept = (query ?? '').split('&').filter((pair) => pair && !pair.endsWith('=%E2%80%A6'));
  return base + plain + (kept.length > 0 ? `?${kept.join('&')}` : '');
}

export function call(base: string, call: Call, token: string | null): Snippets {
  const { method } = call;
  const address = url(base, call.path);
  const body = call.request.text;
  const kind = call.request.kind || 'application/json';

  const bearer = token === null ? '"Authorization: Bearer $BULLA_ACCESS_TOKEN"' : shell(`Authorization: Bearer ${token}`);
  const curl = [`curl -X ${method} ${shell(address)}`, `-H ${bearer}`];
  if (body) curl.push(`-H ${shell(`Content-Type: ${kind}`)}`, `--data-raw ${shell(body)}`);

  const pythonToken = token === null ? '"Bearer " + os.environ["BULLA_ACCESS_TOKEN"]' : literal(`Bearer ${token}`);
  const python = [
    'import os, urllib.error, urllib.request',
    '',
    'call = urllib.request.Request(',
    `    ${literal(address)},`,
    `    method=${literal(method)},`,
    `    headers={"Authorization": ${pythonToken}${body ? `, "Content-Type": ${literal(kind)}` : ''}},`,
    ...(body ? [`    data=${literal(body)}.encode(),`] : []),
    ')',
    'try:',
    '    answer = urllib.request.urlopen(call)',
    'except urllib.error.HTTPError as refused:',
    '    answer = refused',
    'print(answer.status, answer.read().decode())',
  ];

  const scriptToken = token === null ? '`Bearer ${process.env.BULLA_ACCESS_TOKEN}`' : literal(`Bearer ${token}`);
  const typescript = [
    `const answer = await fetch(${literal(address)}, {`,
    `  method: ${literal(method)},`,
    `  headers: { authorization: ${scriptToken}${body ? `, "content-type": ${literal(kind)}` : ''} },`,
    ...(body ? [`  body: ${literal(body)},`] : []),
    '});',
    'console.log(answer.status, await answer.text());',
  ];
  return { curl: curl.join(' \\\n  '), python: python.join('\n'), typescript: typescript.join('\n') };
}

/** Whether a webhook is the business's: prints `valid` or `forged`. */
export function verification(webhook: Webhook, secret: string | null): Snippets {
  const { body, signature } = webhook;
  const key = secret === null ? '"$BULLA_APP_SECRET"' : shell(secret);
  const curl = [
    `body=${shell(body)}`,
    `expected="sha256=$(printf %s "$body" | openssl dgst -sha256 -hmac ${key} -r | cut -d' ' -f1)"`,
    `[ "$expected" = ${shell(signature)} ] && echo valid || echo forged`,
  ];
  const python = [
    'import hashlib, hmac, os',
    '',
    `body = ${literal(body)}.encode()  # the request's bytes, before any JSON`,
    `signature = ${literal(signature)}  # X-Hub-Signature-256`,
    `secret = ${secret === null ? 'os.environ["BULLA_APP_SECRET"]' : literal(secret)}`,
    'expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()',
    'print("valid" if hmac.compare_digest(expected, signature) else "forged")',
  ];
  const typescript = [
    'import { createHmac, timingSafeEqual } from "node:crypto";',
    '',
    `const body = ${literal(body)}; // the request's bytes, before any JSON`,
    `const signature = ${literal(signature)}; // X-Hub-Signature-256`,
    `const secret = ${secret === null ? 'process.env.BULLA_APP_SECRET ?? ""' : literal(secret)};`,
    'const expected = "sha256=" + createHmac("sha256", secret).update(body).digest("hex");',
    'const valid = signature.length === expected.length && timingSafeEqual(Buffer.from(signature), Buffer.from(expected));',
    'console.log(valid ? "valid" : "forged");',
  ];
  return { curl: curl.join('\n'), python: python.join('\n'), typescript: typescript.join('\n') };
}

/** How a webhook's URL is set, with a receiver on this machine as the example. */
export function subscribe(base: string, business: Business): string {
  return [
    `curl ${shell(`${base}/v23.0/${business.app_id}/subscriptions`)}`,
    `-H "Authorization: Bearer $BULLA_APP_ID|$BULLA_APP_SECRET"`,
    '-d object=whatsapp_business_account',
    '-d callback_url=http://127.0.0.1:9000/',
    '-d verify_token="$BULLA_VERIFY_TOKEN"',
  ].join(' \\\n  ');
}
