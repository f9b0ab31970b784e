//! Files: uploaded, named, downloaded and forgotten.
//!
//! An uploaded file is sealed as it comes, in pieces, brought to the relay and named by an id, which any number of messages may send. A customer's
//! file is fetched from the relay and opened when somebody downloads it. Nothing of either stays here.
//!
//! The address of a download carries a signature and counts for five minutes, because some clients send no token to it; the token counts as well.
//! What is downloaded is never shown on this origin (GW-07).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use bulla_client::endpoint::{CommandError, FileReader};
use bulla_client::media::{Attachment, MediaError, safe_name};
use bulla_e2ee::content::{Body as Said, Content, MessageId};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::error::ApiError;
use super::message::{Of, Source};
use super::params::Params;
use crate::business::Business;
use crate::egress::OutsideError;
use crate::store::media;

/// Seconds that the address of a download counts, as the Cloud API has it.
const URL_SECS: u64 = 300;

/// Bytes of each field of the form but the file.
const MAX_FIELD: usize = 256;

/// Fields of the form.
const MAX_FIELDS: usize = 16;

/// What signs the addresses of downloads: made when the gateway starts.
#[derive(Clone)]
pub(crate) struct UrlKey(Arc<[u8]>);

impl std::fmt::Debug for UrlKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UrlKey(redacted)")
    }
}

impl UrlKey {
    /// From randomness.
    pub(crate) fn new(entropy: &crate::entropy::Entropy) -> Self {
        Self(entropy.hex(32).into_bytes().into())
    }

    fn mac(&self, phone: &str, id: u64, until: u64) -> Option<Hmac<Sha256>> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        Some(mac.chain_update(format!("bulla/1/media\0{phone}\0{id}\0{until}")))
    }

    fn sign(&self, phone: &str, id: u64, until: u64) -> String {
        self.mac(phone, id, until).map(|mac| HEXLOWER.encode(&mac.finalize().into_bytes())).unwrap_or_default()
    }

    fn accepts(&self, phone: &str, id: u64, until: u64, signature: &str) -> bool {
        let signature = HEXLOWER.decode(signature.as_bytes()).unwrap_or_default();
        self.mac(phone, id, until).is_some_and(|mac| mac.verify_slice(&signature).is_ok())
    }
}

/// Whether a request brings a file: its body is read as it comes.
pub(crate) fn is_upload(method: &axum::http::Method, path: &super::Path<'_>, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    method == axum::http::Method::POST
        && path.edge == "media"
        && kind.to_ascii_lowercase().starts_with("multipart/form-data")
}

/// `POST /{phone-number-id}/media`.
pub(crate) async fn upload(business: &Arc<Business>, parts: Parts, body: Body) -> Result<Value, ApiError> {
    let malformed = || ApiError::parameter("The request body is not valid multipart/form-data.");
    let mut product = Params::of_query(&parts).root().text("messaging_product").ok().flatten();
    let mut request = Request::from_parts(parts, body);
    // How large a file may be is looked at where it is sealed, piece by piece; axum's own limit is 2 MB.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| malformed())?;
    let (mut sealed, mut said_type, mut name, mut file_type) = (None, None, None, None);
    let mut fields = 0;
    while let Some(mut field) = form.next_field().await.map_err(|_| malformed())? {
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(malformed());
        }
        if field.name() == Some("file") {
            name = field.file_name().map(str::to_owned);
            file_type = field.content_type().map(str::to_owned);
            let mut writer = business.endpoint.seal().map_err(refusal)?;
            while let Some(piece) = field.chunk().await.map_err(|_| malformed())? {
                writer.write(piece.to_vec()).await.map_err(refusal)?;
            }
            sealed = Some(writer.finish().await.map_err(refusal)?);
            continue;
        }
        let key = field.name().unwrap_or_default().to_owned();
        let mut value = Vec::new();
        while let Some(piece) = field.chunk().await.map_err(|_| malformed())? {
            value.extend_from_slice(&piece);
            if value.len() > MAX_FIELD {
                return Err(ApiError::parameter("A field of the form is too long."));
            }
        }
        let value = String::from_utf8(value).map_err(|_| malformed())?;
        match key.as_str() {
            "messaging_product" => product = Some(value),
            "type" => said_type = Some(value),
            _ => {}
        }
    }
    match product.as_deref() {
        Some("whatsapp") => {}
        Some(_) => return Err(ApiError::parameter("Param messaging_product must be one of {WHATSAPP}.")),
        None => return Err(ApiError::required("messaging_product")),
    }
    let sealed = sealed.ok_or_else(|| ApiError::required("file"))?;
    let media_type = said_type.or(file_type).unwrap_or_else(|| "application/octet-stream".to_owned());
    let attachment = Attachment {
        blob: sealed.blob,
        key: sealed.key.clone(),
        size: sealed.size,
        digest: sealed.digest,
        media_type: one_line(&media_type),
        name: one_line(&name.unwrap_or_default()),
        expires: expires(business),
        caption: String::new(),
        preview: None,
    };
    let content = Content::new([0; 16], Said::Attachment(Box::new(attachment)));
    let content = content.encode().map_err(|_| ApiError::invalid("type", "is not a media type"))?;
    business.endpoint.put(sealed).await.map_err(refusal)?;
    let id = business.endpoint.with_store(move |tx| media::own(tx, content)).await.map_err(failed)?;
    Ok(json!({ "id": id.to_string() }))
}

fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// When a blob that is made now goes, in Unix seconds.
fn expires(business: &Business) -> u32 {
    u32::try_from((business.now_ms() + media::LIFE_MS) / 1_000).unwrap_or(u32::MAX)
}

/// What an id stands for.
pub(crate) async fn find(business: &Business, id: u64) -> Result<Option<Attachment>, ApiError> {
    let found = business.endpoint.with_store(move |tx| media::get(tx, id)).await.map_err(failed)?;
    let Some(record) = found else { return Ok(None) };
    if let Some(message) = record.message {
        return match business.endpoint.attachment(MessageId::new(*message)).await {
            Ok(attachment) => Ok(Some(attachment)),
            // Taken back by the customer meanwhile.
            Err(CommandError::Gone | CommandError::UnknownMessage) => Ok(None),
            Err(why) => Err(failed(why)),
        };
    }
    let content = record.content.and_then(|content| Content::decode(&content).ok());
    Ok(content.and_then(|content| match content.body {
        Said::Attachment(attachment) => Some(*attachment),
        _ => None,
    }))
}

/// Bytes that a file may have where it is sent as `kind`, and how its media type begins.
fn bounds(kind: &str) -> (u64, &'static str) {
    const MB: u64 = 1 << 20;
    match kind {
        "image" => (5 * MB, "image/"),
        "sticker" => (MB / 2, "image/webp"),
        "video" => (16 * MB, "video/"),
        "audio" => (16 * MB, "audio/"),
        _ => (100 * MB, ""),
    }
}

/// The file that a message names, as what it is to be sent: `image`, `document` …
pub(crate) async fn of_source(business: &Business, kind: &str, source: Source) -> Result<Attachment, ApiError> {
    let unknown = || ApiError::invalid(&source.path, "names no file of this business");
    let mut attachment = match &source.of {
        Of::Id(id) => find(business, *id).await?.ok_or_else(unknown)?,
        Of::Link(link) => fetch(business, kind, link).await?,
    };
    let (most, begins) = bounds(kind);
    if attachment.size > most {
        return Err(ApiError::media_upload(&format!("As {kind} a file may have at most {most} bytes.")));
    }
    if !attachment.media_type.starts_with(begins) {
        let what = attachment.media_type.chars().take(60).collect::<String>();
        return Err(ApiError::media_upload(&format!("A file of type '{what}' cannot be sent as {kind}.")));
    }
    if let Some(name) = source.name {
        attachment.name = name;
    }
    Ok(attachment)
}

/// Fetches a file from an address, of the public internet alone, and seals it as it comes.
async fn fetch(business: &Business, kind: &str, link: &str) -> Result<Attachment, ApiError> {
    let refused = |why: OutsideError| ApiError::media_download(&format!("The link: {why}."));
    let (most, _) = bounds(kind);
    let mut file = business.egress.get_outside(link, most).await.map_err(refused)?;
    let mut writer = business.endpoint.seal().map_err(refusal)?;
    while let Some(piece) = file.next().await.map_err(refused)? {
        writer.write(piece).await.map_err(refusal)?;
    }
    let sealed = writer.finish().await.map_err(refusal)?;
    let attachment = Attachment {
        blob: sealed.blob,
        key: sealed.key.clone(),
        size: sealed.size,
        digest: sealed.digest,
        media_type: one_line(&file.media_type),
        name: one_line(&file.name),
        expires: expires(business),
        caption: String::new(),
        preview: None,
    };
    business.endpoint.put(sealed).await.map_err(refusal)?;
    Ok(attachment)
}

/// `GET /{media-id}`.
pub(crate) async fn node(
    business: &Business,
    key: &UrlKey,
    id: &str,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Value, ApiError> {
    let unknown = || ApiError::unknown_node("GET", id);
    let phone = &business.account.phone_number_id;
    if params.root().text("phone_number_id").ok().flatten().is_some_and(|asked| asked != *phone) {
        return Err(unknown());
    }
    let number = id.parse().map_err(|_| unknown())?;
    let attachment = find(business, number).await?.ok_or_else(unknown)?;
    let until = business.now_ms() / 1_000 + URL_SECS;
    let host = headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or("localhost");
    // A proxy that ends TLS says so.
    let https = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let scheme = if https { "https" } else { "http" };
    let signature = key.sign(phone, number, until);
    Ok(json!({
        "messaging_product": "whatsapp",
        "url": format!("{scheme}://{host}/media/{phone}/{number}?until={until}&signature={signature}"),
        "mime_type": attachment.media_type,
        "sha256": HEXLOWER.encode(&attachment.digest),
        "file_size": attachment.size,
        "id": id,
    }))
}

/// `DELETE /{media-id}`.
pub(crate) async fn remove(business: &Business, id: &str) -> Result<Value, ApiError> {
    let unknown = || ApiError::unknown_node("DELETE", id);
    let number: u64 = id.parse().map_err(|_| unknown())?;
    let remove = move |tx: &mut bulla_client::store::tx::Tx<'_>| {
        let there = media::get(tx, number)?.is_some();
        media::remove(tx, number);
        Ok(there)
    };
    match business.endpoint.with_store(remove).await.map_err(failed)? {
        true => Ok(json!({ "success": true })),
        false => Err(unknown()),
    }
}

/// `GET /media/{phone-number-id}/{media-id}`: the file itself, for who has the address or the token of this business.
pub(crate) async fn download(
    businesses: &[Arc<Business>],
    key: &UrlKey,
    edge: &str,
    params: &Params,
    token_of: Option<&Business>,
) -> Result<Response, ApiError> {
    let unknown = || ApiError::unknown_node("GET", "media");
    let (phone, id) = edge.split_once('/').ok_or_else(unknown)?;
    let id: u64 = id.parse().map_err(|_| unknown())?;
    let business = businesses.iter().find(|b| b.account.phone_number_id == phone).ok_or_else(unknown)?;
    let root = params.root();
    let text = |name| root.text(name).ok().flatten().unwrap_or_default();
    let until: u64 = text("until").parse().unwrap_or_default();
    let signed = until > business.now_ms() / 1_000 && key.accepts(phone, id, until, &text("signature"));
    if !signed && token_of.is_none_or(|of| of.account.phone_number_id != phone) {
        return Err(ApiError::invalid_token());
    }
    let attachment = find(business, id).await?.ok_or_else(unknown)?;
    let mut reader = business.endpoint.open_attachment(attachment.clone()).await.map_err(refusal)?;
    // What fails at once is said in an answer; what fails later breaks the answer off.
    let first = reader.next().await.map_err(refusal)?.unwrap_or_default();
    let name = safe_name(&attachment.name, &first);
    let pieces = futures_util::stream::unfold((Some(first), reader), next_piece);
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    let ascii: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let encoded = encoded.replace('+', "%20");
    for (header, value) in [
        (CONTENT_TYPE, attachment.media_type.clone()),
        (CONTENT_LENGTH, attachment.size.to_string()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
    ] {
        let value = HeaderValue::from_str(&value);
        headers.insert(header, value.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    }
    Ok(response)
}

type Piece = Result<Vec<u8>, std::io::Error>;

async fn next_piece(
    (first, mut reader): (Option<Vec<u8>>, FileReader),
) -> Option<(Piece, (Option<Vec<u8>>, FileReader))> {
    if let Some(first) = first {
        return Some((Ok(first), (None, reader)));
    }
    match reader.next().await {
        Ok(Some(piece)) => Some((Ok(piece), (None, reader))),
        Ok(None) => None,
        Err(why) => Some((Err(std::io::Error::other(why.to_string())), (None, reader))),
    }
}

fn failed(error: CommandError) -> ApiError {
    tracing::error!(%error, "what is known of a file could not be read or kept");
    ApiError::unavailable("The gateway could not store this; try again.")
}

fn refusal(error: MediaError) -> ApiError {
    match error {
        MediaError::File(_) => ApiError::media_upload(&error.to_string()),
        MediaError::Gone => ApiError::media_gone(),
        MediaError::Command(error) => failed(error),
        other => {
            tracing::warn!(error = %other, "a file could not be moved");
            ApiError::unavailable("The relay does not take or give files now; try again.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    #[test]
    fn an_address_counts_for_one_file_of_one_business_until_its_time() {
        let key = UrlKey::new(&Entropy::new(Box::new(rand_core::OsRng)));
        let signature = key.sign("1", 2, 3);
        assert!(key.accepts("1", 2, 3, &signature));
        for (phone, id, until) in [("2", 2, 3), ("1", 3, 3), ("1", 2, 4)] {
            assert!(!key.accepts(phone, id, until, &signature));
        }
        assert!(!key.accepts("1", 2, 3, &signature[2..]) && !key.accepts("1", 2, 3, ""));
        let other = UrlKey::new(&Entropy::new(Box::new(rand_core::OsRng)));
        assert!(!other.accepts("1", 2, 3, &signature));
    }
}
