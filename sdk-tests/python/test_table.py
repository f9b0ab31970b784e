"""Every public method of the SDKs on PyPI, as they are, called against a running gateway: what works, what is refused with which of Meta's
codes, what is not in Meta's API. The result is `table.md` beside this file; a run that comes to another one fails, and BULLA_WRITE_TABLES=1
writes it anew. A method that is not called here fails the test, and so does one of the Cloud API's essentials that does not work.
"""

import asyncio
import importlib
import inspect
import logging
import mimetypes
import os
import pathlib
import pkgutil
import tempfile

import kapso_whatsapp.platform.resources as platform
import requests
from heyoo import WhatsApp
from kapso_whatsapp import KapsoProxyRequiredError, WhatsAppAPIError, WhatsAppClient
from world import World, check, ok

TABLE = pathlib.Path(__file__).parent / "table.md"
PNG = b"\x89PNG"
# A file of each kind, by its type and by its name; older Pythons do not know what ends in .webp.
KINDS = {"image": "image/png", "audio": "audio/mpeg", "document": "application/pdf", "video": "video/mp4", "sticker": "image/webp"}
NAMES = {"image": "a.png", "audio": "a.mp3", "document": "a.pdf", "video": "a.mp4", "sticker": "a.webp"}
mimetypes.add_type("image/webp", ".webp")


def public(thing):
    return [name for name, _ in inspect.getmembers(thing, callable) if not name.startswith("_")]


def template(name):
    body = {"type": "BODY", "text": "Hello {{1}}, it is here.", "example": {"body_text": [["Ada"]]}}
    return {"name": name, "language": "en_US", "category": "UTILITY", "components": [body]}


def section(name, rows, must):
    for method in must:
        check.assertEqual(rows[method], "works", f"{name}: {method}")
    lines = "".join(f"| `{method}` | {rows[method]} |\n" for method in sorted(rows))
    return f"## {name}\n\n| | |\n|---|---|\n{lines}"


def of_heyoo(world, delivery, folder):
    """It raises no errors: it returns the API's error object, or None, or the response."""
    ready = world.ready
    sdk = WhatsApp(ready["access_token"], phone_number_id=ready["phone_number_id"])
    sdk.base_url, sdk.v15_base_url = f"{ready['api_base']}/v14.0", f"{ready['api_base']}/v15.0"
    sdk.url = f"{sdk.base_url}/{ready['phone_number_id']}/messages"
    # Its errors go to the log, too; some are expected here.
    logging.disable(logging.ERROR)
    data = delivery.json()
    to, message = sdk.get_mobile(data), sdk.get_message_id(data)
    paths = {kind: os.path.join(folder, name) for kind, name in NAMES.items()}
    for path in paths.values():
        pathlib.Path(path).write_bytes(PNG)
    media = {kind: sdk.upload_media(path)["id"] for kind, path in paths.items()}
    buttons = {"header": "Pick", "body": "Which one?", "footer": "Thanks", "action": {"button": "Open", "sections": [
        {"title": "All", "rows": [{"id": "1", "title": "One", "description": "The first"}]}]}}
    reply = {"type": "button", "body": {"text": "Which one?"}, "action": {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "One"}}]}}
    contact = {"name": {"formatted_name": "Bob", "first_name": "Bob"}, "phones": [{"phone": "123456", "type": "HOME"}]}
    created = requests.post(
        f"{sdk.base_url}/{ready['waba_id']}/message_templates", json=template("sent"), headers=sdk.headers, timeout=30,
    )
    check.assertEqual(created.status_code, 200)
    filled = [{"type": "body", "parameters": [{"type": "text", "text": "Ada"}]}]
    text = {"messaging_product": "whatsapp", "type": "text", "text": {"body": "Raw"}}
    calls = {
        "changed_field": lambda: sdk.changed_field(data) == "messages",
        "create_button": lambda: sdk.create_button(buttons),
        "preprocess": lambda: sdk.preprocess(data),
        "is_message": lambda: sdk.is_message(data),
        "send_message": lambda: sdk.send_message("Hello", to),
        "reply_to_message": lambda: sdk.reply_to_message(message, to, "Hello"),
        "send_reaction": lambda: sdk.send_reaction("👍", message, to),
        "send_image": lambda: sdk.send_image(media["image"], to, link=False),
        "send_video": lambda: sdk.send_video(media["video"], to, link=False),
        "send_audio": lambda: sdk.send_audio(media["audio"], to, link=False),
        "send_document": lambda: sdk.send_document(media["document"], to, link=False),
        "send_sticker": lambda: sdk.send_sticker(media["sticker"], to, link=False),
        "send_location": lambda: sdk.send_location("1", "2", "Pier", "Here", to),
        "send_contacts": lambda: sdk.send_contacts([contact], to),
        "send_button": lambda: sdk.send_button(buttons, to),
        "send_reply_button": lambda: sdk.send_reply_button(reply, to),
        "send_template": lambda: sdk.send_template("sent", to, filled),
        "send_custom_json": lambda: sdk.send_custom_json(text, to),
        "mark_as_read": lambda: sdk.mark_as_read(message),
        "upload_media": lambda: sdk.upload_media(paths["image"]),
        "query_media_url": lambda: sdk.query_media_url(media["image"]),
        "download_media": lambda: sdk.download_media(sdk.query_media_url(media["image"]), "image/png", os.path.join(folder, "b")),
        "delete_media": lambda: sdk.delete_media(media["image"]),
    }
    # They read what a webhook of their kind has, and None of another.
    reads = ["audio", "delivery", "document", "image", "interactive_response", "location", "video"]
    calls |= {f"get_{kind}": lambda kind=kind: getattr(sdk, f"get_{kind}")(data) is None for kind in reads}
    reads = ["message", "message_id", "message_timestamp", "message_type", "mobile", "name"]
    calls |= {f"get_{kind}": lambda kind=kind: getattr(sdk, f"get_{kind}")(data) for kind in reads}
    check.assertEqual(sorted(calls), sorted(public(WhatsApp)), "every public method, and no other")
    rows = {}
    for name, call in calls.items():
        answer = call()
        answer = answer.json() if isinstance(answer, requests.Response) else answer
        check.assertTrue(answer, name)
        refused = isinstance(answer, dict) and answer.get("error")
        rows[name] = f"refused: {refused['code']}" if refused else "works"
    logging.disable(logging.NOTSET)
    return section("heyoo 0.1.2", rows, list(rows))


async def of_kapso(world, delivery):
    ready = world.ready
    said = delivery.json()["entry"][0]["changes"][0]["value"]["messages"][0]
    phone, waba = {"phone_number_id": ready["phone_number_id"]}, {"business_account_id": ready["waba_id"]}
    at = {**phone, "to": said["from"]}
    sdk = WhatsAppClient(access_token=ready["access_token"], base_url=ready["api_base"])
    upload = lambda: sdk.media.upload(**phone, file=PNG, type="image/png", filename="a.png")
    media = (await upload()).id
    files = {kind: {"id": (await sdk.media.upload(**phone, file=PNG, type=type, filename="a")).id} for kind, type in KINDS.items()}
    made = (await sdk.templates.create(**waba, **template("made")))["id"]
    body = {"body_text": "Which one?"}
    messages, flow = sdk.messages, {"version": "5.0", "screens": []}
    filled = [{"type": "body", "parameters": [{"type": "text", "text": "Ada"}]}]
    rows_of = [{"title": "All", "rows": [{"id": "1", "title": "One"}]}]
    products = [{"title": "All", "product_items": [{"product_retailer_id": "1"}]}]
    calls = {
        "messages": {
            "send_text": lambda: messages.send_text(**at, body="Hello"),
            "send_image": lambda: messages.send_image(**at, image=files["image"]),
            "send_audio": lambda: messages.send_audio(**at, audio=files["audio"]),
            "send_document": lambda: messages.send_document(**at, document=files["document"]),
            "send_video": lambda: messages.send_video(**at, video=files["video"]),
            "send_sticker": lambda: messages.send_sticker(**at, sticker=files["sticker"]),
            "send_location": lambda: messages.send_location(**at, location={"latitude": 1, "longitude": 2, "name": "Pier"}),
            "send_contacts": lambda: messages.send_contacts(**at, contacts=[{"name": {"formatted_name": "Bob", "first_name": "Bob"}}]),
            "send_reaction": lambda: messages.send_reaction(**at, reaction={"message_id": said["id"], "emoji": "👍"}),
            "send_template": lambda: messages.send_template(
                **at, template={"name": "made", "language": {"code": "en_US"}, "components": filled}),
            "send_interactive_buttons": lambda: messages.send_interactive_buttons(**at, **body, buttons=[{"id": "1", "title": "One"}]),
            "send_interactive_list": lambda: messages.send_interactive_list(**at, **body, button_text="Open", sections=rows_of),
            "send_interactive_product": lambda: messages.send_interactive_product(**at, catalog_id="1", product_retailer_id="1"),
            "send_interactive_product_list": lambda: messages.send_interactive_product_list(
                **at, **body, catalog_id="1", sections=products, header_text="All"),
            "send_interactive_catalog": lambda: messages.send_interactive_catalog(**at, **body),
            "send_interactive_cta_url": lambda: messages.send_interactive_cta_url(
                **at, **body, parameters={"display_text": "Look", "url": "https://shop.example/"}),
            "send_interactive_flow": lambda: messages.send_interactive_flow(
                **at, **body, parameters={"flow_message_version": "3", "flow_id": "1", "flow_cta": "Open"}),
            "send_interactive_location_request": lambda: messages.send_interactive_location_request(**at, **body),
            "mark_read": lambda: messages.mark_read(**phone, message_id=said["id"]),
            "list": lambda: messages.list(**phone),
            "query": lambda: messages.query(**phone),
            "list_by_conversation": lambda: messages.list_by_conversation(**phone, conversation_id="1"),
        },
        "media": {
            "upload": upload,
            "get": lambda: sdk.media.get(media_id=media),
            "download": lambda: sdk.media.download(media_id=media),
            "delete": lambda: sdk.media.delete(media_id=media),
        },
        "templates": {
            "create": lambda: sdk.templates.create(**waba, **template("other")),
            "list": lambda: sdk.templates.list(**waba, name="other"),
            "get": lambda: sdk.templates.get(template_id=made),
            "delete": lambda: sdk.templates.delete(**waba, name="other"),
        },
        "phone_numbers": {
            "update_business_profile": lambda: sdk.phone_numbers.update_business_profile(**phone, about="Fresh", websites=["https://shop.example"]),
            "get_business_profile": lambda: sdk.phone_numbers.get_business_profile(**phone),
            "get_settings": lambda: sdk.phone_numbers.get_settings(**phone),
            "update_settings": lambda: sdk.phone_numbers.update_settings(**phone, calling={"status": "DISABLED"}),
            "request_code": lambda: sdk.phone_numbers.request_code(**phone, code_method="SMS"),
            "verify_code": lambda: sdk.phone_numbers.verify_code(**phone, code="123456"),
            "deregister": lambda: sdk.phone_numbers.deregister(**phone),
            "register": lambda: sdk.phone_numbers.register(**phone, pin="123456"),
        },
        "calls": {
            "get": lambda: sdk.calls.get(**phone, call_id="1"),
            "list": lambda: sdk.calls.list(**phone),
            "request_permission": lambda: sdk.calls.request_permission(**at),
        },
        "contacts": {
            "get": lambda: sdk.contacts.get(**phone, wa_id=said["from"]),
            "list": lambda: sdk.contacts.list(**phone),
            "update": lambda: sdk.contacts.update(**phone, wa_id=said["from"], name="Alice"),
        },
        "conversations": {
            "get": lambda: sdk.conversations.get(**phone, conversation_id="1"),
            "list": lambda: sdk.conversations.list(**phone),
            "update_status": lambda: sdk.conversations.update_status(conversation_id="1", status="ended"),
        },
        "flows": {
            "create": lambda: sdk.flows.create(waba_id=ready["waba_id"], name="form"),
            "deploy": lambda: sdk.flows.deploy(flow, waba_id=ready["waba_id"], name="form"),
            "update_asset": lambda: sdk.flows.update_asset(flow_id="1", asset=flow),
            "publish": lambda: sdk.flows.publish(flow_id="1"),
            "deprecate": lambda: sdk.flows.deprecate(flow_id="1"),
            "get": lambda: sdk.flows.get(flow_id="1"),
            "get_preview": lambda: sdk.flows.get_preview(flow_id="1"),
            "list": lambda: sdk.flows.list(waba_id=ready["waba_id"]),
            "delete": lambda: sdk.flows.delete(flow_id="1"),
        },
    }
    rows = {}
    for resource, methods in calls.items():
        check.assertEqual(sorted(methods), sorted(public(getattr(sdk, resource))), f"{resource}: every public method, and no other")
        for name, call in methods.items():
            try:
                await call()
                rows[f"{resource}.{name}"] = "works"
            except KapsoProxyRequiredError:
                rows[f"{resource}.{name}"] = "not in Meta's API"
            except WhatsAppAPIError as refused:
                rows[f"{resource}.{name}"] = f"refused: {refused.error_code}"
    await sdk.close()
    must = ["text", *KINDS, "location", "contacts", "reaction", "template"]
    must += [f"interactive_{kind}" for kind in ["buttons", "list", "cta_url", "location_request"]]
    must = [f"messages.send_{kind}" for kind in must] + ["messages.mark_read"]
    must += [f"{resource}.{name}" for resource in ["media", "templates"] for name in calls[resource]]
    must += [f"phone_numbers.{name}" for name in calls["phone_numbers"] if not name.endswith("_code")]
    return section("kapso-whatsapp-cloud-api 0.3.0", rows, must)


def of_the_platform():
    """Kapso's own service, at an address of its own: nothing of it is Meta's."""
    modules = [importlib.import_module(f"{platform.__name__}.{each.name}") for each in pkgutil.iter_modules(platform.__path__)]
    classes = [each for module in modules for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == module.__name__]
    names = sorted(f"{each.__name__}.{name}" for each in classes if each.__name__.endswith("Resource") for name in public(each))
    check.assertTrue(names)
    lines = "".join(f"| `{name}` | not in Meta's API |\n" for name in names)
    return f"## kapso-whatsapp-cloud-api 0.3.0: `KapsoPlatformClient`\n\n| | |\n|---|---|\n{lines}"


with World() as world, tempfile.TemporaryDirectory() as folder:
    alice = world.customer("Alice")
    alice.says("Hello")
    delivery = world.receiver.deliveries.until("her message", lambda each: "messages" in each.json()["entry"][0]["changes"][0]["value"] and each)
    head = "# What the SDKs on PyPI do with a gateway\n\nMade by `test_table.py`: every public method is called.\n"
    made = "\n".join([head, of_heyoo(world, delivery, folder), asyncio.run(of_kapso(world, delivery)), of_the_platform()])
    if os.environ.get("BULLA_WRITE_TABLES"):
        TABLE.write_text(made)
    check.assertEqual(made, TABLE.read_text(), f"{TABLE.name} says something else: run again with BULLA_WRITE_TABLES=1")
    ok("every public method of both SDKs does what the table says")
    check.assertEqual(alice.finish(), 0)
