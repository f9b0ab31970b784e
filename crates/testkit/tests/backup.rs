//! A rehearsal of `bulla gateway backup` and `bulla gateway restore` on the real programs: the gateway's disk is lost, and everybody goes on.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::apart::{Apart, Plan};
use bulla_testkit::process::{program, run, turn};
use bulla_testkit::webhook::texts;
use bulla_testkit::world::Customer;

/// A customer says something, and is answered by the business's program.
async fn talks(parts: &Apart, customer: &mut Customer, said: &str, answer: &str) -> Result<()> {
    customer.says(said).await?;
    let (_, message) = parts.receiver.message(said, |m| m["text"]["body"] == said).await?;
    let user = message["from_user_id"].as_str().context("no from_user_id")?;
    let wamid = parts.api.reply(user, message["id"].as_str().unwrap_or_default(), answer).await?.wamid()?;
    customer.reads(answer).await?;
    parts.receiver.status(&wamid, "read").await?;
    Ok(())
}

/// `bulla gateway …` on the gateway's data folder; what it printed.
async fn gateway(parts: &Apart, what: &str, how: &str) -> Result<String> {
    let mut command = Command::new(program("bulla")?);
    command.args(["gateway", what, "--business", "cortado", "--data"]).arg(parts.folder().join("gateway"));
    let ended = run(command.arg(how).arg(parts.folder().join("backup"))).await?;
    ensure!(ended.code == Some(0), "{what}: {ended:?}");
    Ok(ended.out)
}

#[tokio::test(flavor = "multi_thread")]
async fn mls_13_a_business_whose_disk_is_lost_goes_on_from_its_backup() -> Result<()> {
    let _turn = turn()?;
    let parts = Apart::start(Plan { passphrase: Some("correct horse"), log: "info", ..Plan::new()? }).await?;
    let (mut anna, mut berta) = (parts.customer("Anna")?, parts.customer("Berta")?);
    for (customer, who) in [(&mut anna, "anna"), (&mut berta, "berta")] {
        for round in ["one", "two"] {
            talks(&parts, customer, &format!("{who} {round}"), &format!("answer {round} to {who}")).await?;
        }
    }
    let made = gateway(&parts, "backup", "--to").await?;
    ensure!(made.contains("cortado is in"), "{made}");
    talks(&parts, &mut anna, "what the backup does not know", "nor this answer").await?;

    parts.gateway.kill();
    std::fs::remove_dir_all(parts.folder().join("gateway/cortado")).context("the disk is lost")?;
    berta.says("to no gateway").await?;
    let put_back = gateway(&parts, "restore", "--from").await?;
    ensure!(put_back.contains("start it with"), "{put_back}");
    let earlier = parts.receiver.deliveries().all().len();
    parts.gateway.start_again()?;
    parts.gateway_listens().await?;

    let lost = ["what the backup does not know", "to no gateway"];
    let again = parts.receiver.deliveries().until("what was lost, said again", |all| {
        let texts = texts(all.get(earlier..)?);
        let has = |wanted: &&str| texts.iter().any(|(_, text)| text == wanted);
        lost.iter().all(has).then_some(texts)
    });
    let again = again.await?;
    ensure!(again.len() == 2, "nothing else comes again: {again:?}");
    talks(&parts, &mut anna, "anna three", "answer three to anna").await?;
    talks(&parts, &mut berta, "berta three", "answer three to berta").await?;
    println!(
        "figure: a disk lost, a backup put back by the real programs: 2 conversations went on, 1 message that the backup did not know was said again"
    );
    Ok(())
}
