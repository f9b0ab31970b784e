//! Moves attached files: seals them into parts here, parts to the relay, parts from it, and opens them. Beside the engine, which hears of the
//! beginning and the end alone.

use std::time::Duration;

use bulla_e2ee::attachment::{AttachmentKey, Opener, Sealer, sealed_len};
use bulla_protocol::blob::{WriteKey, part_len, parts as parts_of};
use bulla_protocol::id::BlobId;
use bulla_protocol::limits::BLOB_PART;
use prost::Message as _;
use rand_core::{OsRng, RngCore as _};
use tokio::sync::{mpsc, oneshot};

use super::{Endpoint, ToDriver};
use crate::engine::uploads::{Door, Forgotten, Ticket};
use crate::event::Event;
use crate::media::{Attachment, MediaError, Sealed, UploadFailure};
use crate::rt;
use crate::store::parts::Parts;
use crate::transport::{HttpAnswer, HttpRequest, Method, Transport, TransportError};

/// First pause after a try that failed; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often whether there is a connection is looked at, where an upload waits for one.
const LOOK: Duration = Duration::from_millis(200);

/// Tries of a part that is fetched, while somebody looks at a bar.
const FETCH_TRIES: u32 = 4;

/// Pieces of a file between whoever brings or takes it and here.
pub(super) const PIECES: usize = 4;

/// The piece that says that the file was whole.
pub(super) const WHOLE: Vec<u8> = Vec::new();

/// What is asked of files.
pub(super) enum MediaRequest {
    /// To seal a file as it comes, into parts here.
    Seal(mpsc::Receiver<Vec<u8>>, oneshot::Sender<Result<Sealed, MediaError>>),
    /// To bring a sealed file to the relay, under the business's own permit, and to keep nothing of it here.
    Put(Sealed, oneshot::Sender<Result<(), MediaError>>),
    /// To open a file: from here, and what is not here from the relay. Then it is kept, or not.
    Open(Box<Opening>),
    /// To remove a file.
    Forget(Forgotten),
    /// How many parts of a file are here.
    Count(BlobId, oneshot::Sender<Result<u32, MediaError>>),
}

/// A file that is to be opened.
pub(super) struct Opening {
    pub(super) blobs: String,
    pub(super) attachment: Attachment,
    pub(super) keep: bool,
    pub(super) pieces: mpsc::Sender<Result<Vec<u8>, MediaError>>,
}

/// What moving files needs.
#[derive(Clone)]
pub(super) struct Media<T, P> {
    pub(super) transport: T,
    pub(super) parts: P,
    /// Weak: what moves does not keep an endpoint alive that nobody holds.
    pub(super) inputs: mpsc::WeakUnboundedSender<ToDriver>,
    pub(super) events: mpsc::UnboundedSender<Event>,
}

impl<T: Transport, P: Parts> Media<T, P> {
    pub(super) async fn handle(self, request: MediaRequest) {
        // An answer that nobody waits for any more is nobody's loss.
        match request {
            MediaRequest::Seal(pieces, answer) => drop(answer.send(self.seal(pieces).await)),
            MediaRequest::Put(sealed, answer) => drop(answer.send(self.put(&sealed).await)),
            MediaRequest::Forget(forgotten) => self.forget(forgotten).await,
            MediaRequest::Count(blob, answer) => {
                drop(answer.send(self.parts.count(blob).await.map_err(MediaError::from)));
            }
            MediaRequest::Open(opening) => {
                if let Err(why) = self.open(&opening).await {
                    let _ = opening.pieces.send(Err(why)).await;
                }
            }
        }
    }

    async fn seal(&self, mut pieces: mpsc::Receiver<Vec<u8>>) -> Result<Sealed, MediaError> {
        let mut blob = [0; 16];
        let mut write_key = [0; 32];
        OsRng.fill_bytes(&mut blob);
        OsRng.fill_bytes(&mut write_key);
        let (blob, write_key) = (BlobId::new(blob), WriteKey::new(write_key));
        let key = AttachmentKey::generate(&mut OsRng);
        match self.seal_parts(blob, &key, &mut pieces).await {
            Ok((size, digest)) => Ok(Sealed { blob, key, write_key, size, digest }),
            Err(why) => {
                self.forget_here(blob).await;
                Err(why)
            }
        }
    }

    async fn seal_parts(
        &self,
        blob: BlobId,
        key: &AttachmentKey,
        pieces: &mut mpsc::Receiver<Vec<u8>>,
    ) -> Result<(u64, [u8; 32]), MediaError> {
        let part_size = usize::try_from(BLOB_PART).unwrap_or(usize::MAX);
        let mut sealer = Sealer::new(key);
        let (mut out, mut part) = (Vec::new(), 0);
        loop {
            // Whoever brought it has gone before its end.
            let piece = pieces.recv().await.ok_or(MediaError::Stopped)?;
            if piece == WHOLE {
                break;
            }
            sealer.push(&piece, &mut out)?;
            while out.len() >= part_size {
                let rest = out.split_off(part_size);
                self.parts.put(blob, part, std::mem::replace(&mut out, rest)).await?;
                part += 1;
            }
        }
        let done = sealer.finish(&mut out)?;
        for piece in out.chunks(part_size) {
            self.parts.put(blob, part, piece.to_vec()).await?;
            part += 1;
        }
        Ok(done)
    }

    /// Uploads a file until it is said, cancelled or refused.
    pub(super) async fn upload(self, blob: BlobId) {
        let mut pause = FIRST_PAUSE;
        while let Some(endpoint) = self.endpoint() {
            let ticket = endpoint.run(move |engine, ctx| engine.upload_ticket(ctx, &blob)).await;
            let tried = match ticket {
                Ok(Ticket::Go(door)) => self.move_up(&door, true).await,
                Ok(Ticket::Wait) => {
                    drop(endpoint);
                    rt::sleep(LOOK).await;
                    continue;
                }
                Ok(Ticket::Refused) => Err(MediaError::Refused),
                // Cancelled, or the endpoint stops; the next start goes on.
                Ok(Ticket::Gone) | Err(_) => return,
            };
            let failure = match tried {
                Ok(()) => {
                    if endpoint.run(move |engine, ctx| engine.uploaded(ctx, &blob)).await.is_ok() {
                        return;
                    }
                    None
                }
                Err(MediaError::Refused) => Some(UploadFailure::Refused),
                Err(MediaError::File(_)) => Some(UploadFailure::TooLarge),
                Err(MediaError::Gone) => Some(UploadFailure::Lost),
                Err(MediaError::Full { retry_after_secs }) => {
                    pause = pause.max(Duration::from_secs(retry_after_secs.into()).min(LONGEST_PAUSE));
                    None
                }
                Err(why) => {
                    tracing::debug!(%why, "an upload waits");
                    None
                }
            };
            if let Some(why) = failure {
                // If that fails, the store does: the next start tries again.
                let _ = endpoint.run(move |engine, ctx| engine.upload_failed(ctx, &blob, why)).await;
                return;
            }
            drop(endpoint);
            rt::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn put(&self, sealed: &Sealed) -> Result<(), MediaError> {
        let done = self.put_parts(sealed).await;
        self.forget_here(sealed.blob).await;
        done
    }

    async fn put_parts(&self, sealed: &Sealed) -> Result<(), MediaError> {
        let mut pause = FIRST_PAUSE;
        for tries in (0..FETCH_TRIES).rev() {
            let endpoint = self.endpoint().ok_or(MediaError::Stopped)?;
            let wanted = sealed.clone();
            let tried = match endpoint.run(move |engine, ctx| engine.own_ticket(ctx, &wanted)).await? {
                Ticket::Go(door) => self.move_up(&door, false).await,
                Ticket::Wait => Err(MediaError::Transport(TransportError("the relay is not connected".into()))),
                Ticket::Gone | Ticket::Refused => Err(MediaError::Refused),
            };
            match tried {
                Err(MediaError::Transport(_)) if tries > 0 => rt::sleep(pause).await,
                other => return other,
            }
            pause *= 2;
        }
        Err(MediaError::Stopped)
    }

    /// Makes the blob and brings its parts; what is there already is not sent again.
    async fn move_up(&self, door: &Door, tell: bool) -> Result<(), MediaError> {
        let Door { blobs, create, new, write_key } = door;
        let request = HttpRequest::new(Method::Post, blobs.clone()).with_body(create.encode_to_vec());
        let answer = self.transport.request(request).await?;
        let begun = answer.status == 200;
        if !begun {
            expect(answer, 201)?;
        }
        let mut sent = 0;
        for part in 0..new.parts() {
            let length = part_len(new.bytes, part).unwrap_or_default();
            let url = format!("{blobs}/{}/{part}", new.blob.to_hex());
            let there = begun && {
                let look = HttpRequest::new(Method::Head, url.clone()).with_key(write_key.to_hex());
                self.transport.request(look).await?.status == 204
            };
            if !there {
                let bytes = self.parts.get(new.blob, part).await?.ok_or(MediaError::Gone)?;
                let write = HttpRequest::new(Method::Put, url).with_key(write_key.to_hex()).with_body(bytes);
                expect(self.transport.request(write).await?, 204)?;
            }
            sent += length;
            if tell {
                self.tell(new.blob, sent);
            }
        }
        Ok(())
    }

    fn tell(&self, upload: BlobId, sent: u64) {
        let _ = self.events.send(Event::UploadMoved { upload, sent });
    }

    async fn open(&self, opening: &Opening) -> Result<(), MediaError> {
        let Opening { blobs, attachment, keep, pieces } = opening;
        let (blob, whole) = (attachment.blob, sealed_len(attachment.size));
        let mut opener = Opener::new(&attachment.key, attachment.size, attachment.digest)?;
        let read_key = attachment.key.read_key().to_hex();
        let mut opened = Ok(());
        for part in 0..parts_of(whole) {
            let length = part_len(whole, part).unwrap_or_default();
            let sealed = match self.parts.get(blob, part).await? {
                Some(sealed) => sealed,
                None => {
                    let sealed = self.fetch(&format!("{blobs}/{}/{part}", blob.to_hex()), &read_key, length).await?;
                    if *keep {
                        self.parts.put(blob, part, sealed.clone()).await?;
                    }
                    sealed
                }
            };
            let mut plain = Vec::new();
            opened = opener.push(&sealed, &mut plain);
            if opened.is_err() {
                break;
            }
            if !plain.is_empty() && pieces.send(Ok(plain)).await.is_err() {
                // Nobody looks any more. What was fetched stays, and the next one goes on from there.
                return Ok(());
            }
        }
        let mut plain = Vec::new();
        if let Err(why) = opened.and_then(|()| opener.finish(&mut plain)) {
            // What does not open now never will.
            self.forget_here(blob).await;
            return Err(why.into());
        }
        if !plain.is_empty() {
            let _ = pieces.send(Ok(plain)).await;
        }
        let _ = pieces.send(Ok(WHOLE)).await;
        Ok(())
    }

    async fn fetch(&self, url: &str, read_key: &str, length: u64) -> Result<Vec<u8>, MediaError> {
        let mut pause = FIRST_PAUSE;
        let mut tries = FETCH_TRIES;
        loop {
            let request = HttpRequest::new(Method::Get, url.to_owned()).with_key(read_key.to_owned());
            tries -= 1;
            let why = match self.transport.request(request.answered_with(length)).await {
                Ok(answer) if answer.status == 200 && answer.body.len() as u64 == length => return Ok(answer.body),
                Ok(answer) if answer.status == 200 => {
                    MediaError::Transport(TransportError("the relay answered with a part of another length".into()))
                }
                Ok(answer) => match refusal(&answer) {
                    why @ (MediaError::Full { .. } | MediaError::Transport(_)) => why,
                    why => return Err(why),
                },
                Err(why) => why.into(),
            };
            if tries == 0 {
                return Err(why);
            }
            rt::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Removes what is not wanted any more.
    pub(super) async fn forget(self, forgotten: Forgotten) {
        self.forget_here(forgotten.blob).await;
        if let Some((blobs, write_key)) = forgotten.there {
            let url = format!("{blobs}/{}", forgotten.blob.to_hex());
            let request = HttpRequest::new(Method::Delete, url).with_key(write_key.to_hex());
            if let Err(why) = self.transport.request(request).await {
                tracing::debug!(%why, "what was cancelled stays at the relay until its time is over");
            }
        }
    }

    async fn forget_here(&self, blob: BlobId) {
        if let Err(error) = self.parts.remove(blob).await {
            tracing::warn!(%error, "the parts of a file cannot be removed");
        }
    }

    fn endpoint(&self) -> Option<Endpoint> {
        self.inputs.upgrade().map(|inputs| Endpoint { inputs })
    }
}

fn expect(answer: HttpAnswer, status: u16) -> Result<(), MediaError> {
    if answer.status == status { Ok(()) } else { Err(refusal(&answer)) }
}

fn refusal(answer: &HttpAnswer) -> MediaError {
    match answer.status {
        403 => MediaError::Refused,
        404 | 409 => MediaError::Gone,
        413 => bulla_e2ee::attachment::AttachmentError::TooLarge.into(),
        429 | 503 | 507 => MediaError::Full { retry_after_secs: answer.retry_after_secs.unwrap_or(5) },
        other => MediaError::Transport(TransportError(format!("the relay answers {other}"))),
    }
}
