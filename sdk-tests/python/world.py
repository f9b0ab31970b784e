"""A business and its customers on real programs: `bulla up`, a webhook receiver, customers in terminals.

The environment names the programs: BULLA and BULLA_RELAY. Nothing sleeps here to wait for something: a wait ends with what it waits
for; its deadline only ends a test that would hang, and says what did not come. What the programs write to standard error goes to the
test's own.
"""

import http.server
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

# How long anything may take on a busy machine before a test gives up on it.
GUARD = 60

# For its assertions, which show what differs.
check = unittest.TestCase()
check.maxDiff = None


def ok(shown):
    """Says that something has been shown."""
    print(f"ok {shown}")


class Log:
    """A list that grows and that one can wait on: what was printed, what was received."""

    def __init__(self, name):
        self.name = name
        self._entries, self._ended, self._grown = [], False, threading.Condition()

    def add(self, entry):
        with self._grown:
            self._entries.append(entry)
            self._grown.notify_all()

    def end(self):
        """Nothing more will come."""
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def all(self):
        with self._grown:
            return list(self._entries)

    def until(self, what, seen):
        """Waits for the first entry of which `seen` makes something true, and returns what it makes."""
        deadline, looked_at = time.monotonic() + GUARD, 0
        with self._grown:
            while True:
                for entry in self._entries[looked_at:]:
                    if found := seen(entry):
                        return found
                looked_at = len(self._entries)
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "it has ended" if self._ended else f"not within {GUARD} s"
                    said = "\n".join(f"  {entry}" for entry in self._entries)
                    raise AssertionError(f"{self.name}: {what} did not come ({why}). It said:\n{said}")
                self._grown.wait(left)


class Delivery:
    """A webhook as it came: the exact bytes and the headers."""

    def __init__(self, headers, body):
        self.headers, self.body = headers, body

    def signature(self):
        return self.headers.get("X-Hub-Signature-256")

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.signature()} {self.body.decode(errors='replace')}"


class Receiver:
    """The business's own web server: answers `hub.challenge` and keeps every delivery."""

    def __init__(self):
        self.deliveries, self.challenges = Log("webhooks"), Log("challenges")
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                receiver.challenges.add(query)
                self.answer(query.get("hub.challenge", "").encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.deliveries.add(Delivery(self.headers, body))
                self.answer(b"")

            def answer(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class Program:
    """A program that runs, `bulla` if no other is named; its standard output, line by line."""

    def __init__(self, name, *args, program=None, **variables):
        environment = dict(os.environ, BULLA_RELAY_BIN=os.environ["BULLA_RELAY"], **variables)
        self._process = subprocess.Popen(
            [program or os.environ["BULLA"], *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, encoding="utf-8", bufsize=1,
        )
        self.lines = Log(name)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self.lines.add(line.rstrip("\n"))
        self.lines.end()

    def write(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def finish(self):
        """Ends its input and waits for its end; the exit code."""
        self._process.stdin.close()
        return self._process.wait(GUARD)

    def stop(self):
        """Asks it to end, and makes it end if it does not."""
        self._process.terminate()
        try:
            self._process.wait(GUARD)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Customer(Program):
    """`bulla chat --plain`."""

    def __init__(self, data, name, link):
        super().__init__(name, "chat", "--plain", "--data", str(data), "--name", name, link)

    def says(self, text):
        """Says something and waits until it is stored; the ID that the terminal shows."""
        self.write(text)
        stored = self.lines.until(f"> ID {text}", lambda line: line.startswith("> ") and line.split(" ", 2)[2:] == [text] and line)
        return stored.split(" ", 2)[1]

    def sees(self, line):
        """Waits for a line, word by word."""
        self.lines.until(repr(line), lambda each: each == line)


class World:
    """A business on `bulla up`, with a webhook receiver; `ready` is what it says about itself. Ends all it started."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="bulla-sdk-")
        self._folder_path = pathlib.Path(self._folder.name)
        self.receiver = Receiver()
        self._programs = []
        try:
            up = self.program(
                "bulla up", "up", "--json", "--listen", "127.0.0.1:0",
                "--data", str(self._folder_path / "business"), "--webhook", self.receiver.url,
            )
            self.ready = json.loads(up.lines.until("the line that says that all is ready", lambda line: line))
        except BaseException:
            self.__exit__()
            raise
        return self

    def program(self, *args, **more):
        """Another program, ended with the rest."""
        program = Program(*args, **more)
        self._programs.append(program)
        return program

    def customer(self, name):
        customer = Customer(self._folder_path / name, name, self.ready["link"])
        self._programs.append(customer)
        return customer

    def __exit__(self, *_):
        for program in reversed(self._programs):
            program.stop()
        self.receiver.stop()
        self._folder.cleanup()
