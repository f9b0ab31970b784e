// Every public method of the SDKs on npm, as they are, called against a running gateway: what works, what is refused with which of Meta's
// codes, what is not in Meta's API. The result is `table.md` beside this file; a run that comes to another one fails, and BULLA_WRITE_TABLES=1
// writes it anew. A method that is not called here fails the test, and so does one of the Cloud API's essentials that does not work.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";

import { KapsoProxyRequiredError, WhatsAppClient } from "@kapso/whatsapp-cloud-api";
import { Client } from "@great-detail/whatsapp";

import { inWorld, ok } from "./world.mjs";

const TABLE = "sdk-tests/node/table.md";

/** The methods of an object's class, but for what is marked as the class's own. */
function methods(object) {
  const prototype = Object.getPrototypeOf(object);
  const names = Object.getOwnPropertyNames(prototype).filter((name) => name !== "constructor" && !name.startsWith("_"));
  return names.filter((name) => typeof prototype[name] === "function");
}

/** Meta's code of a refusal, from whatever error the SDK makes of it. */
async function codeOf(error) {
  if (error.code && Number.isInteger(error.code)) return error.code;
  const answer = error.data ?? (await error.response?.clone().json().catch(() => undefined));
  return answer?.error?.code;
}

/** Calls everything; rows of the table. `must` are the essentials. */
async function tried(sdk, resources, calls, must) {
  const wanted = Object.entries(resources).flatMap(([name, object]) => methods(object).map((method) => `${name}.${method}`));
  assert.deepEqual(Object.keys(calls).sort(), wanted.sort(), `${sdk}: every public method, and no other`);
  const rows = new Map();
  const strange = [];
  for (const [method, call] of Object.entries(calls)) {
    let outcome = "works";
    try {
      await call();
    } catch (error) {
      const code = await codeOf(error);
      if (error instanceof KapsoProxyRequiredError) outcome = "not in Meta's API";
      else if (code) outcome = `refused: ${code}`;
      else strange.push(`${method}: ${error.stack}`);
    }
    rows.set(method, outcome);
  }
  assert.equal(strange.length, 0, `${sdk}: no answer of the API\n${strange.join("\n")}`);
  for (const method of must) assert.equal(rows.get(method), "works", `${sdk}: ${method}`);
  const lines = [...rows].sort(([a], [b]) => a.localeCompare(b, "en")).map(([method, outcome]) => `| \`${method}\` | ${outcome} |`);
  return `## ${sdk}\n\n| | |\n|---|---|\n${lines.join("\n")}\n`;
}

const template = (name) => ({
  name,
  language: "en",
  category: "UTILITY",
  components: [{ type: "BODY", text: "Hello {{1}}, it is here.", example: { body_text: [["Ada"]] } }],
});
const flow = { version: "5.0", screens: [] };
const PNG = Uint8Array.of(0x89, 0x50, 0x4e, 0x47);

/** `@kapso/whatsapp-cloud-api`. */
async function kapso({ ready }, to, messageId) {
  const client = new WhatsAppClient({ baseUrl: ready.api_base, accessToken: ready.access_token });
  const { messages, media, templates, phoneNumbers, calls, conversations, contacts, flows } = client;
  const phoneNumberId = ready.phone_number_id;
  const businessAccountId = ready.waba_id;
  const at = { phoneNumberId, to };
  const upload = async (type) => ({ id: (await media.upload({ phoneNumberId, type, file: new Blob([PNG], { type }), fileName: "a" })).id });
  const file = await upload("image/png");
  const bodyText = "Which one?";
  let made;
  const session = { sdpType: "offer", sdp: "v=0" };
  return tried(
    "@kapso/whatsapp-cloud-api 0.3.0",
    { messages, media, templates, phoneNumbers, calls, conversations, contacts, flows },
    {
      "messages.sendText": () => messages.sendText({ ...at, body: "Hello" }),
      "messages.sendImage": () => messages.sendImage({ ...at, image: file }),
      "messages.sendAudio": async () => messages.sendAudio({ ...at, audio: await upload("audio/mpeg") }),
      "messages.sendDocument": async () => messages.sendDocument({ ...at, document: await upload("application/pdf") }),
      "messages.sendVideo": async () => messages.sendVideo({ ...at, video: await upload("video/mp4") }),
      "messages.sendSticker": async () => messages.sendSticker({ ...at, sticker: await upload("image/webp") }),
      "messages.sendLocation": () => messages.sendLocation({ ...at, location: { latitude: 1, longitude: 2, name: "Pier" } }),
      "messages.sendContacts": () => messages.sendContacts({ ...at, contacts: [{ name: { formattedName: "Bob", firstName: "Bob" } }] }),
      "messages.sendTemplate": async () => {
        await templates.create({ businessAccountId, ...template("sent") });
        const components = [{ type: "body", parameters: [{ type: "text", text: "Ada" }] }];
        await messages.sendTemplate({ ...at, template: { name: "sent", language: { code: "en" }, components } });
      },
      "messages.sendReaction": () => messages.sendReaction({ ...at, reaction: { messageId, emoji: "👍" } }),
      "messages.sendInteractiveButtons": () => messages.sendInteractiveButtons({ ...at, bodyText, buttons: [{ id: "1", title: "One" }] }),
      "messages.sendInteractiveList": () =>
        messages.sendInteractiveList({ ...at, bodyText, buttonText: "Open", sections: [{ title: "All", rows: [{ id: "1", title: "One" }] }] }),
      "messages.sendInteractiveProduct": () => messages.sendInteractiveProduct({ ...at, bodyText, catalogId: "1", productRetailerId: "1" }),
      "messages.sendInteractiveProductList": () =>
        messages.sendInteractiveProductList({
          ...at, bodyText, catalogId: "1", header: { type: "text", text: "All" }, sections: [{ title: "All", productItems: [{ productRetailerId: "1" }] }],
        }),
      "messages.sendInteractiveFlow": () =>
        messages.sendInteractiveFlow({ ...at, bodyText, parameters: { flowMessageVersion: "3", flowId: "1", flowCta: "Open" } }),
      "messages.sendInteractiveAddress": () => messages.sendInteractiveAddress({ ...at, bodyText, parameters: { country: "IN" } }),
      "messages.sendInteractiveLocationRequest": () => messages.sendInteractiveLocationRequest({ ...at, bodyText, parameters: { requestMessage: bodyText } }),
      "messages.sendInteractiveCallPermission": () => messages.sendInteractiveCallPermission({ ...at, bodyText, parameters: { phoneNumber: to } }),
      "messages.sendInteractiveCtaUrl": () =>
        messages.sendInteractiveCtaUrl({ ...at, bodyText, parameters: { displayText: "Look", url: "https://shop.example/" } }),
      "messages.sendInteractiveCarousel": () => {
        const action = { displayText: "Look", url: "https://shop.example/" };
        const card = (cardIndex) => ({ cardIndex, header: { type: "image", image: file }, bodyText: "One", action });
        return messages.sendInteractiveCarousel({ ...at, bodyText, cards: [card(0), card(1)] });
      },
      "messages.sendInteractiveCatalogMessage": () => messages.sendInteractiveCatalogMessage({ ...at, bodyText, parameters: { thumbnailProductRetailerId: "1" } }),
      "messages.sendInteractiveRaw": () =>
        messages.sendInteractiveRaw({ ...at, interactive: { type: "location_request_message", body: { text: bodyText }, action: { name: "send_location" } } }),
      "messages.sendRaw": () => messages.sendRaw({ phoneNumberId, payload: { messagingProduct: "whatsapp", to, type: "text", text: { body: "Raw" } } }),
      "messages.markRead": () => messages.markRead({ phoneNumberId, messageId }),
      "messages.query": () => messages.query({ phoneNumberId }),
      "messages.get": () => messages.get({ phoneNumberId, messageId }),
      "messages.listByConversation": () => messages.listByConversation({ phoneNumberId, conversationId: "1" }),
      "media.upload": () => upload("image/png"),
      "media.get": () => media.get({ mediaId: file.id }),
      "media.download": async () => assert.deepEqual(new Uint8Array(await media.download({ mediaId: file.id })), PNG),
      "media.delete": () => media.delete({ mediaId: file.id }),
      "templates.create": async () => {
        made = await templates.create({ businessAccountId, ...template("made") });
        assert.equal(made.status, "APPROVED");
      },
      "templates.list": async () => assert.ok((await templates.list({ businessAccountId, name: "made" })).data.length === 1),
      "templates.get": async () => assert.equal((await templates.get({ businessAccountId, templateId: made.id })).name, "made"),
      "templates.delete": () => templates.delete({ businessAccountId, name: "made" }),
      "phoneNumbers.requestCode": () => phoneNumbers.requestCode({ phoneNumberId, codeMethod: "SMS", language: "en_US" }),
      "phoneNumbers.verifyCode": () => phoneNumbers.verifyCode({ phoneNumberId, code: "123456" }),
      "phoneNumbers.deregister": () => phoneNumbers.deregister({ phoneNumberId }),
      "phoneNumbers.register": () => phoneNumbers.register({ phoneNumberId, pin: "123456" }),
      "calls.connect": () => calls.connect({ ...at, session }),
      "calls.preAccept": () => calls.preAccept({ phoneNumberId, callId: "1", session: { ...session, sdpType: "answer" } }),
      "calls.accept": () => calls.accept({ phoneNumberId, callId: "1", session: { ...session, sdpType: "answer" } }),
      "calls.reject": () => calls.reject({ phoneNumberId, callId: "1" }),
      "calls.terminate": () => calls.terminate({ phoneNumberId, callId: "1" }),
      "calls.list": () => calls.list({ phoneNumberId }),
      "calls.get": () => calls.get({ phoneNumberId, callId: "1" }),
      "conversations.list": () => conversations.list({ phoneNumberId }),
      "conversations.get": () => conversations.get({ conversationId: "1" }),
      "conversations.updateStatus": () => conversations.updateStatus({ conversationId: "1", status: "ended" }),
      "contacts.list": () => contacts.list({ phoneNumberId }),
      "contacts.get": () => contacts.get({ phoneNumberId, waId: to }),
      "contacts.update": () => contacts.update({ phoneNumberId, waId: to, metadata: {} }),
      "flows.create": () => flows.create({ wabaId: businessAccountId, name: "form", flowJson: flow }),
      "flows.updateAsset": () => flows.updateAsset({ flowId: "1", json: flow }),
      "flows.publish": () => flows.publish({ flowId: "1" }),
      "flows.deprecate": () => flows.deprecate({ flowId: "1" }),
      "flows.preview": () => flows.preview({ flowId: "1" }),
      "flows.get": () => flows.get({ flowId: "1" }),
      "flows.list": () => flows.list({ wabaId: businessAccountId }),
      "flows.deploy": () => flows.deploy(flow, { wabaId: businessAccountId, name: "form" }),
      "flows.buildCacheKey": () => flows.buildCacheKey(businessAccountId, "form"),
    },
    [
      "messages.sendText", "messages.sendImage", "messages.sendAudio", "messages.sendDocument", "messages.sendVideo", "messages.sendSticker",
      "messages.sendLocation", "messages.sendContacts", "messages.sendReaction", "messages.sendTemplate", "messages.sendInteractiveButtons",
      "messages.sendInteractiveList", "messages.sendInteractiveCtaUrl", "messages.sendInteractiveLocationRequest",
      "messages.sendInteractiveAddress", "messages.sendInteractiveRaw", "messages.sendRaw", "messages.markRead", "media.upload", "media.get",
      "media.download", "media.delete", "templates.create", "templates.list", "templates.get", "templates.delete", "phoneNumbers.register",
      "phoneNumbers.deregister",
    ],
  );
}

/** `@great-detail/whatsapp`. */
async function greatDetail({ ready, receiver }, to, messageId) {
  const request = { prefix: ready.api_base, baseUrl: `${ready.api_base}/`, headers: { Authorization: `Bearer ${ready.access_token}` }, retry: 0 };
  const sdk = new Client({ request });
  const { businessProfile, conversationalAutomation, media, message, phoneNumbers, subscribedApps, webhook, whatsappBusinessAccount } = sdk;
  const [phoneNumberID, businessAccountID] = [ready.phone_number_id, ready.waba_id];
  const json = async (call) => (await call).json();
  const [file, mimeType] = [new Blob([PNG], { type: "image/png" }), "image/png"];
  const [delivery] = receiver.deliveries.all();
  let mediaID;
  let made;
  const endpoint = (resource) => [`${resource}.getEndpoint`, () => sdk[resource].getEndpoint("1")];
  const with_endpoint = ["businessProfile", "conversationalAutomation", "media", "message", "phoneNumbers", "subscribedApps", "template"];
  return tried(
    "@great-detail/whatsapp 9.2.0",
    { businessProfile, conversationalAutomation, media, message, phoneNumbers, subscribedApps, template: sdk.template, webhook, whatsappBusinessAccount },
    {
      ...Object.fromEntries(with_endpoint.map(endpoint)),
      "businessProfile.updateBusinessProfile": () => json(businessProfile.updateBusinessProfile({ phoneNumberID, about: "Fresh", websites: ["https://shop.example"] })),
      "businessProfile.getBusinessProfile": async () =>
        assert.equal((await json(businessProfile.getBusinessProfile({ phoneNumberID, fields: ["about"] }))).data[0].about, "Fresh"),
      "conversationalAutomation.setConversationalAutomation": () =>
        json(conversationalAutomation.setConversationalAutomation({ phoneNumberID, enable_welcome_message: false, prompts: ["What is fresh?"] })),
      "media.upload": async () => (mediaID = (await json(media.upload({ phoneNumberID, file, filename: "a.png", mimeType }))).id),
      "media.getURL": async () => assert.ok((await json(media.getURL({ mediaID, phoneNumberID }))).url),
      "media.download": async () => {
        const { url: mediaURL } = await json(media.getURL({ mediaID }));
        assert.deepEqual(new Uint8Array(await (await media.download({ mediaURL })).arrayBuffer()), PNG);
      },
      "media.delete": () => json(media.delete({ mediaID })),
      "message.createMessage": async () => assert.ok((await json(message.createMessage({ phoneNumberID, to, type: "text", text: { body: "Hi" } }))).messages[0].id),
      "message.createStatus": () => json(message.createStatus({ phoneNumberID, status: "read", message_id: messageId })),
      "phoneNumbers.getPhoneNumber": () => json(phoneNumbers.getPhoneNumber({ phoneNumberID, fields: ["verified_name"] })),
      "phoneNumbers.listPhoneNumbers": async () => assert.equal((await json(phoneNumbers.listPhoneNumbers({ businessAccountID }))).data[0].id, phoneNumberID),
      "phoneNumbers.updatePhoneNumber": () => json(phoneNumbers.updatePhoneNumber({ phoneNumberID, new_display_name: "Other" })),
      "subscribedApps.createSubscription": () => json(subscribedApps.createSubscription({ businessAccountID })),
      "subscribedApps.listSubscriptions": async () => assert.equal((await json(subscribedApps.listSubscriptions({ businessAccountID }))).data.length, 1),
      "template.create": async () => (made = (await json(sdk.template.create(businessAccountID, template("other")))).id),
      "template.get": async () => assert.equal((await json(sdk.template.get(made, {}))).name, "other"),
      "template.list": async () => assert.ok((await json(sdk.template.list(businessAccountID, { limit: 1 }))).data.length === 1),
      "template.listLibrary": () => json(sdk.template.listLibrary({ search: "order" })),
      "template.update": () => json(sdk.template.update(made, { category: "MARKETING" })),
      "template.delete": () => json(sdk.template.delete(businessAccountID, { name: "other" })),
      "webhook.register": async () => {
        const query = { "hub.mode": "subscribe", "hub.challenge": "1", "hub.verify_token": "t" };
        assert.equal((await webhook.register({ method: "GET", query })).challenge, "1");
      },
      "webhook.eventNotification": async () => {
        const event = await webhook.eventNotification({ method: "POST", headers: delivery.headers, body: delivery.body.toString("utf8") });
        await event.verifySignature(ready.app_secret);
      },
      "whatsappBusinessAccount.get": async () => assert.equal((await json(whatsappBusinessAccount.get(businessAccountID))).id, businessAccountID),
    },
    [
      "businessProfile.getBusinessProfile", "businessProfile.updateBusinessProfile", "conversationalAutomation.setConversationalAutomation", "media.upload",
      "media.getURL", "media.download", "media.delete", "message.createMessage", "message.createStatus", "phoneNumbers.getPhoneNumber",
      "phoneNumbers.listPhoneNumbers", "subscribedApps.createSubscription", "subscribedApps.listSubscriptions", "template.create", "template.get",
      "template.list", "template.update", "template.delete", "webhook.register", "webhook.eventNotification", "whatsappBusinessAccount.get",
    ],
  );
}

await inWorld(async (world) => {
  const alice = world.customer("Alice");
  await alice.says("Hello");
  const message = await world.receiver.deliveries.until("her message", (each) => each.json().entry[0].changes[0].value.messages?.[0]);
  const head = "# What the SDKs on npm do with a gateway\n\nMade by `test_table.mjs`: every public method is called.\n";
  const made = [head, await kapso(world, message.from, message.id), await greatDetail(world, message.from, message.id)].join("\n");
  if (process.env.BULLA_WRITE_TABLES) await writeFile(TABLE, made);
  assert.equal(made, await readFile(TABLE, "utf8"), `${TABLE} says something else: run again with BULLA_WRITE_TABLES=1`);
  ok("every public method of both SDKs does what the table says");
  assert.equal(await alice.finish(), 0);
});
