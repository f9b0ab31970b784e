/** A business's own site on an origin of its own, under a policy as strict as one can be and still show the chat. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Host {
  /** Another site than the app's, which is at an address: browsers tell the two apart as they do any two sites. */
  origin: string;
  /** The same server under the app's own address: another origin than either, and to browsers the same site as the app. */
  neighbour: string;
  /** Puts a page there and says its path. `frames`: what else may be framed. */
  page(what: { app: string; scripts: string[]; lang?: string; body?: string; frames?: string }): string;
  close(): void;
}

export async function host(): Promise<Host> {
  const pages = new Map<string, { policy: string; html: string }>();
  const server = createServer((request, response) => {
    const page = pages.get(request.url ?? '');
    const empty = request.url === '/empty';
    response.writeHead(page || empty ? 200 : 204, {
      'content-type': 'text/html; charset=utf-8',
      ...(page ? { 'content-security-policy': page.policy } : {}),
    });
    response.end(page?.html ?? (empty ? '<!doctype html><title>Empty</title>' : undefined));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const origin = `http://localhost:${port}`;
  return {
    origin,
    neighbour: `http://127.0.0.1:${port}`,
    page({ app, scripts, lang = 'en', body = '', frames = '' }) {
      const path = `/${pages.size + 1}`;
      const policy = `default-src 'none'; script-src ${app}; frame-src ${app} ${frames}; style-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'`;
      const included = scripts.map((attributes) => `<script src="${app}/widget.js" ${attributes} async></script>`).join('\n');
      const html = `<!doctype html><html lang="${lang}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>The shop</title>${included}</head><body><main><h1>Coffee</h1><p><a href="#beans">Beans</a></p>${body}</main></body></html>`;
      pages.set(path, { policy, html });
      return path;
    },
    close: () => server.close(),
  };
}
