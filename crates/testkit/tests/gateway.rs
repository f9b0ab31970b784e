//! The gateway is an end of the encryption, and not a stop on the way (P6): the API takes text on this machine, and what leaves it for the
//! relay is sealed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::apart::{Apart, Plan};
use bulla_testkit::canary::{Canary, Scanner};
use bulla_testkit::process::{program, run, turn};
use bulla_testkit::proxy::Wire;
use rand_core::OsRng;

const MESSAGES: u64 = 50;

/// P6: between the API call and the customer's screen, the text is on no wire that leaves the machine.
#[tokio::test(flavor = "multi_thread")]
async fn p6_what_the_api_takes_leaves_the_gateway_sealed() -> Result<()> {
    let _turn = turn()?;
    let wire = Arc::new(Mutex::new(Wire::default()));
    let parts = Apart::start_behind(Plan::new()?, Some(Arc::clone(&wire))).await?;
    let (mark, name) = (Canary::new(&mut OsRng), Canary::new(&mut OsRng));
    let mut customer = parts.customer(name.mark())?;
    let (mut user, mut last) = (String::new(), String::new());
    for number in 0..MESSAGES {
        let (asked, answered) = (mark.text(2 * number), mark.text(2 * number + 1));
        customer.says(&asked).await?;
        let (_, message) = parts.receiver.message(&asked, |m| m["text"]["body"] == asked.as_str()).await?;
        user = message["from_user_id"].as_str().context("no from_user_id")?.to_owned();
        last = parts.api.reply(&user, message["id"].as_str().unwrap_or_default(), &answered).await?.wamid()?;
        customer.reads(&answered).await?;
    }
    parts.receiver.status(&last, "read").await?;
    let wire = wire.lock().unwrap_or_else(PoisonError::into_inner);
    let secret = Scanner::new([&mark, &name, &Canary::of(&user), &Canary::of(&parts.ready.access_token)]);
    secret.bytes("the wire to the relay", wire.bytes()).must_be_clean("what passed between endpoints and relay")?;
    // The control: what is public passed there, and the same search finds it.
    let public = Scanner::new([&Canary::of(&parts.ready.name)]).bytes("the wire to the relay", wire.bytes());
    ensure!(!public.findings.is_empty(), "the business's name is in its public bundle, and was not seen to pass");
    ensure!(wire.frames() as u64 > 4 * MESSAGES, "{} frames passed", wire.frames());
    println!(
        "figure: {MESSAGES} API calls and {MESSAGES} webhooks, {} frames and {} KiB on the wire: no text, name, user id or token in it \
         (the business's public name is: positive control)",
        wire.frames(),
        wire.bytes().len() >> 10
    );
    Ok(())
}

/// Addresses on which a process listens: its sockets, looked up in the kernel's tables.
fn listens(pid: u32) -> Result<BTreeSet<SocketAddr>> {
    let mut sockets = BTreeSet::new();
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let target = std::fs::read_link(fd?.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        sockets.extend(target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned));
    }
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let Ok(table) = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { continue };
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { continue };
            if *state == "0A" && sockets.contains(*inode) {
                found.insert(address(local).with_context(|| line.to_owned())?);
            }
        }
    }
    Ok(found)
}

/// `0100007F:1F90`: words in this machine's order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let bytes = data_encoding::HEXUPPER.decode(ip.as_bytes()).ok()?;
    let words = bytes
        .chunks_exact(4)
        .flat_map(|word| <[u8; 4]>::try_from(word).map(u32::from_be_bytes).unwrap_or(0).to_ne_bytes());
    let words: Vec<u8> = words.collect();
    let port = u16::from_str_radix(port, 16).ok()?;
    match <[u8; 4]>::try_from(words.as_slice()) {
        Ok(v4) => Some((v4, port).into()),
        Err(_) => Some((<[u8; 16]>::try_from(words.as_slice()).ok()?, port).into()),
    }
}

/// P6: nobody else reaches the API. It listens on loopback, and elsewhere only for who says so in so many words.
#[tokio::test(flavor = "multi_thread")]
async fn p6_the_api_listens_on_this_machine_alone() -> Result<()> {
    let _turn = turn()?;
    let parts = Apart::start(Plan::new()?).await?;
    let listening = listens(parts.gateway.pid())?;
    ensure!(listening.len() == 2, "for customers and for the business's programs: {listening:?}");
    ensure!(listening.iter().all(|at| at.ip().is_loopback()), "{listening:?}");
    let told = [&parts.ready.api_base, &parts.ready.link].map(|url| {
        let rest = url.trim_start_matches("http://");
        rest.split('/').next().and_then(|address| address.parse::<SocketAddr>().ok())
    });
    ensure!(
        listening.iter().copied().map(Some).collect::<BTreeSet<_>>() == BTreeSet::from(told),
        "{told:?}: {listening:?}"
    );

    let mut exposed = Command::new(program("bulla")?);
    exposed.args([
        "gateway",
        "serve",
        "--relay",
        "ws://127.0.0.1:9/v1/ws",
        "--business",
        "a=A",
        "--api-listen",
        "0.0.0.0:0",
    ]);
    let refused = run(exposed.arg("--data").arg(parts.folder().join("exposed"))).await?;
    ensure!(refused.code == Some(1) && refused.out.is_empty(), "{refused:?}");
    ensure!(refused.err.contains("0.0.0.0:0") && refused.err.contains("say explicitly"), "{refused:?}");
    println!("figure: the gateway listens on {listening:?} and nowhere else; --api-listen 0.0.0.0 alone is refused");
    Ok(())
}
