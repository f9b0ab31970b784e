//! Nothing readable rests in an endpoint's folder.

use bulla_client::event::{Draft, Status};

use crate::world::World;

fn find(folder: &std::path::Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes.windows(needle.len()).any(|w| w == needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn gw_01_no_words_names_or_ids_lie_readable_in_a_folder() {
    let world = World::new().await;
    let mut cortado = world.business().await;
    let link = world.link(&cortado).await;
    let (mut alice, conversation) = world.customer("Wilhelmine", &link).await;
    let said = Draft::Text { body: "the canary sings".into(), reply_to: None };
    let hello = alice.endpoint.send(conversation.id, said).await.unwrap();
    let heard = cortado.incoming().await;
    cortado.endpoint.send(heard.conversation, Draft::Text { body: "so it does".into(), reply_to: None }).await.unwrap();
    alice.incoming().await;
    world.clock.advance(1_000);
    alice.status(hello.id, Status::Delivered).await;
    // With the WAL still there, and once more after it went into the file.
    for _ in 0..2 {
        for folder in [&alice.folder, &cortado.folder] {
            for needle in ["canary", "so it does", "Wilhelmine", conversation.user_id.as_str()] {
                assert_eq!(find(folder, needle.as_bytes()), Vec::<String>::new(), "{needle} lies readable");
            }
            // The scan itself works: it finds what is there to be found.
            assert!(!find(folder, b"SQLite format 3").is_empty());
        }
        alice.endpoint.shutdown().await;
        cortado.endpoint.shutdown().await;
    }
}
