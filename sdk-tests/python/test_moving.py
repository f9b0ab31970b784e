"""The snippets of `docs/cloud-api.md`, as they stand there, run against a real gateway: curl and Python here, TypeScript in `test_moving.mjs`.

The first command of the one for curl asks Meta for a business's templates. Here it asks the gateway, which has the same address for them, and what
it gives is posted under other names.
"""

import os
import pathlib
import shutil
import subprocess
import sys

from world import World, check, ok

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "cloud-api.md"


def snippet(kind):
    return PAGE.read_text().split(f"```{kind}\n", 1)[1].split("```", 1)[0]


def variables(ready, **more):
    """What `eval "$(bulla env)"` sets, and what the page calls yours."""
    names = ["api_base", "phone_number_id", "waba_id", "app_id", "access_token", "app_secret", "verify_token"]
    return {**os.environ, **{f"BULLA_{name.upper()}": ready[name] for name in names}, **more}


with World() as world:
    ready = world.ready
    alice = world.customer("Alice")
    alice.says("Is anybody there?")
    message = world.receiver.deliveries.until(
        "her message", lambda each: each.json()["entry"][0]["changes"][0]["value"].get("messages", [None])[0])

    body = '{"name":"order","language":"en","category":"UTILITY","components":[{"type":"BODY","text":"It is here."}]}'
    subprocess.run(
        ["curl", "-sf", f"{ready['api_base']}/{ready['waba_id']}/message_templates", "-H", f"Authorization: Bearer {ready['access_token']}",
         "-H", "Content-Type: application/json", "-d", body], check=True, capture_output=True)
    script = snippet("sh")
    for command in ["curl", "jq"]:
        check.assertTrue(shutil.which(command), f"{command} is not installed: apt-get install {command}")
    check.assertIn("https://graph.facebook.com/", script)
    script = script.replace("https://graph.facebook.com/", "$BULLA_API_BASE/").replace("del(.id)", 'del(.id) | .name += "_moved"')
    yours = variables(ready, WABA=ready["waba_id"], TOKEN=ready["access_token"], RECEIVER=world.receiver.url, TO=message["from"])
    said = subprocess.run(["sh", "-euc", script], env=yours, check=True, capture_output=True, text=True).stdout
    check.assertNotIn('"error"', said)
    check.assertIn('"status":"APPROVED"', said)
    check.assertIn('{"success":true}', said)
    alice.sees("< Hello from here")
    ok("curl: templates move, the receiver is set, the customer reads an answer")

    subprocess.run([sys.executable, "-c", snippet("python"), message["from_user_id"]], env=variables(ready), check=True)
    alice.lines.until("the answer from Python", lambda line: len([each for each in alice.lines.all() if each == "< Hello from here"]) == 2)
    ok("Python: the customer reads an answer")
    check.assertEqual(alice.finish(), 0)
