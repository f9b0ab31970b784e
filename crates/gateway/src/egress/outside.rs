//! Addresses that strangers chose, such as a customer's push service: only the public internet is reached there (GW-03).
//!
//! A name is resolved here, once, and every address that it has must be public; the connection then goes to just these. No redirect is
//! followed, no proxy asked. What is not public is the IANA registries of special-purpose addresses (RFC 6890 and its updates), and of IPv6
//! everything outside of 2000::/3 or that carries an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::{AddressError, admit};

/// IPv4 that is not the public internet: this network, private, shared, loopback, link-local (with the clouds' metadata), protocol
/// assignments, documentation, 6to4 relays, benchmarking, multicast, reserved and broadcast.
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The one block of global unicast addresses.
const UNICAST_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What of it is not public: IETF assignments (Teredo, ORCHID, benchmarking), documentation, 6to4, segment routing.
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// What strangers' addresses may reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outside(Arc<Vec<IpNet>>);

impl Outside {
    /// The public internet, over `https` on its own port; and these networks, over `http` too and on any port.
    pub(crate) fn with(networks: Vec<IpNet>) -> Self {
        Self(Arc::new(networks))
    }

    fn is_named(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address.to_canonical()))
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        is_public(address) || self.is_named(address)
    }

    /// Whether a URL may be asked at all. Where it has a name, its addresses are looked at when it is resolved.
    pub(crate) fn admit(&self, text: &str) -> Result<Url, AddressError> {
        let url = admit(text)?;
        let literal = match url.host() {
            Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
            Some(Host::Domain(_)) | None => None,
        };
        match literal {
            Some(address) if self.is_named(address) => Ok(url),
            Some(address) if !is_public(address) => Err(AddressError::Inside),
            _ if url.scheme() != "https" || url.port().is_some() => Err(AddressError::Plain),
            _ => Ok(url),
        }
    }
}

/// Resolves with the system, and refuses a name of which one address is not to be reached.
impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            // Port 0: the client puts the URL's in its place.
            let all: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if all.iter().all(|address| this.may_reach(address.ip())) {
                Ok(Box::new(all.into_iter()) as Addrs)
            } else {
                Err(Box::new(AddressError::Inside) as Box<dyn std::error::Error + Send + Sync>)
            }
        })
    }
}

/// Whether an address is of the public internet.
fn is_public(address: IpAddr) -> bool {
    let v4 = |(network, length): &(Ipv4Addr, u8), address| {
        Ipv4Net::new(*network, *length).is_ok_and(|n| n.contains(address))
    };
    let v6 = |(network, length): &(Ipv6Addr, u8), address| {
        Ipv6Net::new(*network, *length).is_ok_and(|n| n.contains(address))
    };
    match address.to_canonical() {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|network| v4(network, &address)),
        IpAddr::V6(address) => v6(&UNICAST_V6, &address) && !NOT_PUBLIC_V6.iter().any(|network| v6(network, &address)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every way to write an IPv4 address that people have got past such guards with; the URL parser makes an address of each first.
    fn spellings(address: Ipv4Addr) -> Vec<String> {
        let [a, b, c, d] = address.octets();
        let whole = u32::from(address);
        let (low3, low2) = (whole & 0xff_ffff, whole & 0xffff);
        let full_width =
            |text: &str| text.chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap()).collect::<String>();
        let [high, low] = [whole >> 16, low2];
        let mut all = vec![
            format!("{a}.{b}.{c}.{d}"),
            format!("{a}.{b}.{c}.{d}."),
            format!("{whole}"),
            format!("{whole:#x}"),
            format!("0{whole:o}"),
            format!("{a}.{low3}"),
            format!("{a}.{b}.{low2}"),
            format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("{a}.{b:#x}.0{c:o}.{d}"),
            full_width(&format!("{a}.{b}.{c}.{d}")),
            format!("{a}\u{3002}{b}\u{3002}{c}\u{3002}{d}"),
            format!("{a}.{b}.{c}.{d}").bytes().map(|byte| format!("%{byte:02x}")).collect(),
        ];
        // Inside of IPv6: mapped, compatible, NAT64 and 6to4.
        all.extend([
            format!("[::ffff:{address}]"),
            format!("[::ffff:{high:x}:{low:x}]"),
            format!("[0:0:0:0:0:FFFF:{high:x}:{low:x}]"),
            format!("[::{address}]"),
            format!("[64:ff9b::{address}]"),
            format!("[64:ff9b:1::{high:x}:{low:x}]"),
            format!("[2002:{high:x}:{low:x}::]"),
        ]);
        all
    }

    /// Every inside address in every spelling, under every scheme and port that might get past.
    pub(in crate::egress) fn inside_urls() -> Vec<String> {
        let mut hosts = Vec::new();
        for (network, length) in NOT_PUBLIC_V4 {
            let network = Ipv4Net::new(network, length).unwrap();
            for address in [network.network(), network.broadcast()] {
                hosts.extend(spellings(address));
            }
        }
        hosts.extend(spellings(Ipv4Addr::new(169, 254, 169, 254)));
        let inside_v6 = [
            "[::]",
            "[::1]",
            "[100::1]",
            "[2001::1]",
            "[2001:0:7f00:1::]",
            "[2001:10::1]",
            "[2001:20::1]",
            "[2001:db8::1]",
            "[3fff::1]",
            "[4000::1]",
            "[5f00::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
        ];
        hosts.extend(inside_v6.map(str::to_owned));
        let ports = |host: &String, scheme| ["", ":443", ":8443"].map(|port| format!("{scheme}://{host}{port}/x"));
        hosts.iter().flat_map(|host| ["https", "http"].into_iter().flat_map(|scheme| ports(host, scheme))).collect()
    }

    #[test]
    fn gw_03_no_spelling_of_an_inside_address_is_admitted() {
        let outside = Outside::default();
        let urls = inside_urls();
        for url in &urls {
            assert_eq!(outside.admit(url).map(String::from), Err(AddressError::Inside), "{url}");
        }
        let tried = urls.len();
        assert!(tried > 1_200, "{tried}");
        // The spellings are of addresses, not of something that is refused for its form: a public one is admitted in each but IPv6's.
        for host in &spellings(Ipv4Addr::new(8, 8, 4, 4))[..13] {
            assert!(outside.admit(&format!("https://{host}/x")).is_ok(), "{host}");
        }
    }

    #[test]
    fn gw_03_only_https_on_its_own_port_is_admitted() {
        let outside = Outside::default();
        for good in
            ["https://push.example/x?y=z", "https://push.example:443/x", "https://8.8.8.8/", "https://[2606:4700::1]/"]
        {
            assert!(outside.admit(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://push.example/", AddressError::Plain),
            ("https://push.example:8443/", AddressError::Plain),
            ("http://8.8.8.8/", AddressError::Plain),
            ("https://user@push.example/", AddressError::Credentials),
            ("ftp://push.example/", AddressError::Scheme),
            ("unix:/run/x", AddressError::Scheme),
            ("", AddressError::Form),
        ] {
            assert_eq!(outside.admit(bad).map(String::from), Err(why), "{bad}");
        }
    }

    #[test]
    fn gw_03_a_network_that_is_named_is_reached_and_its_neighbour_is_not() {
        let outside = Outside::with(vec!["127.0.0.0/30".parse().unwrap(), "fd00:1::/32".parse().unwrap()]);
        for good in
            ["http://127.0.0.1:9000/x", "http://127.0.0.3/", "http://[::ffff:127.0.0.1]:1/", "http://[fd00:1::9]:80/"]
        {
            assert!(outside.admit(good).is_ok(), "{good}");
        }
        for bad in ["http://127.0.0.4/", "http://[fd00:2::1]/", "http://10.0.0.1/"] {
            assert_eq!(outside.admit(bad).map(String::from), Err(AddressError::Inside), "{bad}");
        }
    }

    /// A public name with an inside address, as in DNS rebinding: the answer is looked at where it is used.
    #[tokio::test]
    async fn gw_03_a_name_is_refused_by_its_addresses() {
        let resolve =
            |outside: Outside| async move { outside.resolve("localhost".parse().unwrap()).await.map(Iterator::count) };
        let refused = resolve(Outside::default()).await.unwrap_err();
        assert_eq!(refused.downcast_ref(), Some(&AddressError::Inside));
        // Both addresses that a name may have must be allowed, not one of them.
        let named = Outside::with(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        assert!(resolve(named).await.unwrap() >= 1);
    }
}
