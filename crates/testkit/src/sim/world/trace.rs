//! What happens in a world, as lines that a person reads when a history broke. Names and kinds, no secrets.

use bulla_protocol::frame::{client_frame::Body as Ask, server_frame::Body as Answer};

use crate::sim::node::Load;
use crate::sim::relay::DAY_MS;
use crate::sim::{CANARY, log};

use super::World;

impl World {
    pub(in crate::sim) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = line();
            if self.live {
                println!("{line}");
            }
            trace.push(line);
        }
    }

    /// A line of the trace, with the time since the run began.
    fn tell(&mut self, who: &str, what: impl FnOnce() -> String) {
        let since = self.now_ms - self.begun_ms;
        let (days, ms) = (since / DAY_MS, since % DAY_MS);
        self.note(|| format!("{days:>2}d {:>9.3}s {who:<10} {}", ms as f64 / 1000.0, what()));
    }

    /// A line of the trace about the whole world.
    pub(in crate::sim) fn act(&mut self, what: impl FnOnce() -> String) {
        self.tell("──", what);
    }

    /// What an endpoint's engine has logged.
    pub(super) fn tell_logged(&mut self, node: usize) {
        if self.trace.is_some() {
            for line in log::take() {
                self.tell_of(node, || format!("    {line}"));
            }
        }
    }

    pub(super) fn tell_of(&mut self, node: usize, what: impl FnOnce() -> String) {
        if self.trace.is_some() {
            let name = self.nodes[node].name.clone();
            self.tell(&name, what);
        }
    }

    fn text_of(&self, id: &[u8; 32]) -> String {
        let line = self.ledger.said.values().flatten().find(|line| line.id == Some(*id));
        line.map_or_else(|| "?".into(), |line| line.text.replace(CANARY, ""))
    }

    pub(super) fn name_of(&self, ask: &Ask) -> String {
        match ask {
            Ask::Send(send) => {
                let load = self.ledger.loads.get(&send.send_id);
                let kind = match load.and_then(|l| l.kind) {
                    None => "Hello",
                    Some(1) => "message",
                    Some(2) => "Hello again",
                    Some(3) => "continues",
                    Some(4) => "commit",
                    Some(5) => "join",
                    Some(_) => "?",
                };
                let text = load.and_then(|l| l.message).map_or_else(String::new, |id| self.text_of(&id));
                format!("Send {kind} {text}")
            }
            Ask::Open(open) => format!("Open {}", open.incarnation),
            Ask::Ack(ack) => format!("Ack {}", ack.through),
            Ask::ClaimSlot(_) => "ClaimSlot".into(),
            Ask::ReadSlot(_) => "ReadSlot".into(),
            Ask::Hello(_) => "Hello".into(),
            Ask::Create(_) => "Create".into(),
            Ask::Subscribe(_) => "Subscribe".into(),
            Ask::PublishBundle(_) => "PublishBundle".into(),
            _ => "…".into(),
        }
    }

    pub(super) fn name_of_answer(&self, answer: &Answer) -> String {
        match answer {
            Answer::Deliver(deliver) => {
                let load = self.ledger.envelopes.get(&deliver.envelope);
                let what = match load {
                    None => "unknown bytes".into(),
                    Some(Load { message: Some(id), .. }) => self.text_of(id),
                    Some(load) => format!("kind {:?}", load.kind),
                };
                format!("Deliver {}: {what}", deliver.number)
            }
            Answer::Failed(failed) => format!("Failed {:?}", failed.code()),
            Answer::SlotClaimed(claimed) => {
                if claimed.won {
                    "Won".into()
                } else {
                    format!("Lost, {} bytes", claimed.winner.len())
                }
            }
            Answer::SlotRead(read) => format!("SlotRead, {} bytes", read.commit.len()),
            Answer::Superseded(_) => "Superseded".into(),
            Answer::Accepted(_) => "Accepted".into(),
            Answer::Gap(gap) => format!("Gap of {}", gap.envelopes),
            Answer::Done(_) => "Done".into(),
            Answer::Subscribed(_) => "Subscribed".into(),
            Answer::CaughtUp(_) => "CaughtUp".into(),
            Answer::Hello(_) => "Hello".into(),
        }
    }
}
