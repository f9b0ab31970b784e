//! `bulla chat` on its screen: the real program in a pseudo-terminal, its output read by a terminal emulator, keys typed as a terminal sends
//! them.

use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use bulla_testkit::process::{Part, program, turn};
use bulla_testkit::wait::{GUARD, look};
use bulla_testkit::world::{Which, World};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

/// A terminal window with `bulla chat` in it. Dropping it kills the program.
struct Window {
    child: std::process::Child,
    pty: Arc<pty_process::blocking::Pty>,
    emulator: Arc<Mutex<vt100::Parser>>,
    /// Told at every change.
    drawn: watch::Receiver<()>,
}

impl Window {
    /// Opens it with 24 rows of 80 columns, and starts the program with these arguments.
    fn open(args: &[&str], data: &Path, log: Option<&str>) -> Result<Self> {
        let (pty, pts) = pty_process::blocking::open().context("a pseudo-terminal")?;
        pty.resize(pty_process::Size::new(24, 80))?;
        let mut command = pty_process::blocking::Command::new(program("bulla")?);
        command = command.arg("chat").arg("--data").arg(data).args(args);
        command = command.env("TERM", "xterm-256color").env("TZ", "UTC").env_remove("NO_COLOR").env_remove("BULLA_LOG");
        if let Some(level) = log {
            command = command.env("BULLA_LOG", level);
        }
        let child = command.spawn(pts).context("bulla chat")?;
        let pty = Arc::new(pty);
        let emulator = Arc::new(Mutex::new(vt100::Parser::new(size(24)?, size(80)?, 0)));
        let (tell, drawn) = watch::channel(());
        let (from, to) = (Arc::clone(&pty), Arc::clone(&emulator));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            // An error is the end: nobody has the terminal open any more.
            while let Ok(n @ 1..) = (&*from).read(&mut bytes) {
                to.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..n]);
                tell.send_replace(());
            }
        });
        Ok(Self { child, pty, emulator, drawn })
    }

    fn emulator(&self) -> MutexGuard<'_, vt100::Parser> {
        self.emulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Types, as a terminal sends it.
    fn types(&self, keys: &str) -> Result<()> {
        (&*self.pty).write_all(keys.as_bytes()).context("nobody reads the terminal")
    }

    /// Makes the window larger or smaller.
    fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.emulator().screen_mut().set_size(size(rows)?, size(columns)?);
        self.pty.resize(pty_process::Size::new(rows, columns)).context("the window's size")
    }

    /// What it shows.
    fn text(&self) -> String {
        self.emulator().screen().contents()
    }

    /// Waits until the screen is as it should be.
    async fn until<R>(&mut self, what: &str, seen: impl Fn(&vt100::Screen) -> Option<R>) -> Result<R> {
        let waiting = async {
            loop {
                self.drawn.borrow_and_update();
                if let Some(found) = seen(self.emulator().screen()) {
                    return Ok::<_, anyhow::Error>(found);
                }
                self.drawn.changed().await.context("the program has ended")?;
            }
        };
        match timeout(GUARD, waiting).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                Err(error.context(format!("waiting for {what}, with this on the screen:\n{}", self.text())))
            }
            Err(_) => bail!("waited for {what}, with this on the screen:\n{}", self.text()),
        }
    }

    /// Waits until a text stands on the screen.
    async fn shows(&mut self, text: &str) -> Result<()> {
        self.until(&format!("{text:?}"), |screen| screen.contents().contains(text).then_some(())).await
    }

    /// Waits until it does not.
    async fn hides(&mut self, text: &str) -> Result<()> {
        let gone = |screen: &vt100::Screen| (!screen.contents().contains(text)).then_some(());
        self.until(&format!("{text:?} to go"), gone).await
    }

    /// Waits for the program's end; its exit code.
    async fn ended(&mut self) -> Result<Option<i32>> {
        let child = &mut self.child;
        let status = look(GUARD, "the chat to end", || child.try_wait().ok().flatten()).await?;
        Ok(status.code())
    }

    /// The terminal is as it was before.
    async fn must_be_restored(&mut self) -> Result<()> {
        let restored = |screen: &vt100::Screen| {
            let is_plain = !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste();
            let no_mouse = screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None;
            (is_plain && no_mouse).then_some(())
        };
        self.until("the terminal to be restored", restored).await
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn size(n: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(n).context("a window has a size")
}

/// A message of the customer at the business: its sender and its id.
async fn arrives(world: &World, what: &str, fits: impl Fn(&Value) -> bool) -> Result<(String, String)> {
    let (delivery, message) = world.receiver.message(what, fits).await?;
    let user = delivery.contacts().first().and_then(|c| c["user_id"].as_str()).context("user_id")?.to_owned();
    Ok((user, message["id"].as_str().context("id")?.to_owned()))
}

async fn text_arrives(world: &World, text: &str) -> Result<(String, String)> {
    arrives(world, &format!("{text:?}"), |m| m["text"]["body"] == text).await
}

const ALT_UP: &str = "\x1b[1;3A";
const FOCUS_LOST: &str = "\x1b[O";
const FOCUS_GAINED: &str = "\x1b[I";

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_talks_on_the_screen() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let data = world.folder().join("ana");
    let mut window = Window::open(&["--name", "Ana", &world.ready.link], &data, None)?;
    window.shows("● online").await?;
    window.shows("key is the one in your link").await?;
    assert!(window.emulator().screen().alternate_screen());

    // Said, delivered, read: the ticks turn, and "read" has its colour.
    window.types("Grüße, habt ihr Hafermilch? 🥛\r")?;
    let (ana, hello) = text_arrives(&world, "Grüße, habt ihr Hafermilch? 🥛").await?;
    window.shows("✓✓ ▐").await?;
    let colour_of_ticks = |screen: &vt100::Screen| {
        let cells = (0..24).flat_map(|row| (0..80).map(move |column| (row, column)));
        let tick = cells.filter_map(|(row, column)| screen.cell(row, column)).find(|cell| cell.contents() == "✓");
        tick.map(vt100::Cell::fgcolor)
    };
    let before = colour_of_ticks(window.emulator().screen());
    assert_eq!(before, Some(vt100::Color::Default));
    let typing = json!({
        "messaging_product": "whatsapp", "status": "read", "message_id": hello, "typing_indicator": {"type": "text"},
    });
    assert_eq!(world.api.post(&typing).await?.status, 200);
    window.until("read ticks", |screen| (colour_of_ticks(screen) == Some(vt100::Color::Idx(6))).then_some(())).await?;
    window.shows("is typing…").await?;

    // The business answers; what is seen is read, and what it wrote cannot steer the terminal.
    let answer = world.api.text(&ana, "Ja! \u{1b}[2J\u{202e}Auch Soja.").await?.wamid()?;
    window.shows("▌ Ja! [2JAuch Soja.").await?;
    window.hides("is typing…").await?;
    world.receiver.status(&answer, "read").await?;
    assert_eq!(world.api.react(&ana, &hello, "👍").await?.status, 200);
    window.shows("👍 ╯").await?;

    // Alt+Up chooses it: a reaction, then a reply in two lines that is pasted.
    window.types(ALT_UP)?;
    window.shows("r answer").await?;
    window.types("+2")?;
    arrives(&world, "a reaction", |m| m["reaction"]["emoji"] == "❤️" && m["reaction"]["message_id"] == answer).await?;
    window.shows("╰ ❤️").await?;
    window.types(&format!("{ALT_UP}r\x1b[200~Zwei,\r\nbitte\x1b[201~\r"))?;
    let (_, reply) = arrives(&world, "a reply", |m| m["context"]["id"] == answer).await?;
    text_arrives(&world, "Zwei,\nbitte").await?;
    window.shows("┆ Cortado").await?;

    // Edited, and taken back after one question.
    window.types(&format!("{ALT_UP}e!\r"))?;
    window.shows("edited").await?;
    window.types(&format!("{ALT_UP}d"))?;
    window.shows("Take this message back?").await?;
    window.types("y")?;
    window.shows("You took this message back.").await?;
    let revoked = |m: &Value| m["type"] == "revoke" && m["revoke"]["original_message_id"] == reply;
    arrives(&world, "the withdrawal", revoked).await?;

    // Who does not look has not read.
    window.types(FOCUS_LOST)?;
    let unseen = world.api.text(&ana, "Noch da?").await?.wamid()?;
    window.shows("─ 1 new ─").await?;
    world.receiver.status(&unseen, "delivered").await?;
    let was_read = || {
        world
            .receiver
            .deliveries()
            .all()
            .iter()
            .flat_map(|d| d.statuses())
            .any(|s| s["id"] == unseen && s["status"] == "read")
    };
    assert!(!was_read());
    window.types(FOCUS_GAINED)?;
    world.receiver.status(&unseen, "read").await?;

    // The relay dies: it is told, what is written meanwhile is kept, and arrives.
    world.kill_9(Which::Relay).await?;
    window.shows("○ offline, trying again").await?;
    window.types("Und Zucker\r")?;
    text_arrives(&world, "Und Zucker").await?;
    window.shows("● online").await?;

    // A narrow window, the help, and away.
    window.resize(20, 34)?;
    window.shows("Alt+↑ choose · F1 help").await?;
    window.shows("Und Zucker").await?;
    window.types("\x1bOP")?;
    window.shows("You talk to").await?;
    window.types("\x1b")?;
    window.hides("You talk to").await?;
    window.types("\x03")?;
    assert_eq!(window.ended().await?, Some(0));
    window.must_be_restored().await?;
    assert!(!data.join("chat.log").exists(), "nobody asked for a log");

    // It is all there the next time.
    let mut window = Window::open(&[&world.ready.link], &data, None)?;
    window.shows("▌ Noch da?").await?;
    window.shows("╰ ❤️").await?;
    window.shows("You took this message back.").await?;
    println!(
        "figure: 1 conversation on the screen: said, ticked, typed, reacted, answered, edited, withdrawn, read when looked at"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_chooses_fills_in_and_sends_a_place_on_the_screen() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let mut window = Window::open(&["--name", "Ana", &world.ready.link], &world.folder().join("ana"), None)?;
    window.shows("● online").await?;
    window.types("Hello\r")?;
    let (ana, _) = text_arrives(&world, "Hello").await?;
    let offer = |interactive: Value| {
        let message = json!({"messaging_product": "whatsapp", "recipient": ana, "type": "interactive", "interactive": interactive});
        let api = &world.api;
        async move { api.post(&message).await?.wamid() }
    };

    let reply = |id: &str, title: &str| json!({"type": "reply", "reply": {"id": id, "title": title}});
    let buttons = json!({
        "type": "button", "body": {"text": "Deliver today?"},
        "action": {"buttons": [reply("yes", "Yes"), reply("no", "No")]},
    });
    let asked = offer(buttons).await?;
    window.shows("▌   2 No").await?;
    window.types("/choose 3\r")?;
    window.shows("There is no 3").await?;
    window.types("\x15/choose 2\r")?;
    window.shows("▌   ✓ No").await?;
    let chosen = |m: &Value| m["interactive"]["button_reply"]["id"] == "no" && m["context"]["id"] == asked;
    arrives(&world, "the button", chosen).await?;

    let address = json!({
        "type": "address_message", "body": {"text": "Your address, please"},
        "action": {"name": "address_message", "parameters": {"country": "IN", "values": {"city": "Munich"}}},
    });
    offer(address).await?;
    window.shows("· /form").await?;
    window.types("/form\r")?;
    window.shows("1/10 Name").await?;
    window.types("Ana\r")?;
    for question in 2..=10 {
        window.shows(&format!("{question}/10 ")).await?;
        // Street and postal code must be told; the city stands there.
        window.types(if matches!(question, 3 | 7) { "80331\r" } else { "\r" })?;
    }
    window.shows("✓ form filled in").await?;
    let filled = |m: &Value| {
        let response = m["interactive"]["nfm_reply"]["response_json"].as_str().unwrap_or_default();
        let response: Value = serde_json::from_str(response).unwrap_or_default();
        response["values"] == json!({"name": "Ana", "address": "80331", "in_pin_code": "80331", "city": "Munich"})
    };
    arrives(&world, "the form", filled).await?;

    let place = json!({
        "type": "location_request_message", "body": {"text": "Where to?"}, "action": {"name": "send_location"},
    });
    let asked = offer(place).await?;
    window.shows("it asks for a place").await?;
    window.types("/location 48.137154 11.576124 home\r")?;
    window.shows("📍 home · 48.13715, 11.57612").await?;
    let there = |m: &Value| m["location"]["name"] == "home" && m["context"]["id"] == asked;
    arrives(&world, "the place", there).await?;

    window.types("/consent marketing on\r")?;
    window.shows("may send me offers.").await?;
    window.types("\x03")?;
    assert_eq!(window.ended().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_overtaken_says_so_and_logs_stay_off_the_screen() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let data = world.folder().join("ana");
    let copy = world.folder().join("copy");
    let mut first = Window::open(&[&world.ready.link], &data, None)?;
    first.shows("● online").await?;
    first.types("one\r")?;
    first.shows("✓✓ ▐").await?;
    first.types("\x04")?;
    assert_eq!(first.ended().await?, Some(0));
    copy_folder(&data, &copy)?;

    let mut first = Window::open(&[&world.ready.link], &data, Some("bulla_client=trace"))?;
    first.shows("● online").await?;
    // The copy is opened twice: then it is the later one.
    for _ in 0..2 {
        let mut second = Window::open(&[&world.ready.link], &copy, None)?;
        second.shows("Write to").await?;
        second.types("\x04")?;
        assert_eq!(second.ended().await?, Some(0));
    }
    let mut second = Window::open(&[&world.ready.link], &copy, None)?;
    second.shows("● online").await?;
    first.shows("✗ this copy has stopped").await?;
    first.types("two\r")?;
    first.shows("copy and start this one again.").await?;
    second.types("three\r")?;
    text_arrives(&world, "three").await?;
    assert_eq!(world.receiver.texts().len(), 2, "what was typed into the stopped copy was not sent");

    let log = data.join("chat.log");
    assert!(std::fs::metadata(&log)?.len() > 0);
    assert_eq!(std::fs::metadata(&log)?.permissions().mode() & 0o777, 0o600);
    assert!(!first.text().contains("bulla_client"), "{}", first.text());
    let pid = rustix::process::Pid::from_child(&first.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    assert_eq!(first.ended().await?, Some(0));
    first.must_be_restored().await
}

/// What a backup is: every file of a folder, while nobody has it open.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

#[tokio::test]
async fn without_a_terminal_it_says_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let link = format!("http://127.0.0.1:9/@cortado#k={}", "A".repeat(43));
    let mut command = Command::new(program("bulla")?);
    command.args(["chat", &link, "--data"]).arg(folder.path().join("data"));
    let mut chat = Part::start(&mut command)?;
    assert_eq!(chat.ended(GUARD).await?, Some(1));
    let said = chat.stderr.until("a sentence", |lines| lines.first().cloned()).await?;
    assert!(said.contains("needs a terminal") && said.contains("--plain"), "{said}");
    assert!(!folder.path().join("data").exists(), "nothing was made");
    Ok(())
}
