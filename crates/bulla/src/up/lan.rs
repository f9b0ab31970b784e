//! `--lan`: which address of this machine a phone can reach, and how it gets there.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::{Context as _, bail};
use bulla_tls::local::Local;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// An address that nobody has (RFC 5737), on the way to which most others lie.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// The address that was asked for, if it is this machine's; else the one with which it is in a local network.
pub(super) fn address(wanted: Option<IpAddr>) -> anyhow::Result<IpAddr> {
    match wanted {
        Some(address) => named(address),
        None => found(towards(ELSEWHERE)),
    }
}

fn named(address: IpAddr) -> anyhow::Result<IpAddr> {
    if address.is_unspecified() || address.is_multicast() {
        bail!(
            "{address} is no address that a phone can open; give this machine's in your network, such as --lan 192.168.1.5"
        );
    }
    match UdpSocket::bind((address, 0)) {
        Ok(_) => Ok(address),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            bail!("{address} is not an address of this machine; `ip address` lists them")
        }
        Err(error) => Err(error).with_context(|| format!("cannot use the address {address}")),
    }
}

/// From which address this machine would send there. Nothing is sent: the system only looks for the way.
fn towards(there: (Ipv4Addr, u16)) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(there).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Only an address of a local network is taken unasked: with another, strangers could be meant to connect.
fn found(address: Option<IpAddr>) -> anyhow::Result<IpAddr> {
    match address {
        Some(IpAddr::V4(v4)) if v4.is_private() || v4.is_link_local() => Ok(v4.into()),
        Some(address) if !address.is_loopback() && !address.is_unspecified() => bail!(
            "this machine's address {address} is not one of a local network, and others could connect; say --lan {address} if that is meant"
        ),
        _ => bail!("this machine is in no network; if it is, say with which address: --lan 192.168.1.5"),
    }
}

/// What a person reads who wants to open the link on a phone.
pub(super) fn lines(link: &str, local: &Local, in_colour: bool) -> anyhow::Result<Vec<String>> {
    let code = QrCode::new(link).context("the link is too long for a QR code")?;
    // Drawn in dark on light whatever the terminal's colours are; where there are none, light is what is drawn.
    let (dark, light, ink, end) = match in_colour {
        true => (Dense1x2::Dark, Dense1x2::Light, "\x1b[38;5;16;48;5;231m", "\x1b[0m"),
        false => (Dense1x2::Light, Dense1x2::Dark, "", ""),
    };
    let drawn = code.render::<Dense1x2>().dark_color(dark).light_color(light).build();
    let mut lines =
        vec![String::new(), "On a phone in the same network: point its camera here, or open the link.".to_owned()];
    lines.extend(drawn.lines().map(|line| format!("{ink}{line}{end}")));
    lines.push(
        "It will warn once, because nobody vouches for a certificate of a local address. Go on if it is the one with this fingerprint (SHA-256):"
            .to_owned(),
    );
    lines.push(format!("  {}", local.fingerprint));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_a_local_network_is_taken_unasked() {
        for good in ["192.168.1.5", "10.0.0.7", "172.31.0.1", "169.254.3.4"] {
            let good: IpAddr = good.parse().unwrap();
            assert_eq!(found(Some(good)).unwrap(), good);
        }
        for public in ["8.8.8.8", "172.32.0.1", "2001:db8::1"] {
            let error = found(Some(public.parse().unwrap())).unwrap_err().to_string();
            assert!(error.contains(&format!("--lan {public}")), "{error}");
        }
        for none in [None, Some("127.0.0.1".parse().unwrap()), Some("0.0.0.0".parse().unwrap())] {
            assert!(found(none).unwrap_err().to_string().contains("in no network"));
        }
    }

    #[test]
    fn a_named_address_must_be_this_machines() {
        assert!(address(Some("127.0.0.1".parse().unwrap())).unwrap().is_loopback());
        let elsewhere = address(Some("203.0.113.77".parse().unwrap())).unwrap_err().to_string();
        assert!(elsewhere.contains("not an address of this machine"), "{elsewhere}");
        assert!(address(Some("0.0.0.0".parse().unwrap())).unwrap_err().to_string().contains("no address"));
        // The way to this machine begins at this machine.
        assert_eq!(towards((Ipv4Addr::LOCALHOST, 9)), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn the_code_is_the_link_and_fits_a_terminal() {
        let local = Local { certificate: "c".into(), key: "k".into(), fingerprint: "AB:CD".into() };
        let link = format!("https://192.168.100.100:7411/@cortado#k={}", "x".repeat(43));
        let plain = lines(&link, &local, false).unwrap();
        let widest = plain.iter().filter(|line| line.contains('█')).map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= 60), "{plain:#?}");
        assert!(plain.iter().any(|line| line.contains("AB:CD")));
        assert!(!plain.concat().contains('\x1b') && lines(&link, &local, true).unwrap().concat().contains("\x1b[0m"));
    }
}
