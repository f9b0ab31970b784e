//! Every decoder of what a peer sends, each as one function of bytes (catalogue: MLS-02).
//!
//! The fuzz targets of `fuzz/` and the ordinary tests run these very functions: the fuzzer looks for new inputs, [`corpus::replay`] runs
//! those that are committed under `fuzz/corpus/` and thousands of mutations of each, on every `cargo test`. A function panics where a
//! decoder does, and where what a decoder accepted does not keep a promise: that it encodes again to the same, or that an endpoint can
//! still load what it stored.
//!
//! Much of what a peer sends arrives signed or sealed, and a mutated ciphertext ends at the first check. So most functions look at their
//! bytes twice: as they came from a stranger, and as an authenticated peer would have sent them, signed or sealed here with keys that the
//! peer has. Those keys are [`world`]'s.
//!
//! - [`wire`]: frames of the relay in both directions, permits, names
//! - [`sealed`]: links, certificates, bundles, Hellos, envelopes, content, invitations and requests of devices, statements that continue
//!   or turn away
//! - [`mls`]: MLS messages and Welcomes, raw and as a malicious member makes them
//! - [`endpoint`]: a whole endpoint that hears a malicious relay and a malicious other side
//! - [`corpus`]: committed inputs, their mutations, and what they have to lead to
//! - [`samples`]: makes the valid ones, from the real encoders

pub mod corpus;
pub mod endpoint;
pub mod mls;
pub mod samples;
pub mod sealed;
pub mod wire;
pub mod world;

/// What a decoder said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what it claims to be.
    Accepted,
    /// It was refused with an error, and nothing else happened.
    Refused,
}

impl Verdict {
    /// Accepted if `accepted`.
    #[must_use]
    pub fn of(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }

    /// Accepted if one of both is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Accepted { self } else { other }
    }
}

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// Names the fuzz target and the corpus's folder.
    pub name: &'static str,
    /// Decodes, checks what was promised, and panics if something is not kept.
    pub run: fn(&[u8]) -> Verdict,
    /// Mutations of one file in an ordinary test at most: less where one run costs more, so that all of it takes seconds.
    pub mutations: usize,
}

const CHEAP: usize = 20_000;
const PUBLIC_KEY: usize = 1_500;
const CONVERSATION: usize = 300;
const ENDPOINT: usize = 60;

/// All of them but the gateway's, which are private to it (`gateway/src/fuzzing.rs`).
pub const ALL: &[Decoder] = &[
    Decoder { name: "client_frame", run: wire::client_frame, mutations: CHEAP },
    Decoder { name: "server_frame", run: wire::server_frame, mutations: CHEAP },
    Decoder { name: "permit", run: wire::permit, mutations: CHEAP },
    Decoder { name: "tag", run: wire::tag, mutations: CHEAP },
    Decoder { name: "names", run: wire::names, mutations: CHEAP },
    Decoder { name: "link", run: sealed::link, mutations: CHEAP },
    Decoder { name: "given_permit", run: sealed::given_permit, mutations: CHEAP },
    Decoder { name: "content", run: sealed::content, mutations: CHEAP },
    Decoder { name: "envelope", run: sealed::envelope, mutations: CHEAP },
    Decoder { name: "certificate", run: sealed::certificate, mutations: PUBLIC_KEY },
    Decoder { name: "bundle", run: sealed::bundle, mutations: PUBLIC_KEY },
    Decoder { name: "hello", run: sealed::hello, mutations: PUBLIC_KEY },
    Decoder { name: "hello_again", run: sealed::hello_again, mutations: PUBLIC_KEY },
    Decoder { name: "invitation", run: sealed::invitation, mutations: PUBLIC_KEY },
    Decoder { name: "join", run: sealed::join, mutations: PUBLIC_KEY },
    Decoder { name: "continues", run: sealed::continues, mutations: PUBLIC_KEY },
    Decoder { name: "turned_away", run: sealed::turned_away, mutations: PUBLIC_KEY },
    Decoder { name: "mls_message", run: mls::message, mutations: CONVERSATION },
    Decoder { name: "mls_welcome", run: mls::welcome, mutations: CONVERSATION },
    Decoder { name: "mls_group_info", run: mls::group_info, mutations: CONVERSATION },
    Decoder { name: "mls_content", run: mls::content, mutations: CONVERSATION },
    Decoder { name: "customer_endpoint", run: endpoint::customer, mutations: ENDPOINT },
    Decoder { name: "business_endpoint", run: endpoint::business, mutations: ENDPOINT },
];

/// Runs one of [`ALL`], for a fuzz target.
///
/// # Panics
///
/// If there is none of this name, and where the decoder does.
pub fn run(name: &str, bytes: &[u8]) {
    let decoder = ALL.iter().find(|decoder| decoder.name == name);
    (decoder.unwrap_or_else(|| panic!("no decoder is called {name}")).run)(bytes);
}
