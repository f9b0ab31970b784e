//! The other endpoints of a conversation, and how far each has got what was said.

use minicbor::{Decode, Encode};

/// `Members`, by conversation and lane: another endpoint of the conversation, as this one knows it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct MemberRecord {
    /// It is on our own side.
    #[n(0)]
    pub own_side: bool,
    /// Its name among the endpoints of its side.
    #[n(1)]
    pub endpoint: String,
    /// It is not in the group at present: the group began again without it.
    #[n(2)]
    pub out: bool,
    /// It is to be removed.
    #[n(3)]
    pub leaving: bool,
    /// It has given us a permit at some time. One that has not is about to: it, or we, have just come in.
    #[n(4)]
    pub gave: bool,
    /// Numbers of the suites that it speaks, by its newest spare.
    #[n(5)]
    pub suites: Option<Vec<u16>>,
    /// Until when that spare is valid, Unix seconds.
    #[n(6)]
    pub spoken_until: Option<u64>,
    /// At a business: the customer has come back on another device, and this one is told so whenever it speaks.
    #[n(7)]
    pub turned_away: Option<bool>,
    /// `at` of its newest statement that it went back to an older state: what it had lost by then is said to it again.
    #[n(8)]
    pub went_back: Option<u64>,
}

impl MemberRecord {
    /// One that is in the group.
    #[must_use]
    pub fn new(own_side: bool, endpoint: String) -> Self {
        Self {
            own_side,
            endpoint,
            out: false,
            leaving: false,
            gave: false,
            suites: None,
            spoken_until: None,
            turned_away: None,
            went_back: None,
        }
    }
}

/// `Awaited`, by conversation, member and order: how far a message is on its way to one of several members, who has not confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The member cannot be written to: it is said when it gives a permit.
    Pending,
    /// It is to be said to this member, alone or with the others.
    Queued,
    /// It is in the member's lane, or has left: sealed in this epoch.
    Handed(u64),
}

impl Awaited {
    /// On disk: 0, 1, and from 2 on the epoch.
    const HANDED: u64 = 2;
}

impl<C> Encode<C> for Awaited {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let stored = match self {
            Self::Pending => 0,
            Self::Queued => 1,
            Self::Handed(epoch) => epoch.saturating_add(Self::HANDED),
        };
        e.u64(stored)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Awaited {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Ok(match d.u64()? {
            0 => Self::Pending,
            1 => Self::Queued,
            handed => Self::Handed(handed - Self::HANDED),
        })
    }
}

/// `Invitations`, by conversation and device name: a device that may ask to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct InvitationRecord {
    /// Until when, Unix ms.
    #[n(0)]
    pub until_ms: u64,
}
