//! The terminal as a full screen, and back again whatever happens.

use std::io::{IsTerminal as _, stdin, stdout};

use anyhow::{Context as _, bail};
use crossterm::Command;
use crossterm::event::{DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange};
use crossterm::execute;
use ratatui::DefaultTerminal;

/// Whether there is a terminal to draw on and to read keys from.
pub(in crate::chat) fn possible() -> anyhow::Result<()> {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if is_dumb || !stdin().is_terminal() || !stdout().is_terminal() {
        bail!(
            "the chat's screen needs a terminal for input and output; with --plain it reads lines and writes one line per event"
        );
    }
    Ok(())
}

/// The full screen. Dropping it gives the terminal back as it was.
pub(super) struct Screen {
    pub(super) terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn enter() -> anyhow::Result<Self> {
        // A panic, on whatever thread, gives the terminal back before it says what happened.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            leave();
            hook(info);
        }));
        let terminal = ratatui::try_init().inspect_err(|_| leave()).context("cannot draw on this terminal")?;
        let screen = Self { terminal };
        execute!(stdout(), EnableBracketedPaste, EnableFocusChange, EnableWheel)
            .context("cannot draw on this terminal")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Harmless if it is done twice, or if the terminal is gone.
fn leave() {
    let _ = execute!(stdout(), DisableWheel, DisableFocusChange, DisableBracketedPaste, crossterm::cursor::Show);
    let _ = ratatui::try_restore();
}

/// Reports the wheel, and clicks with it, but no movements: crossterm's own command asks for every one of them.
struct EnableWheel;

struct DisableWheel;

impl Command for EnableWheel {
    fn write_ansi(&self, f: &mut impl std::fmt::Write) -> std::fmt::Result {
        f.write_str("\x1b[?1000h\x1b[?1006h")
    }
}

impl Command for DisableWheel {
    fn write_ansi(&self, f: &mut impl std::fmt::Write) -> std::fmt::Result {
        f.write_str("\x1b[?1006l\x1b[?1000l")
    }
}
