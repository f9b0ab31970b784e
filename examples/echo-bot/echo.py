"""An echo: whoever writes to the business gets his own words back. With a WhatsApp SDK as it is on PyPI; see README.md."""

import asyncio, http.server, json, os, urllib.parse
from kapso_whatsapp import WhatsAppClient
from kapso_whatsapp.webhooks import normalize_webhook, verify_signature

env = os.environ  # eval "$(bulla env)"


async def echo(message):
    async with WhatsAppClient(base_url=env["BULLA_API_BASE"], access_token=env["BULLA_ACCESS_TOKEN"]) as client:
        number = env["BULLA_PHONE_NUMBER_ID"]
        await client.messages.send_text(phone_number_id=number, to=message["from"], body=message["text"]["body"])


class Webhook(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # Asked whether this address wants webhooks.
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        known = query.get("hub.verify_token") == env["BULLA_VERIFY_TOKEN"]
        self.answer(*((200, query.get("hub.challenge", "")) if known else (403, "")))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signature = self.headers.get("X-Hub-Signature-256", "")
        if not verify_signature(app_secret=env["BULLA_APP_SECRET"], raw_body=body, signature_header=signature):
            return self.answer(403, "")
        for message in normalize_webhook(json.loads(body)).messages:
            if message["type"] == "text":
                asyncio.run(echo(message))
        self.answer(200, "")  # Only now: what failed above is posted again.

    def answer(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(env.get("PORT", "9000"))), Webhook)
print(f"echoes what comes to http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
