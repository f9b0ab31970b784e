// `@kapso/whatsapp-cloud-api`, as it is on npm, with nothing changed but base URL, token and ids.

import assert from "node:assert/strict";

import { GraphApiError, WhatsAppClient, isBusinessScopedUserId } from "@kapso/whatsapp-cloud-api";
import { normalizeWebhook, verifySignature } from "@kapso/whatsapp-cloud-api/server";

import { inWorld, ok } from "./world.mjs";

/** A delivery as the SDK reads it, once the SDK has verified it. */
function events(world, delivery) {
  const { app_secret: appSecret } = world.ready;
  assert.ok(verifySignature({ appSecret, rawBody: delivery.body, signatureHeader: delivery.signature }), `${delivery}`);
  return normalizeWebhook(delivery.json());
}

/** Waits for a webhook with a message that fits; the message and what came with it. */
async function heard(world, what, fits) {
  return world.receiver.deliveries.until(what, (delivery) => {
    const came = events(world, delivery);
    const message = came.messages.find(fits);
    return message && { message, came };
  });
}

/** Waits until a message of the business has been read; its statuses in the order in which they came. */
async function statuses(world, id) {
  const came = [];
  await world.receiver.deliveries.until(`the status read of ${id}`, (delivery) => {
    came.push(...events(world, delivery).statuses.filter((status) => status.id === id));
    return came.at(-1)?.status === "read";
  });
  return came;
}

/** The SDK's own error of a call that must fail. */
async function refused(call) {
  const error = await call.then((answer) => assert.fail(`no error but ${JSON.stringify(answer)}`), (error) => error);
  assert.ok(error instanceof GraphApiError, `${error}`);
  return error;
}

await inWorld(async (world) => {
  const { ready } = world;
  const phoneNumberId = ready.phone_number_id;
  const { messages } = new WhatsAppClient({ baseUrl: ready.api_base, accessToken: ready.access_token });

  const challenge = await world.receiver.challenges.until("hub.challenge", (query) => query);
  assert.equal(challenge["hub.mode"], "subscribe");
  assert.equal(challenge["hub.verify_token"], ready.verify_token);
  ok("hub.challenge: asked with the verify token");

  const alice = world.customer("Alice");
  const question = 'Do you have oat milk? ☕ "Sí" or 🥛?';
  const questionId = await alice.says(question);
  const { message, came } = await heard(world, "the question", (m) => m.type === "text");
  assert.deepEqual([message.text.body, message.kapso.direction], [question, "inbound"]);
  assert.deepEqual([came.object, came.phoneNumberId], ["whatsapp_business_account", phoneNumberId]);
  const [contact] = came.contacts;
  assert.deepEqual([contact.profile.name, contact.waId, contact.userId], ["Alice", message.from, message.fromUserId]);
  assert.ok(isBusinessScopedUserId(contact.userId), contact.userId);
  await alice.sees(`✓✓ ${questionId}`);
  ok("receive: a customer's text arrives as a webhook that the SDK parses");

  const [delivery] = world.receiver.deliveries.all();
  const signed = { appSecret: ready.app_secret, rawBody: delivery.body, signatureHeader: delivery.signature };
  assert.ok(verifySignature(signed));
  assert.ok(!verifySignature({ ...signed, rawBody: Buffer.concat([delivery.body, Buffer.from(" ")]) }));
  assert.ok(!verifySignature({ ...signed, appSecret: ready.access_token }));
  ok("verify: the SDK accepts the signature over the body's bytes, and no other body or secret");

  assert.deepEqual(await messages.markRead({ phoneNumberId, messageId: message.id }), { success: true });
  await alice.sees(`👁 ${questionId}`);
  ok("mark as read: the customer sees it");

  const typingIndicator = { type: "text" };
  assert.deepEqual(await messages.markRead({ phoneNumberId, messageId: message.id, typingIndicator }), { success: true });
  ok("typing indicator: taken as the SDK writes it");

  const to = message.from;
  const sent = await messages.sendText({ phoneNumberId, to, body: "Yes, and almond milk 🥛", bizOpaqueCallbackData: "order 7" });
  assert.deepEqual([sent.contacts[0].input, sent.contacts[0].waId], [to, to]);
  await alice.sees("< Yes, and almond milk 🥛");
  ok("send: a text appears at the customer");

  const progress = await statuses(world, sent.messages[0].id);
  assert.deepEqual(progress.map((status) => status.status), ["sent", "delivered", "read"]);
  for (const status of progress) {
    const { recipientId, recipientUserId, bizOpaqueCallbackData } = status;
    assert.deepEqual([recipientId, recipientUserId, bizOpaqueCallbackData], [to, contact.userId, "order 7"]);
  }
  ok("statuses: sent, delivered and read arrive, with the callback data");

  const recipient = contact.userId;
  const reply = await messages.sendText({ phoneNumberId, recipient, body: "€ 1.20 more", contextMessageId: message.id });
  assert.equal(reply.contacts[0].userId, recipient);
  await alice.sees("< € 1.20 more");
  const nowhere = `${message.id.slice(0, -4)}AAAA`;
  assert.equal((await refused(messages.sendText({ phoneNumberId, to, body: "?", contextMessageId: nowhere }))).code, 131009);
  ok("reply: to the customer's message, by user id; to a message that does not exist it is refused");

  await messages.sendReaction({ phoneNumberId, to, reaction: { messageId: message.id, emoji: "👍" } });
  await alice.sees(`~ 👍 ${questionId}`);
  await messages.sendReaction({ phoneNumberId, to, reaction: { messageId: message.id, emoji: "" } });
  await alice.sees(`~ - ${questionId}`);
  ok("react: the customer sees the reaction come and go");

  alice.write("/reply One, please");
  const { message: answer } = await heard(world, "the reply", (m) => m.context);
  assert.deepEqual([answer.text.body, answer.context.id], ["One, please", reply.messages[0].id]);
  alice.write("/react 🎉");
  const { message: reaction } = await heard(world, "the reaction", (m) => m.type === "reaction");
  assert.deepEqual(reaction.reaction, { messageId: reply.messages[0].id, emoji: "🎉" });
  alice.write("/delete");
  const { message: revoke } = await heard(world, "the deletion", (m) => m.type === "revoke");
  assert.equal(revoke.revoke.originalMessageId, answer.id);
  ok("receive: the customer's reply, reaction and deletion name the messages that they are about");

  const stranger = new WhatsAppClient({ baseUrl: ready.api_base, accessToken: "wrong" });
  for (const [call, httpStatus, code] of [
    [() => messages.sendText({ phoneNumberId, to: "+15551234567", body: "hello?" }), 400, 131030],
    [() => messages.sendText({ phoneNumberId: "1", to, body: "hello?" }), 400, 100],
    [() => messages.sendImage({ phoneNumberId, to, image: { id: "1" } }), 400, 131009],
    [() => stranger.messages.sendText({ phoneNumberId, to, body: "!" }), 401, 190],
  ]) {
    const error = await refused(call());
    assert.deepEqual([error.httpStatus, error.code], [httpStatus, code]);
  }
  ok("errors: unknown recipient, unknown number, unknown file and wrong token are the SDK's own errors, with Meta's codes");

  assert.equal(await alice.finish(), 0);
  for (const each of world.receiver.deliveries.all()) {
    events(world, each);
    assert.ok(each.body.every((byte) => byte < 0x80), `${each}`);
  }
  ok("verify: every delivery of the conversation, all in ASCII");
});
