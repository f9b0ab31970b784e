//! Resumable uploads: `POST /{app-id}/uploads`, then `POST /upload:…` as often as it takes, until there is a handle.

use axum::body::Body;
use axum::http::HeaderMap;
use bulla_client::endpoint::CommandError;
use data_encoding::BASE64URL_NOPAD;
use minicbor::bytes::ByteVec;
use serde_json::{Value, json};

use super::error::ApiError;
use super::params::Params;
use super::values::{mandatory, only, short};
use crate::business::Business;
use crate::store::uploads::{self, LARGEST};

/// What an upload's id begins with.
pub(crate) const PREFIX: &str = "upload:";

/// What a handle begins with.
const HANDLE: &str = "4::";

/// What can be a sample or a picture.
const TYPES: &[&str] = &["application/pdf", "image/jpeg", "image/jpg", "image/png", "video/mp4"];

/// Characters of a file's name.
const NAME: usize = 240;

/// `POST /{app-id}/uploads?file_length=…&file_type=…`.
pub(crate) async fn begin(business: &Business, params: &Params) -> Result<Value, ApiError> {
    only(params, &["file_name", "file_length", "file_type", "session_type"])?;
    let root = params.root();
    let length = mandatory(&root, "file_length")?.parse().ok().filter(|length| (1..=LARGEST).contains(length));
    let length = length.ok_or_else(|| ApiError::parameter("Param file_length must be from 1 to 5242880 (5 MiB)."))?;
    let kind = mandatory(&root, "file_type")?.to_ascii_lowercase();
    if !TYPES.contains(&kind.as_str()) {
        return Err(ApiError::parameter(&format!("Param file_type must be one of {{{}}}.", TYPES.join(", "))));
    }
    let kind = if kind == "image/jpg" { "image/jpeg".to_owned() } else { kind };
    short(&root, "file_name", NAME)?;
    let id = business.endpoint.with_store(move |tx| uploads::begin(tx, length, kind)).await.map_err(failed)?;
    Ok(json!({"id": format!("{PREFIX}{id}")}))
}

/// `GET /upload:…`: how far it has come.
pub(crate) async fn show(business: &Business, id: &str) -> Result<Value, ApiError> {
    let unknown = || ApiError::unknown_node("GET", id);
    let number = number(id).ok_or_else(unknown)?;
    let found = business.endpoint.with_store(move |tx| uploads::get(tx, number)).await.map_err(failed)?;
    let upload = found.ok_or_else(unknown)?;
    Ok(json!({"id": id, "file_offset": upload.offset()}))
}

/// `POST /upload:…`: the bytes from `file_offset` on. A connection that breaks loses the piece that was on its way, and nothing before it.
pub(crate) async fn append(business: &Business, id: &str, headers: &HeaderMap, body: Body) -> Result<Value, ApiError> {
    let unknown = || ApiError::unknown_node("POST", id);
    let number = number(id).ok_or_else(unknown)?;
    let offset: u64 = match headers.get("file_offset").map(|offset| offset.to_str().unwrap_or_default().trim().parse())
    {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => return Err(ApiError::parameter("The header file_offset must be a number.")),
    };
    let found = business.endpoint.with_store(move |tx| uploads::get(tx, number)).await.map_err(failed)?;
    let missing = found.ok_or_else(unknown)?;
    let room = usize::try_from(missing.length.saturating_sub(missing.offset())).unwrap_or(0);
    let bytes = axum::body::to_bytes(body, room).await;
    let bytes = bytes.map_err(|_| ApiError::parameter("The file is longer than was announced in file_length."))?;
    let appended = business
        .endpoint
        .with_store(move |tx| {
            let Some(mut upload) = uploads::get(tx, number)? else { return Ok(None) };
            if upload.offset() != offset || upload.offset() + bytes.len() as u64 > upload.length {
                return Ok(Some(Err(upload.offset())));
            }
            upload.bytes = ByteVec::from([upload.bytes.as_slice(), &bytes].concat());
            uploads::put(tx, number, &upload)?;
            Ok(Some(Ok(upload)))
        })
        .await
        .map_err(failed)?;
    match appended.ok_or_else(unknown)? {
        Ok(upload) if upload.is_complete() => {
            let kind = BASE64URL_NOPAD.encode(upload.media_type.as_bytes());
            Ok(json!({"h": format!("{HANDLE}{kind}:{number}")}))
        }
        Ok(upload) => Ok(json!({"id": id, "file_offset": upload.offset()})),
        Err(offset) => Err(ApiError::parameter(&format!("The header file_offset must be {offset}: so much is here."))),
    }
}

/// The upload behind a handle.
pub(crate) fn id_of(handle: &str) -> Option<u64> {
    let (_, id) = handle.strip_prefix(HANDLE)?.split_once(':')?;
    id.parse().ok()
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix(PREFIX)?.parse().ok()
}

fn failed(error: CommandError) -> ApiError {
    tracing::error!(%error, "an upload could not be read or kept");
    ApiError::unavailable("The gateway could not store this; try again.")
}
