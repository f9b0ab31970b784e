//! Golden fixtures of what an endpoint stores: every later version must load them. `BULLA_WRITE_FIXTURES=1` writes those that are missing;
//! one that is there is never written again.

use std::path::{Path, PathBuf};

use bulla_client::endpoint::RoleOptions;
use bulla_client::engine::record::*;
use bulla_client::event::{ConversationState, Direction, Draft, Failure, Message, Shown, Status};
use bulla_client::media::UploadFailure;
use bulla_client::store::keyfile;
use rand_core::OsRng;

use crate::world::World;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// Whether a fixture is to be made.
fn makes(fixture: &Path) -> bool {
    std::env::var_os("BULLA_WRITE_FIXTURES").is_some() && !fixture.exists()
}

fn check<T>(name: &str, sample: &T)
where
    T: minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>,
{
    let path = folder().join(format!("{name}.cbor"));
    if makes(&path) {
        std::fs::create_dir_all(folder()).unwrap();
        std::fs::write(&path, minicbor::to_vec(sample).unwrap()).unwrap();
    }
    let stored = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let loaded: T = minicbor::decode(&stored).unwrap_or_else(|e| panic!("{name} does not load: {e}"));
    assert_eq!(
        minicbor::to_vec(&loaded).unwrap(),
        minicbor::to_vec(sample).unwrap(),
        "{name} means something else now"
    );
}

#[test]
fn every_stored_record_loads() {
    let (id, hash, secret) = ([1; 16].into(), [2; 32].into(), Secret([3; 32]));
    let endpoint = EndpointRecord {
        incarnation: 7,
        nonce: id,
        tag_key: secret.clone(),
        next_conversation: 8,
        next_peer: 9,
        next_grant: 10,
        identity: Some(secret.clone()),
        bundle: 11,
        contact_grant: Some(id),
        granted: None,
        code: None,
    };
    check("endpoint", &endpoint);
    check("endpoint-code", &EndpointRecord { code: Some(SecretVec(vec![29; 16])), ..endpoint });
    let mailbox = MailboxRecord {
        relay: "ws://relay.test/v1/ws".into(),
        owner: secret.clone(),
        root: secret.clone(),
        created: true,
        offset: -3,
        instance: Some(id),
    };
    check("mailbox", &mailbox);
    let hello = HelloRecord { digest: hash, reply_key: SecretVec(vec![4; 5]) };
    let conversation = ConversationRecord {
        peer: 1,
        state: ConversationState::Greeting,
        business: hash,
        peer_key: hash,
        user_id: "ZZ.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".into(),
        mailbox: id,
        peer_name: "Cortado Coffee".into(),
        handle: "cortado".into(),
        readers: vec![("Team".into(), "agents".into())],
        next_order: 2,
        next_sequence: 3,
        counter: 4,
        heard_counter: 5,
        last_heard_ms: 6,
        last_said_ms: 7,
        unread: 8,
        read_through: 9,
        control_given: 10,
        pseudonym: Some(secret.clone()),
        own_name: Some("Alice".into()),
        name_told: true,
        reference: Some("flyer".into()),
        bundle: Some(vec![5; 6].into()),
        hello: Some(hello),
        link: Some("https://shop.example/@cortado".into()),
        endpoint: None,
        device: None,
        outdated: None,
        code: None,
        past: None,
        push_key: None,
        identity: None,
        consents: None,
        blocked: None,
    };
    check("conversation", &conversation);
    let decision = DecisionRecord { purpose: 3, given: true, at_ms: 4 };
    let decided = ConversationRecord { consents: Some(vec![decision]), blocked: Some(true), ..conversation.clone() };
    check("conversation-decided", &decided);
    check("revoked", &RevokedRecord { told: Some(id) });
    check("knock", &KnockRecord { mailbox: id, tag: id, serial: 5, envelope: vec![6; 7].into() });
    let linked = ConversationRecord {
        pseudonym: None,
        endpoint: Some("abcdefgh".into()),
        device: Some(SecretVec(vec![24; 25])),
        ..conversation
    };
    check("conversation-linked", &linked);
    let outdated = ConversationRecord { outdated: Some(true), ..linked };
    check("conversation-outdated", &outdated);
    let past = PastRecord {
        floor: 1,
        next: vec![2; 8].into(),
        asked: Some(3),
        asked_ms: 4,
        done: true,
        below: true,
        empty: 5,
        sought: true,
    };
    let code = Some(SecretVec(vec![29; 16]));
    check("conversation-recovered", &ConversationRecord { code, past: Some(past), ..outdated });
    check("peer", &PeerRecord { scope: 1, conversation: 2, name: "Alice".into() });
    let message = MessageRecord {
        id: hash,
        direction: Direction::Incoming,
        content: SecretVec(vec![6; 7]),
        sent_ms: 1,
        stored_ms: 2,
        status: Status::Failed,
        failure: Some(Failure::NoReceipt),
        edited: Some("edited".into()),
        deleted: true,
        reactions: vec![(Direction::Outgoing, "👍".into(), hash)],
        breach: true,
        withdraws_from: Some(hash),
        by: None,
        purpose: None,
        inline: false,
    };
    check("message", &message);
    check("message-by", &MessageRecord { by: Some("abcdefgh".into()), ..message.clone() });
    check("message-purpose", &MessageRecord { purpose: Some(3), ..message });
    let place = Place { conversation: 1, order: 2 };
    check("place", &place);
    let sealed = SealedRecord {
        send_id: id,
        relay: "ws://relay.test/v1/ws".into(),
        permit: vec![7; 58].into(),
        mac: secret.clone(),
        envelope: vec![8; 9].into(),
        inner: Some(vec![9; 10].into()),
        kind: None,
        wrapped: None,
    };
    let wrapped = Some(WrapRecord { key: secret.clone(), nonce: [28; 24].into() });
    check("sealed-wrapped", &SealedRecord { envelope: Vec::new().into(), wrapped, ..sealed.clone() });
    check("sealed-kind", &SealedRecord { kind: Some(3), ..sealed.clone() });
    let outbox = OutboxRecord {
        message: Some(place),
        content: SecretVec(vec![10; 11]),
        purpose: 1,
        until_ms: Some(12),
        sealed: Some(sealed),
        body: None,
        only: None,
    };
    check("outbox", &outbox);
    let body = Some(BodyRecord { kind: 4, bytes: SecretVec(vec![26; 27]) });
    check("outbox-body", &OutboxRecord { body, only: Some(2), ..outbox });
    check(
        "permit",
        &PermitRecord { relay: "ws://relay.test/v1/ws".into(), given: SecretVec(vec![13; 14]), void: None },
    );
    let grant = GrantRecord {
        conversation: 1,
        purpose: 4,
        grant: id,
        mailbox: id,
        envelope_key: secret.clone(),
        revoked: true,
    };
    check("grant", &grant);
    let bundle = BundleRecord {
        bundle: vec![15; 16].into(),
        keys: SecretVec(vec![17; 18]),
        made_ms: 19,
        published: true,
        suites: None,
    };
    check("bundle", &bundle);
    check("bundle-suites", &BundleRecord { suites: Some(vec![0x4f, 1]), ..bundle });
    check("receipts", &ReceiptsRecord { delivered: vec![hash], read: vec![hash], due_ms: 20 });
    let group = GroupRecord {
        said: 1,
        heard: 2,
        broken: Some(3),
        unanswered: true,
        renewed_ms: 4,
        spare_ms: 5,
        retry_ms: 6,
        tries: 7,
        left: vec![vec![8; 16].into()],
        key_change: Some(hash),
        joined: 9,
        began: Some(1),
        untold: Some(true),
        lost_from: None,
        suite: None,
        floor: None,
        offered: None,
        elsewhere: None,
    };
    check("group", &group);
    let lost = GroupRecord { lost_from: Some(10), ..group };
    check("group-lost", &lost);
    let (suite, offered) = (Some(0x4f), Some(vec![0x4f, 1]));
    let suites = GroupRecord { suite, floor: suite, offered, ..lost };
    check("group-suites", &suites);
    check("group-elsewhere", &GroupRecord { elsewhere: Some(vec![vec![30; 16].into()]), ..suites });
    let claim = ClaimRecord {
        slot: hash,
        sealed: vec![1; 2].into(),
        commit: vec![3; 4].into(),
        epoch: 5,
        welcome: Some(vec![6; 7].into()),
    };
    check("claim", &claim);
    check("held", &HeldRecord { purpose: 1, mls: vec![2; 3].into(), stored_ms: 4 });
    check("spare", &SpareRecord { keys: SecretVec(vec![1; 2]), made_ms: 3, used_ms: Some(4), after: None });
    let member = MemberRecord {
        own_side: true,
        endpoint: "abcdefgh".into(),
        out: true,
        leaving: true,
        gave: true,
        suites: None,
        spoken_until: None,
        turned_away: None,
        went_back: None,
    };
    check("member", &member);
    let suites = MemberRecord { suites: Some(vec![1]), spoken_until: Some(10), ..member };
    check("member-suites", &suites);
    let turned_away = MemberRecord { turned_away: Some(true), ..suites };
    check("member-turned-away", &turned_away);
    check("member-went-back", &MemberRecord { went_back: Some(11), ..turned_away });
    check("invitation", &InvitationRecord { until_ms: 1 });
    let upload = UploadRecord {
        conversation: 1,
        key: secret.clone(),
        write_key: secret.clone(),
        size: 2,
        digest: hash,
        media_type: "image/png".into(),
        name: "cup.png".into(),
        caption: "for you".into(),
        preview: Some(("image/webp".into(), vec![4; 3].into())),
        reply_to: Some(hash),
        created_ms: 5,
        failed: Some(UploadFailure::Refused),
    };
    check("upload", &upload);
    check("unreadable", &UnreadableRecord { reason: "why".into(), envelope: vec![21; 22].into(), stored_ms: 23 });
}

/// Copies a stored endpoint to where it may be changed.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["store.sqlite", "key"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// A customer who has talked to a business, as this version stores it.
async fn write_customer(fixture: &Path) {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Alice", &link).await;
    let say = |body: &str| Draft::Text { body: body.into(), reply_to: None };
    let hello = alice.endpoint.send(conversation.id, say("hello from version 1")).await.unwrap();
    let heard = cortado.incoming().await;
    cortado.endpoint.send(heard.conversation, say("hello yourself")).await.unwrap();
    alice.incoming().await;
    alice.status(hello.id, Status::Delivered).await;
    alice.endpoint.shutdown().await;
    copy(&alice.folder, fixture);
}

/// `customer` has OpenMLS's values in CBOR and each message in one row, `customer-packed` in MessagePack and beside what it says.
#[tokio::test]
async fn a_whole_endpoint_of_version_1_loads() {
    for name in ["customer", "customer-packed"] {
        let fixture = folder().join(name);
        if makes(&fixture) {
            write_customer(&fixture).await;
        }
        let temporary = tempfile::tempdir().unwrap();
        copy(&fixture, temporary.path());
        let root = keyfile::load_or_create(&temporary.path().join("key"), None, &mut OsRng).unwrap();
        let options = bulla_client::endpoint::Options {
            role: RoleOptions::Customer,
            suites: bulla_e2ee::suite::Suites::DEFAULT,
            clock: std::sync::Arc::new(bulla_client::clock::SystemClock),
            restored: false,
        };
        let (endpoint, _events) = bulla_client::endpoint::Endpoint::start(
            temporary.path(),
            root,
            options,
            Box::new(bulla_client::endpoint::NoProjector),
        )
        .unwrap();
        let conversations = endpoint.conversations().await.unwrap();
        assert_eq!(conversations.len(), 1);
        assert_eq!(conversations[0].peer_name, "Cortado Coffee");
        assert_eq!(conversations[0].state, ConversationState::Open);
        let of = conversations[0].id;
        let shown = |messages: &[Message]| -> Vec<Shown> { messages.iter().map(|m| m.shown.clone()).collect() };
        let said = [Shown::Text("hello from version 1".into()), Shown::Text("hello yourself".into())];
        let messages = endpoint.messages(of, None, 10).await.unwrap();
        assert_eq!(shown(&messages), said, "{name}");
        // Its MLS state loads too.
        assert!(endpoint.epoch(of).await.unwrap().0 > 0, "{name}");
        // It can say more, as far as the outbox; and what a message says outlives a change of its row.
        let more = Draft::Text { body: "and more".into(), reply_to: Some(messages[1].id) };
        endpoint.send(of, more).await.unwrap();
        endpoint.mark_read(messages[1].id).await.unwrap();
        let after = endpoint.messages(of, None, 10).await.unwrap();
        assert_eq!(after[1].status, Status::Read, "{name}");
        assert_eq!(shown(&after[..2]), said, "{name}");
        endpoint.shutdown().await;
    }
}
