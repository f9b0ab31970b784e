// A business and its customers on real programs: `bulla up`, a webhook receiver, customers in terminals.
//
// The environment names the programs: BULLA and BULLA_RELAY. Nothing sleeps here to wait for something: a wait ends with what it waits
// for; its deadline only ends a test that would hang, and says what did not come. What the programs write to standard error goes to the
// test's own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

// How long anything may take on a busy machine before a test gives up on it.
const GUARD_MS = 60_000;

/** Says that something has been shown. */
export function ok(shown) {
  console.log(`ok ${shown}`);
}

/** The promise's value, or an error that names what did not come in time. */
async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what()} (not within ${GUARD_MS / 1000} s)`)), GUARD_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A list that grows and that one can wait on: what was printed, what was received. */
class Log {
  #name;
  #entries = [];
  #ended = false;
  #waiting = new Set();

  constructor(name) {
    this.#name = name;
  }

  add(entry) {
    this.#entries.push(entry);
    this.#tell();
  }

  /** Nothing more will come. */
  end() {
    this.#ended = true;
    this.#tell();
  }

  all() {
    return [...this.#entries];
  }

  #tell() {
    for (const look of [...this.#waiting]) look();
  }

  /** Waits for the first entry of which `seen` makes something true, and returns what it makes. */
  async until(what, seen) {
    const problem = () => `${this.#name}: ${what} did not come. It said:\n${this.#entries.map((entry) => `  ${entry}`).join("\n")}`;
    let look;
    let lookedAt = 0;
    const found = new Promise((resolve, reject) => {
      look = () => {
        try {
          while (lookedAt < this.#entries.length) {
            const result = seen(this.#entries[lookedAt++]);
            if (result) return resolve(result);
          }
          if (this.#ended) reject(new Error(`${problem()}\n(it has ended)`));
        } catch (error) {
          reject(error);
        }
      };
      this.#waiting.add(look);
      look();
    });
    return within(found, problem).finally(() => this.#waiting.delete(look));
  }
}

/** A webhook as it came: the exact bytes and the headers. */
class Delivery {
  constructor(headers, body) {
    this.headers = headers;
    this.body = body;
  }

  get signature() {
    return this.headers["x-hub-signature-256"];
  }

  json() {
    return JSON.parse(this.body.toString("utf8"));
  }

  toString() {
    return `${this.signature} ${this.body.toString("utf8")}`;
  }
}

/** The business's own web server: answers `hub.challenge` and keeps every delivery. */
class Receiver {
  deliveries = new Log("webhooks");
  challenges = new Log("challenges");
  #server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    let answer = "";
    if (request.method === "GET") {
      const query = Object.fromEntries(new URL(request.url, "http://receiver").searchParams);
      this.challenges.add(query);
      answer = query["hub.challenge"] ?? "";
    } else {
      this.deliveries.add(new Delivery(request.headers, Buffer.concat(chunks)));
    }
    response.writeHead(200, { "Content-Type": "text/plain" }).end(answer);
  });

  async listen() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}/hook`;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** A program that runs; its standard output, line by line. */
class Program {
  #child;
  #exit;

  constructor(name, ...args) {
    const env = { ...process.env, BULLA_RELAY_BIN: process.env.BULLA_RELAY };
    this.#child = spawn(process.env.BULLA, args, { stdio: ["pipe", "pipe", "inherit"], env });
    this.name = name;
    this.lines = new Log(name);
    this.#exit = new Promise((resolve, reject) => {
      this.#child.on("exit", (code) => resolve(code));
      this.#child.on("error", reject);
    });
    // Whoever waits for its end, or for a line, hears that it has ended.
    this.#exit.catch(() => {});
    this.#child.stdin.on("error", () => {});
    createInterface({ input: this.#child.stdout })
      .on("line", (line) => this.lines.add(line))
      .on("close", () => this.lines.end());
  }

  write(line) {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Ends its input and waits for its end; the exit code. */
  async finish() {
    this.#child.stdin.end();
    return within(this.#exit, () => `${this.name} did not end`);
  }

  /** Asks it to end, and makes it end if it does not. */
  async stop() {
    this.#child.kill("SIGTERM");
    try {
      await within(this.#exit, () => `${this.name} did not end`);
    } catch {
      if (this.#child.kill("SIGKILL")) await this.#exit;
    }
  }
}

/** `bulla chat --plain`. */
class Customer extends Program {
  constructor(data, name, link) {
    super(name, "chat", "--plain", "--data", data, "--name", name, link);
  }

  /** Says something and waits until it is stored; the ID that the terminal shows. */
  async says(text) {
    this.write(text);
    return this.lines.until(`> ID ${text}`, (line) => {
      const [, id, said] = /^> ([0-9a-f]{8}) (.*)$/u.exec(line) ?? [];
      return said === text && id;
    });
  }

  /** Waits for a line, word by word. */
  async sees(line) {
    await this.lines.until(line, (each) => each === line);
  }
}

/** A business on `bulla up`, with a webhook receiver; `ready` is what it says about itself. */
class World {
  receiver = new Receiver();
  #programs = [];
  #folder;

  async start() {
    this.#folder = await mkdtemp(join(tmpdir(), "bulla-sdk-"));
    await this.receiver.listen();
    const data = join(this.#folder, "business");
    const up = new Program("bulla up", "up", "--json", "--listen", "127.0.0.1:0", "--data", data, "--webhook", this.receiver.url);
    this.#programs.push(up);
    this.ready = JSON.parse(await up.lines.until("the line that says that all is ready", (line) => line));
  }

  customer(name) {
    const customer = new Customer(join(this.#folder, name), name, this.ready.link);
    this.#programs.push(customer);
    return customer;
  }

  async stop() {
    for (const program of this.#programs.reverse()) await program.stop();
    this.receiver.stop();
    if (this.#folder) await rm(this.#folder, { recursive: true });
  }
}

/** Runs a test in a world of its own, and ends all that was started, however it went. */
export async function inWorld(test) {
  const world = new World();
  try {
    await world.start();
    await test(world);
  } finally {
    await world.stop();
  }
}
