//! The business profile: `GET|POST /{phone-number-id}/whatsapp_business_profile`.

use axum::body::Body;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use bulla_client::endpoint::CommandError;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::fields::project;
use super::params::{Node, Params};
use super::uploads as handles;
use super::values::{only, product, short, text};
use crate::business::Business;
use crate::store::number::{self, Profile};
use crate::store::uploads;

const NODE: &str = "WhatsAppBusinessProfile";

const ABOUT: usize = 139;
const ADDRESS: usize = 256;
const DESCRIPTION: usize = 512;
const EMAIL: usize = 128;
const WEBSITE: usize = 256;
const WEBSITES: usize = 2;

const SETTINGS: &[&str] =
    &["about", "address", "description", "email", "websites", "vertical", "profile_picture_handle"];

/// The Cloud API's lines of business.
const VERTICALS: &[&str] = &[
    "UNDEFINED",
    "OTHER",
    "AUTO",
    "BEAUTY",
    "APPAREL",
    "EDU",
    "ENTERTAIN",
    "EVENT_PLAN",
    "FINANCE",
    "GROCERY",
    "GOVT",
    "HOTEL",
    "HEALTH",
    "NONPROFIT",
    "PROF_SERVICES",
    "RETAIL",
    "TRAVEL",
    "RESTAURANT",
    "ALCOHOL",
    "ONLINE_GAMBLING",
    "PHYSICAL_GAMBLING",
    "OTC_DRUGS",
    "MATRIMONY_SERVICE",
    "NOT_A_BIZ",
];

/// `GET`: what is not set is left out.
pub(crate) async fn show(business: &Business, params: &Params, origin: &str) -> Result<Value, ApiError> {
    let profile = business.endpoint.with_store(|tx| number::profile(tx)).await.map_err(failed)?;
    let set = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let picture = format!("{origin}/picture/{}", business.account.phone_number_id);
    let websites = if profile.websites.is_empty() { Value::Null } else { json!(profile.websites) };
    let all = json!({
        "messaging_product": "whatsapp",
        "about": set(&profile.about),
        "address": set(&profile.address),
        "description": set(&profile.description),
        "email": set(&profile.email),
        "profile_picture_url": if profile.has_picture { Value::String(picture) } else { Value::Null },
        "websites": websites,
        "vertical": if profile.vertical.is_empty() { "UNDEFINED" } else { profile.vertical.as_str() },
    });
    let names: Vec<&str> = all.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let fields = text(&params.root(), "fields")?;
    let mut shown = project(&all, fields.as_deref(), &names, NODE)?;
    if let Value::Object(shown) = &mut shown {
        shown.insert("messaging_product".into(), "whatsapp".into());
    }
    Ok(json!({ "data": [shown] }))
}

/// `POST`: what is not given stays as it is.
pub(crate) async fn set(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    product(&root)?;
    only(params, SETTINGS)?;
    let given = Given::read(&root)?;
    let done = business
        .endpoint
        .with_store(move |tx| {
            let picture = match given.picture {
                None => None,
                Some(id) => match uploads::get(tx, id)?.filter(|u| u.is_complete() && is_picture(&u.media_type)) {
                    Some(upload) => Some(upload),
                    None => return Ok(false),
                },
            };
            let mut profile = number::profile(tx)?;
            given.into_profile(&mut profile);
            if let Some(picture) = picture {
                uploads::set_picture(tx, &picture)?;
                profile.has_picture = true;
            }
            number::set_profile(tx, &profile)?;
            Ok(true)
        })
        .await
        .map_err(failed)?;
    if done { Ok(json!({"success": true})) } else { Err(no_picture()) }
}

fn no_picture() -> ApiError {
    ApiError::parameter("Param profile_picture_handle names no uploaded JPEG or PNG file.")
}

fn is_picture(media_type: &str) -> bool {
    matches!(media_type, "image/jpeg" | "image/png")
}

/// What is to be changed.
struct Given {
    about: Option<String>,
    address: Option<String>,
    description: Option<String>,
    email: Option<String>,
    websites: Option<Vec<String>>,
    vertical: Option<String>,
    picture: Option<u64>,
}

impl Given {
    fn read(root: &Node<'_>) -> Result<Self, ApiError> {
        let about = short(root, "about", ABOUT)?;
        if about.as_ref().is_some_and(|about| about.trim().is_empty()) {
            return Err(ApiError::parameter("Param about may not be empty."));
        }
        let email = short(root, "email", EMAIL)?;
        if email.as_ref().is_some_and(|email| !email.is_empty() && !is_email(email)) {
            return Err(ApiError::parameter("Param email must be a valid email address."));
        }
        let vertical = text(root, "vertical")?.map(|word| word.to_ascii_uppercase());
        if vertical.as_ref().is_some_and(|word| !word.is_empty() && !VERTICALS.contains(&word.as_str())) {
            return Err(ApiError::parameter(&format!("Param vertical must be one of {{{}}}.", VERTICALS.join(", "))));
        }
        let picture = match text(root, "profile_picture_handle")? {
            None => None,
            Some(handle) => Some(handles::id_of(&handle).ok_or_else(no_picture)?),
        };
        Ok(Self {
            about,
            address: short(root, "address", ADDRESS)?,
            description: short(root, "description", DESCRIPTION)?,
            email,
            websites: websites(root)?,
            vertical,
            picture,
        })
    }

    fn into_profile(self, profile: &mut Profile) {
        for (new, old) in [
            (self.about, &mut profile.about),
            (self.address, &mut profile.address),
            (self.description, &mut profile.description),
            (self.email, &mut profile.email),
            (self.vertical, &mut profile.vertical),
        ] {
            if let Some(new) = new {
                *old = new;
            }
        }
        if let Some(websites) = self.websites {
            profile.websites = websites;
        }
    }
}

fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(who, at)| {
        !who.is_empty()
            && at.contains('.')
            && !at.starts_with('.')
            && !at.ends_with('.')
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;\"".contains(c))
            && !at.contains('@')
    })
}

fn websites(root: &Node<'_>) -> Result<Option<Vec<String>>, ApiError> {
    let wrong = || {
        let most = "Param websites must be an array of at most 2 http or https addresses of at most 256 characters.";
        ApiError::parameter(most)
    };
    let given = match root.json("websites") {
        None => return Ok(None),
        Some(Value::Array(given)) if given.len() <= WEBSITES => given,
        Some(_) => return Err(wrong()),
    };
    let website = |value: &Value| {
        let text = value.as_str().filter(|text| text.chars().count() <= WEBSITE)?;
        let url = url::Url::parse(text).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| text.to_owned())
    };
    given.iter().map(website).collect::<Option<Vec<_>>>().map(Some).ok_or_else(wrong)
}

/// `GET /picture/{phone-number-id}`: the picture is for everybody, as the profile is.
pub(crate) async fn picture(business: &Business) -> Result<Response, ApiError> {
    let found = business.endpoint.with_store(|tx| uploads::picture(tx)).await.map_err(failed)?;
    let picture = found.ok_or_else(|| ApiError::unknown_node("GET", "picture"))?;
    // The type was looked at when it was set; with the policy no browser runs anything in it.
    let kind = if picture.media_type == "image/png" { "image/png" } else { "image/jpeg" };
    let headers = [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox")];
    Ok((headers, Body::from(Vec::from(picture.bytes))).into_response())
}

fn failed(error: CommandError) -> ApiError {
    tracing::error!(%error, "the profile could not be read or kept");
    ApiError::unavailable("The gateway could not store this; try again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_mail() {
        for (text, good) in [
            ("a@b.example", true),
            ("a.b+c@d.e.example", true),
            ("a", false),
            ("@b.c", false),
            ("a@b", false),
            ("a@.b", false),
            ("a@b.", false),
            ("a b@c.d", false),
            ("a@b@c.d", false),
            ("a\n@b.c", false),
            ("<a@b.c>", false),
        ] {
            assert_eq!(is_email(text), good, "{text}");
        }
    }
}
