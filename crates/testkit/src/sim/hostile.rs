//! What the relay of a run does to those who trust it: [`crate::hostile::Hostile`] on every connection, and lies that need to know what a
//! slot, an acceptance or a lease is.

use bulla_protocol::frame::{
    Accepted, Code, Failed, SlotClaimed, SlotRead, Superseded, client_frame::Body as Ask, server_frame::Body as Answer,
};
use bytes::Bytes;

use super::relay::ConnId;
use crate::chance::Chance;
use crate::hostile::{Hostile, Order};
use crate::proxy::Meddler as _;

/// What it may do in a run. One in so many chances each; 0: never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Powers {
    /// Deliveries and sends, as [`Hostile`] meddles with them.
    pub meddles: u64,
    /// Whether it lies about the order.
    pub lies: bool,
    /// Answers about slots: another winner, two winners, nothing there.
    pub slots: u64,
    /// Says `Accepted` and throws away.
    pub throws: u64,
    /// Says that there is no room, or that it cannot write.
    pub refuses: u64,
    /// Refuses a permit that is good.
    pub denies: u64,
    /// Says `Superseded` to an endpoint that is not.
    pub supersedes: u64,
    /// Serves old bundles.
    pub bundles: u64,
}

/// What the relay makes of one request.
pub(super) struct Asked {
    /// What the real relay hears.
    pub(super) pass: Vec<(u64, Ask)>,
    /// What the endpoint hears at once.
    pub(super) say: Vec<(u64, Answer)>,
    /// The envelope that was thrown away after it was accepted.
    pub(super) thrown: Option<Vec<u8>>,
}

/// The liar.
#[derive(Debug)]
pub(super) struct Malice {
    powers: Powers,
    honest: bool,
    chance: Chance,
    hostile: Hostile,
    commits: Vec<Bytes>,
}

impl Malice {
    pub(super) fn new(seed: u64, powers: Powers) -> Self {
        let order = if powers.lies { Order::LiedAbout } else { Order::Kept };
        let hostile = Hostile::new(seed, powers.meddles, order);
        let honest = powers == Powers::default();
        Self { powers, honest, chance: Chance::of_round(seed, 1), hostile, commits: Vec::new() }
    }

    /// Whether it has never had a power.
    pub(super) fn is_honest(&self) -> bool {
        self.honest
    }

    /// Does no more harm.
    pub(super) fn calms_down(&mut self) {
        self.powers = Powers::default();
        self.hostile.calms_down();
    }

    /// Pairs of envelopes about whose order it has lied.
    pub(super) fn lied_about(&self) -> &[Bytes] {
        self.hostile.lied_about()
    }

    fn does(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.chance.once_in(one_in)
    }

    /// Which of so many bundles to serve, counted from the newest.
    pub(super) fn old_bundle(&mut self, of: usize) -> usize {
        if self.does(self.powers.bundles) { self.chance.below(of as u64) as usize } else { 0 }
    }

    pub(super) fn asks(&mut self, conn: ConnId, request: u64, ask: Ask) -> Asked {
        let mut asked = Asked { pass: Vec::new(), say: Vec::new(), thrown: None };
        let failed =
            |code: Code, retry_after_ms| Answer::Failed(Failed { code: code as i32, retry_after_ms, incarnation: 0 });
        match &ask {
            Ask::Send(send) if self.does(self.powers.throws) => {
                asked.thrown = Some(send.send_id.clone());
                asked.say.push((request, Answer::Accepted(Accepted {})));
                return asked;
            }
            Ask::Send(_) | Ask::ClaimSlot(_) if self.does(self.powers.refuses) => {
                let code = *self.chance.choose(&[Code::Full, Code::Busy, Code::Unavailable, Code::Rate]);
                asked.say.push((request, failed(code, 700)));
                return asked;
            }
            Ask::Send(_) if self.does(self.powers.denies) => {
                asked.say.push((request, failed(Code::Refused, 0)));
                return asked;
            }
            Ask::Open(open) if self.does(self.powers.supersedes) => {
                let code = Code::Superseded as i32;
                let incarnation = open.incarnation + self.chance.below(3);
                asked.say.push((request, Answer::Failed(Failed { code, retry_after_ms: 0, incarnation })));
                return asked;
            }
            Ask::Ack(_) if self.does(self.powers.supersedes.saturating_mul(10)) => {
                // No mailbox of its own is named: nothing may follow from that.
                asked.say.push((0, Answer::Superseded(Superseded { mailbox: vec![7; 16] })));
            }
            Ask::ClaimSlot(claim) => self.commits.push(claim.commit.clone()),
            _ => {}
        }
        asked.pass = self.hostile.to_relay(conn, request, ask);
        asked
    }

    pub(super) fn answers(&mut self, conn: ConnId, request: u64, answer: Answer) -> Vec<(u64, Answer)> {
        let answer = match answer {
            Answer::SlotClaimed(_) | Answer::SlotRead(_) if !self.does(self.powers.slots) => answer,
            Answer::SlotClaimed(claimed) => Answer::SlotClaimed(self.lie_about_claim(claimed)),
            Answer::SlotRead(_) => Answer::SlotRead(SlotRead { commit: self.any_commit() }),
            other => other,
        };
        self.hostile.to_endpoint(conn, request, answer)
    }

    fn lie_about_claim(&mut self, claimed: SlotClaimed) -> SlotClaimed {
        if !claimed.won && !self.chance.once_in(3) {
            return SlotClaimed { won: true, winner: Bytes::new() };
        }
        SlotClaimed { won: false, winner: self.any_commit() }
    }

    /// Nothing, or something that stood somewhere else.
    fn any_commit(&mut self) -> Bytes {
        if self.commits.is_empty() || self.chance.once_in(2) {
            return Bytes::new();
        }
        self.chance.choose(&self.commits).clone()
    }

    pub(super) fn later(&mut self, conn: ConnId) -> Vec<(u64, Answer)> {
        self.hostile.later(conn)
    }

    pub(super) fn cuts(&mut self, conn: ConnId) -> bool {
        self.hostile.cuts(conn)
    }

    /// Whether it has something in mind for this connection.
    pub(super) fn waits(&self, conn: ConnId) -> bool {
        self.hostile.waits(conn)
    }
}
