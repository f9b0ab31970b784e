//! Files on the real programs: a customer in a terminal, a relay, a gateway, and the business's own program.

use std::path::Path;

use anyhow::{Context as _, Result};
use bulla_testkit::process::turn;
use bulla_testkit::terminal::Line;
use bulla_testkit::world::World;
use serde_json::Value;

const CANARY: &[u8] = b"a canary that sits in every file";

/// A file that begins as a PNG does, larger than a part of a blob.
fn picture() -> Vec<u8> {
    let noise = (0..1_500_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".iter().copied().chain(CANARY.iter().copied()).chain(noise).collect()
}

fn holds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        let found = |bytes: Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle);
        if path.is_dir() { holds(&path, needle) } else { std::fs::read(&path).is_ok_and(found) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_goes_to_the_business_and_a_document_comes_back() -> Result<()> {
    let _turn = turn()?;
    let world = World::start().await?;
    let mut anna = world.customer("Anna")?;
    anna.says("is it this one?").await?;
    world.receiver.message("the text", |m| m["text"]["body"] == "is it this one?").await?;

    // The customer attaches a picture; the business's program hears of it, and fetches it by the address alone.
    let here = world.folder().join("label.png");
    std::fs::write(&here, picture())?;
    anna.terminal.write(&format!("/attach {}", here.display()))?;
    let (_, message) = world.receiver.message("the picture", |m| m["type"] == "image").await?;
    let (user, image) = (message["from_user_id"].as_str().context("no user")?.to_owned(), message["image"].clone());
    assert_eq!(image["mime_type"], "image/png");
    let id = image["id"].as_str().context("no media id")?;
    let node = world.api.media(id).await?;
    assert_eq!((node.status, &node.body["file_size"]), (200, &Value::from(picture().len())));
    let url = node.body["url"].as_str().context("no url")?.to_owned();
    let file = world.api.download(&url).await?;
    assert_eq!(file.status(), 200);
    let header = |name: &str| file.headers().get(name).map(|value| value.to_str().unwrap_or_default().to_owned());
    assert_eq!(header("content-type").as_deref(), Some("image/png"));
    assert!(header("content-disposition").is_some_and(|value| value.starts_with("attachment; filename=\"label.png\"")));
    assert!(header("content-security-policy").is_some_and(|value| value.contains("sandbox")), "GW-07");
    assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"));
    assert_eq!(file.bytes().await?, picture());
    // The address is for this file and this time alone.
    for wrong in [url.replace("until=", "until=9"), url.replace("signature=", "signature=0"), url.replace('?', "?x&")] {
        let answer = world.api.download(&wrong).await?;
        assert_eq!(answer.status(), if wrong.contains("?x&") { 200 } else { 401 }, "{wrong}");
    }
    let (bare, _) = url.split_once('?').context("no signature")?;
    assert_eq!(world.api.download(bare).await?.status(), 401);
    assert_eq!(world.api.with_token("EAA0").media(id).await?.status, 401);

    // The business uploads a document and sends it; the customer saves it under a name that says what it is.
    let invoice = [b"%PDF-1.7\n", CANARY, &vec![7; 300_000]].concat();
    let uploaded = world.api.upload("invoice.pdf", "application/pdf", &invoice).await?;
    let media = uploaded.body["id"].as_str().with_context(|| format!("{uploaded:?}"))?.to_owned();
    let sent = world.api.document(&user, &media, "Invoice 118.exe", "your invoice").await?.wamid()?;
    let shown = |line: &Line| match line {
        Line::Other(text) => text.strip_prefix("~ file ").map(str::to_owned),
        _ => None,
    };
    let file = anna.terminal.until("the document", shown).await?;
    let [short, length, name] = file.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{file}") };
    assert_eq!((length, name), (invoice.len().to_string().as_str(), "Invoice 118.exe"));
    let caption = format!("~ caption {short} your invoice");
    anna.terminal.until("its caption", |line| (*line == Line::Other(caption.clone())).then_some(())).await?;
    world.receiver.status(&sent, "read").await?;
    let downloads = world.folder().join("downloads");
    std::fs::create_dir(&downloads)?;
    anna.terminal.write(&format!("/save {short} {}", downloads.display()))?;
    anna.terminal.write(&format!("/save {short} {}", downloads.display()))?;
    // What is typed is carried out in its order.
    anna.says("got it").await?;
    for name in ["Invoice 118.pdf", "Invoice 118 (2).pdf"] {
        assert_eq!(std::fs::read(downloads.join(name)).with_context(|| name.to_owned())?, invoice);
    }

    // Forgotten, an id names nothing; what is not a file of this business neither.
    assert_eq!(world.api.forget(&media).await?.status, 200);
    assert_eq!(world.api.media(&media).await?.body["error"]["error_subcode"], 33);
    let again = world.api.document(&user, &media, "x", "").await?;
    assert_eq!((again.status, again.error_code()), (400, Some(131_009)));

    // The relay has two blobs and can read neither; nobody keeps a file that is not where its person put it.
    let held = world.disclose()?;
    assert_eq!(held["blobs"].as_array().map(Vec::len), Some(2));
    assert!(!holds(&world.data(), CANARY), "in the business's or the relay's folder");
    assert!(!holds(anna.folder(), CANARY), "in the customer's folder");
    assert!(holds(&downloads, CANARY), "the search finds what is there");
    assert_eq!(anna.terminal.finish().await?.0, Some(0));
    Ok(())
}

/// As large as a file may be, both ways of the API; and one byte more.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_file_goes_through_the_api_and_one_byte_more_is_refused_with_a_sentence() -> Result<()> {
    const MOST: usize = 100 * 1024 * 1024;
    let _turn = turn()?;
    let world = World::start().await?;
    let mut film = vec![7; MOST];
    let uploaded = world.api.upload("film.mp4", "video/mp4", &film).await?;
    assert_eq!(uploaded.status, 200, "{}", uploaded.body);
    let node = world.api.media(uploaded.body["id"].as_str().context("no media id")?).await?;
    assert_eq!(node.body["file_size"], MOST);
    let back = world.api.download(node.body["url"].as_str().context("no url")?).await?;
    assert!(back.bytes().await? == film, "another file");
    film.push(7);
    let refused = world.api.upload("film.mp4", "video/mp4", &film).await?;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.to_string().contains("100 MiB"), "{}", refused.body);
    Ok(())
}
