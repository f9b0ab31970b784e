//! Files that wait to be uploaded, and what moving them needs to know. The bytes move beside the engine ([`crate::endpoint`]); here is what must
//! not be forgotten, and the message at the end.

use bulla_e2ee::attachment::{AttachmentKey, sealed_len};
use bulla_e2ee::content::{Attachment, Body, MessageId, Preview};
use bulla_e2ee::limits;
use bulla_e2ee::tag::Purpose;
use bulla_protocol::blob::{NewBlob, WriteKey};
use bulla_protocol::frame::CreateBlob;
use bulla_protocol::id::{BlobId, GrantId, MailboxId, TagBlock};
use bulla_protocol::limits::BLOB_DAYS;
use bulla_protocol::permit::{Class, MacRoot, Permit, PermitMac};
use minicbor::bytes::ByteVec;

use super::commands::{CommandError, may_speak};
use super::record::{Secret, UploadRecord};
use super::{Ctx, Effects, Engine, LinkKey, RoleOptions};
use crate::event::{ConversationId, Draft, Event, Message};
use crate::media::{FileCard, MAX_CAPTION, MAX_UPLOADS, NewAttachment, Sealed, Upload, UploadFailure};
use crate::store::vault::Scope;
use crate::store::{StoreError, Table};

/// How long a business's permit for its own mailbox lasts: an upload's time.
const OWN_PERMIT_SECS: u64 = 6 * 3600;

const DAY_SECS: u64 = 86_400;

/// What it takes to upload a file now.
#[derive(Debug)]
pub enum Ticket {
    /// It is not to be uploaded any more.
    Gone,
    /// There is no connection to the relay yet.
    Wait,
    /// There is no permit, or the relay refuses it.
    Refused,
    /// This.
    Go(Box<Door>),
}

/// What makes a blob at a relay, and moves its parts.
#[derive(Debug)]
pub struct Door {
    /// The address under which its blobs are.
    pub blobs: String,
    /// The request.
    pub create: CreateBlob,
    /// The blob.
    pub new: NewBlob,
    /// Its key.
    pub write_key: WriteKey,
}

/// A blob that is not wanted any more: here, and at the relay where there is a key for it.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// Which.
    pub blob: BlobId,
    /// Where it may be, and the key to delete it with.
    pub there: Option<(String, WriteKey)>,
}

impl Engine {
    /// Uploads that were not at their end when this endpoint stopped.
    pub(super) fn load_uploads(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), StoreError> {
        for (blob, record) in Self::all_uploads(ctx)? {
            if record.failed.is_none() {
                ctx.out.uploads.push(blob);
            }
        }
        Ok(())
    }

    fn all_uploads(ctx: &Ctx<'_, '_>) -> Result<Vec<(BlobId, UploadRecord)>, StoreError> {
        let mut all = Vec::new();
        for (key, record) in ctx.tx.scan_prefix::<UploadRecord>(Table::Uploads, b"")? {
            all.extend(BlobId::from_slice(&key).ok().map(|blob| (blob, record)));
        }
        Ok(all)
    }

    fn upload_record(ctx: &Ctx<'_, '_>, blob: &BlobId) -> Result<Option<UploadRecord>, StoreError> {
        ctx.tx.get(Table::Uploads, blob.as_bytes())
    }

    /// Whether something could be attached: before it is sealed.
    pub fn may_attach(&self, ctx: &Ctx<'_, '_>, to: ConversationId, new: &NewAttachment) -> Result<(), CommandError> {
        if self.superseded {
            return Err(CommandError::Superseded);
        }
        may_speak(&self.known(ctx, to)?)?;
        if new.size > limits::ATTACHMENT {
            return Err(CommandError::TooLarge { mib: limits::ATTACHMENT >> 20 });
        }
        if new.caption.chars().count() > MAX_CAPTION {
            return Err(CommandError::TooLong { limit: MAX_CAPTION });
        }
        if let Some(id) = &new.reply_to {
            Self::place_of(ctx, Some(to.0), id)?.ok_or(CommandError::UnknownMessage)?;
        }
        if Self::all_uploads(ctx)?.len() >= MAX_UPLOADS {
            return Err(CommandError::TooManyUploads);
        }
        Ok(())
    }

    /// Notes a sealed file, which is uploaded from now on, whatever happens, and then said.
    pub fn attach(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        to: ConversationId,
        new: &NewAttachment,
        sealed: &Sealed,
    ) -> Result<Upload, CommandError> {
        self.may_attach(ctx, to, new)?;
        let peer = self.known(ctx, to)?.peer;
        let preview = new.preview.as_ref().filter(|preview| preview.is_good());
        let record = UploadRecord {
            conversation: to.0,
            key: Secret(*sealed.key.expose()),
            write_key: Secret(*sealed.write_key.expose()),
            size: sealed.size,
            digest: sealed.digest.into(),
            media_type: one_line(&new.media_type),
            name: one_line(&new.name),
            caption: new.caption.clone(),
            preview: preview.map(|p| (p.media_type.clone(), ByteVec::from(p.bytes.clone()))),
            reply_to: new.reply_to.map(|id| (*id.as_bytes()).into()),
            created_ms: ctx.tx.now_ms(),
            failed: None,
        };
        ctx.tx.put(Table::Uploads, sealed.blob.as_bytes(), Scope::Peer(peer), &record)?;
        ctx.out.uploads.push(sealed.blob);
        let upload = upload_view(sealed.blob, &record);
        ctx.emit(Event::Upload(upload.clone()))?;
        Ok(upload)
    }

    /// The uploads of a conversation, oldest first.
    pub fn uploads(&self, ctx: &Ctx<'_, '_>, of: ConversationId) -> Result<Vec<Upload>, CommandError> {
        let all = Self::all_uploads(ctx)?;
        let mut all: Vec<_> = all.into_iter().filter(|(_, record)| record.conversation == of.0).collect();
        all.sort_by_key(|(_, record)| record.created_ms);
        Ok(all.iter().map(|(blob, record)| upload_view(*blob, record)).collect())
    }

    /// What it takes to upload a file now.
    pub fn upload_ticket(&mut self, ctx: &mut Ctx<'_, '_>, blob: &BlobId) -> Result<Ticket, CommandError> {
        let Some(record) = Self::upload_record(ctx, blob)?.filter(|record| record.failed.is_none()) else {
            return Ok(Ticket::Gone);
        };
        let new = new_blob(*blob, &record);
        let write_key = WriteKey::new(record.write_key.0);
        self.ticket(ctx, Some(ConversationId(record.conversation)), new, write_key)
    }

    /// What it takes to upload a file of a business's that is for no conversation yet.
    pub fn own_ticket(&mut self, ctx: &mut Ctx<'_, '_>, sealed: &Sealed) -> Result<Ticket, CommandError> {
        let new = NewBlob {
            blob: sealed.blob,
            bytes: sealed_len(sealed.size),
            read_hash: sealed.key.read_key().hash(),
            write_hash: sealed.write_key.hash(),
        };
        self.ticket(ctx, None, new, sealed.write_key.clone())
    }

    /// All uploads are under a permit of the business's mailbox: a customer has one, the business makes itself one.
    fn ticket(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        of: Option<ConversationId>,
        new: NewBlob,
        write_key: WriteKey,
    ) -> Result<Ticket, CommandError> {
        let (relay, permit, mac) = match (&self.role, of) {
            (RoleOptions::Business(_), _) => {
                let Some((relay, permit, mac)) = self.own_permit(ctx)? else { return Ok(Ticket::Wait) };
                (relay, permit, mac)
            }
            (RoleOptions::Customer, Some(of)) => {
                if self.known(ctx, of)?.state.is_over() {
                    return Ok(Ticket::Refused);
                }
                let mut found = None;
                for member in self.members(ctx, of.0)?.iter().filter(|m| m.is_in() && m.is_other_side()) {
                    for purpose in [Purpose::Control, Purpose::Service] {
                        found = found.or(self.choose(ctx, of.0, member.number, purpose)?);
                    }
                }
                // A conversation that is not answered yet has none; it comes with the answer.
                let Some((relay, given)) = found else { return Ok(Ticket::Wait) };
                (relay, given.permit, given.mac)
            }
            (RoleOptions::Customer, None) => return Err(CommandError::WrongRole),
        };
        let Some(up) = self.link(ctx.out, &LinkKey::anonymous(&relay)) else { return Ok(Ticket::Wait) };
        let create = new.to_frame(&permit, &mac.prove_blob(&up.name, &new));
        Ok(Ticket::Go(Box::new(Door { blobs: blobs_at(&relay), create, new, write_key })))
    }

    /// A business's permit for its own mailbox, of a grant that nobody else ever sees.
    fn own_permit(&self, ctx: &Ctx<'_, '_>) -> Result<Option<(String, Permit, PermitMac)>, CommandError> {
        let Some((id, mailbox)) = self.mailboxes.iter().find(|(_, mailbox)| mailbox.record.created) else {
            return Ok(None);
        };
        let permit = Permit {
            mailbox: *id,
            grant: GrantId::new(ctx.tx.random()),
            class: Class::Ordinary,
            expires: Permit::expiry_at(self.relay_now(ctx, *id) + OWN_PERMIT_SECS),
            rate: 1,
            max_kib: 1,
            tag: TagBlock::new(ctx.tx.random()),
        };
        let mac = MacRoot::new(mailbox.record.root.0).grant_key(&permit.grant).mac(&permit);
        Ok(Some((mailbox.record.relay.clone(), permit, mac)))
    }

    /// The relay has the whole file: it is said. `None`: it was cancelled meanwhile.
    pub fn uploaded(&mut self, ctx: &mut Ctx<'_, '_>, blob: &BlobId) -> Result<Option<Message>, CommandError> {
        let Some(record) = Self::upload_record(ctx, blob)? else { return Ok(None) };
        let attachment = attachment(ctx.tx.now_ms(), *blob, &record);
        let reply_to = record.reply_to.as_ref().map(|id| MessageId::new(**id));
        let said = self.send(
            ctx,
            ConversationId(record.conversation),
            &Draft::Attachment { attachment: Box::new(attachment), reply_to },
        );
        match said {
            Ok(message) => {
                ctx.tx.delete(Table::Uploads, blob.as_bytes());
                ctx.emit(Event::UploadEnded { conversation: ConversationId(record.conversation), upload: *blob })?;
                Ok(Some(message))
            }
            Err(e @ (CommandError::Store(_) | CommandError::Stopped | CommandError::Superseded)) => Err(e),
            Err(_) => self.upload_failed(ctx, blob, UploadFailure::NotSaid).map(|()| None),
        }
    }

    /// An upload does not go on.
    pub fn upload_failed(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        blob: &BlobId,
        why: UploadFailure,
    ) -> Result<(), CommandError> {
        let Some(mut record) = Self::upload_record(ctx, blob)? else { return Ok(()) };
        record.failed = Some(why);
        self.save_upload(ctx, blob, &record)
    }

    /// Tries an upload again that did not go on.
    pub fn retry_upload(&mut self, ctx: &mut Ctx<'_, '_>, blob: &BlobId) -> Result<(), CommandError> {
        let mut record = Self::upload_record(ctx, blob)?.ok_or(CommandError::UnknownMessage)?;
        record.failed = None;
        ctx.out.uploads.push(*blob);
        self.save_upload(ctx, blob, &record)
    }

    fn save_upload(&self, ctx: &mut Ctx<'_, '_>, blob: &BlobId, record: &UploadRecord) -> Result<(), CommandError> {
        let peer = self.known(ctx, ConversationId(record.conversation))?.peer;
        ctx.tx.put(Table::Uploads, blob.as_bytes(), Scope::Peer(peer), record)?;
        Ok(ctx.emit(Event::Upload(upload_view(*blob, record)))?)
    }

    /// Gives an upload up: nothing of it stays here, and at the relay only if that cannot be reached.
    pub fn cancel_upload(&mut self, ctx: &mut Ctx<'_, '_>, blob: &BlobId) -> Result<(), CommandError> {
        let record = Self::upload_record(ctx, blob)?.ok_or(CommandError::UnknownMessage)?;
        let conversation = ConversationId(record.conversation);
        let at = self.relay_of(ctx, conversation)?.map(|relay| (blobs_at(&relay), WriteKey::new(record.write_key.0)));
        ctx.tx.delete(Table::Uploads, blob.as_bytes());
        ctx.out.forgotten.push(Forgotten { blob: *blob, there: at });
        Ok(ctx.emit(Event::UploadEnded { conversation, upload: *blob })?)
    }

    /// What a message attaches, and where that is.
    pub fn attached(&self, ctx: &Ctx<'_, '_>, id: &MessageId) -> Result<(String, Attachment), CommandError> {
        let place = Self::place_of(ctx, None, id)?.ok_or(CommandError::UnknownMessage)?;
        let stored = Self::message_record(ctx, place)?;
        let attachment = attachment_in(&stored.content.0).filter(|_| !stored.deleted).ok_or(CommandError::Gone)?;
        let relay = self.relay_of(ctx, ConversationId(place.conversation))?.ok_or(CommandError::Gone)?;
        Ok((blobs_at(&relay), attachment))
    }

    /// Where a business's own blobs are.
    pub fn own_blobs(&self) -> Option<String> {
        self.mailboxes.values().next().map(|mailbox| blobs_at(&mailbox.record.relay))
    }

    /// The relay of a conversation: that of the business's mailbox, where its customers have theirs too. Blobs are fetched from nowhere else (DEV-02).
    fn relay_of(&self, ctx: &Ctx<'_, '_>, of: ConversationId) -> Result<Option<String>, CommandError> {
        let mailbox = MailboxId::new(*self.known(ctx, of)?.mailbox);
        Ok(self.mailboxes.get(&mailbox).map(|mailbox| mailbox.record.relay.clone()))
    }
}

/// The parts of what a message attached are not wanted any more.
pub(super) fn forget_attached(out: &mut Effects, content: &[u8]) {
    out.forgotten.extend(attachment_in(content).map(|attachment| Forgotten { blob: attachment.blob, there: None }));
}

fn attachment_in(content: &[u8]) -> Option<Attachment> {
    match bulla_e2ee::content::Content::decode(content).ok()?.body {
        Body::Attachment(attachment) => Some(*attachment),
        Body::Interactive(interactive) => interactive.file,
        _ => None,
    }
}

/// `ws://relay/v1/ws` has its blobs at `http://relay/v1/blobs`.
fn blobs_at(relay: &str) -> String {
    let base = relay.strip_suffix("/ws").unwrap_or(relay);
    let base = match (base.strip_prefix("wss://"), base.strip_prefix("ws://")) {
        (Some(rest), _) => format!("https://{rest}"),
        (None, Some(rest)) => format!("http://{rest}"),
        (None, None) => base.to_owned(),
    };
    format!("{base}/blobs")
}

fn new_blob(blob: BlobId, record: &UploadRecord) -> NewBlob {
    NewBlob {
        blob,
        bytes: sealed_len(record.size),
        read_hash: AttachmentKey::from_bytes(record.key.0).read_key().hash(),
        write_hash: WriteKey::new(record.write_key.0).hash(),
    }
}

/// When what is uploaded now goes, in whole days, and rather too early than too late.
pub(super) fn expires(now_ms: u64) -> u32 {
    let day = now_ms / 1_000 / DAY_SECS;
    u32::try_from((day + u64::from(BLOB_DAYS)) * DAY_SECS).unwrap_or(u32::MAX)
}

fn attachment(now_ms: u64, blob: BlobId, record: &UploadRecord) -> Attachment {
    let preview = record.preview.as_ref();
    Attachment {
        blob,
        key: AttachmentKey::from_bytes(record.key.0),
        size: record.size,
        digest: *record.digest,
        media_type: record.media_type.clone(),
        name: record.name.clone(),
        expires: expires(now_ms),
        caption: record.caption.clone(),
        preview: preview.map(|(media_type, bytes)| Preview { media_type: media_type.clone(), bytes: bytes.to_vec() }),
    }
}

fn upload_view(blob: BlobId, record: &UploadRecord) -> Upload {
    Upload {
        id: blob,
        conversation: ConversationId(record.conversation),
        file: FileCard::from(&attachment(record.created_ms, blob, record)),
        created_ms: record.created_ms,
        failed: record.failed,
        sent: 0,
        of: sealed_len(record.size),
    }
}

/// What stands on one line, within the limit of a name.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String = text.chars().filter(|c| !c.is_control()).collect();
    while line.len() > limits::NAME {
        line.pop();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_blobs_are_beside_its_socket() {
        assert_eq!(blobs_at("wss://relay.example/v1/ws"), "https://relay.example/v1/blobs");
        assert_eq!(blobs_at("ws://127.0.0.1:8470/v1/ws"), "http://127.0.0.1:8470/v1/blobs");
    }
}
