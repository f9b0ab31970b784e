// The TypeScript snippet of `docs/cloud-api.md`, as it stands there, run against a real gateway. It has no types, and so it runs as it is.

import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { promisify } from "node:util";

import { inWorld, ok } from "./world.mjs";

await inWorld(async (world) => {
  const alice = world.customer("Alice");
  await alice.says("Is anybody there?");
  const message = await world.receiver.deliveries.until("her message", (each) => each.json().entry[0].changes[0].value.messages?.[0]);
  const [snippet] = (await readFile("docs/cloud-api.md", "utf8")).split("```ts\n")[1].split("```");
  // Beside this file, where its package is found.
  const path = new URL("moving-snippet.mjs", import.meta.url);
  await writeFile(path, snippet);
  const { api_base, access_token, phone_number_id } = world.ready;
  const env = { ...process.env, BULLA_API_BASE: api_base, BULLA_ACCESS_TOKEN: access_token, BULLA_PHONE_NUMBER_ID: phone_number_id };
  await promisify(execFile)(process.execPath, [path.pathname, message.from], { env });
  await alice.sees("< Hello from here");
  ok("TypeScript: the customer reads an answer");
  await alice.finish();
});
