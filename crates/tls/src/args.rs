//! The flags, the same in both programs.

use std::path::{Path, PathBuf};

use url::Url;

use crate::acme::Acme;
use crate::error::TlsError;
use crate::tls::Source;

/// Let's Encrypt.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// The folder of what was ordered, in the data folder.
const FOLDER: &str = "acme";

/// Where a program takes its certificate from.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "TLS (with neither --tls-cert nor --domain: by a reverse proxy before this)")]
pub struct TlsArgs {
    /// The certificate's chain in PEM, the server's own first: certbot's fullchain.pem. Looked at every minute, and taken when it was renewed.
    #[arg(long, value_name = "FILE", requires = "tls_key", conflicts_with = "domains")]
    tls_cert: Option<PathBuf>,

    /// The certificate's key in PEM: certbot's privkey.pem.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// A name under which this server is reached: its certificate is ordered from Let's Encrypt, whose terms of service you accept by this, and
    /// renewed. Port 443 of that name must lead here. Can be given several times.
    #[arg(long = "domain", value_name = "NAME")]
    domains: Vec<String>,

    /// Where Let's Encrypt may write to about the certificates: `mailto:you@shop.example`.
    #[arg(long, value_name = "MAILTO", requires = "domains", value_parser = contact)]
    acme_contact: Option<String>,

    /// Another ACME server's directory.
    #[arg(long, value_name = "URL", requires = "domains", default_value = LETS_ENCRYPT)]
    acme_directory: Url,

    /// Whom to trust when talking to that server, besides the public authorities, in PEM: for an authority of your own, such as step-ca.
    #[arg(long, value_name = "FILE", requires = "domains")]
    acme_ca: Option<PathBuf>,
}

fn contact(text: &str) -> Result<String, String> {
    match text.strip_prefix("mailto:") {
        Some(address) if address.contains('@') => Ok(text.to_owned()),
        _ => Err("say it as mailto:you@shop.example".to_owned()),
    }
}

impl TlsArgs {
    /// What they come to for a program with this data folder; none without TLS.
    pub fn source(&self, data: &Path) -> Result<Option<Source>, TlsError> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            return Ok(Some(Source::Files { certificate: certificate.clone(), key: key.clone() }));
        }
        if self.domains.is_empty() {
            return Ok(None);
        }
        let acme = Acme {
            domains: self.domains.clone(),
            contact: self.acme_contact.clone(),
            directory: self.acme_directory.clone(),
            authority: self.acme_ca.clone(),
            folder: data.join(FOLDER),
        };
        acme.checked().map(|acme| Some(Source::Acme(acme)))
    }
}
