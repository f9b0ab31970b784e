//! What an operator decides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bulla_client::clock::{Clock, SystemClock};
use ipnet::IpNet;
use url::Url;

use crate::app::App;
use crate::identity::IdentityKey;
use crate::secret::Secret;

/// From where the API may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiReach {
    /// This machine only: any other address is refused at the start (GW-17).
    #[default]
    Loopback,
    /// Wherever it listens. Tokens then cross that network: under TLS if the gateway has a certificate, else put TLS before it.
    Network,
}

/// A business to be made at the first start. Later it is found by its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBusiness {
    /// Handle in links, and the name of its folder: 1 to 64 of `a-z 0-9 . _ -`, not beginning with a dot.
    pub handle: String,
    /// The name that customers read. For a business that exists, its new name.
    pub name: String,
}

/// How to run a gateway.
#[derive(Clone)]
pub struct Config {
    /// Folder with one folder per business; made if it is not there.
    pub data: PathBuf,
    /// Where customers fetch bundles.
    pub public_listen: SocketAddr,
    /// Where SDKs call.
    pub api_listen: SocketAddr,
    /// From where the API may be reached.
    pub api_reach: ApiReach,
    /// The relay that carries the businesses' envelopes: `ws://` or `wss://`.
    pub relay_url: String,
    /// Where the certificate for the public listener comes from, and for the API's if others may reach it; without one the gateway speaks no
    /// TLS itself.
    pub tls: Option<bulla_tls::Source>,
    /// Whom to trust at the relay, besides the public authorities: certificates in a PEM file.
    pub relay_ca: Option<PathBuf>,
    /// Origin in links, as customers reach it. Default: the public listener's address, or the name that its certificate is ordered for.
    pub public_url: Option<String>,
    /// The app for browsers, served to whoever opens a link in one; without it, a page of text.
    pub app: Option<App>,
    /// The developer's console, served on the API's listener; without it there is none, and nothing is kept for one.
    pub console: Option<App>,
    /// Where the console is reached, if not at the API's address on loopback: a reverse proxy's `https://HOST`. Whoever reaches it there
    /// still needs a code.
    pub console_origin: Option<Url>,
    /// Businesses to be made, if they are not there.
    pub businesses: Vec<NewBusiness>,
    /// Where webhooks of all businesses go, until the API says otherwise.
    pub webhook: Option<Url>,
    /// Networks besides the public internet in which customers' push services are reached, over `http` too and on any port.
    pub push_networks: Vec<IpNet>,
    /// Origins whose pages may have the app in a frame: the business's own site, with the widget.
    pub embed: Vec<url::Origin>,
    /// What verifies who customers are at a business itself, by handle.
    pub identity_keys: BTreeMap<String, IdentityKey>,
    /// Opens the businesses' key files.
    pub passphrase: Option<Secret>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// On loopback, free ports, the machine's clock, no business yet.
    #[must_use]
    pub fn new(data: PathBuf, relay_url: impl Into<String>) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data,
            public_listen: loopback,
            api_listen: loopback,
            api_reach: ApiReach::default(),
            relay_url: relay_url.into(),
            tls: None,
            relay_ca: None,
            public_url: None,
            app: None,
            console: None,
            console_origin: None,
            businesses: Vec::new(),
            webhook: None,
            push_networks: Vec::new(),
            embed: Vec::new(),
            identity_keys: BTreeMap::new(),
            passphrase: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the webhook's URL, which may carry secrets, nor the passphrase.
        f.debug_struct("Config")
            .field("data", &self.data)
            .field("public_listen", &self.public_listen)
            .field("api_listen", &self.api_listen)
            .field("api_reach", &self.api_reach)
            .field("relay_url", &self.relay_url)
            .field("tls", &self.tls)
            .field("relay_ca", &self.relay_ca)
            .field("public_url", &self.public_url)
            .field("app", &self.app)
            .field("console", &self.console)
            .field("businesses", &self.businesses)
            .field("webhook", &self.webhook.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw_16_debug_shows_neither_passphrase_nor_webhook() {
        let mut config = Config::new("/data".into(), "ws://127.0.0.1:1");
        config.passphrase = Some(Secret::new("canary"));
        config.webhook = Some("https://shop.example/?token=canary".parse().unwrap());
        let text = format!("{config:?}");
        assert!(!text.contains("canary"), "{text}");
    }
}
