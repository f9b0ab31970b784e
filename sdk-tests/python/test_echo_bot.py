"""The echo bots of `examples/`, as they are, against a real gateway and relay."""

import json
import pathlib
import sys
import urllib.error
import urllib.parse
import urllib.request

from world import World, check, ok

BOTS = pathlib.Path(__file__).resolve().parents[2] / "examples" / "echo-bot"


def asked(url, data, **headers):
    """The status of a POST."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def environment(ready):
    """What `eval "$(bulla env)"` sets."""
    return {
        "BULLA_API_BASE": ready["api_base"], "BULLA_PHONE_NUMBER_ID": ready["phone_number_id"], "BULLA_APP_ID": ready["app_id"],
        "BULLA_ACCESS_TOKEN": ready["access_token"], "BULLA_APP_SECRET": ready["app_secret"], "BULLA_VERIFY_TOKEN": ready["verify_token"],
    }


def subscribe(ready, url):
    """Webhooks go to this address from now on, if it answers its challenge."""
    form = {"object": "whatsapp_business_account", "callback_url": url, "verify_token": ready["verify_token"]}
    return asked(
        f"{ready['api_base']}/v23.0/{ready['app_id']}/subscriptions", urllib.parse.urlencode(form).encode(),
        Authorization=f"Bearer {ready['app_id']}|{ready['app_secret']}",
    )


def echoes(world, alice, name, program):
    bot = world.program(name, str(BOTS / name), program=program, PORT="0", **environment(world.ready))
    url = bot.lines.until("the line that says where it listens", lambda line: line).rsplit(" ", 1)[-1]
    check.assertEqual(subscribe(world.ready, url), 200)
    ok(f"{name}: it answers the challenge")

    said = f'Is this {name}? "Sí" ☕'
    alice.says(said)
    alice.sees(f"< {said}")
    ok(f"{name}: a customer's words come back")

    forged = {"entry": [{"changes": [{"value": {"messages": [{"type": "text", "from": "1", "text": {"body": "forged"}}]}}]}]}
    for signature in ["sha256=" + "0" * 64, "sha256=é".encode().decode("latin-1"), ""]:
        check.assertEqual(asked(url, json.dumps(forged).encode(), **{"X-Hub-Signature-256": signature}), 403)
    wrong = urllib.parse.urlencode({"hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": "wrong"})
    try:
        urllib.request.urlopen(f"{url}?{wrong}")
        raise AssertionError("it let itself be subscribed by who does not know the verify token")
    except urllib.error.HTTPError as refused:
        check.assertEqual(refused.code, 403)
    ok(f"{name}: what is not signed, or asks with another token, is refused")
    bot.stop()


with World() as world:
    alice = world.customer("Alice")
    for name, program in [("echo.py", sys.executable), ("echo.mjs", "node")]:
        echoes(world, alice, name, program)
    check.assertEqual(alice.finish(), 0)
