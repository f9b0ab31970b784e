// `node compress.mjs FOLDER`: beside each file that shrinks by it, the same in brotli, for the gateway to serve.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';

const folder = process.argv[2];
let [plain, sent] = [0, 0];
for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || entry.name.endsWith('.br')) continue;
  const path = join(entry.parentPath, entry.name);
  const bytes = readFileSync(path);
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  const small = brotliCompressSync(bytes, { params });
  if (small.length < bytes.length * 0.9) writeFileSync(`${path}.br`, small);
  // Pictures of the manifest are fetched when the app is installed.
  if (!entry.name.endsWith('.png')) [plain, sent] = [plain + bytes.length, sent + Math.min(small.length, bytes.length)];
}
console.log(`${plain} bytes, ${sent} over the wire`);
