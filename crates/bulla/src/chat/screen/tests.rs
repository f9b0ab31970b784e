//! The chat as a person has it: keys in, a screen out, and what the endpoint is asked to do.

use bulla_client::engine::commands::MAX_TEXT;
use bulla_client::event::{Connection, Conversation, Direction, Draft, Event, Failure, Message, Reason, Shown, Status};
use bulla_e2ee::content::{Action, Answer as Choice, Category, FieldValue, Location, TemplateName};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseEvent, MouseEventKind};
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::draw::draw;
use super::fixtures::{DAY, MINUTE, START, buttons, conversation, form, id, message, offer, own, theirs};
use super::model::{Answer, Ask, Model, PAGE};
use super::palette::Palette;
use super::wrap::width;
use crate::chat::command::Typed;

/// A person at a terminal.
struct Desk {
    model: Model,
    terminal: Terminal<TestBackend>,
    now_ms: u64,
}

impl Desk {
    /// Opens a conversation in which this has been said, at 13:00 of the first day.
    fn with(page: Vec<Message>, size: (u16, u16)) -> Self {
        Self::of(conversation(), page, size)
    }

    fn of(conversation: Conversation, page: Vec<Message>, (columns, rows): (u16, u16)) -> Self {
        let now_ms = START + 60 * MINUTE;
        let mut model = Model::new(conversation, Palette::Coloured, TimeZone::UTC, now_ms);
        model.history.page(page, PAGE);
        model.opened();
        model.event(Event::Connection(Connection::Online));
        let mut desk = Self { model, terminal: Terminal::new(TestBackend::new(columns, rows)).unwrap(), now_ms };
        desk.draw();
        desk
    }

    fn draw(&mut self) {
        let mut seen = self.model.seen;
        self.terminal.draw(|frame| seen = draw(&self.model, frame)).unwrap();
        self.model.seen(seen);
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        self.terminal.backend_mut().resize(columns, rows);
        self.draw();
    }

    /// Presses keys by their names, or types texts: `Alt+Up`, `Enter`, `hello`.
    fn press(&mut self, keys: &[&str]) {
        for name in keys {
            let (modifiers, code) =
                match name.rsplit_once('+').filter(|(before, after)| !before.is_empty() && !after.is_empty()) {
                    Some(("Alt", code)) => (KeyModifiers::ALT, code),
                    Some(("Ctrl", code)) => (KeyModifiers::CONTROL, code),
                    _ => (KeyModifiers::NONE, *name),
                };
            let code = match code {
                "Enter" => KeyCode::Enter,
                "Esc" => KeyCode::Esc,
                "Up" => KeyCode::Up,
                "Down" => KeyCode::Down,
                "Left" => KeyCode::Left,
                "Right" => KeyCode::Right,
                "Home" => KeyCode::Home,
                "End" => KeyCode::End,
                "PgUp" => KeyCode::PageUp,
                "PgDn" => KeyCode::PageDown,
                "Backspace" => KeyCode::Backspace,
                "F1" => KeyCode::F(1),
                text if modifiers.is_empty() => {
                    for c in text.chars() {
                        self.model.key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE));
                        self.draw();
                    }
                    continue;
                }
                letter => KeyCode::Char(letter.chars().next().unwrap()),
            };
            self.model.key(KeyEvent::new(code, modifiers));
            self.draw();
        }
    }

    fn hear(&mut self, event: Event) {
        self.model.event(event);
        self.draw();
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.model.tick(self.now_ms);
        self.draw();
    }

    /// What was asked of the endpoint since the last time.
    fn asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.model.asks)
    }

    /// The screen, row by row.
    fn rows(&self) -> Vec<String> {
        let buffer = self.terminal.backend().buffer();
        let row = |y| {
            let (mut row, mut x) = (String::new(), 0);
            while x < buffer.area.width {
                let symbol = buffer[(x, y)].symbol();
                row.push_str(symbol);
                x += u16::try_from(width(symbol).max(1)).unwrap();
            }
            row.trim_end().to_owned()
        };
        (0..buffer.area.height).map(row).collect()
    }

    fn shows(&self, text: &str) -> bool {
        self.rows().iter().any(|row| row.contains(text))
    }

    #[track_caller]
    fn must_show(&self, text: &str) {
        assert!(self.shows(text), "{text:?} is not on the screen:\n{}", self.rows().join("\n"));
    }

    #[track_caller]
    fn must_not_show(&self, text: &str) {
        assert!(!self.shows(text), "{text:?} is on the screen:\n{}", self.rows().join("\n"));
    }
}

fn changed(mut message: Message, change: impl FnOnce(&mut Message)) -> Message {
    change(&mut message);
    message
}

fn read(message: Message) -> Message {
    changed(message, |m| m.status = Status::Read)
}

/// A little of everything.
fn cafe() -> Vec<Message> {
    vec![
        read(own(1, "Hello! Do you have oat milk?")),
        read(changed(theirs(2, "Hi Ana! Yes, we do: oat, soy and almond. Would you like to order something?"), |m| {
            m.reactions = vec![(Direction::Outgoing, "👍".into())];
        })),
        changed(own(3, "Two flat whites, please 🥐"), |m| (m.status, m.edited) = (Status::Delivered, true)),
        read(changed(theirs(4, "At eight it is"), |m| m.reply_to = Some(id(3)))),
        changed(own(5, "Thanks"), |m| m.status = Status::Sent),
    ]
}

/// Long enough to be scrolled: so many read messages of the business, from this place on.
fn long(from: u64, count: u64) -> Vec<Message> {
    (from..from + count).map(|order| read(theirs(order, &format!("number {order}")))).collect()
}

fn send(body: &str, reply_to: Option<u64>) -> Ask {
    Ask::Send(Draft::Text { body: body.into(), reply_to: reply_to.map(id) }, Some(body.into()))
}

#[test]
fn a_conversation_on_the_usual_screen() {
    let mut desk = Desk::with(cafe(), (80, 24));
    desk.hear(Event::Typing { conversation: conversation().id, on: true });
    assert_eq!(
        desk.rows(),
        [
            " Cortado Coffee                                                        ● online",
            " key is the one in your link · read by Ana (agent), Shopbot (bot)",
            "────────────────────────────────────────────────────────────────────────────────",
            "                          the relay in between cannot.",
            "                   The business hears of you when you write.",
            "",
            "            ──────────────────────── Today ────────────────────────",
            "",
            "                                        Hello! Do you have oat milk?  12:01 ✓✓ ▐",
            "",
            "▌ Hi Ana! Yes, we do: oat, soy and almond. Would you",
            "▌ like to order something?                     12:02",
            "  ╰ 👍 you",
            "",
            "                                   Two flat whites, please 🥐  edited 12:03 ✓✓ ▐",
            "",
            "▌ ┆ You: Two flat whites, please 🥐",
            "▌ At eight it is              12:04",
            "",
            "                                                               Thanks  12:05 ✓ ▐",
            " Cortado Coffee is typing…",
            "────────────────────────────────────────────────────────────────────────────────",
            "› Write to Cortado Coffee",
            " Enter says it · Alt+Enter line · Alt+↑ choose · F1 help",
        ]
    );
}

#[test]
fn the_same_conversation_in_a_narrow_window() {
    let desk = Desk::with(cafe(), (34, 20));
    assert_eq!(
        desk.rows(),
        [
            " Cortado Coffee          ● online",
            " your link's key · F1: 2 read",
            "──────────────────────────────────",
            "",
            "▌ Hi Ana! Yes, we do: oat, soy",
            "▌ and almond. Would you like",
            "▌ to order something?    12:02",
            "  ╰ 👍 you",
            "",
            "      Two flat whites, please 🥐 ▐",
            "                 edited 12:03 ✓✓ ▐",
            "",
            "▌ ┆ You: Two flat whites, ple…",
            "▌ At eight it is         12:04",
            "",
            "                 Thanks  12:05 ✓ ▐",
            "",
            "──────────────────────────────────",
            "› Write to Cortado Coffee",
            " Alt+↑ choose · F1 help",
        ]
    );
}

#[test]
fn what_is_offered_is_numbered_and_once_chosen_marked() {
    let asked = read(buttons(1, "Does Friday suit you?", &["Yes", "Later", "No"]));
    let place = Location { name: Some("Market Square 3".into()), ..Location::at(52.517, 13.3888).unwrap() };
    let there = read(message(2, Direction::Incoming, Shown::Location(place)));
    let mut desk = Desk::with(vec![asked, there], (60, 24));
    let shown = |desk: &Desk| desk.rows().into_iter().filter(|row| row.contains(['▌', '▐'])).collect::<Vec<_>>();
    assert_eq!(
        shown(&desk),
        [
            "▌ Does Friday suit you?",
            "▌   1 Yes",
            "▌   2 Later",
            "▌   3 No",
            "▌ /choose 00000001 N  12:01",
            "▌ 📍 Market Square 3 · 52.51700, 13.38880",
            "▌                                   12:02",
        ]
    );
    desk.press(&["/choose 00000001 2", "Enter"]);
    let line = "/choose 00000001 2";
    assert_eq!(desk.asks(), [Ask::Command(Typed::Choose(Some("00000001".into()), "2".into()), line.into())]);
    let chosen = Shown::Answer(Choice::Button { id: "later".into(), title: "Later".into() });
    let answer = changed(message(3, Direction::Outgoing, chosen), |m| m.reply_to = Some(id(1)));
    desk.hear(Event::Message(answer.clone()));
    desk.must_show("▌   ✓ Later");
    desk.must_show("▌ answered        12:01");
    desk.must_show("┆ Cortado Coff…: Does Friday suit you? ▐");
    desk.must_show("✓ Later                       12:03 🕓 ▐");
    // What did not arrive is no answer.
    let failed = changed(answer, |m| (m.status, m.failure) = (Status::Failed, Some(Failure::NoReceipt)));
    desk.hear(Event::Status { message: failed, at_ms: START });
    desk.must_show("▌   2 Later");
}

#[test]
fn a_form_is_asked_above_what_one_writes_and_sent_after_the_last_answer() {
    let mut desk = Desk::with(vec![read(form(1))], (60, 24));
    desk.must_show("▌ Fill it in · /form 00000001");
    desk.press(&["/form", "Enter"]);
    desk.must_show("1/2 Street:");
    desk.must_show("› Answer, then Enter · Esc gives it up");
    desk.press(&["Enter"]);
    desk.must_show("This must be answered.");
    desk.press(&["Canal Street 5", "Enter"]);
    desk.must_show("2/2 Floor:, may be empty");
    desk.press(&["second", "Enter"]);
    desk.must_show("That is not a number");
    desk.must_show("› second");
    desk.press(&["Ctrl+u", "2"]);
    // Answers are not what one writes to somebody: nobody is told that one types.
    assert_eq!(desk.asks(), []);
    desk.press(&["Enter"]);
    let value = |name: &str, value: &str| FieldValue { name: name.into(), values: vec![value.into()] };
    let values = vec![value("street", "Canal Street 5"), value("floor", "2")];
    let answer = Choice::Form { values };
    assert_eq!(desk.asks(), [Ask::Send(Draft::Answer { to: id(1), answer: answer.clone() }, None)]);
    desk.must_show("› Write to Cortado Coffee");
    let sent = changed(message(2, Direction::Outgoing, Shown::Answer(answer)), |m| m.reply_to = Some(id(1)));
    desk.hear(Event::Message(sent));
    desk.must_show("Street: Canal Street 5");
    desk.press(&["/form", "Enter"]);
    desk.must_show("Message 00000001 was answered");
    desk.press(&["Ctrl+u", "/form 00000009", "Enter"]);
    desk.must_show("The business has sent no message 00000009.");
}

#[test]
fn a_form_can_be_given_up() {
    for give_up in [&["Esc"][..], &["/cancel", "Enter"]] {
        let mut desk = Desk::with(vec![read(form(1))], (60, 24));
        desk.press(&["/form", "Enter", "Canal", "Enter"]);
        desk.press(give_up);
        desk.must_show("The form is given up; nothing was sent.");
        desk.must_show("› Write to Cortado Coffee");
        assert_eq!(desk.asks(), []);
    }
}

#[test]
fn a_place_is_asked_for_and_an_offer_that_may_not_be_is_said_to_be_one() {
    let asks = read(offer(1, "Where are you?", Action::Location));
    let mut half = read(buttons(2, "Half the price", &["Yes"]));
    if let Shown::Interactive(of, _) = &mut half.shown {
        let (name, language) = ("half".to_owned(), "en".to_owned());
        of.template = Some(TemplateName { name, language, category: Category::Marketing });
    }
    half.breach = true;
    let desk = Desk::with(vec![asks, half], (80, 24));
    desk.must_show("it asks for a place · /location LAT LON NAME");
    desk.must_show("[message template · marketing]");
    desk.must_show("the business sent this offer as if it");
}

#[test]
fn every_size_and_state_can_be_drawn() {
    let states: [&[&str]; 9] = [
        &[],
        &["a text that is longer than one row", "Alt+Enter", "you 你好 ❤️"],
        &["Alt+Up"],
        &["Alt+Up", "+"],
        &["Alt+Up", "d"],
        &["Alt+Up", "e"],
        &["Alt+Up", "Up", "r", "x"],
        &["F1", "PgDn"],
        &["/form", "Enter", "Canal Street 5 and a long way around", "Enter"],
    ];
    for keys in states {
        let mut page = cafe();
        page.push(theirs(6, &"你好👨‍👩‍👧 wide and long ".repeat(20)));
        page.extend([form(7), buttons(8, "你好 which?", &["👨‍👩‍👧 this one", "or a longer one, for once"])]);
        let mut desk = Desk::with(page, (80, 24));
        desk.press(keys);
        for columns in 1..50 {
            for rows in [1, 2, 5, 7, 8, 9, 12, 16, 25] {
                desk.resize(columns, rows);
            }
        }
        desk.hear(Event::Connection(Connection::Superseded));
        desk.resize(30, 10);
        desk.resize(20, 8);
    }
    let mut desk = Desk::with(cafe(), (19, 24));
    desk.must_show("The window is too s");
    desk.resize(30, 8);
    desk.must_show("Thanks  12:05 ✓ ▐");
}

#[test]
fn what_others_write_never_steers_the_terminal() {
    let nasty = "\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{feff}\r\n\u{61c}x";
    let mut conversation = conversation();
    conversation.peer_name = format!("Cafe{nasty}");
    conversation.readers = vec![(nasty.into(), nasty.into())];
    let page = vec![
        changed(theirs(1, nasty), |m| m.reactions = vec![(Direction::Incoming, nasty.into())]),
        changed(theirs(2, "y"), |m| m.reply_to = Some(id(1))),
        changed(theirs(3, ""), |m| m.shown = Shown::Unsupported(nasty.into())),
    ];
    let mut desk = Desk::of(conversation.clone(), page, (80, 24));
    conversation.readers.push((nasty.into(), "bot".into()));
    desk.hear(Event::Conversation(conversation));
    desk.hear(Event::Typing { conversation: super::fixtures::conversation().id, on: true });
    desk.must_show("is typing");
    let clean = |desk: &Desk| {
        let screen = desk.rows().concat();
        assert!(!screen.chars().any(crate::text::is_steering), "{screen:?}");
    };
    clean(&desk);
    desk.press(&["Alt+Up", "r"]);
    clean(&desk);
    desk.press(&["F1"]);
    clean(&desk);
    desk.press(&["Esc"]);
    desk.model.paste(nasty);
    desk.draw();
    clean(&desk);
    desk.must_show("[2J]0;t31m");
}

#[test]
fn colours_are_not_needed() {
    let mut desk = Desk::with(vec![read(own(1, "Hello"))], (60, 20));
    let colours = |desk: &Desk| {
        let cells = desk.terminal.backend().buffer().content.clone();
        cells.iter().filter(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset)).count()
    };
    assert!(colours(&desk) > 0);
    desk.must_not_show("read ▐");
    desk.model.palette = Palette::Plain;
    desk.draw();
    assert_eq!(colours(&desk), 0);
    desk.must_show("12:01 ✓✓ read ▐");
}

#[test]
fn what_is_new_is_marked_and_read_only_when_it_is_seen() {
    let mut page = long(1, 40);
    page.extend((41..=60).map(|order| theirs(order, &format!("number {order}"))));
    let mut desk = Desk::with(page, (60, 20));
    desk.must_show("─ 20 new ─");
    desk.must_show("number 41");
    desk.must_not_show("number 60");
    desk.must_show("↓ 10 new");
    assert_eq!(desk.asks(), [Ask::Read(id(50))], "as far as it is on the screen");
    desk.model.focus(false);
    desk.model.mouse(wheel(MouseEventKind::ScrollDown));
    desk.draw();
    desk.must_show("number 53");
    assert_eq!(desk.asks(), [], "nobody looks");
    desk.model.focus(true);
    desk.draw();
    assert_eq!(desk.asks(), [Ask::Read(id(53))]);
    desk.press(&["F1"]);
    desk.hear(Event::Message(theirs(61, "number 61")));
    assert_eq!(desk.asks(), [], "the help covers it");
    desk.press(&["Esc", "End"]);
    desk.must_show("number 61");
    assert_eq!(desk.asks(), [Ask::Read(id(61))]);
    desk.hear(Event::Message(theirs(62, "number 62")));
    desk.must_show("number 62");
    assert_eq!(desk.asks(), [Ask::Read(id(62))], "the view follows");
    desk.hear(Event::Message(own(63, "Ah!")));
    desk.press(&["PgUp", "PgUp"]);
    desk.must_not_show("new ─");
}

#[test]
fn what_is_covered_or_cut_off_is_not_read() {
    let mut desk = Desk::with(long(1, 40), (60, 20));
    desk.press(&["F1"]);
    desk.hear(Event::Message(theirs(41, "under the help")));
    assert_eq!(desk.asks(), []);
    desk.press(&["Esc"]);
    assert_eq!(desk.asks(), [Ask::Read(id(41))]);

    // One row of two at the lower edge; then both.
    let mut desk = Desk::with((1..=30).map(|order| theirs(order, "two\nrows")).collect(), (60, 20));
    assert_eq!(desk.asks(), [Ask::Read(id(5))]);
    desk.model.mouse(wheel(MouseEventKind::ScrollDown));
    desk.draw();
    let last = desk.rows()[15].clone();
    assert_eq!(last, "▌ two", "{:#?}", desk.rows());
    assert_eq!(desk.asks(), [Ask::Read(id(6))]);
    // Of what is taller than the window all can never be seen at once.
    let mut desk = Desk::with(vec![theirs(1, &"row\n".repeat(50))], (60, 20));
    assert_eq!(desk.asks(), [Ask::Read(id(1))]);
}

fn wheel(kind: MouseEventKind) -> MouseEvent {
    MouseEvent { kind, column: 3, row: 3, modifiers: KeyModifiers::NONE }
}

#[test]
fn what_comes_while_nobody_looks_gets_a_marker_and_while_one_reads_above_nothing_moves() {
    let mut desk = Desk::with(long(1, 40), (60, 20));
    desk.model.focus(false);
    desk.hear(Event::Message(theirs(41, "while away")));
    desk.must_show("─ 1 new ─");
    desk.model.focus(true);
    desk.draw();
    desk.press(&["PgUp"]);
    let before = desk.rows();
    desk.hear(Event::Message(theirs(42, "below")));
    desk.must_show("↓ 1 new");
    let is_history = |row: &&String| row.starts_with('▌');
    assert!(before.iter().filter(is_history).eq(desk.rows().iter().filter(is_history)), "{before:#?}");
}

#[test]
fn older_pages_are_loaded_where_the_loaded_ones_end() {
    let mut desk = Desk::with(long(301, PAGE as u64), (60, 20));
    assert_eq!(desk.asks(), [], "not before one goes there");
    desk.must_show("number 500");
    while desk.asks() != [Ask::Older(301)] {
        desk.must_not_show("number 301 ");
        desk.press(&["PgUp"]);
    }
    desk.model.mouse(wheel(MouseEventKind::ScrollUp));
    desk.draw();
    assert_eq!(desk.asks(), [], "once");
    let before = desk.rows();
    desk.model.answer(Answer::Page(long(101, PAGE as u64)));
    desk.draw();
    assert_eq!(before, desk.rows(), "what one looks at stays");
    desk.press(&["PgUp", "PgUp"]);
    desk.must_show("number 299");
    desk.press(&["Home"]);
    assert_eq!(desk.asks(), [Ask::Older(101)]);
    desk.model.answer(Answer::Page(long(1, 100)));
    desk.press(&["Home"]);
    desk.must_show("You talk to Cortado Coffee (@cortado).");
    assert_eq!(desk.asks(), [], "there is no more");
}

#[test]
fn a_text_is_said_and_its_ticks_turn() {
    let mut desk = Desk::with(vec![], (60, 20));
    desk.must_show("You talk to Cortado Coffee (@cortado).");
    desk.press(&["Two teas", "Alt+Enter", "and a cake  ", "Enter"]);
    let text = "Two teas\nand a cake";
    assert_eq!(desk.asks(), [Ask::Typing(true), send(text, None), Ask::Typing(false)]);
    desk.must_show("› Write to");
    desk.hear(Event::Message(own(1, text)));
    desk.must_show("and a cake  12:01 🕓 ▐");
    for (status, tick) in [(Status::Sent, "✓"), (Status::Delivered, "✓✓"), (Status::Read, "✓✓")] {
        let message = changed(own(1, text), |m| m.status = status);
        desk.hear(Event::Status { message, at_ms: START });
        desk.must_show(&format!("and a cake  12:01 {tick} ▐"));
    }
    let failed = changed(own(1, text), |m| (m.status, m.failure) = (Status::Failed, Some(Failure::NoReceipt)));
    desk.hear(Event::Status { message: failed, at_ms: START });
    desk.must_show("✗ not delivered: nobody confirmed it");
}

#[test]
fn the_business_types_until_it_says_something_or_stops() {
    let typing = |on| Event::Typing { conversation: conversation().id, on };
    let mut desk = Desk::with(cafe(), (60, 20));
    desk.hear(typing(true));
    desk.resize(34, 20);
    desk.must_show(" Cortado C… is typing…");
    desk.resize(60, 20);
    desk.must_show("Cortado Coffee is typing…");
    assert_eq!(desk.model.wake_at(), desk.now_ms + 25_000);
    desk.wait(24_999);
    desk.must_show("is typing…");
    desk.wait(1);
    desk.must_not_show("is typing…");
    desk.hear(typing(true));
    desk.hear(typing(false));
    desk.must_not_show("is typing…");
    desk.hear(typing(true));
    desk.hear(Event::Message(theirs(6, "Here")));
    desk.must_not_show("is typing…");
}

#[test]
fn ones_own_typing_is_told_now_and_then_and_its_end_at_once() {
    let mut desk = Desk::with(cafe(), (60, 20));
    desk.press(&["Hel"]);
    assert_eq!(desk.asks(), [Ask::Typing(true)]);
    desk.wait(7_999);
    desk.press(&["l"]);
    assert_eq!(desk.asks(), [], "not for every key");
    desk.wait(1);
    desk.press(&["o"]);
    assert_eq!(desk.asks(), [Ask::Typing(true)], "and again before it is worth nothing");
    desk.press(&["Ctrl+u"]);
    assert_eq!(desk.asks(), [Ask::Typing(false)]);
    desk.press(&["x"]);
    desk.wait(8_000);
    assert_eq!(desk.asks(), [Ask::Typing(true), Ask::Typing(false)], "who thinks is not typing");
    desk.press(&["Ctrl+u", "/who"]);
    assert_eq!(desk.asks(), [], "a command is nobody's business");
}

#[test]
fn a_chosen_message_is_answered_edited_reacted_to_and_taken_back() {
    let mut desk = Desk::with(cafe(), (80, 24));
    desk.press(&["Alt+Up", "Up"]);
    let chosen = |desk: &Desk| {
        let buffer = desk.terminal.backend().buffer();
        let reversed = buffer.content.iter().filter(|cell| cell.modifier.contains(Modifier::REVERSED));
        reversed.map(|cell| cell.symbol()).collect::<String>()
    };
    assert!(chosen(&desk).contains("At eight it is"), "{}", chosen(&desk));
    desk.must_show("r answer · + react · c ID");
    desk.press(&["e"]);
    desk.must_show("Only your own texts can be edited.");
    desk.press(&["r"]);
    desk.must_show("↪ to Cortado Coffee: At eight it is");
    desk.press(&["Fine", "Enter"]);
    assert_eq!(desk.asks(), [Ask::Typing(true), send("Fine", Some(4)), Ask::Typing(false)]);
    desk.must_not_show("↪");

    desk.press(&["half a thought", "Esc", "e"]);
    assert_eq!(desk.asks(), [Ask::Typing(true)]);
    desk.must_show("✎ instead of: Thanks");
    desk.must_show("› Thanks");
    desk.press(&[" a lot", "Enter"]);
    let edit = Draft::Edit { of: id(5), body: "Thanks a lot".into() };
    let asks = desk.asks();
    assert!(asks.contains(&Ask::Send(edit, Some("Thanks a lot".into()))), "{asks:?}");
    desk.must_show("› half a thought");
    desk.press(&["Esc", "e", "Enter"]);
    assert_eq!(desk.asks(), [], "nothing has changed");
    desk.press(&["Ctrl+u"]);

    desk.press(&["Esc", "Up", "Up", "Up", "+", "3"]);
    let reaction =
        |emoji: Option<&str>| Ask::Send(Draft::Reaction { to: id(2), emoji: emoji.map(str::to_owned) }, None);
    assert_eq!(desk.asks(), [reaction(Some("😂"))]);
    desk.press(&["Esc", "Up", "Up", "Up", ":", "Right", "Enter"]);
    assert_eq!(desk.asks(), [reaction(Some("❤️"))]);
    desk.press(&["Esc", "Up", "Up", "Up", "+", "🥳", "Enter"]);
    assert_eq!(desk.asks(), [reaction(Some("🥳"))]);
    desk.press(&["Esc", "Up", "Up", "Up", "+", "0"]);
    assert_eq!(desk.asks(), [reaction(None)]);
    desk.press(&["Esc", "+", "0"]);
    assert_eq!(desk.asks(), []);
    desk.must_show("There is no reaction of yours on that message.");

    desk.press(&["Esc", "d"]);
    desk.must_show("Take this message back?");
    desk.press(&["n", "d", "y"]);
    assert_eq!(desk.asks(), [Ask::Send(Draft::Delete { of: id(5) }, None)]);
    desk.hear(Event::Changed(changed(own(5, ""), |m| (m.shown, m.deleted) = (Shown::Deleted, true))));
    desk.must_show("You took this message back.  12:05 ▐");
    desk.press(&["Esc", "c"]);
    desk.must_show("This message's ID is 00000005, as in /reply 00000005 TEXT.");
    desk.press(&["e"]);
    desk.must_show("That message was taken back.");
    desk.press(&["Down"]);
    desk.press(&["written"]);
    desk.must_show("› written");
}

#[test]
fn commands_work_and_what_is_refused_comes_back() {
    let mut desk = Desk::with(cafe(), (80, 24));
    desk.press(&["/name Ana María", "Enter"]);
    assert_eq!(desk.asks(), [Ask::Command(Typed::Name("Ana María".into()), "/name Ana María".into())]);
    desk.model.answer(Answer::Told("the business will see it".into()));
    desk.draw();
    desk.must_show("The business will see it.");
    desk.press(&["/nme", "Enter"]);
    assert_eq!(desk.asks(), []);
    desk.must_show("There is no command /nme");
    desk.must_show("› /nme");
    desk.press(&["Ctrl+u", "//etc", "Enter"]);
    assert_eq!(desk.asks(), [Ask::Send(Draft::Text { body: "/etc".into(), reply_to: None }, Some("//etc".into()))]);
    desk.model.answer(Answer::Refused("the disk is full".into(), Some("//etc".into())));
    desk.draw();
    desk.must_show("The disk is full.");
    desk.must_show("› //etc");
    desk.wait(10_000);
    desk.must_not_show("The disk is full.");
    desk.press(&["Ctrl+u", "/who", "Enter"]);
    desk.must_show("Shopbot (bot)");
    desk.press(&["End"]);
    desk.must_show("says a text that begins with a slash");
    desk.press(&["Esc"]);
    desk.must_not_show("╭ Help");
}

#[test]
fn a_text_that_is_too_long_is_counted_and_kept() {
    let mut desk = Desk::with(cafe(), (60, 20));
    desk.model.paste(&"x".repeat(MAX_TEXT - 257));
    desk.draw();
    desk.must_not_show("of 4096");
    desk.press(&["yy"]);
    desk.must_show("3841 of 4096 ─");
    desk.model.paste(&"z".repeat(258));
    desk.draw();
    desk.must_show("3 too many ─");
    desk.asks();
    desk.press(&["Enter"]);
    desk.must_show("A message has at most 4096 characters: 3 too many.");
    assert_eq!(desk.asks(), []);
    desk.press(&["Backspace", "Backspace", "Backspace", "Enter"]);
    assert!(matches!(desk.asks()[..], [Ask::Send(..), Ask::Typing(false)]));
}

#[test]
fn own_lines_come_back_with_up_and_a_long_text_is_moved_in() {
    let mut desk = Desk::with(cafe(), (60, 20));
    desk.press(&["Up"]);
    desk.must_show("› Thanks");
    desk.press(&["Up", "Up"]);
    desk.must_show("› Hello! Do you have oat milk?");
    desk.press(&["Down", "Down", "Down"]);
    desk.must_show("› Write to");
    desk.press(&["one", "Alt+Enter", "two", "Up", "!"]);
    desk.must_show("› one!");
    desk.press(&["Up", "Up", "?"]);
    desk.must_show("› one!?");
}

#[test]
fn a_copy_that_has_stopped_says_so_and_sends_nothing() {
    let mut desk = Desk::with(cafe(), (80, 24));
    desk.press(&["unsent"]);
    desk.asks();
    desk.hear(Event::Connection(Connection::Superseded));
    desk.must_show("✗ this copy has stopped");
    desk.must_show("copy and start this one again.");
    desk.press(&["Enter", "x", "Alt+Up", "r", "y", "Enter"]);
    desk.model.paste("z");
    desk.draw();
    assert_eq!(desk.asks(), []);
    desk.must_not_show("›");
    desk.resize(30, 20);
    desk.must_show("✗ stopped");
    assert!(desk.rows().join(" ").contains("Stop the other  copy and start this one  again."), "{:#?}", desk.rows());
}

#[test]
fn the_connection_is_told_in_words() {
    let mut desk = Desk::with(cafe(), (80, 24));
    desk.hear(Event::Connection(Connection::Offline { retry_in_ms: 500 }));
    desk.must_show("○ offline, trying again");
    desk.resize(34, 20);
    desk.must_show("○ offline");
    desk.hear(Event::Connection(Connection::Connecting));
    desk.must_show("◌ connecting");
    desk.hear(Event::Connection(Connection::NoCommonVersion { update_here: true }));
    desk.must_show("✗ update this");
    desk.hear(Event::Connection(Connection::NoCommonVersion { update_here: false }));
    desk.must_show("✗ old relay");
    desk.resize(120, 20);
    desk.must_show("✗ the relay is too old");
    desk.hear(Event::Connection(Connection::NoCommonVersion { update_here: true }));
    desk.must_show("✗ too old for the relay: update this program");
}

#[test]
fn what_was_lost_or_changed_is_told_between_the_messages() {
    let mut desk = Desk::with(cafe(), (80, 24));
    desk.hear(Event::Gap { conversation: None, missing: 3 });
    desk.hear(Event::Unreadable { conversation: None });
    let mut conversation = conversation();
    conversation.readers.push(("Vendor".into(), "analytics".into()));
    desk.hear(Event::Conversation(conversation));
    let reaction = changed(own(6, ""), |m| {
        (m.shown, m.status) = (Shown::Reaction(Some("👍".into())), Status::Failed);
        m.failure = Some(Failure::Refused);
    });
    desk.hear(Event::Status { message: reaction, at_ms: START });
    for note in [
        "3 messages expired on the way and are lost",
        "a message came that could not be read; it is kept",
        "who can read has changed: Ana (agent), Shopbot (bot), Vendor (analytics)",
        "a reaction or a change of yours was not delivered",
    ] {
        desk.must_show(note);
    }
}

#[test]
fn another_key_cannot_be_missed_and_another_group_is_a_quiet_line() {
    let mut desk = Desk::with(cafe(), (80, 24));
    let by = Direction::Incoming;
    desk.hear(Event::Continued { conversation: conversation().id, by, reason: Reason::Restored });
    desk.must_show("   the conversation goes on in a new group,");
    desk.hear(Event::KeyChange { conversation: conversation().id, identity: [7; 32] });
    let alarm = |desk: &Desk| {
        assert!(desk.rows().join(" ").contains("SOMEBODY ELSE"), "{:#?}", desk.rows());
        let cells = &desk.terminal.backend().buffer().content;
        assert!(cells.iter().any(|cell| cell.symbol() == "S" && cell.fg == Color::Red));
    };
    alarm(&desk);
    desk.press(&["hello", "Enter", "Esc", "Esc"]);
    desk.wait(60 * MINUTE);
    alarm(&desk);
    for (columns, rows) in [(34, 20), (30, 12), (20, 8)] {
        desk.resize(columns, rows);
        alarm(&desk);
    }
    assert!(desk.model.farewell().unwrap().contains("under another key"));
}

#[test]
fn leaving_takes_nothing_along() {
    let mut desk = Desk::with(cafe(), (60, 20));
    desk.press(&["precious", "Ctrl+d"]);
    assert!(!desk.model.leaves, "there is something written");
    desk.press(&["Ctrl+c"]);
    assert!(!desk.model.leaves);
    desk.must_show("Ctrl-C again leaves; Up brings back what you wrote.");
    desk.press(&["Up"]);
    desk.must_show("› precious");
    desk.press(&["Ctrl+c", "Ctrl+c"]);
    assert!(desk.model.leaves);
    let waits = "1 message waits at the relay until the business fetches it.";
    assert_eq!(desk.model.farewell().as_deref(), Some(waits));
    desk.hear(Event::Message(own(6, "queued")));
    desk.hear(Event::Message(own(7, "queued")));
    let farewell = desk.model.farewell().unwrap();
    assert!(farewell.starts_with("2 messages have not left yet: they are kept"), "{farewell}");
    let all_there = Desk::with(vec![read(own(1, "x"))], (60, 20));
    assert_eq!(all_there.model.farewell(), None);
}

#[test]
fn the_day_turns_at_midnight() {
    let mut desk = Desk::with(cafe(), (80, 24));
    desk.must_show("─ Today ─");
    assert_eq!(desk.model.wake_at(), START + DAY / 2);
    desk.wait(DAY / 2 - 60 * MINUTE);
    desk.must_show("─ Yesterday ─");
}
