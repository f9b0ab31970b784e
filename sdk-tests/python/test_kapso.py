"""`kapso-whatsapp-cloud-api`, as it is on PyPI, with nothing changed but base URL, token and ids."""

import asyncio

from kapso_whatsapp import AuthenticationError, ValidationError, WhatsAppClient
from kapso_whatsapp.webhooks import normalize_webhook, verify_signature
from world import World, check, ok


def events(world, delivery):
    """A delivery as the SDK reads it, once the SDK has verified it."""
    secret, signature = world.ready["app_secret"], delivery.signature()
    check.assertTrue(verify_signature(app_secret=secret, raw_body=delivery.body, signature_header=signature), delivery)
    return normalize_webhook(delivery.json())


def heard(world, what, fits):
    """Waits for a webhook with a message that fits; the message and what came with it."""

    def seen(delivery):
        came = events(world, delivery)
        return next(((message, came) for message in came.messages if fits(message)), None)

    return world.receiver.deliveries.until(what, seen)


def statuses(world, message_id):
    """Waits until a message of the business has been read; its statuses in the order in which they came."""
    came = []

    def read(delivery):
        came.extend(status for status in events(world, delivery).statuses if status.id == message_id)
        return came and came[-1].status == "read"

    world.receiver.deliveries.until(f"the status read of {message_id}", read)
    return came


async def refused(kind, call):
    """The error of a call that must fail with this type."""
    try:
        answer = await call
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} but {answer!r}")


async def talk(world, alice, client):
    ready = world.ready
    phone = ready["phone_number_id"]

    question = 'Do you have oat milk? ☕ "Sí" or 🥛?'
    question_id = alice.says(question)
    message, came = heard(world, "the question", lambda m: m["type"] == "text")
    check.assertEqual((message["text"]["body"], message["kapso"]["direction"]), (question, "inbound"))
    check.assertEqual((came.object, came.phone_number_id), ("whatsapp_business_account", phone))
    check.assertEqual(came.contacts[0]["profile"]["name"], "Alice")
    check.assertEqual(came.contacts[0]["waId"], message["from"])
    alice.sees(f"✓✓ {question_id}")
    ok("receive: a customer's text arrives as a webhook that the SDK parses")

    delivery = world.receiver.deliveries.all()[0]
    check.assertFalse(
        verify_signature(app_secret=ready["app_secret"], raw_body=delivery.body + b" ", signature_header=delivery.signature())
    )
    check.assertFalse(
        verify_signature(app_secret=ready["access_token"], raw_body=delivery.body, signature_header=delivery.signature())
    )
    ok("verify: the SDK accepts the signature over the body's bytes, and no other body or secret")

    customer = message["from"]
    check.assertEqual(await client.messages.mark_read(phone_number_id=phone, message_id=message["id"]), {"success": True})
    alice.sees(f"👁 {question_id}")
    ok("mark as read: the customer sees it")

    typing = client.messages.mark_read(phone_number_id=phone, message_id=message["id"], typing_indicator=True)
    check.assertEqual(await typing, {"success": True})
    ok("typing indicator: taken as the SDK writes it")

    sent = await client.messages.send_text(
        phone_number_id=phone, to=customer, body="Yes, and almond milk 🥛", biz_opaque_callback_data="order 7"
    )
    check.assertEqual((sent.contacts[0].input, sent.contacts[0].wa_id), (customer, customer))
    alice.sees("< Yes, and almond milk 🥛")
    ok("send: a text appears at the customer")

    came = statuses(world, sent.message_id)
    check.assertEqual([status.status for status in came], ["sent", "delivered", "read"])
    check.assertEqual({status.recipient_id for status in came}, {customer})
    check.assertEqual({status.extra["bizOpaqueCallbackData"] for status in came}, {"order 7"})
    ok("statuses: sent, delivered and read arrive, with the callback data")

    answer = {"message_id": message["id"]}
    await client.messages.send_text(phone_number_id=phone, to=came[0].extra["recipientUserId"], body="€ 1.20 more", context=answer)
    alice.sees("< € 1.20 more")
    nowhere = {"message_id": sent.message_id[:-4] + "AAAA"}
    error = await refused(ValidationError, client.messages.send_text(phone_number_id=phone, to=customer, body="?", context=nowhere))
    check.assertEqual(error.error_code, 131009)
    ok("reply: to the customer's message, by user id; to a message that does not exist it is refused")

    reaction = {"message_id": message["id"], "emoji": "👍"}
    await client.messages.send_reaction(phone_number_id=phone, to=customer, reaction=reaction)
    alice.sees(f"~ 👍 {question_id}")
    await client.messages.send_reaction(phone_number_id=phone, to=customer, reaction={**reaction, "emoji": ""})
    alice.sees(f"~ - {question_id}")
    ok("react: the customer sees the reaction come and go")

    alice.write("/reply One, please")
    reply, _ = heard(world, "the reply", lambda m: "context" in m)
    check.assertEqual(reply["text"]["body"], "One, please")
    answered = reply["context"]["id"]
    alice.write("/react 🎉")
    loved, _ = heard(world, "the reaction", lambda m: m["type"] == "reaction")
    check.assertEqual(loved["reaction"], {"messageId": answered, "emoji": "🎉"})
    alice.write("/edit Two, please")
    edit, _ = heard(world, "the edit", lambda m: m["type"] == "edit")
    check.assertEqual(edit["edit"]["originalMessageId"], reply["id"])
    check.assertEqual(edit["edit"]["message"]["text"]["body"], "Two, please")
    ok("receive: the customer's reply, reaction and edit name the messages that they are about")

    for call, kind, code in [
        (client.messages.send_text(phone_number_id=phone, to="+15551234567", body="hello?"), ValidationError, 131030),
        (client.messages.send_text(phone_number_id="1", to=customer, body="hello?"), ValidationError, 100),
        (client.messages.send_image(phone_number_id=phone, to=customer, image={"id": "1"}), ValidationError, 131009),
    ]:
        error = await refused(kind, call)
        check.assertEqual((error.status_code, error.error_code), (400, code))
    async with WhatsAppClient(access_token="wrong", base_url=ready["api_base"]) as stranger:
        error = await refused(AuthenticationError, stranger.messages.send_text(phone_number_id=phone, to=customer, body="!"))
        check.assertEqual((error.status_code, error.error_code), (401, 190))
    ok("errors: unknown recipient, unknown number, unknown file and wrong token are the SDK's own errors, with Meta's codes")


async def main(world, alice):
    async with WhatsAppClient(access_token=world.ready["access_token"], base_url=world.ready["api_base"]) as client:
        await talk(world, alice, client)


with World() as world:
    challenge = world.receiver.challenges.until("hub.challenge", lambda query: query)
    check.assertEqual((challenge["hub.mode"], challenge["hub.verify_token"]), ("subscribe", world.ready["verify_token"]))
    ok("hub.challenge: asked with the verify token")
    alice = world.customer("Alice")
    asyncio.run(main(world, alice))
    check.assertEqual(alice.finish(), 0)
    for each in world.receiver.deliveries.all():
        events(world, each)
        check.assertTrue(each.body.isascii(), each)
    ok("verify: every delivery of the conversation, all in ASCII")
