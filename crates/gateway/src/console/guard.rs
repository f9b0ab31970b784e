//! Which requests may be the console's own: what a page of another origin can make a browser send is refused before anything looks at it
//! (GW-08).
//!
//! A foreign page can send requests to loopback, and with a name that it lets resolve to 127.0.0.1 (DNS rebinding) even read the answers.
//! Neither helps: `Host` must be one of the names that this listener has, so that a rebound name is nobody's; whatever the browser says of
//! where a request comes from (`Sec-Fetch-Site`, `Origin`) must be this very origin; and what changes something must say it. Only the page
//! itself may be opened from elsewhere: by a click on its link.

use std::net::SocketAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use url::{Host, Url};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The page or one of its files.
    File,
    /// Something that the page's script asks.
    Api,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    /// Another name than the listener's.
    #[error("the console is not at this address; open the link that `bulla console` prints")]
    Host,
    /// Another origin than the listener's.
    #[error("the console answers its own page only")]
    Origin,
}

impl Foreign {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }
}

/// Why an address cannot be the console's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// It is more, or less, than an origin.
    #[error("it has to be https://HOST or https://HOST:PORT and nothing else")]
    Form,
    /// Sessions would cross a network in the clear.
    #[error("http:// is for this machine alone; let a proxy with TLS stand before it")]
    Plain,
}

/// The origins that the console has.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// Scheme, then host with port, as browsers write them.
    origins: Vec<(&'static str, String)>,
}

impl Guard {
    /// At a loopback address: that one, and `localhost`.
    pub(crate) fn at(bound: SocketAddr) -> Self {
        let names = [SocketAddr::new(bound.ip(), bound.port()).to_string(), format!("localhost:{}", bound.port())];
        Self { origins: names.map(|name| ("http", name.trim_end_matches(":80").to_owned())).into() }
    }

    /// Where a proxy makes it reachable.
    pub(crate) fn behind(origin: &Url) -> Result<Self, OriginError> {
        let bare = origin.path() == "/" && origin.query().is_none() && origin.fragment().is_none();
        if !bare || !origin.username().is_empty() || origin.password().is_some() {
            return Err(OriginError::Form);
        }
        let own = match origin.host().ok_or(OriginError::Form)? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        let scheme = match origin.scheme() {
            "https" => "https",
            "http" if own => "http",
            "http" => return Err(OriginError::Plain),
            _ => return Err(OriginError::Form),
        };
        let ascii = origin.origin().ascii_serialization();
        let host = ascii.split_once("://").map(|(_, host)| host.to_owned()).ok_or(OriginError::Form)?;
        Ok(Self { origins: vec![(scheme, host)] })
    }

    /// The origin in links.
    pub(crate) fn origin(&self) -> String {
        self.origins.first().map(|(scheme, host)| format!("{scheme}://{host}")).unwrap_or_default()
    }

    /// Whether cookies go over TLS alone.
    pub(crate) fn is_secure(&self) -> bool {
        self.origins.iter().all(|(scheme, _)| *scheme == "https")
    }

    /// Whether a request may be the console's own.
    pub(crate) fn admit(&self, asked: Asked, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Foreign> {
        let host = only(headers, &HOST).ok_or(Foreign::Host)?.ok_or(Foreign::Host)?;
        let own = self.origins.iter().find(|(_, name)| name.eq_ignore_ascii_case(host)).ok_or(Foreign::Host)?;
        if uri.authority().is_some_and(|named| !named.as_str().eq_ignore_ascii_case(host)) {
            return Err(Foreign::Host);
        }
        let foreign = || Foreign::Origin;
        let from = only(headers, &ORIGIN).ok_or_else(foreign)?;
        let ours = format!("{}://{}", own.0, own.1);
        match from {
            Some(from) if from != ours => return Err(Foreign::Origin),
            None if asked == Asked::Api && !matches!(*method, Method::GET | Method::HEAD) => {
                return Err(Foreign::Origin);
            }
            _ => {}
        }
        match only(headers, &SITE).ok_or_else(foreign)? {
            // Not a browser of these years, or not a browser: a session is needed all the same.
            None | Some("same-origin") => Ok(()),
            Some(_) if asked == Asked::File && opens_a_page(method, headers) => Ok(()),
            Some(_) => Err(Foreign::Origin),
        }
    }
}

/// Somebody clicks a link or types an address; the answer replaces the page that he was on, which learns nothing of it.
fn opens_a_page(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &HeaderName, value: &str| only(headers, name).flatten() == Some(value);
    *method == Method::GET && is(&MODE, "navigate") && is(&DEST, "document")
}

/// A header that may stand once: its value, `None` if it is not there; nothing if there are two or it is no text.
#[expect(clippy::option_option, reason = "absent and unusable are different answers")]
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Option<&'h str>> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else { return Some(None) };
    if all.next().is_some() {
        return None;
    }
    first.to_str().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1:7412";

    fn asks(asked: Asked, method: Method, headers: &[(&'static str, &str)]) -> Result<(), Foreign> {
        let guard = Guard::at(HERE.parse().unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        guard.admit(asked, &method, &Uri::from_static("/console/api/log"), &map)
    }

    #[test]
    fn the_page_itself_may_ask() {
        let own = [("host", HERE), ("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:7412")];
        assert_eq!(asks(Asked::Api, Method::POST, &own), Ok(()));
        assert_eq!(asks(Asked::Api, Method::GET, &own[..2]), Ok(()));
        let named =
            [("host", "LocalHost:7412"), ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:7412")];
        assert_eq!(asks(Asked::Api, Method::POST, &named), Ok(()));
    }

    #[test]
    fn gw_08_other_names_of_this_machine_are_nobodys() {
        for host in
            ["evil.example:7412", "127.0.0.1", "127.0.0.1:7411", "127.0.0.2:7412", "[::1]:7412", "", "127.0.0.1:7412."]
        {
            for asked in [Asked::File, Asked::Api] {
                assert_eq!(asks(asked, Method::GET, &[("host", host)]), Err(Foreign::Host), "{host}");
            }
        }
        assert_eq!(asks(Asked::File, Method::GET, &[]), Err(Foreign::Host));
        assert_eq!(asks(Asked::File, Method::GET, &[("host", HERE), ("host", HERE)]), Err(Foreign::Host));
        let guard = Guard::at(HERE.parse().unwrap());
        let headers = HeaderMap::from_iter([(HOST, HERE.parse().unwrap())]);
        let elsewhere = Uri::from_static("http://evil.example/console");
        assert_eq!(guard.admit(Asked::File, &Method::GET, &elsewhere, &headers), Err(Foreign::Host));
    }

    #[test]
    fn gw_08_what_comes_from_elsewhere_is_refused_whatever_it_says() {
        let foreign = [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:9000"),
            ("origin", "https://127.0.0.1:7412"),
            ("origin", "http://localhost:7412"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
        ];
        for header in foreign {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let headers = [("host", HERE), header];
                assert_eq!(asks(Asked::Api, method, &headers), Err(Foreign::Origin), "{header:?}");
            }
        }
        assert_eq!(
            asks(Asked::Api, Method::POST, &[("host", HERE)]),
            Err(Foreign::Origin),
            "it must say where it comes from"
        );
        let twice = [("host", HERE), ("origin", "http://127.0.0.1:7412"), ("origin", "http://evil.example")];
        assert_eq!(asks(Asked::Api, Method::POST, &twice), Err(Foreign::Origin));
    }

    #[test]
    fn a_page_may_be_opened_from_anywhere_and_not_be_embedded() {
        let from = |mode, dest| {
            [("host", HERE), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]
        };
        assert_eq!(asks(Asked::File, Method::GET, &from("navigate", "document")), Ok(()));
        for (mode, dest) in [("navigate", "iframe"), ("no-cors", "script"), ("no-cors", "document"), ("cors", "empty")]
        {
            assert_eq!(asks(Asked::File, Method::GET, &from(mode, dest)), Err(Foreign::Origin), "{mode} {dest}");
        }
        assert_eq!(asks(Asked::Api, Method::GET, &from("navigate", "document")), Err(Foreign::Origin));
    }

    #[test]
    fn behind_a_proxy_it_has_that_one_origin() {
        let guard = Guard::behind(&"https://console.shop.example".parse().unwrap()).unwrap();
        assert_eq!((guard.origin().as_str(), guard.is_secure()), ("https://console.shop.example", true));
        let headers = |host: &str| HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        let ask = |host| guard.admit(Asked::File, &Method::GET, &Uri::from_static("/console"), &headers(host));
        assert_eq!(ask("console.shop.example"), Ok(()));
        assert_eq!(ask(HERE), Err(Foreign::Host));
        assert!(Guard::behind(&"http://localhost:8080".parse().unwrap()).is_ok());
        for (wrong, why) in [
            ("http://console.shop.example", OriginError::Plain),
            ("https://shop.example/console", OriginError::Form),
            ("https://a:b@shop.example", OriginError::Form),
            ("ftp://shop.example", OriginError::Form),
        ] {
            assert_eq!(Guard::behind(&wrong.parse().unwrap()).unwrap_err(), why, "{wrong}");
        }
    }
}
