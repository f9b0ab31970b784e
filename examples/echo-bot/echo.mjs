// An echo: whoever writes to the business gets his own words back. Needs nothing but Node; see README.md.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const env = process.env; // eval "$(bulla env)"

async function echo(message) {
  const answer = await fetch(`${env.BULLA_API_BASE}/v23.0/${env.BULLA_PHONE_NUMBER_ID}/messages`, {
    method: 'POST',
    headers: { authorization: `Bearer ${env.BULLA_ACCESS_TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify({ messaging_product: 'whatsapp', to: message.from, type: 'text', text: { body: message.text.body } }),
  });
  if (!answer.ok) throw new Error(await answer.text());
}

function isSigned(body, signature = '') {
  const expected = `sha256=${createHmac('sha256', env.BULLA_APP_SECRET).update(body).digest('hex')}`;
  return signature.length === expected.length && timingSafeEqual(Buffer.from(signature), Buffer.from(expected));
}

async function webhook(request) {
  const query = new URL(request.url, 'http://bot').searchParams;
  if (request.method === 'GET') return query.get('hub.verify_token') === env.BULLA_VERIFY_TOKEN ? [200, query.get('hub.challenge')] : [403];
  const body = Buffer.concat(await request.toArray());
  if (!isSigned(body, request.headers['x-hub-signature-256'])) return [403];
  for (const { changes } of JSON.parse(body).entry)
    for (const { value } of changes) for (const message of value.messages ?? []) if (message.type === 'text') await echo(message);
  return [200]; // Only now: what failed above is posted again.
}

const server = createServer((request, response) => {
  webhook(request).then(
    ([status, text]) => response.writeHead(status).end(text),
    (error) => {
      console.error(error);
      response.writeHead(500).end();
    },
  );
});
server.listen(Number(env.PORT ?? 9000), '127.0.0.1', () => console.log(`echoes what comes to http://127.0.0.1:${server.address().port}/`));
