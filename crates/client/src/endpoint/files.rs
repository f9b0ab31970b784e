//! Files at the handle: what a program hands over and gets, piece by piece. What moves them is [`super::media`].

use bulla_e2ee::content::MessageId;
use bulla_protocol::id::BlobId;
use tokio::sync::{mpsc, oneshot};

use super::media::{MediaRequest, Opening, PIECES, WHOLE};
use super::{CommandError, Endpoint, ToDriver};
use crate::engine::uploads::Forgotten;
use crate::event::ConversationId;
use crate::media::{Attachment, FileCard, MediaError, NewAttachment, Sealed, Upload};

impl Endpoint {
    /// Attaches a file: what it returns takes the file. From the end of that on it is uploaded, whatever happens, and then said.
    pub async fn attach(&self, to: ConversationId, new: NewAttachment) -> Result<AttachmentWriter, MediaError> {
        let wanted = new.clone();
        self.run(move |engine, ctx| engine.may_attach(ctx, to, &wanted)).await?;
        let file = self.seal()?;
        Ok(AttachmentWriter { endpoint: self.clone(), file, to, new })
    }

    /// Seals a file as it comes, for [`Endpoint::put`].
    pub fn seal(&self) -> Result<FileWriter, MediaError> {
        let (pieces, receiver) = mpsc::channel(PIECES);
        let (answer, sealed) = oneshot::channel();
        self.media(MediaRequest::Seal(receiver, answer))?;
        Ok(FileWriter { pieces, sealed })
    }

    /// A business brings a sealed file to its relay, to send it to whomever it likes. Nothing of it is kept here.
    pub async fn put(&self, sealed: Sealed) -> Result<(), MediaError> {
        let (answer, done) = oneshot::channel();
        self.media(MediaRequest::Put(sealed, answer))?;
        done.await.map_err(|_| MediaError::Stopped)?
    }

    /// Files that wait to be uploaded in a conversation, oldest first.
    pub async fn uploads(&self, of: ConversationId) -> Result<Vec<Upload>, CommandError> {
        self.run(move |engine, ctx| engine.uploads(ctx, of)).await
    }

    /// Gives an upload up; nothing of it was said, and nothing will be.
    pub async fn cancel_upload(&self, upload: BlobId) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.cancel_upload(ctx, &upload)).await
    }

    /// Tries an upload again that did not go on.
    pub async fn retry_upload(&self, upload: BlobId) -> Result<(), CommandError> {
        self.run(move |engine, ctx| engine.retry_upload(ctx, &upload)).await
    }

    /// Opens the file of a message. What is not here is fetched from the relay and kept, sealed: whoever stops in the middle goes on from there.
    pub async fn open(&self, message: MessageId) -> Result<FileReader, MediaError> {
        let (blobs, attachment) = self.run(move |engine, ctx| engine.attached(ctx, &message)).await?;
        self.reader(blobs, attachment, true)
    }

    /// A business opens a file at its relay, and keeps nothing of it here.
    pub async fn open_attachment(&self, attachment: Attachment) -> Result<FileReader, MediaError> {
        let blobs = self.run(|engine, _| engine.own_blobs().ok_or(CommandError::NotReady)).await?;
        self.reader(blobs, attachment, false)
    }

    /// What a message attaches, with its key.
    pub async fn attachment(&self, message: MessageId) -> Result<Attachment, CommandError> {
        self.run(move |engine, ctx| Ok(engine.attached(ctx, &message)?.1)).await
    }

    /// Whether the whole file of a message is here, so that opening it fetches nothing.
    pub async fn is_here(&self, message: MessageId) -> Result<bool, MediaError> {
        let (_, attachment) = self.run(move |engine, ctx| engine.attached(ctx, &message)).await?;
        let (answer, counted) = oneshot::channel();
        self.media(MediaRequest::Count(attachment.blob, answer))?;
        let whole = bulla_protocol::blob::parts(bulla_e2ee::attachment::sealed_len(attachment.size));
        Ok(counted.await.map_err(|_| MediaError::Stopped)?? == whole)
    }

    fn reader(&self, blobs: String, attachment: Attachment, keep: bool) -> Result<FileReader, MediaError> {
        let (pieces, receiver) = mpsc::channel(PIECES);
        let card = FileCard::from(&attachment);
        self.media(MediaRequest::Open(Box::new(Opening { blobs, attachment, keep, pieces })))?;
        Ok(FileReader { card, pieces: receiver, came: 0, whole: false })
    }

    /// Removes the parts of a file that nothing came of.
    fn forget(&self, blob: BlobId) -> Result<(), MediaError> {
        self.media(MediaRequest::Forget(Forgotten { blob, there: None }))
    }

    fn media(&self, request: MediaRequest) -> Result<(), MediaError> {
        self.inputs.send(ToDriver::Media(request)).map_err(|_| MediaError::Stopped)
    }
}

/// Takes a file that is sealed as it comes. Dropped before its end, nothing of it stays.
#[derive(Debug)]
pub struct FileWriter {
    pieces: mpsc::Sender<Vec<u8>>,
    sealed: oneshot::Receiver<Result<Sealed, MediaError>>,
}

impl FileWriter {
    /// What comes next of the file.
    pub async fn write(&mut self, piece: Vec<u8>) -> Result<(), MediaError> {
        if piece.is_empty() || self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // It has ended early, and says why.
        match (&mut self.sealed).await {
            Ok(Err(why)) => Err(why),
            _ => Err(MediaError::Stopped),
        }
    }

    /// The end of the file.
    pub async fn finish(self) -> Result<Sealed, MediaError> {
        // If it has ended early, it says why.
        let _ = self.pieces.send(WHOLE).await;
        self.sealed.await.map_err(|_| MediaError::Stopped)?
    }
}

/// Takes a file that is to be attached.
#[derive(Debug)]
pub struct AttachmentWriter {
    endpoint: Endpoint,
    file: FileWriter,
    to: ConversationId,
    new: NewAttachment,
}

impl AttachmentWriter {
    /// What comes next of the file.
    pub async fn write(&mut self, piece: Vec<u8>) -> Result<(), MediaError> {
        self.file.write(piece).await
    }

    /// The end of the file. Once this returns, the upload is durable.
    pub async fn finish(self) -> Result<Upload, MediaError> {
        let Self { endpoint, file, to, new } = self;
        let sealed = file.finish().await?;
        let blob = sealed.blob;
        let attached = if sealed.size == new.size {
            endpoint.run(move |engine, ctx| engine.attach(ctx, to, &new, &sealed)).await.map_err(MediaError::from)
        } else {
            Err(bulla_e2ee::attachment::AttachmentError::Length.into())
        };
        if attached.is_err() {
            endpoint.forget(blob)?;
        }
        attached
    }
}

/// Gives out a file, piece by piece. Each piece is authentic; that they are the whole file is known at the end, when [`FileReader::next`] has said `None`.
#[derive(Debug)]
pub struct FileReader {
    card: FileCard,
    pieces: mpsc::Receiver<Result<Vec<u8>, MediaError>>,
    came: u64,
    whole: bool,
}

impl FileReader {
    /// What its sender says of it.
    #[must_use]
    pub fn card(&self) -> &FileCard {
        &self.card
    }

    /// Bytes given out so far.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.came
    }

    /// The next piece; `None` at the end of the whole file.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, MediaError> {
        match self.pieces.recv().await {
            Some(Ok(piece)) if piece == WHOLE => {
                self.whole = true;
                Ok(None)
            }
            Some(Ok(piece)) => {
                self.came += piece.len() as u64;
                Ok(Some(piece))
            }
            Some(Err(why)) => Err(why),
            None if self.whole => Ok(None),
            None => Err(MediaError::Stopped),
        }
    }
}
