//! Files, from one side's disk to the other's, through everything that stops them on the way.

use bulla_client::endpoint::{Endpoint, RoleOptions};
use bulla_client::event::ConversationId;
use bulla_client::event::{Draft, Event, Message, Shown, Status};
use bulla_client::media::{Attachment, FileCard, MediaError, NewAttachment, Preview, Upload};
use bulla_e2ee::attachment::AttachmentError;
use bulla_e2ee::content::MessageId;

use crate::world::{Actor, World};

const MIB: usize = 1024 * 1024;

fn file(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 4_099) as u8).collect()
}

fn named(name: &str, size: usize) -> NewAttachment {
    NewAttachment { name: name.into(), media_type: "image/png".into(), size: size as u64, ..NewAttachment::default() }
}

async fn attach(endpoint: &Endpoint, to: ConversationId, new: NewAttachment, bytes: &[u8]) -> Upload {
    let mut writer = endpoint.attach(to, new).await.unwrap();
    for piece in bytes.chunks(100_000) {
        writer.write(piece.to_vec()).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn open(endpoint: &Endpoint, message: MessageId) -> Result<Vec<u8>, MediaError> {
    let mut reader = endpoint.open(message).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn card(message: &Message) -> &FileCard {
    match &message.shown {
        Shown::File(card) => card,
        other => panic!("not a file: {other:?}"),
    }
}

async fn ended(actor: &mut Actor, upload: &Upload) {
    let is = |e: &Event| matches!(e, Event::UploadEnded { upload: id, .. } if *id == upload.id).then_some(());
    actor.wait("end of the upload", is).await;
}

/// Two who have spoken, and their conversation at each.
async fn talking(world: &World) -> (Actor, ConversationId, Actor, ConversationId) {
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let hello = Draft::Text { body: "hello".into(), reply_to: None };
    let hello = alice.endpoint.send(conversation.id, hello).await.unwrap();
    let there = cortado.incoming().await.conversation;
    alice.status(hello.id, Status::Sent).await;
    (alice, conversation.id, cortado, there)
}

/// A business's file, sealed, brought to the relay and named.
async fn put(business: &Endpoint, name: &str, bytes: &[u8]) -> Attachment {
    let mut writer = business.seal().unwrap();
    for piece in bytes.chunks(1 << 20) {
        writer.write(piece.to_vec()).await.unwrap();
    }
    let sealed = writer.finish().await.unwrap();
    business.put(sealed.clone()).await.unwrap();
    Attachment {
        blob: sealed.blob,
        key: sealed.key,
        size: sealed.size,
        digest: sealed.digest,
        media_type: "application/pdf".into(),
        name: name.into(),
        expires: 0,
        caption: String::new(),
        preview: None,
    }
}

#[tokio::test]
async fn a_picture_goes_both_ways_and_is_sealed_on_the_way() {
    let world = World::new().await;
    let (mut alice, to, mut cortado, there) = talking(&world).await;
    let bytes = [b"a canary in the picture".as_slice(), &file(2 * MIB + 77)].concat();
    let preview = Preview { media_type: "image/webp".into(), bytes: file(9_000) };
    let new =
        NewAttachment { caption: "for you".into(), preview: Some(preview.clone()), ..named("cup.png", bytes.len()) };
    let upload = attach(&alice.endpoint, to, new, &bytes).await;
    assert_eq!((upload.file.name.as_str(), upload.failed), ("cup.png", None));
    let heard = cortado.incoming().await;
    let shown = card(&heard);
    assert_eq!((shown.name.as_str(), shown.caption.as_str(), shown.size), ("cup.png", "for you", bytes.len() as u64));
    assert_eq!(shown.preview.as_ref(), Some(&preview));
    assert_eq!(open(&cortado.endpoint, heard.id).await.unwrap(), bytes);
    ended(&mut alice, &upload).await;
    assert!(alice.endpoint.uploads(to).await.unwrap().is_empty());
    alice.status(heard.id, Status::Sent).await;
    // What moved was told: it only grows, and ends with all of it.
    let moved = alice.seen.iter().filter_map(|e| match e {
        Event::UploadMoved { sent, .. } => Some(*sent),
        _ => None,
    });
    let moved: Vec<u64> = moved.collect();
    assert!(moved.is_sorted() && moved.len() == 3, "{moved:?}");
    assert_eq!(moved.last(), Some(&upload.of));

    let invoice = [b"another canary".as_slice(), &file(MIB)].concat();
    let attachment = put(&cortado.endpoint, "invoice.pdf", &invoice).await;
    let draft = |reply_to| Draft::Attachment { attachment: Box::new(attachment.clone()), reply_to };
    // Said twice, uploaded once.
    let first = cortado.endpoint.send(there, draft(Some(heard.id))).await.unwrap();
    let again = cortado.endpoint.send(there, draft(None)).await.unwrap();
    for id in [first.id, again.id] {
        let shown = alice.incoming().await;
        assert_eq!(shown.id, id);
        assert_eq!(open(&alice.endpoint, id).await.unwrap(), invoice);
    }
    assert_eq!(blobs(&world).len(), 2, "one of each side's");
    for canary in [b"a canary in the picture".as_slice(), b"another canary", b"cup.png", b"invoice.pdf"] {
        for folder in ["relay", "Alice", "cortado"] {
            assert!(!holds(&world.folder.path().join(folder), canary), "{folder}");
        }
    }
}

fn blobs(world: &World) -> Vec<std::path::PathBuf> {
    let folder = world.folder.path().join("relay/blobs");
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn holds(folder: &std::path::Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let found = |bytes: Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle);
        if path.is_dir() { holds(&path, needle) } else { std::fs::read(&path).is_ok_and(found) }
    })
}

fn media(actor: &Actor) -> usize {
    std::fs::read_dir(actor.folder.join("media")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn what_was_attached_without_a_relay_arrives_once_also_after_a_restart() {
    let mut world = World::new().await;
    let (alice, to, mut cortado, _) = talking(&world).await;
    world.stop_relay().await;
    let bytes = file(3 * MIB);
    let upload = attach(&alice.endpoint, to, named("a.png", bytes.len()), &bytes).await;
    alice.endpoint.shutdown().await;
    drop(alice);

    let mut alice = world.start("Alice", RoleOptions::Customer);
    let waiting = alice.endpoint.uploads(to).await.unwrap();
    assert_eq!(waiting.iter().map(|upload| upload.id).collect::<Vec<_>>(), [upload.id]);
    world.start_relay().await;
    let heard = cortado.incoming().await;
    assert_eq!(open(&cortado.endpoint, heard.id).await.unwrap(), bytes);
    ended(&mut alice, &upload).await;
    // It stays with who sent it.
    assert!(alice.endpoint.is_here(heard.id).await.unwrap());
    alice.endpoint.send(to, Draft::Text { body: "after it".into(), reply_to: None }).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("after it".into()), "once");
}

#[tokio::test]
async fn what_is_cancelled_is_never_said_and_leaves_nothing() {
    let mut world = World::new().await;
    let (mut alice, to, mut cortado, _) = talking(&world).await;
    world.stop_relay().await;
    let upload = attach(&alice.endpoint, to, named("a.png", MIB), &file(MIB)).await;
    assert_eq!(media(&alice), 1);
    alice.endpoint.cancel_upload(upload.id).await.unwrap();
    ended(&mut alice, &upload).await;
    assert!(alice.endpoint.uploads(to).await.unwrap().is_empty());
    world.start_relay().await;
    alice.endpoint.send(to, Draft::Text { body: "after it".into(), reply_to: None }).await.unwrap();
    assert_eq!(cortado.incoming().await.shown, Shown::Text("after it".into()));
    // Removed beside everything else: the message went to the relay and back meanwhile.
    while media(&alice) > 0 {
        tokio::task::yield_now().await;
    }
    // And one whose writer goes before its end.
    let mut writer = alice.endpoint.attach(to, named("b.png", 3 * MIB)).await.unwrap();
    writer.write(file(2 * MIB)).await.unwrap();
    drop(writer);
    while media(&alice) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(alice.endpoint.uploads(to).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_fetched_by_itself_and_what_was_fetched_is_here() {
    let mut world = World::new().await;
    let (mut alice, _, cortado, there) = talking(&world).await;
    let bytes = file(2 * MIB + 5);
    let attachment = put(&cortado.endpoint, "invoice.pdf", &bytes).await;
    assert_eq!(media(&cortado), 0, "a business keeps nothing of it");
    let draft = Draft::Attachment { attachment: Box::new(attachment), reply_to: None };
    let said = cortado.endpoint.send(there, draft).await.unwrap();
    alice.incoming().await;
    assert_eq!(media(&alice), 0);
    assert!(!alice.endpoint.is_here(said.id).await.unwrap());

    // Whoever stops in the middle has what came, and goes on from there.
    let mut reader = alice.endpoint.open(said.id).await.unwrap();
    reader.next().await.unwrap().unwrap();
    drop(reader);
    assert_eq!(open(&alice.endpoint, said.id).await.unwrap(), bytes);
    assert!(alice.endpoint.is_here(said.id).await.unwrap());
    world.stop_relay().await;
    assert_eq!(open(&alice.endpoint, said.id).await.unwrap(), bytes, "without the relay");

    // What is taken back goes from here too.
    world.start_relay().await;
    cortado.endpoint.send(there, Draft::Delete { of: said.id }).await.unwrap();
    alice.wait("deletion", |e| matches!(e, Event::Changed(m) if m.deleted).then_some(())).await;
    while media(&alice) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(open(&alice.endpoint, said.id).await.is_err());
}

#[tokio::test]
async fn a_file_that_is_gone_or_was_changed_says_so() {
    let world = World::some_days_ago(40).await;
    let (mut alice, _, cortado, there) = talking(&world).await;
    let bytes = file(MIB);
    let mut said = Vec::new();
    for name in ["changed.pdf", "gone.pdf"] {
        let attachment = Box::new(put(&cortado.endpoint, name, &bytes).await);
        said.push(cortado.endpoint.send(there, Draft::Attachment { attachment, reply_to: None }).await.unwrap().id);
        alice.incoming().await;
        if name == "changed.pdf" {
            let part = blobs(&world)[0].join("0");
            let mut sealed = std::fs::read(&part).unwrap();
            sealed[500_000] ^= 1;
            std::fs::write(&part, sealed).unwrap();
        }
    }
    let changed = open(&alice.endpoint, said[0]).await.unwrap_err();
    assert!(matches!(changed, MediaError::File(AttachmentError::Refused)), "{changed}");
    assert_eq!(media(&alice), 0, "what does not open is not kept");
    world.clock.advance(32 * 86_400_000);
    let gone = open(&alice.endpoint, said[1]).await.unwrap_err();
    assert!(matches!(gone, MediaError::Gone), "{gone}");
    assert!(gone.to_string().contains("30 days"));
}

#[tokio::test]
async fn what_cannot_be_attached_is_refused_before_it_is_sealed() {
    use bulla_client::endpoint::CommandError;
    let world = World::new().await;
    let (alice, to, ..) = talking(&world).await;
    let refused = async |new: NewAttachment| match alice.endpoint.attach(to, new).await {
        Err(MediaError::Command(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(named("a", 100 * MIB + 1)).await, CommandError::TooLarge { mib: 100 }));
    let caption = NewAttachment { caption: "x".repeat(1_025), ..named("a", 1) };
    assert!(matches!(refused(caption).await, CommandError::TooLong { limit: 1_024 }));
    let reply = NewAttachment { reply_to: Some(MessageId::new([1; 32])), ..named("a", 1) };
    assert!(matches!(refused(reply).await, CommandError::UnknownMessage));
    let nowhere = alice.endpoint.attach(ConversationId(99), named("a", 1)).await;
    assert!(matches!(nowhere, Err(MediaError::Command(CommandError::UnknownConversation))));

    // A file that is longer than was said, or shorter.
    let mut writer = alice.endpoint.attach(to, named("a", 10)).await.unwrap();
    writer.write(file(11)).await.unwrap();
    assert!(matches!(writer.finish().await, Err(MediaError::File(AttachmentError::Length))));
    let mut writer = alice.endpoint.attach(to, named("a", 10)).await.unwrap();
    writer.write(file(9)).await.unwrap();
    assert!(matches!(writer.finish().await, Err(MediaError::File(AttachmentError::Length))));
    let empty = alice.endpoint.attach(to, named("empty", 0)).await.unwrap().finish().await.unwrap();
    assert_eq!(empty.file.size, 0);
}
