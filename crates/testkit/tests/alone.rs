//! DEV-02: whatever a business writes, nobody's program reaches anything for it. Counted in a network of its own.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::alone::Alone;
use bulla_testkit::process::{program, turn};
use bulla_testkit::terminal::{self, Terminal};
use bulla_testkit::world::World;
use serde_json::json;

/// What messages have been made of that had somebody's device fetch an address.
const ADDRESSES: [&str; 12] = [
    "http://8.8.8.8/canary",
    "https://8.8.8.8:8443/canary.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/admin",
    "http://[2606:4700::1]/canary",
    "http://[fd00::1]/canary",
    "file:////8.8.8.8/share/canary",
    "\\\\8.8.8.8\\share\\canary.png",
    "ftp://8.8.8.8/canary",
    "ws://8.8.8.8/v1/ws",
    "<img src=http://8.8.8.8/canary>",
    "![](http://8.8.8.8/canary)",
];

#[tokio::test(flavor = "multi_thread")]
async fn dev_02_no_word_of_a_business_has_a_program_reach_an_address() -> Result<()> {
    let Some(alone) = Alone::enter("dev_02_no_word_of_a_business_has_a_program_reach_an_address")? else {
        return Ok(());
    };
    let _turn = turn()?;
    // The count is alive, for either kind of address.
    let mut before = alone.sent()?.out;
    for address in ["8.8.8.8:80", "[2606:4700::1]:80"] {
        let tried = TcpStream::connect_timeout(&address.parse()?, Duration::from_millis(200));
        let after = alone.sent()?.out;
        ensure!(tried.is_err() && after > before, "{address}: {before}, then {after}");
        before = after;
    }

    let world = World::start().await?;
    let (bulla, folder) = (program("bulla")?, terminal::folder(world.folder(), "Anna"));
    let mut anna = Terminal::run(&mut terminal::chat(&bulla, &folder, &world.ready.link))?;
    anna.write("hello")?;
    let (_, message) = world.receiver.message("hello", |m| m["text"]["body"] == "hello").await?;
    let user = message["from_user_id"].as_str().context("no user")?.to_owned();
    let theirs = message["id"].as_str().context("no id")?.to_owned();
    let picture = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[7; 1_000]].concat();
    for (n, address) in ADDRESSES.iter().enumerate() {
        // In a text that asks for a preview of its link, in an answer, in the name and the caption of a file.
        let text = json!({"messaging_product": "whatsapp", "recipient": user, "type": "text",
            "text": {"preview_url": true, "body": format!("look {n} {address}")}});
        world.api.post(&text).await?.wamid()?;
        world.api.reply(&user, &theirs, &format!("answer {n} {address}")).await?.wamid()?;
        let media = world.api.upload(&format!("picture {n}.png"), "image/png", &picture).await?;
        let media = media.body["id"].as_str().context("no media id")?.to_owned();
        world.api.document(&user, &media, address, &format!("file {n} {address}")).await?.wamid()?;
        // A file that is to be fetched from an address is refused, and not fetched.
        let linked =
            json!({"messaging_product": "whatsapp", "recipient": user, "type": "image", "image": {"link": address}});
        ensure!(world.api.post(&linked).await?.wamid().is_err(), "{address} was taken for a file");
    }
    let last = ADDRESSES.len() - 1;
    anna.shows(&format!("answer {last} {}", ADDRESSES[last])).await?;
    anna.write("that was all")?;
    world.receiver.message("the last", |m| m["text"]["body"] == "that was all").await?;
    let (code, _) = anna.finish().await?;
    ensure!(code == Some(0), "{code:?}");
    ensure!(alone.sent()?.out == before, "{} packets left", alone.sent()?.out - before);
    ensure!(alone.sent()?.looped > 100, "nobody talked");
    Ok(())
}
