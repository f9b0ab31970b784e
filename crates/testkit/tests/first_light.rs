//! The README's story, on the real programs: a customer in a terminal, a relay, a gateway, and the business's own program; and what is
//! said where something is wrong.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use bulla_testkit::apart::{Apart, Plan};
use bulla_testkit::process::{Ended, Part, Stat, gone, program, run, turn};
use bulla_testkit::terminal::{self, Line, Terminal};
use bulla_testkit::webhook::Delivery;
use bulla_testkit::world::{Customer, Which, World};
use serde_json::Value;

/// A link with `?ref=`.
fn from_flyer(link: &str) -> String {
    link.replace("#k=", "?ref=flyer#k=")
}

fn chat(world: &World, name: &str, link: &str) -> Result<Command> {
    Ok(terminal::chat(&program("bulla")?, &terminal::folder(world.folder(), name), link))
}

/// Waits for a customer's message with this text: the delivery, and the message.
async fn heard(world: &World, text: &str) -> Result<(Delivery, Value)> {
    world.receiver.message(&format!("the message {text:?}"), |m| m["text"]["body"] == text).await
}

fn user_of(message: &Value) -> Result<&str> {
    message["from_user_id"].as_str().context("no from_user_id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_on_standard_input_becomes_a_signed_webhook_and_the_answer_comes_back() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let link = from_flyer(&world.ready.link);
    let data = terminal::folder(world.folder(), "zoe");

    // As a person types it, in a shell.
    let line = format!(
        "printf 'hello ☕\\n' | {} chat --plain --name 'Zoë' --data {} '{link}'",
        program("bulla")?.display(),
        data.display()
    );
    let said = run(Command::new("sh").args(["-c", &line])).await?;
    assert_eq!(said.code, Some(0), "it ends well once everything is delivered: {said:?}");
    let lines: Vec<_> = said.out.lines().map(Line::parse).collect();
    let [Line::Stored { id, text }, rest @ ..] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(text, "hello ☕");
    assert!(rest.starts_with(&[Line::Sent(id.clone()), Line::Delivered(id.clone())]), "{rest:?}");

    let (delivery, message) = heard(&world, "hello ☕").await?;
    assert!(delivery.signature_verifies(&world.ready.app_secret));
    assert!(!delivery.signature_verifies(&world.ready.verify_token), "any secret would do");
    let mut edited = delivery.clone();
    edited.body = [&delivery.body[..], b" "].concat().into();
    assert!(!edited.signature_verifies(&world.ready.app_secret), "the signature is over the exact bytes");
    let body = std::str::from_utf8(&delivery.body)?;
    assert!(body.is_ascii() && body.contains("Zo\\u00eb") && body.contains("hello \\u2615"), "{body}");
    let json = delivery.json();
    assert_eq!(
        (&json["object"], &json["entry"][0]["id"]),
        (&"whatsapp_business_account".into(), &world.ready.waba_id.as_str().into())
    );
    let value = &json["entry"][0]["changes"][0]["value"];
    assert_eq!(json["entry"][0]["changes"][0]["field"], "messages");
    assert_eq!(value["messaging_product"], "whatsapp");
    assert_eq!(value["metadata"]["phone_number_id"], world.ready.phone_number_id.as_str());
    assert_eq!(value["contacts"][0]["profile"]["name"], "Zoë");
    assert_eq!((&message["type"], &message["referral"]["source_id"]), (&"text".into(), &"flyer".into()));
    assert_eq!(value["contacts"][0]["user_id"], message["from_user_id"]);

    // She is away now: the answer waits at the relay, which is all that `sent` means.
    let user = user_of(&message)?;
    let wamid = world.api.text(user, "What can I get you?").await?.wamid()?;
    world.receiver.status(&wamid, "sent").await?;
    let mut zoe = Terminal::run(&mut chat(&world, "zoe", &link)?)?;
    zoe.shows("What can I get you?").await?;
    world.receiver.status(&wamid, "read").await?;
    let all = world.receiver.deliveries().all();
    let statuses = all.iter().flat_map(Delivery::statuses).filter(|s| s["id"] == wamid.as_str());
    let words: Vec<_> = statuses.map(|s| s["status"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(words, ["sent", "delivered", "read"]);
    assert!(all.iter().all(|d| d.signature_verifies(&world.ready.app_secret)));

    // Only the first message says where she came from.
    zoe.write("a flat white")?;
    let (_, second) = heard(&world, "a flat white").await?;
    assert_eq!((&second["referral"], user_of(&second)?), (&Value::Null, user));
    assert_eq!(zoe.finish().await?.0, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_reactions_edits_and_deletions_go_their_way() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let mut anna = world.customer("Anna")?;
    let first = anna.says("is the oven on?").await?;
    let (_, message) = heard(&world, "is the oven on?").await?;
    let (user, asked) = (user_of(&message)?.to_owned(), message["id"].as_str().context("no id")?.to_owned());

    // The business answers in context, marks as read, reacts, and takes the reaction back.
    world.api.reply(&user, &asked, "it is").await?.wamid()?;
    anna.reads("it is").await?;
    assert_eq!(world.api.read(&asked).await?.status, 200);
    let read = |line: &Line| (*line == Line::Read(first.clone())).then_some(());
    anna.terminal.until("👁", read).await?;
    for emoji in ["👍", ""] {
        world.api.react(&user, &asked, emoji).await?.wamid()?;
        let shown = if emoji.is_empty() { "-" } else { emoji };
        let reacted = |line: &Line| (*line == Line::Reaction { emoji: shown.into(), id: first.clone() }).then_some(());
        anna.terminal.until(&format!("the reaction {shown}"), reacted).await?;
    }

    // And so does the customer; her edits and deletions are of her own message.
    let kinds = |kind: &'static str| move |m: &Value| m["type"] == kind;
    anna.terminal.write("/reply one loaf then")?;
    let (_, reply) = heard(&world, "one loaf then").await?;
    let ours = world.receiver.deliveries().all();
    let sent = ours.iter().flat_map(Delivery::statuses).next().context("a status of what the business said")?;
    assert_eq!(reply["context"]["id"], sent["id"]);
    anna.terminal.write("/react 🥖")?;
    let (_, reaction) = world.receiver.message("a reaction", kinds("reaction")).await?;
    assert_eq!((&reaction["reaction"]["emoji"], &reaction["reaction"]["message_id"]), (&"🥖".into(), &sent["id"]));
    anna.terminal.write("/react")?;
    let back = |m: &Value| m["type"] == "reaction" && m["reaction"]["emoji"].is_null();
    let (_, back) = world.receiver.message("a reaction taken back", back).await?;
    assert_eq!(back["reaction"]["message_id"], sent["id"]);
    anna.terminal.write("/edit two loaves then")?;
    let (_, edit) = world.receiver.message("an edit", kinds("edit")).await?;
    assert_eq!(edit["edit"]["original_message_id"], reply["id"]);
    assert_eq!(edit["edit"]["message"]["text"]["body"], "two loaves then");
    anna.terminal.write("/delete")?;
    let (_, revoke) = world.receiver.message("a deletion", kinds("revoke")).await?;
    assert_eq!(revoke["revoke"]["original_message_id"], reply["id"]);

    // What cannot be done is said, and does not end the chat.
    anna.terminal.write("/frobnicate")?;
    anna.terminal.write("//slash")?;
    let (_, slash) = heard(&world, "/slash").await?;
    assert_eq!(user_of(&slash)?, user);
    let (code, _) = anna.terminal.finish().await?;
    assert_eq!(code, Some(1), "a command that was not understood is not a success");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_folder_comes_back_with_the_code() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let link = world.ready.link.clone();
    let mut zoe = Terminal::run(&mut chat(&world, "zoe", &link)?)?;
    zoe.write("table for two")?;
    let (_, message) = heard(&world, "table for two").await?;
    let user = user_of(&message)?.to_owned();
    world.api.text(&user, "at eight?").await?.wamid()?;
    zoe.shows("at eight?").await?;
    zoe.write("/recovery")?;
    zoe.write("yes")?;
    heard(&world, "yes").await?;
    let said = zoe.stderr();
    let code = said.split("your recovery code: ").nth(1).and_then(|rest| rest.split('.').next());
    let code = code.context("no code was shown")?.to_owned();
    assert_eq!(zoe.finish().await?.0, Some(0));
    std::fs::remove_dir_all(terminal::folder(world.folder(), "zoe"))?;

    // A code is never an argument; one that is mistyped is said to be so before anything is sent.
    let recover = |name: &str| -> Result<Command> {
        let mut command = chat(&world, name, &link)?;
        command.args(["--recover", "--history"]);
        Ok(command)
    };
    let mut wrong = Terminal::run(&mut recover("mistyped")?)?;
    wrong.write(&code.replacen(
        |c: char| c.is_ascii_alphanumeric(),
        if code.starts_with('A') { "B" } else { "A" },
        1,
    ))?;
    assert_eq!(wrong.ended(std::time::Duration::from_secs(20)).await?, Some(1));
    assert!(wrong.stderr().contains("mistyped") && wrong.stderr().contains("Nothing was sent"), "{}", wrong.stderr());

    let mut back = Terminal::run(&mut recover("new")?)?;
    back.write(&code.to_lowercase())?;
    back.stored("table for two").await?;
    back.shows("at eight?").await?;
    back.stored("yes").await?;
    back.write("make it nine")?;
    let (_, message) = heard(&world, "make it nine").await?;
    assert_eq!(user_of(&message)?, user);
    world.api.text(&user, "nine it is").await?.wamid()?;
    back.shows("nine it is").await?;
    assert_eq!(back.finish().await?.0, Some(0));
    let all = world.receiver.deliveries().all();
    let times = all.iter().flat_map(Delivery::messages).filter(|m| m["text"]["body"] == "table for two").count();
    assert_eq!(times, 1, "the business is told of nothing twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bulla_env_is_evaluated_by_a_shell() -> Result<()> {
    let _turn = turn()?;
    let mut world = World::start().await?;
    let names = [
        ("LINK", &world.ready.link),
        ("API_BASE", &world.ready.api_base),
        ("PHONE_NUMBER_ID", &world.ready.phone_number_id),
        ("WABA_ID", &world.ready.waba_id),
        ("APP_ID", &world.ready.app_id),
        ("ACCESS_TOKEN", &world.ready.access_token),
        ("APP_SECRET", &world.ready.app_secret),
        ("VERIFY_TOKEN", &world.ready.verify_token),
        ("RELAY_URL", &world.ready.relay_url),
    ];
    let printed: String = names.iter().map(|(name, _)| format!("printf '%s\\n' \"$BULLA_{name}\"; ")).collect();
    let expected: Vec<_> = names.iter().map(|(_, value)| (*value).clone()).collect();
    let env = format!("{} env --data {}", program("bulla")?.display(), world.data().display());
    let shell = run(Command::new("sh").args(["-euc", &format!("eval \"$({env})\"; {printed}")])).await?;
    assert_eq!(shell.out.lines().collect::<Vec<_>>(), expected, "{shell:?}");

    assert_eq!(world.stops().await?, Some(0));
    let after = run(Command::new("sh").args(["-c", &env])).await?;
    says_what_to_do(&after, &["no gateway answers in", "bulla up"]);
    Ok(())
}

/// `bulla up` as a person starts it, with what it prints.
fn up(folder: &Path, arguments: &[&str]) -> Result<Part> {
    let mut command = Command::new(program("bulla")?);
    command.args(["up", "--listen", "127.0.0.1:0", "--data"]).arg(folder.join("data")).args(arguments);
    // The person's folder: from there, what is printed has to work.
    command.current_dir(folder).env("BULLA_RELAY_BIN", program("bulla-relay")?);
    Part::start(&mut command)
}

/// What stands between single quotes in the line that begins so.
async fn printed(up: &Part, begins: &str) -> Result<String> {
    let found = |lines: &[String]| lines.iter().find(|line| line.trim_start().starts_with(begins)).cloned();
    let line = up.stdout.until(begins, found).await.with_context(|| up.stderr.all().join("\n"))?;
    Ok(line.split_once(begins).map_or("", |(_, rest)| rest.trim()).to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bulla_up_prints_works_when_it_is_pasted() -> Result<()> {
    let _turn = turn()?;
    let folder = tempfile::tempdir()?;
    let up = up(folder.path(), &[])?;
    let paste = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(folder.path());
        shell
    };

    // 1: the terminal. It is given a folder here, so that the test leaves the machine's own alone.
    let line = printed(&up, "1 In a terminal").await?;
    let data = folder.path().join("customer");
    let mut customer = Terminal::run(&mut paste(&format!("exec {line} --plain --data {}", data.display())))?;
    // 2: the environment.
    let line = printed(&up, "2 Any WhatsApp SDK").await?;
    let (line, _) = line.rsplit_once('→').context("no explanation behind it")?;
    let env = run(&mut paste(&format!("{line}; printf %s \"$BULLA_PHONE_NUMBER_ID\""))).await?;
    assert!(env.code == Some(0) && env.out.len() == 15, "{env:?}");

    customer.write("hello")?;
    let inbound = up.stdout.until("the message", |all| all.iter().find(|l| l.contains(" ← ")).cloned()).await?;
    assert!(
        inbound.contains(" ← Guest ")
            && inbound.contains("\"hello\"")
            && inbound.contains("webhook: none set (--webhook URL)"),
        "{inbound}"
    );
    // The command that answers: two lines, joined by their backslash.
    let first = printed(&up, "answer it:").await?;
    let second = printed(&up, "--json").await?;
    if run(Command::new("sh").args(["-c", "command -v curl"])).await?.code == Some(0) {
        let curl = run(&mut paste(&format!("{first}\n--json {second}"))).await?;
        let answer: Value = serde_json::from_str(&curl.out).with_context(|| format!("{curl:?}"))?;
        assert!(answer["messages"][0]["id"].as_str().is_some_and(|id| id.starts_with("wamid.")), "{answer}");
        customer.shows("hi!").await?;
        let done = |all: &[String]| all.iter().find(|l| l.contains("read ✓✓")).cloned();
        let done = up.stdout.until("the ticks", done).await?;
        assert!(done.contains("→ \"hi!\"  sent ✓  delivered ✓✓  read ✓✓"), "{done}");
    } else {
        println!("left out: the printed `curl` line, because curl is not installed");
    }
    assert_eq!(customer.finish().await?.0, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bulla_up_takes_its_parts_with_it() -> Result<()> {
    let _turn = turn()?;
    for how in ["SIGTERM", "kill -9"] {
        let mut world = World::start().await?;
        let parts = world.parts();
        assert_eq!(parts.len(), 2, "a relay and a gateway");
        if how == "SIGTERM" {
            assert_eq!(world.stops().await?, Some(0));
            // It has waited for them: nobody has to look twice.
            assert!(parts.iter().all(|pid| Stat::read(*pid).is_none_or(|stat| stat.is_zombie)), "after {how}");
        } else {
            world.kill_9_up();
        }
        for pid in parts {
            gone(pid).await.context(how)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_killed_is_started_again_and_the_conversation_goes_on() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let mut anna = world.customer("Anna")?;
    anna.says("before").await?;
    let (_, message) = heard(&world, "before").await?;
    for which in [Which::Relay, Which::Gateway] {
        let before = world.pid(which).await?;
        world.kill_9(which).await?;
        gone(before).await?;
        let text = format!("without the {which:?}");
        anna.says(&text).await?;
        heard(&world, &text).await?;
        assert_ne!(world.pid(which).await?, before);
        world.api.text(user_of(&message)?, &text).await?.wamid()?;
        anna.reads(&text).await?;
    }
    Ok(())
}

/// One sentence, on standard error, beginning with the program's name; nothing on standard output.
fn says_what_to_do(ended: &Ended, words: &[&str]) {
    let sentences: Vec<_> = ended.err.lines().filter(|line| line.starts_with("bulla")).collect();
    assert!(ended.code == Some(1) && ended.out.is_empty(), "{ended:?}");
    let last = sentences.last().unwrap_or_else(|| panic!("no sentence: {ended:?}"));
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {last:?}");
    }
    assert!(last.ends_with(['.', '?']), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_wrong_is_refused_and_nothing_is_sent() -> Result<()> {
    let _turn = turn()?;
    let mut world = World::start().await?;
    let mailboxes =
        |world: &World| Ok::<_, anyhow::Error>(world.disclose()?["mailboxes"].as_array().map_or(0, Vec::len));
    assert_eq!(mailboxes(&world)?, 1, "the business's");
    let link = world.ready.link.clone();
    let (place, key) = link.split_once("#k=").context("a link")?;
    let mut other: Vec<char> = key.chars().collect();
    other[7] = if other[7] == 'A' { 'B' } else { 'A' };
    let other: String = other.into_iter().collect();
    let nobody = place.replace(&world.ready.handle, "nobody");
    let away = {
        let unused = TcpListener::bind("127.0.0.1:0")?;
        unused.local_addr()?
    };
    let cases: [(&str, String, &[&str]); 7] = [
        ("no link", "hello".into(), &["not a link", "https://shop.example/@handle#k="]),
        ("cut before the key", place.into(), &["carries no key", "cut"]),
        ("cut in the key", format!("{place}#k={}", &key[..20]), &["carries no key", "cut"]),
        ("unprotected", format!("http://shop.example/@x#k={key}"), &["https://"]),
        ("another key", format!("{place}#k={other}"), &["another business", "Nothing was sent"]),
        ("another handle", format!("{nobody}#k={key}"), &["404", "check the link"]),
        ("nobody there", format!("http://{away}/@cortado#k={key}"), &["does not answer"]),
    ];
    for (what, link, words) in cases {
        // It is not even taken for a message: the input stays unread.
        let mut command = chat(&world, what, &link)?;
        let ended = run(&mut command).await.context(what)?;
        says_what_to_do(&ended, words);
    }
    assert_eq!(mailboxes(&world)?, 1, "nobody made a mailbox, so nobody sent anything");
    assert!(world.receiver.deliveries().is_empty());

    // The control: with the right link it is two mailboxes.
    let mut anna = world.customer("Anna")?;
    anna.says("hello").await?;
    heard(&world, "hello").await?;
    assert_eq!(mailboxes(&world)?, 2);

    // A folder is one program's.
    let again = run(&mut chat(&world, "Anna", &link)?).await?;
    says_what_to_do(&again, &["in use", "stop"]);
    // A gateway that is away says nothing to a newcomer, and nothing bad to who is there already.
    assert_eq!(world.stops().await?, Some(0));
    let newcomer = run(&mut chat(&world, "Boris", &link)?).await?;
    says_what_to_do(&newcomer, &["does not answer"]);
    anna.says("are you there?").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bulla_up_says_why_it_cannot_start() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let relay = program("bulla-relay")?;
    let folder = tempfile::tempdir()?;
    let up = |listen: &str, data: &Path| -> Result<Command> {
        let mut command = Command::new(program("bulla")?);
        command.args(["up", "--json", "--listen", listen, "--data"]).arg(data).env("BULLA_RELAY_BIN", &relay);
        Ok(command)
    };
    let twice = run(&mut up("127.0.0.1:0", &world.data())?).await?;
    says_what_to_do(&twice, &["is running on", "--data"]);

    let used = TcpListener::bind("127.0.0.1:0")?;
    let port = used.local_addr()?.to_string();
    let taken = run(&mut up(&port, &folder.path().join("taken"))?).await?;
    assert!(taken.code == Some(1) && taken.out.is_empty(), "{taken:?}");
    assert!(taken.err.contains(&port) && taken.err.contains("did not start"), "{taken:?}");

    let outside = run(&mut up("0.0.0.0:0", &folder.path().join("outside"))?).await?;
    says_what_to_do(&outside, &["loopback only", "--lan", "bulla gateway serve with TLS"]);
    let missing = run(up("127.0.0.1:0", &folder.path().join("missing"))?.env("BULLA_RELAY_BIN", "/no/such")).await?;
    says_what_to_do(&missing, &["BULLA_RELAY_BIN", "/no/such"]);
    // Alone in a folder, and nothing in the PATH.
    let alone = folder.path().join("bulla");
    std::fs::copy(program("bulla")?, &alone)?;
    let mut command = Command::new(&alone);
    command.args(["up", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("alone"));
    let lonely = run(command.env_remove("BULLA_RELAY_BIN").env("PATH", folder.path())).await?;
    says_what_to_do(&lonely, &["bulla-relay", "cargo build --release -p bulla-relay", "BULLA_RELAY_BIN"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn disclose_prints_the_same_of_a_running_and_of_a_stopped_relay() -> Result<()> {
    let _turn = turn()?;
    let mut world = World::start().await?;
    let mut anna = world.customer("Anna")?;
    anna.says("hello").await?;
    let (_, message) = heard(&world, "hello").await?;
    assert_eq!(anna.terminal.finish().await?.0, Some(0));
    let wamid = world.api.text(user_of(&message)?, "while you are away").await?.wamid()?;
    world.receiver.status(&wamid, "sent").await?;

    let running = world.disclose()?;
    let waiting = |mailbox: &Value| mailbox["envelopes"].as_array().map_or(0, Vec::len);
    let mailboxes = running["mailboxes"].as_array().context("no mailboxes")?;
    let counts: BTreeSet<_> = mailboxes.iter().map(|m| waiting(m).min(1)).collect();
    assert_eq!((mailboxes.len(), counts), (2, BTreeSet::from([0, 1])), "{running:#}");
    assert_eq!(world.stops().await?, Some(0));
    let mut stopped = world.disclose()?;
    // What the gateway still had to say (fresh keys, a receipt) may have come meanwhile: behind what was there.
    for (before, after) in mailboxes.iter().zip(stopped["mailboxes"].as_array_mut().context("no mailboxes")?) {
        if let Some(envelopes) = after["envelopes"].as_array_mut() {
            envelopes.truncate(waiting(before));
        }
    }
    let slots = running["slots"].as_array().context("no slots")?;
    stopped["slots"].as_array_mut().context("no slots")?.retain(|slot| slots.contains(slot));
    // Not shown whole: it is some ten thousand characters long.
    assert!(stopped == running, "what the stopped relay holds differs from what the running one said");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_businesses_in_one_gateway_know_nothing_of_each_other() -> Result<()> {
    let _turn = turn()?;
    let town =
        Apart::start(Plan { businesses: &[("bakery", "Bakery"), ("florist", "Florist")], ..Plan::new()? }).await?;
    let [bakery, florist] = town.businesses.as_slice() else { panic!("{:?}", town.businesses) };
    assert_ne!(bakery.link, florist.link);
    let mut users = Vec::new();
    for business in [bakery, florist] {
        let within = town.folder().join(&business.handle);
        let mut anna = Customer::start(&program("bulla")?, &within, &business.link, "Anna")?;
        let text = format!("hello {}", business.handle);
        anna.says(&text).await?;
        let (delivery, message) = town.receiver.message(&text, |m| m["text"]["body"] == text.as_str()).await?;
        let metadata = &delivery.json()["entry"][0]["changes"][0]["value"]["metadata"];
        assert_eq!(metadata["phone_number_id"], business.phone_number_id.as_str());
        assert!(delivery.signature_verifies(&business.app_secret));
        let user = user_of(&message)?.to_owned();
        business.api()?.text(&user, &text).await?.wamid()?;
        anna.reads(&text).await?;
        assert_eq!(anna.terminal.finish().await?.0, Some(0));
        users.push(user);
    }
    assert_ne!(users[0], users[1], "the same person, two pseudonyms");
    for (mine, other, others_customer) in [(bakery, florist, &users[1]), (florist, bakery, &users[0])] {
        let stranger = mine.api()?.text(others_customer, "buy from me").await?;
        assert_eq!((stranger.status, stranger.error_code()), (400, Some(131_030)), "{stranger:?}");
        let with_my_token = other.api()?.with_token(&mine.access_token).text(others_customer, "x").await?;
        assert!(with_my_token.status != 200 && with_my_token.error_code().is_some(), "{with_my_token:?}");
    }
    let env = |arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new(program("bulla")?);
        command.args(["env", "--data"]).arg(town.folder().join("gateway")).args(arguments);
        Ok(command)
    };
    says_what_to_do(&run(&mut env(&[])?).await?, &["several businesses", "--business", "bakery, florist"]);
    let chosen = run(&mut env(&["--business", "florist"])?).await?;
    assert!(chosen.code == Some(0) && chosen.out.contains(&florist.phone_number_id), "{chosen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_number_or_body_is_told_apart_and_sends_nothing() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let mut anna = world.customer("Anna")?;
    anna.says("hello").await?;
    let (_, message) = heard(&world, "hello").await?;
    let user = user_of(&message)?;
    let wrong = world.api.with_token("EAAwrong").text(user, "x").await?;
    assert_eq!((wrong.status, wrong.error_code()), (401, Some(190)), "{wrong:?}");
    let empty = world.api.post(&serde_json::json!({"messaging_product": "whatsapp"})).await?;
    assert_eq!((empty.status, empty.error_code()), (400, Some(100)), "{empty:?}");
    let unknown = world.api.text("ZZ.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x").await?;
    assert_eq!((unknown.status, unknown.error_code()), (400, Some(131_030)), "{unknown:?}");
    // The next good one is the first that she sees.
    world.api.text(user, "good").await?.wamid()?;
    anna.reads("good").await?;
    let texts = anna.terminal.lines().into_iter().filter(|line| matches!(line, Line::Text(_)));
    assert_eq!(texts.collect::<Vec<_>>(), [Line::Text("good".into())]);
    Ok(())
}
