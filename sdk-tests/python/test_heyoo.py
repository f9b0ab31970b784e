"""`heyoo`, as it is on PyPI: it knows customers by number only, and its addresses are set on the object, for it has no parameter for them.

heyoo verifies no signatures, has no typing indicator and raises no errors: it returns the API's error object.
"""

import hashlib
import hmac
import logging

from heyoo import WhatsApp
from world import World, check, ok


def verified(world, delivery):
    """A delivery's JSON, once its signature has been verified over its bytes."""
    wanted = hmac.new(world.ready["app_secret"].encode(), delivery.body, hashlib.sha256).hexdigest()
    check.assertTrue(hmac.compare_digest(delivery.signature(), f"sha256={wanted}"), delivery)
    return delivery.json()


def heard(world, messenger, what, kind, fits=lambda data: True):
    """Waits for a webhook with a message of this type."""

    def seen(delivery):
        data = verified(world, delivery)
        return messenger.is_message(data) and messenger.get_message_type(data) == kind and fits(data) and data

    return world.receiver.deliveries.until(what, seen)


def statuses(world, messenger, message_id):
    """Waits until a message of the business has been read; its statuses in the order in which they came."""
    came = []

    def read(delivery):
        data = verified(world, delivery)
        status = messenger.get_delivery(data)
        if status and messenger.preprocess(data)["statuses"][0]["id"] == message_id:
            came.append(status)
        return status == "read" and came

    return world.receiver.deliveries.until(f"the status read of {message_id}", read)


def talk(world, alice):
    ready = world.ready
    messenger = WhatsApp(ready["access_token"], phone_number_id=ready["phone_number_id"])
    messenger.base_url = f"{ready['api_base']}/v14.0"
    messenger.v15_base_url = f"{ready['api_base']}/v15.0"
    messenger.url = f"{messenger.base_url}/{ready['phone_number_id']}/messages"

    question = 'Do you have oat milk? ☕ "Sí" or 🥛?'
    question_id = alice.says(question)
    data = heard(world, messenger, "the question", "text")
    check.assertEqual((messenger.changed_field(data), messenger.get_message(data)), ("messages", question))
    check.assertEqual(messenger.get_name(data), "Alice")
    check.assertTrue(messenger.get_message_timestamp(data).isdecimal())
    number, message_id = messenger.get_mobile(data), messenger.get_message_id(data)
    check.assertRegex(number, r"^\d{15}$")
    alice.sees(f"✓✓ {question_id}")
    ok("receive: a customer's text arrives as a webhook that the SDK parses, from a number of 15 digits")

    check.assertEqual(messenger.mark_as_read(message_id), {"success": True})
    alice.sees(f"👁 {question_id}")
    ok("mark as read: the customer sees it")

    sent = messenger.send_message("Yes, and almond milk 🥛", number)
    check.assertEqual((sent["contacts"][0]["input"], sent["contacts"][0]["wa_id"]), (number, number))
    alice.sees("< Yes, and almond milk 🥛")
    ok("send: a text appears at the customer")

    check.assertEqual(statuses(world, messenger, sent["messages"][0]["id"]), ["sent", "delivered", "read"])
    ok("statuses: sent, delivered and read arrive")

    check.assertIn("messages", messenger.reply_to_message(message_id, number, "€ 1.20 more"))
    alice.sees("< € 1.20 more")
    ok("reply: to the customer's message")

    check.assertIn("messages", messenger.send_reaction("👍", message_id, number))
    alice.sees(f"~ 👍 {question_id}")
    check.assertIn("messages", messenger.send_reaction("", message_id, number))
    alice.sees(f"~ - {question_id}")
    ok("react: the customer sees the reaction come and go")

    alice.write("/reply One, please")
    reply = heard(world, messenger, "the reply", "text", lambda data: messenger.get_message(data) == "One, please")
    answered = messenger.preprocess(reply)["messages"][0]["context"]["id"]
    alice.write("/react 🎉")
    reaction = messenger.preprocess(heard(world, messenger, "the reaction", "reaction"))["messages"][0]["reaction"]
    check.assertEqual(reaction, {"message_id": answered, "emoji": "🎉"})
    ok("receive: the customer's reply and reaction name the message that they are about")

    # Its errors go to the log, too; what is expected here shall not be found there.
    logging.disable(logging.ERROR)
    check.assertEqual(messenger.send_message("hello?", "15551234567")["error"]["code"], 131030)
    product = {"type": "product", "action": {"catalog_id": "1", "product_retailer_id": "1"}}
    check.assertEqual(messenger.send_reply_button(product, number)["error"]["code"], 131051)
    nowhere = message_id[:-4] + "AAAA"
    check.assertEqual(messenger.reply_to_message(nowhere, number, "?")["error"]["code"], 131009)
    check.assertEqual(messenger.mark_as_read(nowhere).json()["error"]["code"], 131009)
    stranger = WhatsApp("wrong", phone_number_id=ready["phone_number_id"])
    stranger.url = messenger.url
    check.assertEqual(stranger.send_message("!", number)["error"]["code"], 190)
    ok("errors: unknown recipient, unsupported type, unknown message and wrong token come back with Meta's codes")


with World() as world:
    alice = world.customer("Alice")
    talk(world, alice)
    check.assertEqual(alice.finish(), 0)
    for each in world.receiver.deliveries.all():
        verified(world, each)
    ok("verify: every delivery's signature, over its bytes")
