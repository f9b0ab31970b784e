//! The relay itself: WebSocket, a permit for each envelope.

use std::process::Command;

use anyhow::{Context as _, Result};
use bulla_testkit::chance::Chance;
use bulla_testkit::process::{Part, program};
use bulla_testkit::relay::{Mailbox, Owner, Sender};
use bytes::Bytes;
use tokio::net::TcpStream;

use super::server::{Place, Reader, Server, Writer, start};

#[derive(Debug)]
pub(super) struct Relay {
    part: Part,
    url: String,
}

/// The same number is the same mailbox, also after a restart.
fn mailbox(number: u64) -> Mailbox {
    Mailbox::new(&mut Chance::of_round(0xb111a, number))
}

impl Server for Relay {
    type Writer = Sending;
    type Reader = Owning;

    async fn start(place: &Place) -> Result<Self> {
        let listen = place.address().to_string();
        let mut command = Command::new(program("bulla-relay")?);
        command.args(["serve", "--json", "--listen", &listen, "--work-bits", "4", "--log", "warn", "--data"]);
        let part = start(command.arg(place.data()?.join("relay")), || async {
            Ok(TcpStream::connect(place.address()).await?)
        });
        let part = part.await?;
        let line = part.stdout.until("bulla-relay to be ready", |lines| lines.first().cloned()).await?;
        let ready: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let url = ready["url"].as_str().context("no url in its line")?.to_owned();
        Ok(Self { part, url })
    }

    fn part(&self) -> &Part {
        &self.part
    }

    async fn make(&self, number: u64) -> Result<()> {
        drop(Owner::create(&self.url, &mailbox(number)).await?);
        Ok(())
    }

    async fn writer(&self, number: u64) -> Result<Sending> {
        let sender = Sender::connect(&self.url, &mailbox(number)).await?;
        Ok(Sending { sender, chance: Chance::new(number) })
    }

    async fn reader(&self, number: u64) -> Result<Owning> {
        let mailbox = mailbox(number);
        let mut owner = Owner::open(&self.url, &mailbox).await?;
        owner.subscribe(&mailbox).await?;
        Ok(Owning { owner, received: 0 })
    }
}

#[derive(Debug)]
pub(super) struct Sending {
    sender: Sender,
    chance: Chance,
}

impl Writer for Sending {
    async fn begin(&mut self, payload: Bytes) -> Result<()> {
        self.sender.begin(&mut self.chance, payload).await
    }

    async fn answered(&mut self) -> Result<u64> {
        self.sender.accepted().await?;
        Ok(1)
    }
}

#[derive(Debug)]
pub(super) struct Owning {
    owner: Owner,
    received: u64,
}

impl Reader for Owning {
    async fn next(&mut self) -> Result<Bytes> {
        let deliver = self.owner.deliver().await?;
        self.received = deliver.number;
        Ok(deliver.envelope)
    }

    async fn confirm(&mut self) -> Result<()> {
        self.owner.ack(self.received).await
    }

    async fn settle(&mut self) -> Result<()> {
        self.owner.settle().await
    }
}
