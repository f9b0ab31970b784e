//! NATS: a JetStream work queue on disk, a consumer for each mailbox, through NATS's own client.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Message};
use bulla_testkit::process::Part;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::time::{sleep, timeout};

use super::server::{PASSWORD, Place, Reader, Server, USER, Writer, start};
use super::which;
use bulla_testkit::wait::GUARD;

const STREAM: &str = "BENCH";

/// Mailboxes on the stream, at most; without a number it is a thousand.
const CONSUMERS: i32 = 10_000;

/// `ALWAYS`: whether each message is synced before it is answered.
#[derive(Debug)]
pub(super) struct Nats<const ALWAYS: bool> {
    part: Part,
    address: SocketAddr,
}

fn configuration(address: SocketAddr, data: &str, always: bool) -> String {
    // Without the word it is two minutes.
    let sync = if always { ", sync_interval: always" } else { "" };
    format!(
        "listen: \"{address}\"\n\
         jetstream {{ store_dir: \"{data}\"{sync} }}\n\
         authorization {{ user: {USER}, password: {PASSWORD} }}\n"
    )
}

impl<const ALWAYS: bool> Server for Nats<ALWAYS> {
    type Writer = Publisher;
    type Reader = Puller;

    async fn start(place: &Place) -> Result<Self> {
        let address = place.address();
        let text = configuration(address, &place.data()?.display().to_string(), ALWAYS);
        let file = place.write("nats.conf", &text)?;
        let mut command = Command::new(which("nats-server").context("no nats-server")?);
        let part = start(command.arg("-c").arg(file), || async {
            let config = Config {
                name: STREAM.to_owned(),
                subjects: vec!["box.*".to_owned()],
                retention: RetentionPolicy::WorkQueue,
                storage: StorageType::File,
                max_consumers: CONSUMERS,
                ..Config::default()
            };
            Ok(connect(address).await?.get_or_create_stream(config).await?)
        });
        Ok(Self { part: part.await?, address })
    }

    fn part(&self) -> &Part {
        &self.part
    }

    async fn make(&self, mailbox: u64) -> Result<()> {
        let stream = connect(self.address).await?.get_stream_no_info(STREAM).await?;
        let config = pull::Config {
            durable_name: Some(name(mailbox)),
            filter_subject: subject(mailbox),
            ack_policy: AckPolicy::Explicit,
            ..pull::Config::default()
        };
        stream.create_consumer(config).await?;
        Ok(())
    }

    async fn writer(&self, mailbox: u64) -> Result<Publisher> {
        let context = connect(self.address).await?;
        Ok(Publisher { context, subject: subject(mailbox), waiting: FuturesOrdered::new() })
    }

    async fn reader(&self, mailbox: u64) -> Result<Puller> {
        let stream = connect(self.address).await?.get_stream_no_info(STREAM).await?;
        let consumer: Consumer<pull::Config> =
            stream.get_consumer(&name(mailbox)).await.map_err(|error| anyhow!("{error}"))?;
        let messages = consumer.messages().await?;
        Ok(Puller { consumer, messages, received: Vec::new() })
    }
}

fn subject(mailbox: u64) -> String {
    format!("box.{mailbox}")
}

fn name(mailbox: u64) -> String {
    format!("reader-{mailbox}")
}

async fn connect(to: SocketAddr) -> Result<jetstream::Context> {
    let options = ConnectOptions::with_user_and_password(USER.to_owned(), PASSWORD.to_owned());
    let client = options.connection_timeout(GUARD).connect(to.to_string()).await?;
    // On a busy disk five seconds are not enough.
    Ok(ContextBuilder::new().timeout(GUARD).ack_timeout(GUARD).build(client))
}

pub(super) struct Publisher {
    context: jetstream::Context,
    subject: String,
    waiting: FuturesOrdered<<PublishAckFuture as IntoFuture>::IntoFuture>,
}

impl Writer for Publisher {
    async fn begin(&mut self, payload: Bytes) -> Result<()> {
        self.waiting.push_back(self.context.publish(self.subject.clone(), payload).await?.into_future());
        Ok(())
    }

    async fn answered(&mut self) -> Result<u64> {
        self.waiting.next().await.context("nothing was asked")??;
        Ok(1)
    }
}

pub(super) struct Puller {
    consumer: Consumer<pull::Config>,
    messages: pull::Stream,
    received: Vec<Message>,
}

impl Reader for Puller {
    async fn next(&mut self) -> Result<Bytes> {
        let next = timeout(GUARD, self.messages.next()).await.context("the server says nothing")?;
        let message = next.context("the server ended the subscription")??;
        let payload = message.payload.clone();
        self.received.push(message);
        Ok(payload)
    }

    async fn confirm(&mut self) -> Result<()> {
        for message in self.received.drain(..) {
            message.ack().await.map_err(|error| anyhow!("{error}"))?;
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        let taken = async {
            while self.consumer.get_info().await?.num_ack_pending > 0 {
                sleep(Duration::from_millis(1)).await;
            }
            anyhow::Ok(())
        };
        timeout(GUARD, taken).await.context("the server does not take what was confirmed")?
    }
}
