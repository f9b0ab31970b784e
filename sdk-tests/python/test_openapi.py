"""Meta's own requests, replayed: every request example of an OpenAPI description of the Cloud API that falls in a gateway's surface is sent
to a running one, and what it replies has to fit the description's schemas.

The description is the vendored one, or that of the first argument, or of BULLA_OPENAPI. What falls in the surface the gateway says itself, at
`/openapi.json`. Examples name objects that exist at Meta: in their place stand such that are made here (ids, customers, templates, addresses).

Each example either passes, or is named with its reason: it asks for what `docs/cloud-api.md` says is refused, and has to be refused with that
very code; or the description contradicts itself. Anything else fails the test, and so does less than GOAL per cent of those that are not
refused on purpose. The result is `sdk-tests/openapi/table.md`; a run that comes to another one fails, and BULLA_WRITE_TABLES=1 writes it anew.
"""

import itertools
import json
import os
import pathlib
import re
import sys

import requests
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from world import World, check, ok

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "openapi"
VENDORED = FOLDER / "business-messaging-api_v23.0.yaml"
TABLE = FOLDER / "table.md"
GOAL = 95

URN = "urn:description"
METHODS = ["get", "post", "put", "delete"]
# Objects that the description knows by more than one name, and files, which have an address instead of an id.
ALIASES = {
    "{application_id}": "{app_id}",
    "{whatsapp_business_account_id}": "{waba_id}",
    "{whatsapp_account_number_id}": "{phone_number_id}",
    "{qr_code_id}": "{code}",
    "{media_url}": "media/{phone_number_id}/{media_id}",
}
PIN = "123456"
FILES = {"audio": "audio/ogg", "document": "application/pdf", "image": "image/jpeg", "sticker": "image/webp", "video": "video/mp4"}
BYTES = b"What a file has in it is looked at by nobody but the customer."
# Types of buttons that a template cannot have here.
NO_BUTTONS = {"catalog", "flow", "mpm", "spm"}
LINK = "the link is the id of an uploaded file: nothing here leads to the internet"

# What the gateway refuses on purpose: the code, and why.
REFUSED_ROUTES = {
    "POST /{phone_number_id}/calls": (138000, "calls are not carried"),
    "POST /{phone_number_id}/request_code": (136024, "the number is verified"),
    "POST /{phone_number_id}/verify_code": (136025, "the number is verified"),
    "POST /{waba_id}/phone_numbers": (3, "`bulla gateway` makes numbers"),
}
REFUSED_INTERACTIVE = dict.fromkeys(
    ["product", "product_list", "catalog_message", "order_details", "order_status", "carousel", "voice_call", "call_permission_request"], 131051,
)
REFUSED_SETTINGS = {"calling": 138000, "payload_encryption": 3, "storage_configuration": 3, "user_identity_change": 3}
REFUSED_OF_A_NUMBER = ["connection_status", "search_visibility", "username", "webhook_url", "whatsapp_business_api_data"]


def refused(route, body):
    """The code with which the gateway has to refuse this, and why; None if it has to do it."""
    if route in REFUSED_ROUTES:
        return REFUSED_ROUTES[route]
    body = body if isinstance(body, dict) else {}
    if route == "POST /{phone_number_id}/messages":
        kind = body.get("interactive", {}).get("type")
        if kind in REFUSED_INTERACTIVE:
            return REFUSED_INTERACTIVE[kind], f"interactive messages of type `{kind}` are not carried"
        if kinds := NO_BUTTONS & set(buttons_sent(body)):
            return 132001, f"no template with a button of type `{min(kinds).upper()}` can be made"
    if route == "POST /{waba_id}/message_templates":
        components = body.get("components", [])
        kinds = {button["type"].lower() for component in components for button in component.get("buttons", [])}
        if kinds := kinds & NO_BUTTONS:
            return 100, f"no button of type `{min(kinds).upper()}`"
    if route == "POST /{phone_number_id}/register":
        if given := [name for name in ["backup", "tier", "data_localization_region"] if name in body]:
            return 100, f"`{given[0]}`: nothing is brought in, and the business's data lie where it keeps them"
    if route == "POST /{phone_number_id}/settings":
        for name, code in REFUSED_SETTINGS.items():
            setting = body.get(name, {})
            if setting.get("status") == "enabled" or setting.get("enabled") is True:
                return code, f"`{name}` is off and stays off"
    if route == "POST /{phone_number_id}":
        if given := [name for name in REFUSED_OF_A_NUMBER if name in body]:
            return 100, f"`{given[0]}` is no setting here"
        if "new_display_name" in body:
            return 3, "a business's name is given where it is served"
    return None


def buttons_sent(body):
    components = body.get("template", {}).get("components", [])
    return [component.get("sub_type", "").lower() for component in components if component["type"].lower() == "button"]


class Gateway:
    """A running gateway, and what is made on it for examples to name."""

    def __init__(self, world, version):
        self.ready, self.receiver = world.ready, world.receiver
        self.base = f"{self.ready['api_base']}/{version}"
        self.numbers = itertools.count(1)
        self.names = set()
        # Texts that examples said, with nothing around them.
        self.said = []
        self.alice, self.bob = world.customer("Alice"), world.customer("Bob")
        self.message, self.other = self.greeted(self.alice), self.greeted(self.bob)

    def greeted(self, customer):
        """What a customer's first words are as a message of a webhook."""
        text = f"Hello {next(self.numbers)}"
        customer.says(text)

        def said(delivery):
            messages = delivery.json()["entry"][0]["changes"][0]["value"].get("messages", [])
            return next((each for each in messages if each.get("text", {}).get("body") == text), None)

        return self.receiver.deliveries.until(text, said)

    def call(self, method, path, **more):
        headers = {"Authorization": f"Bearer {self.ready['access_token']}"} | more.pop("headers", {})
        return requests.request(method, f"{self.base}/{path}", headers=headers, timeout=60, **more)

    def made(self, method, path, **more):
        """The reply to a call that has to work."""
        reply = self.call(method, path, **more)
        check.assertEqual(reply.status_code, 200, f"{method} {path}: {reply.text}")
        return reply.json()

    def upload(self, kind):
        """The id of a file."""
        form = {"messaging_product": "whatsapp", "type": FILES[kind]}
        return self.made("POST", f"{self.ready['phone_number_id']}/media", data=form, files={"file": ("a", BYTES, FILES[kind])})["id"]

    def handle(self):
        """The handle of a picture."""
        about = {"file_length": len(BYTES), "file_type": "image/jpeg", "file_name": "a.jpg"}
        upload = self.made("POST", f"{self.ready['app_id']}/uploads", params=about)["id"]
        return self.made("POST", upload, data=BYTES, headers={"file_offset": "0"})["h"]

    def name(self, wanted):
        """A template's name that is not taken, as wanted if it can be."""
        if not re.fullmatch("[a-z0-9_]+", str(wanted)) or wanted in self.names:
            wanted = f"example_{next(self.numbers)}"
        self.names.add(wanted)
        return wanted

    def template(self, wanted=None, language="en_US", **parts):
        """A template; its id and its name."""
        name = self.name(wanted)
        body = {"type": "BODY", "text": "It is here."}
        about = {"name": name, "language": language, "category": "UTILITY", "components": [body]} | parts
        return self.made("POST", f"{self.ready['waba_id']}/message_templates", json=about)["id"], name

    def flow(self, publish, screen="FIRST"):
        """A flow of one screen; its id and its name."""
        field = {"type": "TextInput", "name": "what", "label": "What"}
        footer = {"type": "Footer", "label": "Send", "on-click-action": {"name": "complete"}}
        layout = {"type": "SingleColumnLayout", "children": [field, footer]}
        flow = json.dumps({"version": "6.0", "screens": [{"id": screen, "title": "Flow", "layout": layout}]})
        name = f"Flow {next(self.numbers)}"
        about = {"name": name, "categories": ["OTHER"], "flow_json": flow, "publish": publish}
        return self.made("POST", f"{self.ready['waba_id']}/flows", json=about)["id"], name

    def code(self):
        """The code of a short link."""
        return self.made("POST", f"{self.ready['phone_number_id']}/message_qrdls", json={"prefilled_message": "Hello"})["code"]

    # What an object in a path, and a parameter in a query, is here.
    def object(self, kind, body, route=""):
        if kind == "flow_id":
            return self.flow(route.endswith("/deprecate"))[0]
        if kind == "media_id":
            return self.upload("image")
        if kind == "template_id":
            body = body or {}
            return self.template(body.get("name"), body.get("language", "en_US"))[0]
        return self.code() if kind == "code" else self.ready[kind]

    def parameters(self, given):
        real = dict(given)
        # A place in a list comes from an earlier page of it.
        for name in ["after", "before"]:
            real.pop(name, None)
        if "code" in real:
            real["code"] = self.code()
        if "phone_number_id" in real:
            real["phone_number_id"] = self.ready["phone_number_id"]
        if "name" in real:
            template, real["name"] = self.template()
            if "hsm_id" in real:
                real["hsm_id"] = template
        return real

    def body(self, route, example):
        """The example with what there is here in place of what there is at Meta, and what that changes about what it shows."""
        notes = []
        real = self.real(example, notes)
        if route == "POST /{phone_number_id}/message_qrdls" and "code" in real:
            real["code"] = self.code()
        if route == "POST /{waba_id}/message_templates":
            real["name"] = self.name(real["name"])
        if route == "POST /{waba_id}/flows":
            real["name"] = f"Flow {next(self.numbers)}"
        if real.get("interactive", {}).get("type") == "flow":
            asked = real["interactive"]["action"]["parameters"]
            screen = asked.get("flow_action_payload", {}).get("screen", "FIRST")
            flow, name = self.flow(asked.get("mode") != "draft", screen)
            asked |= {key: value for key, value in [("flow_id", flow), ("flow_name", name)] if key in asked}
        if route == "POST /{phone_number_id}/messages" and "template" in real and not NO_BUTTONS & set(buttons_sent(real)):
            self.make_sendable(real["template"])
        return real, notes

    def real(self, value, notes):
        if isinstance(value, list):
            return [self.real(each, notes) for each in value]
        if not isinstance(value, dict):
            return value
        real = {}
        for name, part in value.items():
            if name in FILES and isinstance(part, dict) and ("id" in part or "link" in part):
                if "link" in part:
                    notes.append(LINK)
                part = {key: text for key, text in part.items() if key not in ["id", "link"]} | {"id": self.upload(name)}
            elif name == "to":
                part = self.message["from"]
            elif name == "recipient":
                part = self.message["from_user_id"]
            elif name == "message_id":
                part = self.message["id"]
            elif name == "block_users":
                part = [{key: self.other["from" if key == "user" else "from_user_id"] for key in each} for each in part]
            elif name == "override_callback_uri":
                part = self.receiver.url
            elif name == "profile_picture_handle":
                part = self.handle()
            elif name == "header_handle":
                part = [self.handle()]
            elif name == "pin":
                part = PIN
            else:
                part = self.real(part, notes)
            real[name] = part
        return real

    def make_sendable(self, sent):
        """Makes the template that a message names, with room for what the message puts in it."""
        components, buttons = [], []
        body = {"type": "BODY", "text": "It is here."}
        for component in sent.get("components", []):
            parameters = component.get("parameters", [])
            kind = component["type"].lower()
            if kind == "header":
                form = parameters[0]["type"].upper()
                header = {"type": "HEADER", "format": form}
                if form == "TEXT":
                    header |= {"text": "About {{1}}", "example": {"header_text": ["it"]}}
                elif form != "LOCATION":
                    header |= {"example": {"header_handle": [self.handle()]}}
                components.append(header)
            elif kind == "body":
                gaps = " and ".join(f"{{{{{n}}}}}" for n in range(1, len(parameters) + 1))
                body = {"type": "BODY", "text": f"It is {gaps} now.", "example": {"body_text": [["this"] * len(parameters)]}}
            elif component["sub_type"].lower() == "quick_reply":
                buttons.append({"type": "QUICK_REPLY", "text": f"Reply {component['index']}"})
            elif component["sub_type"].lower() == "url":
                buttons.append({"type": "URL", "text": "Look", "url": "https://shop.example/{{1}}", "example": ["https://shop.example/1"]})
        components.append(body)
        if buttons:
            components.append({"type": "BUTTONS", "buttons": buttons})
        language = sent["language"]["code"]
        if not re.fullmatch("[a-z]{2,3}(_[A-Z]{2})?", language):
            language = sent["language"]["code"] = "en_US"
        sent["name"] = self.template(sent["name"], language, components=components)[1]

    def settle(self, route):
        """What the examples that come after it need again."""
        if route == "POST /{phone_number_id}/deregister":
            self.made("POST", f"{self.ready['phone_number_id']}/register", json={"messaging_product": "whatsapp", "pin": PIN})
        if route == "DELETE /{waba_id}/subscribed_apps":
            self.made("POST", f"{self.ready['waba_id']}/subscribed_apps")


class Description:
    """An OpenAPI description: its operations, the requests that it shows, the schemas of its replies."""

    def __init__(self, file):
        # Through JSON, so that dates are texts and the codes of replies too.
        self.root = json.loads(json.dumps(yaml.safe_load(file.read_text()), default=str))
        made_absolute(self.root)
        self.registry = Registry().with_resource(URN, DRAFT202012.create_resource(self.root))

    def resolved(self, value):
        while "$ref" in value:
            value = self.registry.resolver().lookup(value["$ref"]).contents
        return value

    def operations(self):
        for path, operations in self.root["paths"].items():
            for method in METHODS:
                if method in operations:
                    yield path, method, operations[method], operations.get("parameters", [])

    def requests(self, method, operation, shared):
        """Name, query and body of every request that an operation shows; None for a body in which nothing is said."""
        parameters = [self.resolved(each) for each in [*shared, *operation.get("parameters", [])]]
        query = {each["name"]: example(each) for each in parameters if each["in"] == "query"}
        query = {name: value for name, value in query.items() if value is not None}
        shown = []
        for content in self.resolved(operation.get("requestBody", {})).get("content", {}).values():
            shown += [(name, {}, self.resolved(each)["value"]) for name, each in content.get("examples", {}).items()]
            if "example" in content:
                shown.append(("the example", {}, content["example"]))
        if "requestBody" in operation:
            return shown
        # To delete without saying what would be another request, and not a smaller one.
        plain = [] if method == "delete" and query else [("without parameters", {}, None)]
        return plain + ([("with its parameters", query, None)] if query else [])

    def problems(self, operation, reply):
        """What is wrong with a reply."""
        code = str(reply.status_code)
        if code not in operation["responses"]:
            return [f"HTTP {code} is not described: {reply.text}"]
        content = self.resolved(operation["responses"][code]).get("content", {})
        if "application/json" not in content:
            return [] if reply.content == BYTES else [f"not the file: {reply.text}"]
        if reply.headers["Content-Type"].split(";")[0] != "application/json":
            return [f"it is {reply.headers['Content-Type']}"]
        schema, value = content["application/json"]["schema"], reply.json()
        errors = Draft202012Validator(schema, registry=self.registry).iter_errors(value)
        found = [f"`{'.'.join(map(str, error.absolute_path)) or 'all'}`: {error.message}" for error in errors]
        # A schema that demands nothing fits any object: it has to be one of those that it is about.
        known = set().union(*(self.resolved(each).get("properties", {}) for each in [schema, *schema.get("oneOf", [])]))
        return found or ([] if known & set(value) else [f"it has nothing of what is described: {value}"])


def example(parameter):
    return parameter.get("example", parameter.get("schema", {}).get("example"))


def made_absolute(value):
    """Makes references absolute, so that they count in every part; and what OpenAPI 3.0 calls `nullable` a type, as JSON Schema does."""
    if isinstance(value, list):
        for each in value:
            made_absolute(each)
    elif isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            value["$ref"] = URN + value["$ref"]
        if value.get("nullable") is True and isinstance(value.get("type"), str):
            value["type"] = [value["type"], "null"]
            if "enum" in value:
                value["enum"].append(None)
        for each in value.values():
            made_absolute(each)


def route_of(path, method):
    """An operation as the gateway's own document calls it."""
    words = re.sub(r"^/\{Version\}", "", path).split("/")
    words = [word.lower().replace("-", "_") if word.startswith("{") else word for word in words]
    return f"{method.upper()} {'/'.join(ALIASES.get(word, word) for word in words)}"


def replay(gateway, description, route, operation, query, shown):
    """What is to be said of an example: whether it passed, and why it did not or how it was changed."""
    method, path = route.split(" /", 1)
    real, notes = gateway.body(route, shown) if isinstance(shown, dict) else (shown, [])
    if path.startswith("media/"):
        url = gateway.made("GET", gateway.upload("image"))["url"]
        reply = requests.get(url, timeout=60)
    else:
        # `settings` and the like stand for themselves; what is in braces is an object.
        path = re.sub(r"\{(\w+)\}", lambda found: gateway.object(found[1], shown, route), path)
        reply = gateway.call(method, path, params=gateway.parameters(query), **body_of(real))
    expected = refused(route, shown)
    if expected:
        code, why = expected
        answer = reply.json().get("error", {}).get("code") if reply.status_code != 200 else None
        if answer != code:
            return "failed", f"has to be refused with {code}, because {why}: {reply.text}"
        return "refused", f"{code}: {why}"
    gateway.settle(route)
    problems = description.problems(operation, reply)
    if not problems and route == "POST /{phone_number_id}/messages" and "text" in shown and "context" not in shown:
        gateway.said.append(shown["text"]["body"])
    if not problems:
        return "passed", "; ".join(dict.fromkeys(notes))
    for outcome, its_route, pattern, reason in EXCUSED:
        if its_route == route and all(re.fullmatch(pattern, problem) for problem in problems):
            return outcome, reason
    return "failed", "; ".join(problems)


def body_of(value):
    """How an example is sent: as JSON, or as a form if it has a file as curl would name one."""
    if value is None:
        return {}
    file = re.fullmatch(r"@(?P<path>.*);type=(?P<type>.*)", str(value.get("file", ""))) if isinstance(value, dict) else None
    if not file:
        return {"json": value}
    form = {name: text for name, text in value.items() if name != "file"}
    return {"data": form, "files": {"file": (pathlib.PurePath(file["path"]).name, BYTES, file["type"])}}


# Where a reply is not what the description has, and is right: what that counts as, the operation, what is said of the reply, and why.
EXCUSED = [
    (
        "passed", "POST /{phone_number_id}/messages", re.escape("it has nothing of what is described: {'success': True}"),
        "its schema demands nothing, and knows only the reply to a message; Meta's documentation has this one for a read receipt",
    ),
    (
        "named", "GET /{media_id}", r"`file_size`: \d+ is not of type 'string'",
        "`file_size` is a number, as SDKs read it; the description has a text",
    ),
    (
        "named", "GET /{waba_id}/phone_numbers", r"`data\.0\.status`: 'CONNECTED' is not one of .*",
        "`status` is `CONNECTED`, as the description has it for a number by its id; for a list of them it has other words",
    ),
]


def run(gateway, description):
    """The table's sections: for each operation its examples; and the operations that are not in the surface."""
    surface = gateway.ready["api_base"] + "/openapi.json"
    ours = {f"{method.upper()} {path}" for path, methods in requests.get(surface, timeout=60).json()["paths"].items() for method in methods}
    inside, outside = [], []
    for path, method, operation, shared in description.operations():
        route = route_of(path, method)
        if route not in ours:
            outside.append(f"{method.upper()} {path}")
            continue
        shown = description.requests(method, operation, shared)
        if not shown:
            outside.append(f"{method.upper()} {path} (no example)")
            continue
        rows = [(name, *replay(gateway, description, route, operation, query, body)) for name, query, body in shown]
        inside.append((f"{method.upper()} {path}", rows))
    return inside, outside


def summary(inside):
    """The figures, and what has to be true of them."""
    outcomes = [outcome for _, rows in inside for _, outcome, _ in rows]
    passed, on_purpose, named = (outcomes.count(each) for each in ["passed", "refused", "named"])
    wanted = len(outcomes) - on_purpose
    share = 100 * passed / wanted
    line = (
        f"{len(outcomes)} examples, {passed} passed ({share:.1f} % of the {wanted} that are not refused on purpose, "
        f"{100 * passed / len(outcomes):.1f} % of all), {on_purpose + named} named"
    )
    return line, share


def table(file, line, inside, outside):
    """The table as Markdown."""
    said = {"passed": "passes", "refused": "refused on purpose, ", "named": "named: ", "failed": "FAILS: "}
    parts = [
        f"# Meta's requests, replayed\n\nMade by `test_openapi.py` from `{file.name}`: each example of a request that falls in the gateway's surface.\n\n"
        f"{line}.\n"
    ]
    for path, rows in inside:
        lines = []
        for name, outcome, why in rows:
            why = f" ({why})" if why and outcome == "passed" else why
            lines.append(f"| {name} | {said[outcome]}{why} |\n")
        parts.append(f"## {path}\n\n| | |\n|---|---|\n{''.join(lines)}")
    listed = "".join(f"- {each}\n" for each in outside)
    return "\n".join([*parts, f"## Not in the surface\n\n{listed}"])


def main():
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BULLA_OPENAPI")
    file = pathlib.Path(given) if given else VENDORED
    description = Description(file)
    with World() as world:
        gateway = Gateway(world, description.root["info"]["version"])
        inside, outside = run(gateway, description)
        # The customer's terminal shows what the examples say: a reply that fits is not all.
        for text in gateway.said:
            gateway.alice.sees(f"< {text}")
        for customer in [gateway.alice, gateway.bob]:
            check.assertEqual(customer.finish(), 0)
    line, share = summary(inside)
    print(line)
    failed = [f"{path}: {name}: {why}" for path, rows in inside for name, outcome, why in rows if outcome == "failed"]
    check.assertEqual(failed, [], "\n".join(["neither passed nor named:", *failed]))
    check.assertGreaterEqual(share, GOAL, line)
    ok("every example passes or is named")
    if file.read_bytes() != VENDORED.read_bytes():
        return
    made = table(VENDORED, line, inside, outside)
    if os.environ.get("BULLA_WRITE_TABLES"):
        TABLE.write_text(made)
    check.assertEqual(made, TABLE.read_text(), f"{TABLE.name} says something else: run again with BULLA_WRITE_TABLES=1")
    ok("the table says the same")


main()
