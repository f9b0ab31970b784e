//! Everything that a business's program can offer through the Cloud API, on the real programs, and what a customer's device does with it.

use anyhow::{Context as _, Result, ensure};
use bulla_client::clock::SystemClock;
use bulla_client::endpoint::{Begin, Endpoint, NoProjector, Options, RoleOptions};
use bulla_client::event::{
    Conversation, ConversationState, Direction, Draft, Event, Failure, Message, Purpose, Shown, Status,
};
use bulla_client::store::keyfile;
use bulla_e2ee::content::{Action, Answer, Consent, FieldValue, Header, Interactive, Location};
use bulla_e2ee::link::Link;
use bulla_e2ee::suite::Suites;
use bulla_testkit::process::turn;
use bulla_testkit::wait::GUARD;
use bulla_testkit::world::World;
use data_encoding::BASE64;
use rand_core::OsRng;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// A customer's device, in this process.
struct Device {
    endpoint: Endpoint,
    events: UnboundedReceiver<Event>,
    at: Conversation,
    _folder: tempfile::TempDir,
}

impl Device {
    /// It has written to the business and has been answered.
    async fn greets(world: &World) -> Result<(Self, String)> {
        let folder = tempfile::tempdir()?;
        let root = keyfile::load_or_create(&folder.path().join("key"), None, &mut OsRng)?;
        let options = Options {
            role: RoleOptions::Customer,
            suites: Suites::DEFAULT,
            clock: Arc::new(SystemClock),
            restored: false,
        };
        let (endpoint, events) = Endpoint::start(folder.path(), root, options, Box::new(NoProjector))?;
        let link = Link::parse(&world.ready.link)?;
        let at = endpoint.begin(&link, Begin { name: Some("Zoë".into()), ..Begin::default() }).await?;
        let mut device = Self { endpoint, events, at, _folder: folder };
        device.says(Draft::Text { body: "hello".into(), reply_to: None }).await?;
        let (_, message) = world.receiver.message("the first text", |m| m["text"]["body"] == "hello").await?;
        device
            .sees("an open conversation", |e| match e {
                Event::Conversation(c) if c.state == ConversationState::Open => Some(()),
                _ => None,
            })
            .await?;
        Ok((device, message["from_user_id"].as_str().context("no user id")?.to_owned()))
    }

    async fn says(&self, draft: Draft) -> Result<Message> {
        Ok(self.endpoint.send(self.at.id, draft).await?)
    }

    async fn sees<T>(&mut self, what: &str, fits: impl Fn(&Event) -> Option<T>) -> Result<T> {
        let waiting = async {
            while let Some(event) = self.events.recv().await {
                if let Some(found) = fits(&event) {
                    return Ok(found);
                }
            }
            anyhow::bail!("the device stopped")
        };
        tokio::time::timeout(GUARD, waiting).await.with_context(|| what.to_owned())?
    }

    async fn next(&mut self) -> Result<Message> {
        self.sees("a message", |e| match e {
            Event::Message(m) if m.direction == Direction::Incoming => Some(m.clone()),
            _ => None,
        })
        .await
    }

    async fn offered(&mut self) -> Result<(Message, Interactive)> {
        let message = self.next().await?;
        match &message.shown {
            Shown::Interactive(interactive, _) => Ok((message.clone(), (**interactive).clone())),
            other => anyhow::bail!("{other:?}"),
        }
    }

    async fn answers(&self, to: &Message, answer: Answer) -> Result<()> {
        self.says(Draft::Answer { to: to.id, answer }).await.map(drop)
    }
}

fn text_of(answer: &Value) -> &str {
    answer.as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_over_the_api_is_chosen_and_told_in_the_cloud_apis_form() -> Result<()> {
    let _turn = turn()?;
    let world = World::start_logging("info").await?;
    let (mut zoe, user) = Device::greets(&world).await?;

    // Reply buttons.
    let buttons = json!({
        "type": "button", "header": {"type": "text", "text": "Order 7"}, "body": {"text": "Deliver today?"}, "footer": {"text": "until 6 pm"},
        "action": {"buttons": [
            {"type": "reply", "reply": {"id": "yes", "title": "Yes"}}, {"type": "reply", "reply": {"id": "no", "title": "No"}},
        ]},
    });
    let sent = world.api.send(&user, "interactive", &buttons).await?.wamid()?;
    let (message, shown) = zoe.offered().await?;
    ensure!((shown.header, shown.footer.as_deref()) == (Some(Header::Text("Order 7".into())), Some("until 6 pm")));
    zoe.answers(&message, Answer::Button { id: "no".into(), title: "No".into() }).await?;
    let (_, told) = world.receiver.message("the button", |m| m["type"] == "interactive").await?;
    assert_eq!(told["interactive"], json!({"type": "button_reply", "button_reply": {"id": "no", "title": "No"}}));
    assert_eq!(told["context"]["id"], sent.as_str());
    assert_eq!(told["from_user_id"], user.as_str());

    // A list.
    let list = json!({
        "type": "list", "body": {"text": "Which coffee?"},
        "action": {"button": "Coffees", "sections": [
            {"title": "Hot", "rows": [{"id": "r", "title": "Rosetta", "description": "with foam"}, {"id": "e", "title": "Espresso"}]},
            {"title": "Cold", "rows": [{"id": "i", "title": "Iced"}]},
        ]},
    });
    world.api.send(&user, "interactive", &list).await?.wamid()?;
    let (message, shown) = zoe.offered().await?;
    let Action::List(list) = shown.action else { anyhow::bail!("no list") };
    let row = &list.sections[0].rows[0];
    let chosen = Answer::Row { id: row.id.clone(), title: row.title.clone(), description: row.description.clone() };
    zoe.answers(&message, chosen).await?;
    let (_, told) = world.receiver.message("the row", |m| m["interactive"]["type"] == "list_reply").await?;
    assert_eq!(told["interactive"]["list_reply"], json!({"id": "r", "title": "Rosetta", "description": "with foam"}));

    // A page, a place, an address.
    let page = json!({
        "type": "cta_url", "body": {"text": "Track it"},
        "action": {"name": "cta_url", "parameters": {"display_text": "Open", "url": "https://shop.example/t/7"}},
    });
    world.api.send(&user, "interactive", &page).await?.wamid()?;
    let (_, shown) = zoe.offered().await?;
    assert!(matches!(shown.action, Action::Buttons(ref all) if all.len() == 1));
    let ask =
        json!({"type": "location_request_message", "body": {"text": "Where to?"}, "action": {"name": "send_location"}});
    let asked = world.api.send(&user, "interactive", &ask).await?.wamid()?;
    let (message, shown) = zoe.offered().await?;
    assert!(shown.action == Action::Location);
    let place = Location { name: Some("home".into()), ..Location::at(48.137_154, 11.576_124).context("a place")? };
    zoe.says(Draft::Location { location: place, reply_to: Some(message.id) }).await?;
    let (_, told) = world.receiver.message("the place", |m| m["type"] == "location").await?;
    assert_eq!(told["location"], json!({"latitude": 48.137_154, "longitude": 11.576_124, "name": "home"}));
    assert_eq!(told["context"]["id"], asked.as_str());
    let form = json!({
        "type": "address_message", "body": {"text": "Your address, please"},
        "action": {"name": "address_message", "parameters": {"country": "IN", "values": {"city": "Munich"}}},
    });
    world.api.send(&user, "interactive", &form).await?.wamid()?;
    let (message, shown) = zoe.offered().await?;
    let city = shown.fields().find(|field| field.name == "city").context("no city")?;
    assert_eq!(city.value.as_deref(), Some("Munich"));
    let value = |name: &str, value: &str| FieldValue { name: name.into(), values: vec![value.into()] };
    let values = vec![
        value("name", "Zoë"),
        value("address", "1 High St"),
        value("in_pin_code", "80331"),
        value("city", "Munich"),
    ];
    zoe.answers(&message, Answer::Form { values }).await?;
    let (_, told) = world.receiver.message("the form", |m| m["interactive"]["type"] == "nfm_reply").await?;
    let reply = &told["interactive"]["nfm_reply"];
    assert_eq!((&reply["name"], &reply["body"]), (&json!("address_message"), &json!("Sent")));
    let response: Value = serde_json::from_str(text_of(&reply["response_json"]))?;
    assert_eq!(
        response["values"],
        json!({"name": "Zoë", "address": "1 High St", "in_pin_code": "80331", "city": "Munich"})
    );

    // A form of the business's own.
    let flow = json!({"version": "6.0", "screens": [{"id": "VISIT", "title": "Your visit", "layout": {"type": "SingleColumnLayout", "children": [
        {"type": "TextBody", "text": "${data.words}"},
        {"type": "DatePicker", "name": "day", "label": "Day", "required": true},
        {"type": "CheckboxGroup", "name": "with", "label": "With", "data-source": [{"id": "dog", "title": "my dog"}, {"id": "cat", "title": "my cat"}]},
        {"type": "OptIn", "name": "remind", "label": "Remind me"},
        {"type": "Footer", "label": "Book", "on-click-action": {"name": "complete"}},
    ]}}]});
    let about =
        json!({"name": "visit", "categories": ["APPOINTMENT_BOOKING"], "flow_json": flow.to_string(), "publish": true});
    let made = world.api.call("POST", &format!("{}/flows", world.ready.waba_id), Some(&about)).await?;
    let id = made.body["id"].as_str().with_context(|| format!("{made:?}"))?;
    let parameters = json!({
        "flow_message_version": "3", "flow_id": id, "flow_cta": "Book", "flow_token": "t-7", "flow_action": "navigate",
        "flow_action_payload": {"screen": "VISIT", "data": {"words": "We are open on Monday."}},
    });
    let ask =
        json!({"type": "flow", "body": {"text": "Book a visit"}, "action": {"name": "flow", "parameters": parameters}});
    world.api.send(&user, "interactive", &ask).await?.wamid()?;
    let (message, shown) = zoe.offered().await?;
    let Action::Form(form) = &shown.action else { anyhow::bail!("no form") };
    assert_eq!(form.screens[0].text.as_deref(), Some("We are open on Monday."));
    let values = vec![
        value("day", "2026-12-24"),
        FieldValue { name: "with".into(), values: vec!["dog".into(), "cat".into()] },
        value("remind", "true"),
    ];
    zoe.answers(&message, Answer::Form { values }).await?;
    let (_, told) = world.receiver.message("the flow", |m| m["interactive"]["nfm_reply"]["name"] == "flow").await?;
    let response: Value = serde_json::from_str(text_of(&told["interactive"]["nfm_reply"]["response_json"]))?;
    assert_eq!(response, json!({"day": "2026-12-24", "with": ["dog", "cat"], "remind": true, "flow_token": "t-7"}));

    // A place and a person of the business's.
    world
        .api
        .send(
            &user,
            "location",
            &json!({"latitude": "48.1", "longitude": -11.5, "name": "Shop", "address": "2 High St"}),
        )
        .await?
        .wamid()?;
    let shown = zoe.next().await?.shown;
    ensure!(
        matches!(&shown, Shown::Location(place) if place.name.as_deref() == Some("Shop") && place.longitude == -115_000_000),
        "{shown:?}"
    );
    let rosi = json!([{"name": {"formatted_name": "Rosi", "first_name": "Rosi"}, "phones": [{"phone": "+49 89 1", "type": "WORK"}]}]);
    world.api.send(&user, "contacts", &rosi).await?.wamid()?;
    let Shown::Contacts(persons) = zoe.next().await?.shown else { anyhow::bail!("no person") };
    assert_eq!((persons[0].shown_name(), persons[0].phones[0].phone.as_deref()), ("Rosi", Some("+49 89 1")));
    zoe.says(Draft::Contacts { persons, reply_to: None }).await?;
    let (_, told) = world.receiver.message("the person", |m| m["type"] == "contacts").await?;
    assert_eq!(told["contacts"], rosi);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_made_sent_to_who_agreed_and_refused_to_who_withdrew() -> Result<()> {
    let _turn = turn()?;
    let world = World::start_logging("info").await?;
    let (mut zoe, user) = Device::greets(&world).await?;
    let template = json!({
        "name": "spring", "language": "en", "category": "MARKETING",
        "components": [
            {"type": "BODY", "text": "Dear {{1}}, everything is {{2}} off this week.", "example": {"body_text": [["Ada", "10 %"]]}},
            {"type": "FOOTER", "text": "Cortado"},
            {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Tell me more"}]},
        ],
    });
    let made = world.api.call("POST", &format!("{}/message_templates", world.ready.waba_id), Some(&template)).await?;
    ensure!(made.status == 200 && made.body["status"] == "APPROVED", "{made:?}");
    let spring = json!({"name": "spring", "language": {"code": "en"}, "components": [
        {"type": "body", "parameters": [{"type": "text", "text": "Zoë"}, {"type": "text", "text": "20 %"}]},
        {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{"type": "payload", "payload": "MORE"}]},
    ]});
    let status = |wamid: String, what: &'static str| {
        let receiver = &world.receiver;
        async move { receiver.status(&wamid, what).await }
    };

    // Nobody was asked yet.
    let early = world.api.send(&user, "template", &spring).await?;
    assert_eq!(early.body["messages"][0]["message_status"], "accepted");
    assert_eq!(status(early.wamid()?, "failed").await?["errors"][0]["code"], 131_026);

    zoe.endpoint.decide(zoe.at.id, Purpose::Marketing, true, "Offers of this shop".into()).await?;
    let preference = |value: &'static str| {
        let receiver = &world.receiver;
        async move {
            receiver
                .each(GUARD, "what the customer decided", move |delivery| {
                    delivery.preferences().into_iter().find(|preference| preference["value"] == value)
                })
                .await
        }
    };
    let told = preference("resume").await?;
    assert_eq!((&told["category"], &told["user_id"]), (&json!("marketing_messages"), &json!(user)));
    let sent = world.api.send(&user, "template", &spring).await?.wamid()?;
    let (message, shown) = zoe.offered().await?;
    assert_eq!(
        (shown.body.as_str(), shown.footer.as_deref()),
        ("Dear Zoë, everything is 20 % off this week.", Some("Cortado"))
    );
    ensure!(!message.breach && shown.template.as_ref().is_some_and(|of| of.name == "spring"));
    let delivered = status(sent.clone(), "delivered").await?;
    assert_eq!(delivered["pricing"]["category"], "marketing");
    zoe.answers(&message, Answer::Button { id: "MORE".into(), title: "Tell me more".into() }).await?;
    let (_, told) = world.receiver.message("the quick reply", |m| m["type"] == "button").await?;
    assert_eq!(
        (&told["button"], &told["context"]["id"]),
        (&json!({"payload": "MORE", "text": "Tell me more"}), &json!(sent))
    );

    zoe.endpoint.decide(zoe.at.id, Purpose::Marketing, false, "Stop offers".into()).await?;
    preference("stop").await?;
    let refused = world.api.send(&user, "template", &spring).await?.wamid()?;
    assert_eq!(status(refused, "failed").await?["errors"][0]["code"], 131_050);

    // The ledger, as whoever asks the business for its reasons can check it.
    let ledger = world.api.call("GET", "{phone}/consents", None).await?;
    let entries = ledger.body["data"].as_array().context("no list")?;
    let business = Link::parse(&world.ready.link)?;
    let mut said = Vec::new();
    for entry in entries {
        let statement = BASE64.decode(text_of(&entry["statement"]).as_bytes())?;
        let consent = Consent::verify(&statement, business.key(), &text_of(&entry["user_id"]).parse()?)?;
        assert_eq!((entry["given"] == true, text_of(&entry["wording"])), (consent.given, consent.wording.as_str()));
        said.push((consent.given, consent.wording));
    }
    assert_eq!(said, [(true, "Offers of this shop".to_owned()), (false, "Stop offers".to_owned())]);
    let first = world.api.call("GET", "{phone}/consents?limit=1", None).await?;
    let after = text_of(&first.body["paging"]["cursors"]["after"]).to_owned();
    let second = world.api.call("GET", &format!("{{phone}}/consents?limit=1&after={after}"), None).await?;
    assert_eq!([&first.body["data"][0], &second.body["data"][0]], [&entries[0], &entries[1]]);

    // In the window a template that is no offer is an answer, and needs no more.
    let notice = json!({"name": "parcel", "language": "en", "category": "UTILITY",
        "components": [{"type": "BODY", "text": "Your parcel is on its way."}]});
    let path = format!("{}/message_templates", world.ready.waba_id);
    ensure!(world.api.call("POST", &path, Some(&notice)).await?.status == 200);
    world.api.send(&user, "template", &json!({"name": "parcel", "language": {"code": "en"}})).await?.wamid()?;
    assert_eq!(zoe.offered().await?.1.body, "Your parcel is on its way.");
    let unknown = world.api.send(&user, "template", &json!({"name": "nope", "language": {"code": "en"}})).await?;
    assert_eq!((unknown.status, unknown.error_code()), (404, Some(132_001)));
    let short = world.api.send(&user, "template", &json!({"name": "spring", "language": {"code": "en"}})).await?;
    assert_eq!(short.error_code(), Some(132_000));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_is_blocked_is_heard_again_when_it_may_write() -> Result<()> {
    let _turn = turn()?;
    let world = World::start_logging("info").await?;
    let (mut zoe, user) = Device::greets(&world).await?;
    let users =
        json!({"messaging_product": "whatsapp", "block_users": [{"user_id": user}, {"user": "890000000000000"}]});
    let blocked = world.api.call("POST", "{phone}/block_users", Some(&users)).await?;
    assert_eq!(blocked.body["block_users"]["added_users"][0]["user_id"], user.as_str());
    assert_eq!(blocked.body["block_users"]["failed_users"][0]["input"], "890000000000000");
    let listed = world.api.call("GET", "{phone}/block_users", None).await?;
    assert_eq!(listed.body["data"][0]["user_id"], user.as_str());
    let one = json!({"messaging_product": "whatsapp", "block_users": [{"user_id": user}]});
    let refused = zoe.says(Draft::Text { body: "can you hear me?".into(), reply_to: None }).await?;
    let failure = zoe.sees("a refusal", |e| match e {
        Event::Status { message, .. } if message.id == refused.id && message.status == Status::Failed => {
            message.failure
        }
        _ => None,
    });
    assert_eq!(failure.await?, Failure::Refused, "by the relay, at once");
    let freed = world.api.call("DELETE", "{phone}/block_users", Some(&one)).await?;
    assert_eq!(freed.body["block_users"]["removed_users"][0]["user_id"], user.as_str());
    zoe.says(Draft::Text { body: "and now?".into(), reply_to: None }).await?;
    world.receiver.message("what is said since", |m| m["text"]["body"] == "and now?").await?;
    ensure!(
        world.api.call("GET", "{phone}/block_users", None).await?.body["data"].as_array().is_some_and(Vec::is_empty)
    );
    let nobody = json!({"messaging_product": "whatsapp", "block_users": [{"user": "12"}]});
    assert_eq!(world.api.call("POST", "{phone}/block_users", Some(&nobody)).await?.error_code(), Some(139_100));
    Ok(())
}
