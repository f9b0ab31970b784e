//! A test in a network of its own: nothing is there but loopback and one way out, which leads nowhere, and whatever goes that way is counted.
//!
//! The test runs itself once more inside a network namespace. There every address of the world has a route, so that somebody who tries to reach one
//! sends a packet: none that left means that nobody tried.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Set where the test runs inside.
const INSIDE: &str = "BULLA_TEST_ALONE";

/// No addresses that the kernel makes by itself and no asking for neighbours: it would send packets of its own.
const NETWORK: &str = "set -e
ip link set lo up
ip link add out type veth peer name nowhere
ip link set nowhere addrgenmode none up
ip link set out addrgenmode none arp off multicast off up
ip addr add 198.51.100.1/32 dev out
ip route add default dev out
ip -6 addr add 2001:db8::1/128 dev out nodad
ip -6 route add default dev out
exec \"$0\" \"$@\"";

/// The network that this test is in.
#[derive(Debug)]
pub struct Alone(());

/// Packets that were sent, by interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// By the way out.
    pub out: u64,
    /// From this machine to itself.
    pub looped: u64,
}

impl Alone {
    /// Inside, the network. Outside it runs the test of this name inside, fails as that does, and returns nothing; nor where this machine makes no
    /// such network, which it says.
    pub fn enter(test: &str) -> Result<Option<Self>> {
        if std::env::var_os(INSIDE).is_some() {
            return Ok(Some(Self(())));
        }
        let this = std::env::current_exe().context("where is this test?")?;
        let ways: [&[&str]; 2] = [&["--net"], &["--map-root-user", "--net"]];
        let works = |way: &&[&str]| {
            let tried = Command::new("unshare").args(*way).args(["sh", "-c", NETWORK, "true"]).output();
            tried.is_ok_and(|tried| tried.status.success())
        };
        let Some(way) = ways.into_iter().find(works) else {
            println!("not tested: this machine makes no network namespace (unshare, ip of iproute2, veth)");
            return Ok(None);
        };
        let mut inside = Command::new("unshare");
        inside.args(way).args(["sh", "-c", NETWORK]).arg(this).args(["--exact", test, "--nocapture"]);
        let ended = inside.env(INSIDE, "1").status().context("cannot start unshare")?;
        ensure!(ended.success(), "it failed in a network of its own");
        Ok(None)
    }

    /// What was sent so far.
    pub fn sent(&self) -> Result<Sent> {
        let table = std::fs::read_to_string("/proc/self/net/dev").context("no counts of packets")?;
        let of = |interface: &str| {
            let line = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
            let packets = line.and_then(|line| line.split_whitespace().nth(9)?.parse().ok());
            packets.with_context(|| format!("{interface} is not counted"))
        };
        Ok(Sent { out: of("out")?, looped: of("lo")? })
    }
}
