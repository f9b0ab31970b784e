//! Eclipse Mosquitto: MQTT 3.1.1, QoS 1, persistent sessions.

use std::collections::VecDeque;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bulla_testkit::process::{Part, run};
use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Codec, ConnAck, Connect, ConnectReturnCode, Packet, PingReq, PubAck, Publish, Subscribe};

use super::server::{Line, PASSWORD, PAYLOAD, Place, Reader, Server, USER, Writer, start};
use super::which;

#[derive(Debug)]
pub(super) struct Mosquitto {
    part: Part,
    address: std::net::SocketAddr,
}

/// Everything is allowed that would limit a load; what is in memory is written whole, once a second, if anything has changed. That is as
/// near as it comes to a durable answer: `autosave_on_changes` would write all of it after each message.
fn configuration(port: u16, passwords: &str, data: &str) -> String {
    format!(
        "listener {port} 127.0.0.1\n\
         allow_anonymous false\n\
         password_file {passwords}\n\
         user root\n\
         set_tcp_nodelay true\n\
         max_queued_messages 0\n\
         max_inflight_messages 128\n\
         persistence true\n\
         persistence_location {data}/\n\
         autosave_interval 1\n\
         log_dest stderr\n\
         log_type error\n\
         connection_messages false\n"
    )
}

impl Server for Mosquitto {
    type Writer = Publisher;
    type Reader = Subscriber;

    async fn start(place: &Place) -> Result<Self> {
        let passwords = place.folder().join("passwords");
        if !passwords.exists() {
            let program = which("mosquitto_passwd").context("no mosquitto_passwd")?;
            let made = run(Command::new(program).args(["-b", "-c"]).arg(&passwords).args([USER, PASSWORD])).await?;
            ensure!(made.code == Some(0), "mosquitto_passwd: {}", made.err);
        }
        let text = configuration(place.port(), &passwords.display().to_string(), &place.data()?.display().to_string());
        let file = place.write("mosquitto.conf", &text)?;
        let address = place.address();
        let mut command = Command::new(which("mosquitto").context("no mosquitto")?);
        let part = start(command.arg("-c").arg(file), || connect(address, "probe", true)).await?;
        Ok(Self { part, address })
    }

    fn part(&self) -> &Part {
        &self.part
    }

    async fn make(&self, mailbox: u64) -> Result<()> {
        drop(self.reader(mailbox).await?);
        Ok(())
    }

    async fn writer(&self, mailbox: u64) -> Result<Publisher> {
        let line = connect(self.address, &format!("writer-{mailbox}"), true).await?;
        Ok(Publisher { line, topic: topic(mailbox), next: 1 })
    }

    async fn reader(&self, mailbox: u64) -> Result<Subscriber> {
        let mut line = connect(self.address, &format!("reader-{mailbox}"), false).await?;
        let mut subscribe = Subscribe::new(topic(mailbox), QoS::AtLeastOnce);
        subscribe.pkid = 1;
        subscribe.write(&mut line.out)?;
        line.flush().await?;
        // What waits may come before the answer.
        let mut early = VecDeque::new();
        loop {
            match line.next().await? {
                Packet::SubAck(_) => return Ok(Subscriber { line, early, received: Vec::new() }),
                Packet::Publish(publish) => early.push_back(publish),
                other => bail!("{other:?}"),
            }
        }
    }
}

fn topic(mailbox: u64) -> String {
    format!("box/{mailbox}")
}

async fn connect(to: std::net::SocketAddr, id: &str, is_clean: bool) -> Result<Line<Codec>> {
    let codec = Codec { max_incoming_size: 4 * PAYLOAD, max_outgoing_size: 4 * PAYLOAD };
    let mut line = Line::connect(to, codec).await?;
    let mut connect = Connect::new(id);
    connect.set_login(USER, PASSWORD);
    connect.clean_session = is_clean;
    connect.keep_alive = 0;
    connect.write(&mut line.out)?;
    line.flush().await?;
    match line.next().await? {
        Packet::ConnAck(ConnAck { code: ConnectReturnCode::Success, .. }) => Ok(line),
        other => bail!("{other:?}"),
    }
}

#[derive(Debug)]
pub(super) struct Publisher {
    line: Line<Codec>,
    topic: String,
    next: u16,
}

impl Writer for Publisher {
    async fn begin(&mut self, payload: Bytes) -> Result<()> {
        let mut publish = Publish::from_bytes(self.topic.clone(), QoS::AtLeastOnce, payload);
        publish.pkid = self.next;
        self.next = self.next.checked_add(1).unwrap_or(1);
        publish.write(&mut self.line.out)?;
        self.line.flush().await
    }

    async fn answered(&mut self) -> Result<u64> {
        match self.line.next().await? {
            Packet::PubAck(_) => Ok(1),
            other => bail!("{other:?}"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Subscriber {
    line: Line<Codec>,
    early: VecDeque<Publish>,
    received: Vec<u16>,
}

impl Reader for Subscriber {
    async fn next(&mut self) -> Result<Bytes> {
        let publish = match self.early.pop_front() {
            Some(publish) => publish,
            None => match self.line.next().await? {
                Packet::Publish(publish) => publish,
                other => bail!("{other:?}"),
            },
        };
        self.received.push(publish.pkid);
        Ok(publish.payload)
    }

    async fn confirm(&mut self) -> Result<()> {
        for pkid in self.received.drain(..) {
            PubAck::new(pkid).write(&mut self.line.out)?;
        }
        self.line.flush().await
    }

    async fn settle(&mut self) -> Result<()> {
        PingReq.write(&mut self.line.out)?;
        self.line.flush().await?;
        match self.line.next().await? {
            Packet::PingResp => Ok(()),
            other => bail!("{other:?}"),
        }
    }
}
