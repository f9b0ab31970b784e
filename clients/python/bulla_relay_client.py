"""A client of a Bulla relay, written from proto/relay.proto alone.

It makes a mailbox, opens it, makes a grant and a permit, sends an envelope, reads and acknowledges it, claims and reads a commit slot.
The relay cannot read envelopes or commits and neither does this file: sealing them is end-to-end encryption's part, which is not here.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python bulla_relay_client.py --selftest ws://127.0.0.1:8470/v1/ws
"""

import argparse
import contextlib
import hashlib
import hmac
import importlib
import pathlib
import secrets
import struct
import sys
import tempfile

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.sync.client import connect

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def generate():
    """The protobuf classes of proto/relay.proto, made on the fly: no protoc has to be installed."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as out:
        if protoc.main(["protoc", f"-I{PROTO}", f"--python_out={out}", "relay.proto"]) != 0:
            raise RuntimeError(f"cannot compile {PROTO / 'relay.proto'}")
        sys.path.insert(0, out)
        try:
            return importlib.import_module("relay_pb2")
        finally:
            sys.path.remove(out)


pb = generate()


def mac(key, label, *parts):
    return hmac.new(key, label + b"\0" + b"".join(parts), hashlib.sha256).digest()


def prefixed(name):
    raw = name.encode()
    return bytes([len(raw)]) + raw


class Refused(Exception):
    """The relay answered `Failed`."""

    def __init__(self, failed):
        super().__init__(pb.Code.Name(failed.code))
        self.code, self.retry_after_ms = failed.code, failed.retry_after_ms


class Mailbox:
    """What an owner keeps of a mailbox."""

    def __init__(self):
        self.id = secrets.token_bytes(16)
        self.key = Ed25519PrivateKey.generate()
        self.root = secrets.token_bytes(32)
        self.incarnation, self.nonce = 1, secrets.token_bytes(16)

    def public(self):
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def permit(self, grant, now, *, kind=None, hours=72, rate=60, max_kib=96, tag=bytes(16)):
        """A permit of a grant (16 random bytes, stored nowhere) and its MAC, which is never shown to the relay."""
        expires = -(-(now + hours * 3600) // 21600)
        kind = kind or pb.PERMIT_CLASS_ORDINARY
        permit = pb.Permit(version=1, mailbox=self.id, grant=grant, expires=expires, rate=rate, max_kib=max_kib, tag=tag)
        setattr(permit, "class", kind)  # a keyword in Python
        layout = b"\x01" + self.id + grant + bytes([kind]) + struct.pack(">IHH", expires, rate, max_kib) + tag
        return permit, mac(mac(self.root, b"bulla/1/grant", grant), b"bulla/1/permit", layout)


class Connection:
    """One connection, in one of the two roles."""

    def __init__(self, url, role):
        self.open_things = contextlib.ExitStack()
        self.socket = self.open_things.enter_context(connect(url, compression=None, max_size=None))
        self.requests, self.events = 0, []
        frame = self.read()
        assert frame.WhichOneof("body") == "hello", "the relay speaks first"
        self.hello = frame.hello
        self.ask(hello=pb.ClientHello(version=1, role=role))

    def close(self):
        self.open_things.close()

    def read(self):
        return pb.ServerFrame.FromString(self.socket.recv(timeout=30))

    def ask(self, **body):
        """Sends a request and returns its answer; what comes unasked meanwhile is kept for `event`."""
        self.requests += 1
        self.socket.send(pb.ClientFrame(request=self.requests, **body).SerializeToString())
        while (frame := self.read()).request != self.requests:
            self.events.append(frame)
        if frame.WhichOneof("body") == "failed":
            raise Refused(frame.failed)
        return frame

    def event(self):
        return self.events.pop(0) if self.events else self.read()

    def work(self, label, *parts):
        start = hashlib.sha256(label + b"\0" + self.hello.challenge + b"".join(parts))
        nonce = 0
        while True:
            digest = start.copy()
            digest.update(struct.pack(">Q", nonce))
            if int.from_bytes(digest.digest(), "big") >> (256 - self.hello.work_bits) == 0:
                return nonce
            nonce += 1

    def signed(self, box, label, *parts):
        return box.key.sign(label + b"\0" + prefixed(self.hello.name) + self.hello.challenge + b"".join(parts))

    def create(self, box):
        self.ask(create=pb.Create(
            mailbox=box.id, owner_key=box.public(), mac_root=box.root,
            work_nonce=self.work(b"bulla/1/work/mailbox", box.id),
            signature=self.signed(box, b"bulla/1/create", box.id, box.public(), box.root)))

    def open(self, box):
        counted = struct.pack(">Q", box.incarnation) + box.nonce
        self.ask(open=pb.Open(
            mailbox=box.id, incarnation=box.incarnation, incarnation_nonce=box.nonce,
            signature=self.signed(box, b"bulla/1/open", box.id, counted)))

    def subscribe(self, box):
        return self.ask(subscribe=pb.Subscribe(mailboxes=[box.id])).subscribed.subscriptions[0]

    def ack(self, subscription, through):
        frame = pb.ClientFrame(ack=pb.Ack(subscription=subscription, through=through))
        self.socket.send(frame.SerializeToString())

    def send(self, permit, permit_mac, envelope, send_id=None):
        send_id = send_id or secrets.token_bytes(16)
        digest = hashlib.sha256(envelope).digest()
        proof = mac(permit_mac, b"bulla/1/send", prefixed(self.hello.name), send_id, digest)
        contact = getattr(permit, "class") == pb.PERMIT_CLASS_CONTACT
        nonce = self.work(b"bulla/1/work/contact", permit.mailbox, digest) if contact else 0
        self.ask(send=pb.Send(permit=permit, proof=proof, send_id=send_id, envelope=envelope, work_nonce=nonce))

    def claim(self, slot, commit):
        """Claims a commit slot (32 bytes). Returns the bytes that stand in it now: `commit` if they won, else the winner's."""
        nonce = self.work(b"bulla/1/work/slot", slot, hashlib.sha256(commit).digest())
        claimed = self.ask(claim_slot=pb.ClaimSlot(slot=slot, commit=commit, work_nonce=nonce)).slot_claimed
        return commit if claimed.won else claimed.winner

    def read_slot(self, slot):
        """What stands in a commit slot; empty if it was not claimed."""
        return self.ask(read_slot=pb.ReadSlot(slot=slot)).slot_read.commit


def selftest_slots(url):
    """Two claim one slot, one after the other; both are told the same, and so is who reads it."""
    first, second = Connection(url, pb.ROLE_ANONYMOUS), Connection(url, pb.ROLE_ANONYMOUS)
    slot = secrets.token_bytes(32)
    assert second.read_slot(slot) == b""
    assert first.claim(slot, b"a sealed commit") == b"a sealed commit"
    assert second.claim(slot, b"another one") == b"a sealed commit"
    assert first.claim(slot, b"a sealed commit") == b"a sealed commit"  # a retry after a lost answer
    assert second.read_slot(slot) == b"a sealed commit"
    try:
        first.ask(claim_slot=pb.ClaimSlot(slot=slot, commit=bytes(65537)))
        raise AssertionError("a commit over the limit was taken")
    except Refused as refused:
        assert refused.code == pb.CODE_TOO_LARGE, refused
    first.close()
    second.close()


def selftest(url):
    """Two envelopes, one of each class, through a mailbox of our own; a revoked grant is refused."""
    owner, sender = Connection(url, pb.ROLE_OWNER), Connection(url, pb.ROLE_ANONYMOUS)
    box = Mailbox()
    owner.create(box)
    owner.open(box)
    grant, tag = secrets.token_bytes(16), secrets.token_bytes(16)
    ordinary = box.permit(grant, owner.hello.now, tag=tag)
    contact = box.permit(secrets.token_bytes(16), owner.hello.now, kind=pb.PERMIT_CLASS_CONTACT, max_kib=32)
    sender.send(*ordinary, b"an envelope")
    sender.send(*contact, b"a first contact")

    subscription = owner.subscribe(box)
    first, second, caught_up = owner.event().deliver, owner.event().deliver, owner.event()
    assert (first.number, first.tag, first.envelope) == (1, tag, b"an envelope"), first
    assert (second.number, second.envelope) == (2, b"a first contact"), second
    assert getattr(second, "class") == pb.PERMIT_CLASS_CONTACT
    assert caught_up.WhichOneof("body") == "caught_up", caught_up
    owner.ack(subscription, 2)

    owner.ask(revoke=pb.Revoke(mailbox=box.id, grant=grant))
    try:
        sender.send(*ordinary, b"no longer")
        raise AssertionError("a revoked grant was accepted")
    except Refused as refused:
        assert refused.code == pb.CODE_REFUSED, refused
    owner.subscribe(box)  # what was acknowledged is gone: nothing but the end of the backlog comes
    assert owner.event().WhichOneof("body") == "caught_up"
    owner.ask(delete_mailbox=pb.DeleteMailbox(mailbox=box.id))
    owner.close()
    sender.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--selftest", metavar="URL", required=True, help="the relay's WebSocket, ws://HOST:PORT/v1/ws")
    relay = parser.parse_args().selftest
    selftest(relay)
    selftest_slots(relay)
    print("ok")
