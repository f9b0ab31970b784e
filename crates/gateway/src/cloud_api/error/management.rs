//! Refusals of what is managed: templates, as they are made and as they are filled.
//!
//! | code | HTTP | cause |
//! |---|---|---|
//! | 100 subcode 2388019 | 400 | the business has as many templates as it may have |
//! | 100 subcode 2388024 | 400 | the name is taken in this language |
//! | 100 subcode 2388040 | 400 | a text of a template is too long |
//! | 100 subcode 2388043 | 400 | a component lacks something, as its examples |
//! | 100 subcode 2388047, 2388072, 2388073 | 400 | header, body, footer: the gaps are wrong |
//! | 100 subcode 2388299 | 400 | a body begins or ends with a gap |
//! | 100 subcode 2593002 | 400 | no such template to remove |
//! | 132000 | 400 | more or fewer values than gaps |
//! | 132001 | 404 | no template of this name in this language that was approved |
//! | 132005 | 400 | too long once it is filled |
//! | 132012 | 400 | a value of another kind than its gap |
//! | 132015, 132016 | 400 | the template is paused, disabled |

use axum::http::StatusCode;

use super::{ApiError, echo};
use crate::template::Status;

/// What is wrong with a template that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lint {
    TooMany,
    Taken,
    NotFound,
    TooLong,
    Missing,
    Header,
    Body,
    Footer,
    GapAtAnEnd,
}

impl Lint {
    fn subcode(self) -> (u32, &'static str) {
        match self {
            Self::TooMany => (2_388_019, "Message template limit exceeded"),
            Self::Taken => (2_388_024, "Content in this language already exists"),
            Self::NotFound => (2_593_002, "Message Template Not Found"),
            Self::TooLong => (2_388_040, "Character limit exceeded"),
            Self::Missing => (2_388_043, "Message template \"components\" param is missing expected field(s)"),
            Self::Header => (2_388_047, "Message header format is incorrect"),
            Self::Body => (2_388_072, "Message body format is incorrect"),
            Self::Footer => (2_388_073, "Message footer format is incorrect"),
            Self::GapAtAnEnd => (2_388_299, "Leading or trailing params not allowed"),
        }
    }
}

impl ApiError {
    /// A template that cannot be made.
    pub(crate) fn template(lint: Lint, words: impl Into<String>) -> Self {
        let (subcode, title) = lint.subcode();
        let invalid = Self::new(StatusCode::BAD_REQUEST, 100, "Invalid parameter");
        Self { subcode: Some(subcode), user: Some((title, words.into())), ..invalid }
    }

    /// Values that do not go into the gaps one by one.
    pub(crate) fn template_count(place: &str, given: usize, expected: usize) -> Self {
        Self::bad(132_000, "Number of parameters does not match the expected number of params").details(format!(
            "{place}: number of localizable_params ({given}) does not match the expected number of params ({expected})"
        ))
    }

    /// No such template, or not yet approved.
    pub(crate) fn template_unknown(name: &str, language: &str) -> Self {
        let unknown = Self::bad(132_001, "Template name does not exist in the translation");
        let (name, language) = (echo(name), echo(language));
        Self { status: StatusCode::NOT_FOUND, ..unknown }
            .details(format!("template name ({name}) does not exist in {language}"))
    }

    /// Too long once the values are in.
    pub(crate) fn template_too_long(place: &str, most: usize) -> Self {
        Self::bad(132_005, "Translated text too long").details(format!("{place}: has more than {most} characters"))
    }

    /// A value of another kind than the gap is for.
    pub(crate) fn template_format(place: &str, problem: &str) -> Self {
        Self::bad(132_012, "Parameter format does not match format in the created template")
            .details(format!("{place}: {problem}"))
    }

    /// A template that may not be sent now, by its status.
    pub(crate) fn template_stopped(status: Status, name: &str, language: &str) -> Self {
        match status {
            Status::Paused => Self::bad(132_015, "Template is Paused")
                .details("The template is paused because of what its recipients think of it."),
            Status::Disabled => Self::bad(132_016, "Template is Disabled")
                .details("The template is disabled because of what its recipients think of it."),
            Status::Pending | Status::Approved | Status::Rejected => Self::template_unknown(name, language),
        }
    }

    /// The error's code, for tests of others.
    #[cfg(test)]
    pub(crate) fn codes(&self) -> (u16, u32, Option<u32>) {
        (self.status.as_u16(), self.code, self.subcode)
    }
}
