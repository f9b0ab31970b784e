//! Parameters of what is managed: each has a form, and what is wrong with it is said by its name.

use super::error::ApiError;
use super::params::{Node, NotThat, Params};

/// What the Graph API takes with every request.
const EVERYWHERE: &[&str] = &[
    "access_token",
    "appsecret_proof",
    "appsecret_time",
    "debug",
    "fields",
    "format",
    "locale",
    "messaging_product",
    "method",
    "pretty",
    "suppress_http_code",
];

/// A text, if it is there.
pub(crate) fn text(node: &Node<'_>, name: &str) -> Result<Option<String>, ApiError> {
    node.text(name).map_err(|NotThat| string(name))
}

/// A text that has to be there.
pub(crate) fn mandatory(node: &Node<'_>, name: &str) -> Result<String, ApiError> {
    text(node, name)?.ok_or_else(|| ApiError::required(name))
}

/// A text of so many characters at most, if it is there.
pub(crate) fn short(node: &Node<'_>, name: &str, most: usize) -> Result<Option<String>, ApiError> {
    let text = text(node, name)?;
    if text.as_ref().is_some_and(|text| text.chars().count() > most) {
        return Err(ApiError::parameter(&format!("Param {name} must be at most {most} characters long.")));
    }
    Ok(text)
}

/// One that is not a text.
pub(crate) fn string(name: &str) -> ApiError {
    ApiError::parameter(&format!("Param {name} must be a string."))
}

/// `messaging_product` has to be there, and to be `whatsapp`.
pub(crate) fn product(node: &Node<'_>) -> Result<(), ApiError> {
    match text(node, "messaging_product")? {
        Some(product) if product == "whatsapp" => Ok(()),
        Some(_) => Err(ApiError::parameter("Param messaging_product must be one of {WHATSAPP}.")),
        None => Err(ApiError::required("messaging_product")),
    }
}

/// Refuses what is not among the settings: somebody would believe that it is set.
pub(crate) fn only(params: &Params, settings: &[&str]) -> Result<(), ApiError> {
    match params.names().find(|name| !settings.contains(name) && !EVERYWHERE.contains(name)) {
        None => Ok(()),
        Some(name) => Err(ApiError::unknown_setting(name)),
    }
}
