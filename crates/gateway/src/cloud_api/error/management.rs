//! Refusals of what is managed: templates, as they are made and as they are filled; numbers, apps.
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
//! | 100 | 400 | a setting that there is not; a code in exchange for a token |
//! | 1 | 400 | an app's id and secret that are not one app's |
//! | 3 | 403 | what the Cloud API does and a gateway does not |
//! | 132000 | 400 | more or fewer values than gaps |
//! | 132001 | 404 | no template of this name in this language that was approved |
//! | 132005 | 400 | too long once it is filled |
//! | 132012 | 400 | a value of another kind than its gap |
//! | 132015, 132016 | 400 | the template is paused, disabled |
//! | 133005 | 400 | a wrong PIN |
//! | 133008 | 400 | too many wrong PINs: for an hour none counts |
//! | 133010 | 400 | the number was deregistered |
//! | 136024, 136025 | 400 | a code for a number that needs no verification |
//! | 138000 | 400 | calls |
//! | 139001 to 139004 | 400 | a flow cannot be changed, published, deprecated, removed as it is |

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

/// What cannot be done to a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowError {
    Update,
    Publish,
    Deprecate,
    Delete,
}

impl ApiError {
    /// A flow is not such that this can be done to it.
    pub(crate) fn flow(what: FlowError, words: &str) -> Self {
        let (code, title) = match what {
            FlowError::Update => (139_001, "Flow can't be updated"),
            FlowError::Publish => (139_002, "Flow can't be published"),
            FlowError::Deprecate => (139_003, "Flow can't be deprecated"),
            FlowError::Delete => (139_004, "Flow can't be deleted"),
        };
        Self { user: Some((title, words.to_owned())), ..Self::bad(code, title) }
    }

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

    /// A setting that there is not.
    pub(crate) fn unknown_setting(name: &str) -> Self {
        Self::bad(100, &format!("Param {} is not one that can be set here.", echo(name)))
    }

    /// Something that the Cloud API does and a gateway does not.
    pub(crate) fn capability(details: &str) -> Self {
        let message = "(#3) Application does not have the capability to make this API call.";
        Self::new(StatusCode::FORBIDDEN, 3, message).details(details)
    }

    /// Calls are not carried.
    pub(crate) fn calling() -> Self {
        Self::bad(138_000, "Calling not enabled").details("Calls are not carried by this gateway.")
    }

    /// Another PIN than the one that was set.
    pub(crate) fn pin_mismatch() -> Self {
        Self::bad(133_005, "Two step verification PIN Mismatch")
            .details("The PIN is not the one that was set for this number.")
    }

    /// PINs are not looked at for a while.
    pub(crate) fn pin_guesses() -> Self {
        Self::bad(133_008, "Too Many two step verification PIN Guesses")
            .details("Too many wrong PINs: try again in an hour.")
    }

    /// The number was taken off the API.
    pub(crate) fn not_registered() -> Self {
        Self::bad(133_010, "Phone number not registered")
            .details("The number was deregistered: register it with its PIN.")
    }

    /// There is nothing to verify.
    pub(crate) fn request_code() -> Self {
        Self::bad(136_024, "Request code error").details("The number is verified: it is the gateway's own.")
    }

    /// The same.
    pub(crate) fn verify_code() -> Self {
        Self::bad(136_025, "Verify code error").details("The number is verified: it is the gateway's own.")
    }

    /// A secret that is not the app's.
    pub(crate) fn client_secret() -> Self {
        Self::new(StatusCode::BAD_REQUEST, 1, "Error validating client secret.")
    }

    /// A code that nobody gave out.
    pub(crate) fn verification_code() -> Self {
        Self::new(StatusCode::BAD_REQUEST, 100, "Invalid verification code format.")
    }

    /// The error's code, for tests of others.
    #[cfg(test)]
    pub(crate) fn codes(&self) -> (u16, u32, Option<u32>) {
        (self.status.as_u16(), self.code, self.subcode)
    }
}
