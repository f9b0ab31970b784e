//! Blobs over plain HTTP: made under a permit, written and read in parts, extended, deleted, expired.

use bulla_protocol::blob::{NewBlob, ReadKey, WriteKey};
use bulla_protocol::id::BlobId;
use bulla_protocol::limits::{BLOB_DAYS, BLOB_GRANT_BYTES, BLOB_PART, MAX_BLOB};
use bulla_protocol::permit::{Class, RelayName};
use bulla_relay::Clock as _;
use prost::Message as _;
use reqwest::{Client, Method, Response, StatusCode};

use crate::common::{Given, NAME, START, World};

const DAY: u64 = 86_400;

pub(crate) struct Blob {
    id: BlobId,
    read: ReadKey,
    write: WriteKey,
    bytes: u64,
}

impl Blob {
    pub(crate) fn new(seed: u8, bytes: u64) -> Self {
        Self { id: BlobId::new([seed; 16]), read: ReadKey::new([seed; 32]), write: WriteKey::new([!seed; 32]), bytes }
    }

    fn new_blob(&self) -> NewBlob {
        NewBlob { blob: self.id, bytes: self.bytes, read_hash: self.read.hash(), write_hash: self.write.hash() }
    }

    fn request(&self, given: &Given) -> Vec<u8> {
        let (new, name) = (self.new_blob(), RelayName::new(NAME).unwrap());
        new.to_frame(&given.permit, &given.mac.prove_blob(&name, &new)).encode_to_vec()
    }

    async fn try_create(&self, world: &World, given: &Given) -> Response {
        post(world, self.request(given)).await
    }

    pub(crate) async fn create(&self, world: &World, given: &Given) {
        assert_eq!(self.try_create(world, given).await.status(), StatusCode::CREATED);
    }

    fn url(&self, world: &World, end: &str) -> String {
        format!("{}/{}{end}", at(world), self.id.to_hex())
    }

    async fn ask(&self, world: &World, method: Method, end: &str, key: &str, body: Vec<u8>) -> Response {
        client().request(method, self.url(world, end)).bearer_auth(key).body(body).send().await.unwrap()
    }

    async fn put(&self, world: &World, part: u32, body: Vec<u8>) -> StatusCode {
        self.ask(world, Method::PUT, &format!("/{part}"), &self.write.to_hex(), body).await.status()
    }

    async fn get(&self, world: &World, part: u32) -> Result<Vec<u8>, StatusCode> {
        let answer = self.ask(world, Method::GET, &format!("/{part}"), &self.read.to_hex(), Vec::new()).await;
        if answer.status() == StatusCode::OK {
            Ok(answer.bytes().await.unwrap().to_vec())
        } else {
            Err(answer.status())
        }
    }

    async fn extend(&self, world: &World) -> StatusCode {
        self.ask(world, Method::POST, "/extend", &self.write.to_hex(), Vec::new()).await.status()
    }

    fn folder(&self, world: &World) -> std::path::PathBuf {
        world.config.data.join("blobs").join(self.id.to_hex())
    }
}

fn client() -> Client {
    // The first call decides for the process; a later one finds that it has been done.
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::builder().build().unwrap()
}

fn at(world: &World) -> String {
    format!("http://{}/v1/blobs", world.relay.as_ref().unwrap().addr())
}

async fn post(world: &World, body: Vec<u8>) -> Response {
    client().post(at(world)).body(body).send().await.unwrap()
}

fn bytes(len: u64) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn a_blob_is_written_and_read_in_parts_also_after_a_restart() {
    let mut world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let blob = Blob::new(1, BLOB_PART + 5);
    blob.create(&world, &mailbox.permit()).await;
    let (first, last) = (bytes(BLOB_PART), b"later".to_vec());
    // In any order; a part is answered once it is on stable storage.
    assert_eq!(blob.put(&world, 1, last.clone()).await, StatusCode::NO_CONTENT);
    assert_eq!(blob.get(&world, 0).await, Err(StatusCode::NOT_FOUND));
    world.restart().await;
    let write = blob.write.to_hex();
    let there = |part| blob.ask(&world, Method::HEAD, part, &write, Vec::new());
    assert_eq!(there("/1").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(there("/0").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(blob.put(&world, 0, first.clone()).await, StatusCode::NO_CONTENT);
    assert_eq!(blob.get(&world, 0).await, Ok(first.clone()));
    assert_eq!(blob.get(&world, 1).await, Ok(last));
    assert_eq!(blob.get(&world, 2).await, Err(StatusCode::NOT_FOUND));
    // What is written stays: a reader may be in the middle of it.
    assert_eq!(blob.put(&world, 0, vec![0; first.len()]).await, StatusCode::NO_CONTENT);
    assert_eq!(blob.get(&world, 0).await, Ok(first));
    // The same request again is answered as made before, another under the same name refused.
    assert_eq!(blob.try_create(&world, &mailbox.permit()).await.status(), StatusCode::OK);
    let other = Blob { write: WriteKey::new([9; 32]), ..Blob::new(1, BLOB_PART + 5) };
    assert_eq!(other.try_create(&world, &mailbox.permit()).await.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn only_keys_open_a_blob_and_each_opens_its_own_door() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let blob = Blob::new(1, 4);
    blob.create(&world, &mailbox.permit()).await;
    assert_eq!(blob.put(&world, 0, b"data".to_vec()).await, StatusCode::NO_CONTENT);
    let (read, write, other) = (blob.read.to_hex(), blob.write.to_hex(), ReadKey::new([2; 32]).to_hex());
    for (method, end, wrong) in [
        (Method::GET, "/0", &write),
        (Method::GET, "/0", &other),
        (Method::HEAD, "/0", &other),
        (Method::PUT, "/0", &read),
        (Method::POST, "/extend", &read),
        (Method::DELETE, "", &read),
        (Method::DELETE, "", &"not a key".to_owned()),
    ] {
        let answer = blob.ask(&world, method.clone(), end, wrong, b"data".to_vec()).await;
        // As if there were no such blob.
        let unknown = Blob::new(7, 4).ask(&world, method, end, wrong, b"data".to_vec()).await;
        assert_eq!((answer.status(), unknown.status()), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND), "{end}");
        assert_eq!(answer.headers().keys().collect::<Vec<_>>(), unknown.headers().keys().collect::<Vec<_>>());
    }
    let without = client().get(blob.url(&world, "/0")).send().await.unwrap();
    assert_eq!(without.status(), StatusCode::NOT_FOUND);
    assert_eq!(blob.ask(&world, Method::HEAD, "/0", &read, Vec::new()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(blob.get(&world, 0).await, Ok(b"data".to_vec()));
}

#[tokio::test]
async fn every_permit_that_does_not_count_gets_one_answer() {
    let world = World::start().await;
    let (mailbox, mut owner) = world.mailbox(1).await;
    let blob = Blob::new(1, 4);
    let good = mailbox.permit();
    let expired = mailbox.given(Class::Ordinary, |permit| permit.expires = (START / 21_600) as u32);
    let forged = Given { mac: crate::common::Mailbox::new(2).permit().mac, ..good.clone() };
    let nobodys = crate::common::Mailbox::new(3).permit();
    for (what, given) in
        [("expired", expired), ("forged", forged), ("nobody's", nobodys), ("contact", mailbox.contact())]
    {
        assert_eq!(blob.try_create(&world, &given).await.status(), StatusCode::FORBIDDEN, "{what}");
    }
    // The proof is for this blob alone.
    let mut taken = bulla_protocol::frame::CreateBlob::decode(&blob.request(&good)[..]).unwrap();
    taken.bytes += 1;
    assert_eq!(post(&world, taken.encode_to_vec()).await.status(), StatusCode::FORBIDDEN);
    blob.create(&world, &good).await;
    owner.revoke(&mailbox, good.permit.grant).await;
    assert_eq!(Blob::new(2, 4).try_create(&world, &good).await.status(), StatusCode::FORBIDDEN, "revoked");
}

#[tokio::test]
async fn what_is_malformed_or_too_large_is_refused() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let given = mailbox.permit();
    assert_eq!(post(&world, b"not a frame".to_vec()).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(post(&world, Vec::new()).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(post(&world, vec![0; 100_000]).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(Blob::new(1, 0).try_create(&world, &given).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(Blob::new(1, MAX_BLOB + 1).try_create(&world, &given).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let mut short = bulla_protocol::frame::CreateBlob::decode(&Blob::new(1, 4).request(&given)[..]).unwrap();
    short.read_hash.pop();
    assert_eq!(post(&world, short.encode_to_vec()).await.status(), StatusCode::BAD_REQUEST);

    let blob = Blob::new(1, 4);
    blob.create(&world, &given).await;
    for wrong in [b"".to_vec(), b"dat".to_vec(), b"data!".to_vec(), bytes(BLOB_PART + 1)] {
        assert_eq!(blob.put(&world, 0, wrong).await, StatusCode::BAD_REQUEST);
    }
    assert_eq!(blob.put(&world, 1, b"data".to_vec()).await, StatusCode::NOT_FOUND);
    let (write, long) = (blob.write.to_hex(), "/4294967296");
    let answer = blob.ask(&world, Method::PUT, long, &write, b"data".to_vec()).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(blob.put(&world, 0, b"data".to_vec()).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_blob_goes_when_its_time_is_over_and_nothing_of_it_stays() {
    let world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let (kept, gone) = (Blob::new(1, 13), Blob::new(2, 13));
    for blob in [&kept, &gone] {
        blob.create(&world, &mailbox.permit()).await;
        assert_eq!(blob.put(&world, 0, b"sealed canary".to_vec()).await, StatusCode::NO_CONTENT);
    }
    let days = |days: u32| {
        let to = START + u64::from(days) * DAY;
        world.clock.advance(to - world.clock.unix_secs());
    };
    days(BLOB_DAYS);
    assert_eq!(gone.get(&world, 0).await, Ok(b"sealed canary".to_vec()));
    assert_eq!(kept.extend(&world).await, StatusCode::NO_CONTENT);
    days(BLOB_DAYS + 1);
    assert_eq!(gone.get(&world, 0).await, Err(StatusCode::NOT_FOUND), "also before it is swept");
    assert_eq!(gone.extend(&world).await, StatusCode::NOT_FOUND);
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    assert!(!gone.folder(&world).exists());
    assert_eq!(world.disclose().await.blobs.len(), 1);
    // However often it is extended: 90 days in all.
    days(2 * BLOB_DAYS);
    assert_eq!(kept.extend(&world).await, StatusCode::NO_CONTENT);
    days(3 * BLOB_DAYS);
    assert_eq!(kept.extend(&world).await, StatusCode::NO_CONTENT);
    assert_eq!(kept.get(&world, 0).await, Ok(b"sealed canary".to_vec()));
    days(3 * BLOB_DAYS + 1);
    assert_eq!(kept.get(&world, 0).await, Err(StatusCode::NOT_FOUND));
    world.relay.as_ref().unwrap().sweep().await.unwrap();
    assert!(world.disclose().await.blobs.is_empty());
    assert!(!world.on_disk(b"sealed canary"));
}

#[tokio::test]
async fn an_uploader_deletes_what_it_uploaded() {
    let mut world = World::start().await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let blob = Blob::new(1, 4);
    blob.create(&world, &mailbox.permit()).await;
    assert_eq!(blob.put(&world, 0, b"data".to_vec()).await, StatusCode::NO_CONTENT);
    let deleted = blob.ask(&world, Method::DELETE, "", &blob.write.to_hex(), Vec::new()).await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(blob.get(&world, 0).await, Err(StatusCode::NOT_FOUND));
    assert!(!blob.folder(&world).exists());
    // A relay that died between the row and the files removes them when it starts.
    std::fs::create_dir(blob.folder(&world)).unwrap();
    std::fs::write(blob.folder(&world).join("0"), b"data").unwrap();
    world.restart().await;
    assert!(!blob.folder(&world).exists());
}

#[tokio::test]
async fn room_and_shares_are_bounded_and_say_when_to_come_again() {
    let bound = |config: &mut bulla_relay::Config| config.blob_bytes = 3 * BLOB_GRANT_BYTES;
    let world = World::start_with(bound).await;
    let (mailbox, _owner) = world.mailbox(1).await;
    let one = mailbox.given(Class::Ordinary, |permit| permit.expires += 8);
    let retry = |answer: &Response| answer.headers().contains_key("retry-after");
    let mut made = 0;
    let refused = loop {
        let answer = Blob::new(made, MAX_BLOB).try_create(&world, &one).await;
        if answer.status() != StatusCode::CREATED {
            break answer;
        }
        made += 1;
    };
    assert_eq!(u64::from(made), BLOB_GRANT_BYTES / MAX_BLOB);
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(retry(&refused));
    // What was counted is asked again for free, and another grant has its own share, until the relay is full.
    assert_eq!(Blob::new(0, MAX_BLOB).try_create(&world, &one).await.status(), StatusCode::OK);
    let mut full = None;
    for n in 0..20 {
        let grant = bulla_protocol::id::GrantId::new([100 + n / 4; 16]);
        let given = mailbox.given(Class::Ordinary, |permit| permit.grant = grant);
        let answer = Blob::new(100 + n, MAX_BLOB).try_create(&world, &given).await;
        if answer.status() != StatusCode::CREATED {
            full = Some(answer);
            break;
        }
    }
    let full = full.unwrap();
    assert_eq!(full.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert!(retry(&full));
    // Tomorrow the share is there again.
    world.clock.advance(DAY);
    let answer = Blob::new(0, 1).try_create(&world, &one).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT, "counted, and then refused for its name");
}

/// A page of the business's own origin may ask, without cookies; which headers and methods, it is told.
#[tokio::test]
async fn browsers_of_other_origins_are_let_in() {
    let world = World::start().await;
    let blob = Blob::new(1, 4);
    let asked = client()
        .request(Method::OPTIONS, blob.url(&world, "/0"))
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "authorization")
        .send()
        .await
        .unwrap();
    let header = |name: &str| asked.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert!(asked.status().is_success());
    assert_eq!(header("access-control-allow-origin").unwrap(), "*");
    assert!(header("access-control-allow-methods").unwrap().contains("PUT"));
    assert!(header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(header("access-control-allow-credentials"), None);
    // Everything else of the relay stays closed to them.
    let health = format!("http://{}/health", world.relay.as_ref().unwrap().addr());
    let other = client().get(health).header("origin", "https://shop.example").send().await.unwrap();
    assert!(!other.headers().contains_key("access-control-allow-origin"));
}
