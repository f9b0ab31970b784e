//! Colours: six of the sixteen that every terminal has and that its owner has chosen, so that they are readable on light and on dark. Whatever
//! a colour says is also said by a sign or a word, for `NO_COLOR` and for eyes that do not tell them apart.

use ratatui::style::{Color, Modifier, Style};

/// With colours, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Palette {
    Coloured,
    Plain,
}

impl Palette {
    /// As `NO_COLOR` has it (no-color.org).
    pub(super) fn from_env() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if no_colour { Self::Plain } else { Self::Coloured }
    }

    fn colour(self, colour: Color) -> Style {
        match self {
            Self::Coloured => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }

    /// The business's side.
    pub(super) fn business(self) -> Style {
        self.colour(Color::Cyan)
    }

    /// One's own side.
    pub(super) fn own(self) -> Style {
        self.colour(Color::Green)
    }

    /// It is as it should be.
    pub(super) fn good(self) -> Style {
        self.colour(Color::Green)
    }

    /// It may become so.
    pub(super) fn waits(self) -> Style {
        self.colour(Color::Yellow)
    }

    /// It went wrong.
    pub(super) fn wrong(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Two ticks that mean "read".
    pub(super) fn read(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// What one need not look at. Dim instead of grey: grey is invisible on some light terminals.
    pub(super) fn quiet() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What is chosen.
    pub(super) fn chosen() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What stands out.
    pub(super) fn strong() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}
