//! The screen, from top to bottom: who and how connected, the history, what happens now, what is written, what the keys do.

use bulla_client::engine::commands::MAX_TEXT;
use bulla_client::event::{Connection, Direction};
use bulla_client::media::Upload;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear};

use super::history::Entry;
use super::keys::EMOJI;
use super::model::{Context, Mode, Model, Seen, readers};
use super::palette::Palette;
use super::wrap::{cut, fitting, width, wrapped};
use super::{bubble, help};
use crate::chat::{KEY_CHANGE, files};
use crate::text::sentence;

/// Below this there is no room for a chat.
const SMALLEST: (u16, u16) = (20, 8);

/// From this height on there is room for lines that one can do without.
const TALL: u16 = 16;

/// Rows of what is written, at most; a third of a small window.
const WRITTEN: usize = 8;

/// Rows of a question or a remark, at most.
const REMARK: usize = 4;

/// Rows of what cannot be missed, at most.
const ALARM: usize = 6;

/// Columns kept free for what is below.
const BELOW: usize = 12;

/// Characters left from which on they are counted.
const COUNTED: usize = 256;

/// Columns of the prompt before what is written.
const PROMPT: u16 = 2;

/// Draws everything; what of it could be seen.
pub(super) fn draw(model: &Model, frame: &mut Frame<'_>) -> Seen {
    let whole = frame.area();
    let writing = usize::from(whole.width.saturating_sub(PROMPT + 2)).max(1);
    let mut seen =
        Seen { room: model.seen.room, writing, newest: None, at_bottom: false, above: usize::MAX, help_end: 0 };
    if whole.width < SMALLEST.0 || whole.height < SMALLEST.1 {
        put(frame, whole, &[Line::raw("The window is too small for a chat.")]);
        return seen;
    }
    let columns = usize::from(whole.width);
    let tall = whole.height >= TALL;
    let most = WRITTEN.min(usize::from(whole.height) / 3);
    let mut head = head(model, columns, tall);
    if model.key_changed {
        head.extend(told(&sentence(KEY_CHANGE), columns, ALARM, model.palette.wrong()));
        head.push(rule(columns, ""));
    }
    let status = status(model, columns);
    let (input, cursor) = input(model, columns, most);
    let hints = if tall { vec![hints(model, columns)] } else { Vec::new() };
    let [at_head, at_history, at_status, at_input, at_hints] = Layout::vertical([
        Constraint::Length(rows(&head)),
        Constraint::Min(1),
        Constraint::Length(rows(&status)),
        Constraint::Length(rows(&input)),
        Constraint::Length(rows(&hints)),
    ])
    .areas(whole);

    put(frame, at_head, &head);
    seen = history(model, frame, at_history, seen);
    put(frame, at_status, &status);
    put(frame, at_status, &[below(model, &seen)]);
    put(frame, at_input, &input);
    put(frame, at_hints, &hints);
    if let Some((row, column)) = cursor.filter(|_| model.help.is_none()) {
        frame.set_cursor_position(Position::new(at_input.x + column, at_input.y + row));
    }
    if let Some(scrolled) = model.help {
        seen.help_end = overlay(model, frame, whole, scrolled);
    }
    seen
}

fn rows(lines: &[Line<'_>]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

fn put(frame: &mut Frame<'_>, area: Rect, lines: &[Line<'_>]) {
    for (line, row) in lines.iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// The business, the connection; the key, the readers.
fn head(model: &Model, columns: usize, tall: bool) -> Vec<Line<'static>> {
    let palette = model.palette;
    let (states, style): (&[&str], _) = match model.connection {
        Connection::Online => (&["● online"], palette.good()),
        Connection::Offline { .. } => (&["○ offline, trying again", "○ offline"], palette.waits()),
        Connection::NoCommonVersion { update_here: true } => {
            (&["✗ too old for the relay: update this program", "✗ update this"], palette.wrong())
        }
        Connection::NoCommonVersion { .. } => (&["✗ the relay is too old", "✗ old relay"], palette.wrong()),
        Connection::Superseded => (&["✗ this copy has stopped", "✗ stopped"], palette.wrong()),
        _ => (&["◌ connecting"], palette.waits()),
    };
    let state = fitting(states, columns / 2 - 2);
    let name = cut(&model.name(), columns - width(&state) - 3);
    let between = " ".repeat(columns.saturating_sub(width(&name) + width(&state) + 2));
    let first = Line::from(vec![
        Span::raw(" "),
        Span::styled(name, Palette::strong()),
        Span::raw(between),
        Span::styled(state, style),
        Span::raw(" "),
    ]);
    if !tall {
        return vec![first, rule(columns, "")];
    }
    let count = model.conversation.readers.len().max(1);
    let second = fitting(
        &[
            &format!(" key is the one in your link · read by {}", readers(&model.conversation)),
            &format!(" key is the one in your link · {count} can read (F1)"),
            &format!(" key is your link's · {count} can read (F1)"),
            &format!(" your link's key · F1: {count} read"),
        ],
        columns - 1,
    );
    vec![first, Line::styled(second, Palette::quiet()), rule(columns, "")]
}

/// A line across, with a word near its end.
fn rule(columns: usize, word: &str) -> Line<'static> {
    let word = if word.is_empty() { String::new() } else { format!(" {word} ─") };
    let line = "─".repeat(columns.saturating_sub(width(&word)));
    Line::styled(format!("{line}{word}"), Palette::quiet())
}

/// The part of the conversation that one looks at.
fn history(model: &Model, frame: &mut Frame<'_>, area: Rect, mut seen: Seen) -> Seen {
    let (columns, height) = (usize::from(area.width), usize::from(area.height));
    seen.room = (columns, height);
    let parts = model.look(columns);
    let look: bubble::Look<'_> = parts.of(model);
    let entries = model.history.entries();
    let keys: Vec<_> = entries.iter().map(|placed| placed.key).collect();
    let count = |at: usize| entries.get(at).map_or(0, |placed| placed.above + look.rows(&placed.entry).len());
    let ((first, skipped), at_bottom) = super::view::Rows { keys: &keys, count: &count }.first(model.view, height);
    (seen.above, seen.at_bottom) = (first, at_bottom);

    let mut lines: Vec<Line<'static>> = Vec::with_capacity(height);
    for (index, placed) in entries.iter().enumerate().skip(first) {
        if lines.len() >= height {
            break;
        }
        let mut rows = vec![Line::default(); placed.above];
        rows.extend(look.rows(&placed.entry));
        let skipped = if index == first { skipped } else { 0 };
        let fits = rows.len() - skipped <= height - lines.len();
        let is_tall = rows.len() > height;
        lines.extend(rows.into_iter().skip(skipped).take(height - lines.len()));
        if let Entry::Said { said, .. } = &placed.entry
            && (fits || is_tall)
        {
            seen.newest = Some(said.message.order);
        }
    }
    // A short conversation stands at the bottom, where one writes.
    let above = u16::try_from(height - lines.len()).unwrap_or(0);
    put(frame, Rect { y: area.y + above, height: area.height - above, ..area }, &lines);
    seen
}

/// What happens now: a question, a remark, typing.
fn status(model: &Model, columns: usize) -> Vec<Line<'static>> {
    let palette = model.palette;
    match &model.mode {
        Mode::Deleting(_) => {
            let question = "Take this message back? The business's program is asked to remove it.  y yes · n no";
            return told(question, columns, REMARK, palette.waits());
        }
        Mode::Reacting { emoji, typed, .. } => return vec![emoji_row(*emoji, typed, columns)],
        _ => {}
    }
    if let Some(remark) = &model.remark {
        let style = if remark.is_trouble { palette.wrong() } else { palette.waits() };
        return told(&remark.text, columns, REMARK, style);
    }
    if let Some(upload) = model.uploads.values().find(|upload| upload.failed.is_none()) {
        return vec![uploading(upload, model.uploads.len(), columns, palette.waits())];
    }
    const TYPES: &str = " is typing…";
    let room = columns.saturating_sub(width(TYPES) + BELOW + 1);
    let left = match model.is_typing() {
        true => format!(" {}{TYPES}", cut(&model.name(), room.max(4))),
        false => String::new(),
    };
    vec![Line::styled(left, palette.business().add_modifier(Modifier::ITALIC))]
}

/// A file on its way: how much of it has left.
fn uploading(upload: &Upload, all: usize, columns: usize, style: Style) -> Line<'static> {
    const BAR: usize = 12;
    let percent = upload.sent.saturating_mul(100).checked_div(upload.of).unwrap_or(0).min(100);
    let full = usize::try_from(percent).unwrap_or(0) * BAR / 100;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
    let more = if all > 1 { format!(" and {} more", all - 1) } else { String::new() };
    let text = format!(" ↑ {bar} {percent} % {}{more} · /cancel", files::described(&upload.file));
    Line::styled(cut(&text, columns), style)
}

/// What is below, if one has scrolled up; beside what happens now.
fn below(model: &Model, seen: &Seen) -> Line<'static> {
    let is_free = matches!(model.mode, Mode::Writing | Mode::Choosing(_)) && model.remark.is_none();
    let text = match seen.newest.map_or(0, |order| model.history.new_after(order)) {
        _ if seen.at_bottom || !is_free => String::new(),
        0 => "↓ End ".to_owned(),
        new => format!("↓ {new} new "),
    };
    Line::styled(text, model.palette.waits()).right_aligned()
}

fn told(text: &str, columns: usize, most: usize, style: Style) -> Vec<Line<'static>> {
    let rows = wrapped(text, columns.saturating_sub(2)).into_iter().take(most);
    rows.map(|row| Line::styled(format!(" {row}"), style)).collect()
}

fn emoji_row(chosen: usize, typed: &str, columns: usize) -> Line<'static> {
    if !typed.is_empty() {
        return Line::raw(cut(&format!(" React with {typed}   Enter · Esc"), columns));
    }
    let mut spans = vec![Span::raw(" ")];
    for (at, emoji) in EMOJI.iter().enumerate() {
        let style = if at == chosen { Palette::chosen() } else { Style::new() };
        spans.push(Span::styled(format!("{} {emoji}", at + 1), style));
        spans.push(Span::raw(" "));
    }
    let used: usize = spans.iter().map(|span| width(&span.content)).sum();
    let hints = ["  or type one, then Enter · 0 takes yours back · Esc", "  or type one · 0 none", ""];
    spans.push(Span::styled(fitting(&hints, columns.saturating_sub(used)), Palette::quiet()));
    Line::from(spans)
}

/// What is written, and where the cursor is in it.
fn input(model: &Model, columns: usize, most: usize) -> (Vec<Line<'static>>, Option<(u16, u16)>) {
    if let Some(why) = model.why_stopped() {
        let mut lines = vec![rule(columns, "")];
        lines.extend(told(why, columns, usize::MAX, model.palette.wrong()));
        return (lines, None);
    }
    let count = model.editor.chars();
    let counter = match MAX_TEXT.checked_sub(count) {
        None => format!("{} too many", count - MAX_TEXT),
        Some(left) if left <= COUNTED => format!("{count} of {MAX_TEXT}"),
        Some(_) => String::new(),
    };
    let mut lines = vec![rule(columns, &counter)];
    lines.extend(context(model, columns, most));
    let above = lines.len();
    let writes = model.mode == Mode::Writing;
    let prompt = Span::styled("› ", if writes { model.palette.own() } else { Palette::quiet() });
    if model.editor.is_empty() {
        let hint = match &model.context {
            Context::Form(_) => "Answer, then Enter · Esc gives it up".to_owned(),
            _ => format!("Write to {}", model.name()),
        };
        let hint = cut(&hint, columns.saturating_sub(4));
        lines.push(Line::from(vec![prompt, Span::styled(hint, Palette::quiet())]));
        let at = (u16::try_from(above).unwrap_or(0), PROMPT);
        return (lines, writes.then_some(at));
    }
    let room = columns.saturating_sub(usize::from(PROMPT) + 2).max(1);
    let laid = model.editor.laid(room);
    let (row, column) = laid.cursor;
    // As little is scrolled as shows the cursor.
    let skipped = (row + 1).saturating_sub(most);
    for (at, range) in laid.rows.into_iter().enumerate().skip(skipped).take(most) {
        let text = model.editor.text().get(range).unwrap_or_default().trim_end_matches(' ').to_owned();
        let before = if at == 0 { prompt.clone() } else { Span::raw("  ") };
        let style = if writes { Style::new() } else { Palette::quiet() };
        lines.push(Line::from(vec![before, Span::styled(text, style)]));
    }
    let at = (u16::try_from(above + row - skipped), u16::try_from(column));
    let cursor = match at {
        (Ok(row), Ok(column)) if writes => Some((row, PROMPT + column)),
        _ => None,
    };
    (lines, cursor)
}

/// What the text belongs to.
fn context(model: &Model, columns: usize, most: usize) -> Vec<Line<'static>> {
    if let Context::Form(filling) = &model.context {
        return told(&filling.question(), columns, most, model.palette.business());
    }
    belongs_to(model, columns).into_iter().collect()
}

fn belongs_to(model: &Model, columns: usize) -> Option<Line<'static>> {
    let text = match &model.context {
        Context::Nothing | Context::Form(_) => return None,
        Context::Reply(order) => {
            let message = model.message_at(*order)?;
            let whose = match message.direction {
                Direction::Outgoing => "yourself".to_owned(),
                Direction::Incoming => model.name(),
            };
            format!("↪ to {whose}: {}", model.history.quote(&message.id).text)
        }
        Context::Edit(order, _) => format!("✎ instead of: {}", model.history.quote(&model.message_at(*order)?.id).text),
    };
    const ESC: &str = "  Esc";
    let text = cut(&text, columns.saturating_sub(ESC.len() + 1));
    Some(Line::from(vec![Span::styled(text, model.palette.business()), Span::styled(ESC, Palette::quiet())]))
}

/// What the keys do, as far as there is room to say it.
fn hints(model: &Model, columns: usize) -> Line<'static> {
    let candidates: &[&str] = match &model.mode {
        _ if model.is_stopped() => &[" PgUp PgDn read · Ctrl+C leaves"],
        Mode::Writing => &[
            " Enter says it · Alt+Enter new line · Alt+↑ choose a message · PgUp older · F1 help",
            " Enter says it · Alt+Enter line · Alt+↑ choose · F1 help",
            " Alt+↑ choose · F1 help",
        ],
        Mode::Choosing(order) => match model.message_at(*order).map(|m| m.direction) {
            Some(Direction::Outgoing) => &[
                " ↑↓ choose · r answer · + react · e edit · d take back · c ID · Esc",
                " r answer · + react · e edit · d take back",
                " r answer · + · e edit · d del",
            ],
            _ => &[" ↑↓ choose · r answer · + react · c ID · Esc write", " r answer · + react · Esc"],
        },
        Mode::Reacting { .. } => &[" ←→ choose · Enter reacts · Esc back"],
        Mode::Deleting(_) => &[" y takes it back · Esc keeps it"],
    };
    Line::styled(fitting(candidates, columns), Palette::quiet())
}

/// The help over everything; how far it can be scrolled.
fn overlay(model: &Model, frame: &mut Frame<'_>, whole: Rect, scrolled: usize) -> usize {
    let area = Rect { width: whole.width.min(84), ..whole };
    let area = Rect { x: (whole.width - area.width) / 2, ..area };
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Palette::quiet())
        .title(Line::styled(" Help ", Palette::strong()))
        .title_bottom(Line::styled(" ↑↓ · Esc closes ", Palette::quiet()).right_aligned());
    let inner = block.inner(area);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let rows = help::rows(&model.conversation, usize::from(inner.width));
    let end = rows.len().saturating_sub(usize::from(inner.height));
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    put(frame, inner, rows.get(scrolled.min(end)..).unwrap_or_default());
    end
}
