//! The requests for blobs; `proto/relay.proto` has them under `CreateBlob`.
//!
//! Every key is checked before a body is read. A blob that is not there and a key that does not fit are one answer, and so are all permits
//! that do not count.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post, put};
use bulla_protocol::blob::{NewBlob, NewBlobError, ReadKey, WriteKey, part_len};
use bulla_protocol::frame::CreateBlob;
use bulla_protocol::id::BlobId;
use bulla_protocol::limits::BLOB_PART;
use bulla_protocol::permit::{Class, Permit, PermitError};
use futures_util::StreamExt;
use prost::Message as _;
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::cors::{Any, CorsLayer};

use super::files::Files;
use super::shares::Shares;
use super::{Change, Outcome};
use crate::limits;
use crate::server::Relay;
use crate::store::BlobRecord;
use crate::writer::Unavailable;

/// What the requests share.
pub(crate) struct Handling {
    pub(crate) files: Files,
    shares: Shares,
    /// Parts in memory, on their way in or out.
    parts: Arc<Semaphore>,
}

impl Handling {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, shares: Shares::default(), parts: Arc::new(Semaphore::new(limits::BLOB_PARTS_AT_ONCE)) }
    }

    async fn room(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let room = tokio::time::timeout(limits::BLOB_PATIENCE, Arc::clone(&self.parts).acquire_owned());
        match room.await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Refused::Unavailable),
        }
    }
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Malformed,
    Permit,
    NotFound,
    Taken,
    TooLarge,
    Rate,
    Full,
    Unavailable,
}

impl From<Unavailable> for Refused {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let later = |status: StatusCode, secs: u32| (status, [(header::RETRY_AFTER, secs.to_string())]).into_response();
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST.into_response(),
            Self::Permit => StatusCode::FORBIDDEN.into_response(),
            Self::NotFound => StatusCode::NOT_FOUND.into_response(),
            Self::Taken => StatusCode::CONFLICT.into_response(),
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Self::Rate => later(StatusCode::TOO_MANY_REQUESTS, limits::RETRY_BLOB_SHARE_SECS),
            Self::Full => later(StatusCode::INSUFFICIENT_STORAGE, limits::RETRY_BLOBS_FULL_SECS),
            Self::Unavailable => later(StatusCode::SERVICE_UNAVAILABLE, limits::RETRY_BLOB_SECS),
        }
    }
}

/// The routes. Pages of other origins may use them: the app comes from the business's origin, and nothing here goes by cookies.
pub(crate) fn routes() -> Router<Arc<Relay>> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([HeaderName::from_static("retry-after")])
        .max_age(limits::CORS_AGE);
    Router::new()
        .route("/v1/blobs", post(create).layer(DefaultBodyLimit::max(limits::CREATE_BLOB_BYTES)))
        .route("/v1/blobs/{blob}", delete(remove))
        .route("/v1/blobs/{blob}/extend", post(extend))
        .route("/v1/blobs/{blob}/{part}", put(write).head(is_there).get(read))
        .layer(cors)
}

async fn create(State(relay): State<Arc<Relay>>, body: Bytes) -> Result<StatusCode, Refused> {
    let frame = CreateBlob::decode(body).map_err(|_| Refused::Malformed)?;
    let (new, permit, proof) = NewBlob::from_frame(&frame).map_err(|error| match error {
        NewBlobError::Size if frame.bytes > 0 => Refused::TooLarge,
        NewBlobError::Permit(PermitError::Version | PermitError::Range) => Refused::Permit,
        _ => Refused::Malformed,
    })?;
    admit(&relay, &permit, &new, &proof).await?;
    let today = relay.clock().day();
    if !relay.blobs().shares.take(permit.mailbox, permit.grant, new.blob, new.bytes, today) {
        return Err(Refused::Rate);
    }
    match relay.shared().writer.blob(Change::Create(new), today).await? {
        Outcome::Done => Ok(StatusCode::CREATED),
        Outcome::There => Ok(StatusCode::OK),
        Outcome::Taken => Err(Refused::Taken),
        Outcome::Full => Err(Refused::Full),
        Outcome::Gone => Err(Refused::NotFound),
    }
}

/// The same work whatever is wrong with the permit, as for a send.
async fn admit(relay: &Relay, permit: &Permit, new: &NewBlob, proof: &[u8; 32]) -> Result<(), Refused> {
    let mailbox = relay.registry().get(&permit.mailbox).await?;
    let root = mailbox.as_ref().map_or(relay.nobodys_root(), |mailbox| mailbox.root());
    let proven = root.grant_key(&permit.grant).mac(permit).verify_blob(relay.name(), new, proof);
    let valid = permit.is_valid_at(relay.clock().unix_secs()) && permit.class == Class::Ordinary;
    let allowed = mailbox.is_some_and(|mailbox| mailbox.allows(&permit.grant));
    if proven && valid && allowed { Ok(()) } else { Err(Refused::Permit) }
}

async fn write(
    State(relay): State<Arc<Relay>>,
    Path((blob, part)): Path<(String, u32)>,
    headers: HeaderMap,
    request: Request,
) -> Result<StatusCode, Refused> {
    let (id, record) = find(&relay, &blob).await?;
    writes(&headers, &record)?;
    let length = part_len(record.bytes, part).ok_or(Refused::NotFound)?;
    let _room = relay.blobs().room().await?;
    let limit = usize::try_from(length).map_err(|_| Refused::Malformed)?;
    let body = tokio::time::timeout(limits::BLOB_PATIENCE, axum::body::to_bytes(request.into_body(), limit));
    let bytes = body.await.map_err(|_| Refused::Unavailable)?.map_err(|_| Refused::Malformed)?;
    if bytes.len() != limit {
        return Err(Refused::Malformed);
    }
    relay.blobs().files.put(&id, part, bytes).await.map_err(unavailable)?;
    // Deleted meanwhile: what was written would lie there until the next start.
    if find(&relay, &blob).await.is_err() {
        relay.blobs().files.remove(&id).await.map_err(unavailable)?;
        return Err(Refused::NotFound);
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn is_there(
    State(relay): State<Arc<Relay>>,
    Path((blob, part)): Path<(String, u32)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let (id, record) = find(&relay, &blob).await?;
    writes(&headers, &record).or_else(|_| reads(&headers, &record))?;
    let there = relay.blobs().files.has(&id, part).await.map_err(unavailable)?;
    if there { Ok(StatusCode::NO_CONTENT) } else { Err(Refused::NotFound) }
}

async fn read(
    State(relay): State<Arc<Relay>>,
    Path((blob, part)): Path<(String, u32)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (id, record) = find(&relay, &blob).await?;
    reads(&headers, &record)?;
    part_len(record.bytes, part).ok_or(Refused::NotFound)?;
    let room = relay.blobs().room().await?;
    let bytes = relay.blobs().files.get(&id, part).await.map_err(unavailable)?.ok_or(Refused::NotFound)?;
    let headers = [
        (header::CONTENT_LENGTH, bytes.len().to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    // The room is taken until the last of it has left.
    let pieces = pieces(bytes).map(move |piece| {
        let _held = &room;
        Ok::<_, std::convert::Infallible>(piece)
    });
    Ok((headers, Body::from_stream(pieces)).into_response())
}

fn pieces(mut bytes: Bytes) -> impl futures_util::Stream<Item = Bytes> {
    const PIECE: usize = 64 * 1024;
    futures_util::stream::iter(std::iter::from_fn(move || {
        (!bytes.is_empty()).then(|| bytes.split_to(bytes.len().min(PIECE)))
    }))
}

async fn extend(
    State(relay): State<Arc<Relay>>,
    Path(blob): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let (id, record) = find(&relay, &blob).await?;
    writes(&headers, &record)?;
    match relay.shared().writer.blob(Change::Extend(id), relay.clock().day()).await? {
        Outcome::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(Refused::NotFound),
    }
}

async fn remove(
    State(relay): State<Arc<Relay>>,
    Path(blob): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let (id, record) = find(&relay, &blob).await?;
    writes(&headers, &record)?;
    // The row first: what is left of the files, should this end here, is found at the next start.
    relay.shared().writer.blob(Change::Delete(id), relay.clock().day()).await?;
    relay.blobs().files.remove(&id).await.map_err(unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(relay: &Relay, blob: &str) -> Result<(BlobId, BlobRecord), Refused> {
    let id = BlobId::from_hex(blob).ok_or(Refused::NotFound)?;
    let found = relay.registry().read(move |store| store.blob(&id)).await?;
    let record = found.filter(|record| !record.is_over(relay.clock().day())).ok_or(Refused::NotFound)?;
    Ok((id, record))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn writes(headers: &HeaderMap, record: &BlobRecord) -> Result<(), Refused> {
    let key = bearer(headers).and_then(WriteKey::from_hex).ok_or(Refused::NotFound)?;
    if bool::from(key.hash().ct_eq(&record.write_hash)) { Ok(()) } else { Err(Refused::NotFound) }
}

fn reads(headers: &HeaderMap, record: &BlobRecord) -> Result<(), Refused> {
    let key = bearer(headers).and_then(ReadKey::from_hex).ok_or(Refused::NotFound)?;
    if bool::from(key.hash().ct_eq(&record.read_hash)) { Ok(()) } else { Err(Refused::NotFound) }
}

fn unavailable(error: object_store::Error) -> Refused {
    tracing::error!(%error, "the files of blobs cannot be used");
    Refused::Unavailable
}

const _: () = assert!(BLOB_PART <= usize::MAX as u64);
