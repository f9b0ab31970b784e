//! `bulla up --lan`: what leaves the machine is under TLS, and whoever does not trust its certificate is not let on.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::process::{Part, program, run, turn};
use bulla_testkit::terminal::{self, Terminal};
use bulla_testkit::world::{Which, World};
use sha2::{Digest as _, Sha256};

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_was_given_the_certificate_writes_over_tls_and_nobody_else_gets_through() -> Result<()> {
    let _turn = turn()?;
    let world = World::start_with("trace", &["--lan", "127.0.0.1"]).await?;
    let (ready, bulla) = (&world.ready, program("bulla")?);
    ensure!(ready.link.starts_with("https://127.0.0.1:"), "{}", ready.link);
    ensure!(ready.relay_url.starts_with("wss://127.0.0.1:"), "{}", ready.relay_url);
    ensure!(ready.api_base.starts_with("http://127.0.0.1:"), "{}", ready.api_base);
    let ca = ready.ca.as_deref().context("no certificate's file")?;

    // Words, a file, and words after the relay was killed: the connection, the blobs and the next connection.
    let folder = terminal::folder(world.folder(), "Anna");
    let mut anna = Terminal::run(terminal::chat(&bulla, &folder, &ready.link).arg("--ca").arg(ca))?;
    anna.write("is it open?")?;
    let (_, message) = world.receiver.message("the question", |m| m["text"]["body"] == "is it open?").await?;
    let user = message["from_user_id"].as_str().context("no user")?.to_owned();
    let file = world.folder().join("label.png");
    let picture = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[7; 100_000]].concat();
    std::fs::write(&file, &picture)?;
    anna.write(&format!("/attach {}", file.display()))?;
    let (_, message) = world.receiver.message("the picture", |m| m["type"] == "image").await?;
    let node = world.api.media(message["image"]["id"].as_str().context("no media id")?).await?;
    let fetched = world.api.download(node.body["url"].as_str().context("no url")?).await?;
    ensure!(fetched.bytes().await? == picture, "another picture");
    world.kill_9(Which::Relay).await?;
    world.api.text(&user, "until six").await?.wamid()?;
    anna.shows("until six").await?;

    let folder = terminal::folder(world.folder(), "Eve");
    let stranger = run(&mut terminal::chat(&bulla, &folder, &ready.link)).await?;
    ensure!(stranger.code == Some(1) && stranger.err.contains("certificate"), "{stranger:?}");
    Ok(())
}

/// The SHA-256 of a certificate in PEM, as browsers show it.
fn fingerprint(pem: &Path) -> Result<String> {
    let pem = std::fs::read_to_string(pem)?;
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = data_encoding::BASE64.decode(base64.as_bytes())?;
    Ok(Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_reads_the_link_a_code_and_what_to_compare() -> Result<()> {
    let _turn = turn()?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let mut command = Command::new(program("bulla")?);
    command.args(["up", "--lan", "127.0.0.1", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
    let up = Part::start(command.env("BULLA_RELAY_BIN", program("bulla-relay")?))?;
    let has = |word: &'static str| move |lines: &[String]| lines.iter().any(|line| line.contains(word)).then_some(());
    up.stdout.until("the last line", has("Ctrl-C stops")).await.with_context(|| up.stderr.all().join("\n"))?;
    let said = up.stdout.all().join("\n");
    let expected = fingerprint(&data.join("tls/lan.crt"))?;
    for word in ["chat --ca ", "'https://127.0.0.1:", "warn once", &expected, "██"] {
        ensure!(said.contains(word), "{word} is not in:\n{said}");
    }
    Ok(())
}
