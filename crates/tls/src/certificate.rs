//! A certificate's chain and key from PEM, and what may be wrong with them.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncReadExt as _;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::error::TlsError;

/// Bytes of a file: far more than a chain and a key have.
const LONGEST: u64 = 1 << 20;

/// A chain with its key, ready for use.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// For rustls.
    pub(crate) key: Arc<CertifiedKey>,
    /// When it begins and ends, in seconds since 1970.
    pub(crate) begins: u64,
    pub(crate) ends: u64,
    /// For whom it is: names and addresses as text, in order.
    pub(crate) names: Vec<String>,
}

/// The one provider of cryptography in this project.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A small file.
pub(crate) async fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => TlsError::Missing(file.to_owned()),
        _ => TlsError::Unreadable(file.to_owned(), error),
    };
    let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    opened.take(LONGEST + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(TlsError::TooLarge(file.to_owned(), LONGEST));
    }
    Ok(bytes)
}

/// The certificates in a file's bytes, in their order.
pub(crate) fn chain(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(TlsError::NoCertificate(file.to_owned())),
    }
}

/// Puts together what was read from two files, or from one.
pub(crate) fn load(certificate: (&Path, &[u8]), key: (&Path, &[u8]), now: u64) -> Result<Loaded, TlsError> {
    let file = certificate.0.to_owned();
    let chain = chain(&file, certificate.1)?;
    let own = chain.first().ok_or_else(|| TlsError::NoCertificate(file.clone()))?;
    let parsed = x509_cert::Certificate::from_der(own).map_err(|e| TlsError::Unusable(file.clone(), e.to_string()))?;
    let (begins, ends) = (
        parsed.tbs_certificate.validity.not_before.to_unix_duration().as_secs(),
        parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs(),
    );
    let names = names(&parsed);
    let secret = PrivateKeyDer::from_pem_slice(key.1).map_err(|_| TlsError::NoKey(key.0.to_owned()))?;
    let certified = CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { certificate: file.clone(), key: key.0.to_owned() },
        other => TlsError::Unusable(file.clone(), other.to_string()),
    })?;
    if ends <= now {
        return Err(TlsError::Expired(file, day(ends)));
    }
    Ok(Loaded { key: Arc::new(certified), begins, ends, names })
}

fn names(certificate: &x509_cert::Certificate) -> Vec<String> {
    let said = match certificate.tbs_certificate.get::<SubjectAltName>() {
        Ok(Some((_, names))) => names.0,
        _ => return Vec::new(),
    };
    let name = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match *bytes.as_bytes() {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            ref long => <[u8; 16]>::try_from(long).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    let mut names: Vec<_> = said.iter().filter_map(name).collect();
    names.sort_unstable();
    names
}

/// The day of a time, as people write it.
pub(crate) fn day(secs: u64) -> String {
    let time = i64::try_from(secs).ok().and_then(|secs| time::OffsetDateTime::from_unix_timestamp(secs).ok());
    time.map_or_else(|| "a day far away".to_owned(), |time| time.date().to_string())
}
