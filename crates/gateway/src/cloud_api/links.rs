//! Short links and their QR codes: `/{phone-number-id}/message_qrdls`.
//!
//! A short link is the business's own link with the code as its `ref`: who opens it pins the business's key as with any other, and the first
//! message says by which link it came. The words that a link suggests are kept for who reads the list; a link itself carries no words.

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use bulla_client::endpoint::CommandError;
use bulla_e2ee::link::Link;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::project;
use super::params::Params;
use super::qr::{self, Format};
use super::values::{mandatory, only, short, text};
use crate::business::Business;
use crate::store::links::{self, ShortLink};

const NODE: &str = "WhatsAppBusinessQRCode";

/// Characters of the words that a link suggests.
const MESSAGE: usize = 140;

/// Characters of a code, in the alphabet that the Cloud API describes it by.
const CODE: usize = 14;

/// `GET`: all of them.
pub(crate) async fn list(business: &Business, params: &Params, origin: &str) -> Result<Value, ApiError> {
    let root = params.root();
    let code = text(&root, "code")?;
    let all = business.endpoint.with_store(|tx| links::all(tx)).await.map_err(failed)?;
    let all = all.iter().filter(|link| code.as_ref().is_none_or(|code| *code == link.code));
    let data = all.map(|link| shown(business, link, params, origin)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "data": data }))
}

/// `GET …/{code}`: the list that Meta's documentation shows, and beside it the link itself, which Meta's description of the API demands.
pub(crate) async fn show(business: &Business, code: &str, params: &Params, origin: &str) -> Result<Value, ApiError> {
    let link = find(business, code).await?.ok_or_else(|| ApiError::unknown_node("GET", code))?;
    let shown = shown(business, &link, params, origin)?;
    let mut answer = shown.clone();
    if let Value::Object(answer) = &mut answer {
        answer.insert("data".into(), json!([shown]));
    }
    Ok(answer)
}

async fn find(business: &Business, code: &str) -> Result<Option<ShortLink>, ApiError> {
    let code = code.to_owned();
    business.endpoint.with_store(move |tx| links::get(tx, &code)).await.map_err(failed)
}

/// `POST`: a new one, or with `code` other words for an old one.
pub(crate) async fn set(business: &Business, params: &Params, origin: &str) -> Result<Value, ApiError> {
    only(params, &["code", "prefilled_message", "generate_qr_image"])?;
    let root = params.root();
    mandatory(&root, "prefilled_message")?;
    let message = short(&root, "prefilled_message", MESSAGE)?.unwrap_or_default();
    if message.trim().is_empty() || message.chars().any(|c| c.is_control() && c != '\n') {
        return Err(ApiError::parameter("Param prefilled_message must have from 1 to 140 characters."));
    }
    let image = match text(&root, "generate_qr_image")? {
        None => None,
        Some(word) => Some(
            Format::of(&word)
                .ok_or_else(|| ApiError::parameter("Param generate_qr_image must be one of {SVG, PNG}."))?,
        ),
    };
    let known = text(&root, "code")?.filter(|code| !code.is_empty());
    let fresh = business.entropy.base32(CODE);
    let asked = known.clone();
    let stored = business
        .endpoint
        .with_store(move |tx| {
            let link = match asked {
                Some(code) => match links::get(tx, &code)? {
                    Some(link) => ShortLink { message, ..link },
                    None => return Ok(Err(true)),
                },
                None if links::all(tx)?.len() >= links::MOST => return Ok(Err(false)),
                None => ShortLink { code: fresh, message, created_ms: tx.now_ms() },
            };
            links::put(tx, &link)?;
            Ok(Ok(link))
        })
        .await
        .map_err(failed)?;
    let link = stored.map_err(|is_unknown| match is_unknown {
        true => ApiError::unknown_node("POST", known.as_deref().unwrap_or_default()),
        false => ApiError::parameter("A number may have 2000 links: remove some first."),
    })?;
    let mut answer = node(business, &link, origin, image)?;
    if let Value::Object(answer) = &mut answer {
        answer.retain(|_, value| !value.is_null());
    }
    Ok(answer)
}

/// `DELETE …/{code}`. Who opens it afterwards still finds the business: the key and the handle are in the link itself.
pub(crate) async fn remove(business: &Business, code: &str) -> Result<Value, ApiError> {
    let wanted = code.to_owned();
    let there = business
        .endpoint
        .with_store(move |tx| {
            let there = links::get(tx, &wanted)?.is_some();
            links::remove(tx, &wanted);
            Ok(there)
        })
        .await
        .map_err(failed)?;
    if there { Ok(json!({"success": true})) } else { Err(ApiError::unknown_node("DELETE", code)) }
}

/// `GET /qr/{phone-number-id}/{code}.svg|png`: without a token, as printers and pages fetch it. What it shows is public, and who has no code
/// finds none.
pub(crate) async fn image(business: &Business, name: &str) -> Result<Response, ApiError> {
    let unknown = || ApiError::unknown_node("GET", "qr");
    let (code, end) = name.split_once('.').ok_or_else(unknown)?;
    let format = Format::of(end).ok_or_else(unknown)?;
    let link = find(business, code).await?.ok_or_else(unknown)?;
    let image = qr::draw(&address(business, &link)?, format).ok_or_else(unknown)?;
    let mut response = image.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    Ok(response)
}

fn shown(business: &Business, link: &ShortLink, params: &Params, origin: &str) -> Result<Value, ApiError> {
    let fields = text(&params.root(), "fields")?;
    // `qr_image_url.format(PNG)` is a field with an argument.
    let format = if fields.as_ref().is_some_and(|f| f.contains(".format(PNG)")) { Format::Png } else { Format::Svg };
    let fields = fields.map(|fields| fields.replace(".format(PNG)", "").replace(".format(SVG)", ""));
    let all = node(business, link, origin, Some(format))?;
    project(&all, fields.as_deref(), &["code", "prefilled_message", "deep_link_url"], NODE)
}

fn node(business: &Business, link: &ShortLink, origin: &str, image: Option<Format>) -> Result<Value, ApiError> {
    let phone = &business.account.phone_number_id;
    let image = image.map(|format| format!("{origin}/qr/{phone}/{}.{}", link.code, format.end()));
    Ok(json!({
        "code": link.code,
        "prefilled_message": link.message,
        "deep_link_url": address(business, link)?,
        "qr_image_url": image,
        "creation_time": link.created_ms / 1_000,
    }))
}

/// The business's link, with the code as its `ref`.
fn address(business: &Business, link: &ShortLink) -> Result<String, ApiError> {
    let own = Link::parse(&business.link).and_then(|own| {
        let origin = own.bundle_url().rsplit_once("/@").map_or("", |(origin, _)| origin);
        Link::new(origin, own.handle(), *own.key(), Some(&link.code))
    });
    own.map(|link| link.to_string()).map_err(|error| {
        tracing::error!(%error, "a short link could not be made");
        ApiError::unavailable("The gateway could not make the link; try again.")
    })
}

fn failed(error: CommandError) -> ApiError {
    tracing::error!(%error, "a short link could not be read or kept");
    ApiError::unavailable("The gateway could not store this; try again.")
}
