//! Why TLS cannot be had, and what to do.

use std::path::PathBuf;

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is not there.
    #[error("there is no file {0}, which should hold a certificate or a key in PEM")]
    Missing(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {0}: {1}. The user who runs this program must be allowed to")]
    Unreadable(PathBuf, std::io::Error),
    /// A file is larger than a chain of certificates can be.
    #[error("{0} is larger than {1} bytes: is it a certificate or a key in PEM?")]
    TooLarge(PathBuf, u64),
    /// No certificate is in the file.
    #[error("{0} contains no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(PathBuf),
    /// No private key is in the file.
    #[error(
        "{0} contains no private key in PEM (-----BEGIN PRIVATE KEY-----); one with a passphrase must be opened first"
    )]
    NoKey(PathBuf),
    /// The certificate or the key is none that can be used.
    #[error("the certificate in {0} cannot be used: {1}")]
    Unusable(PathBuf, String),
    /// The key is another certificate's.
    #[error(
        "the key in {key} does not belong to the certificate in {certificate}: give both files of one certificate, the chain with the server's own first"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is over.
    #[error("the certificate in {0} expired on {1}: renew it")]
    Expired(PathBuf, String),
    /// Not a name for which a certificate can be ordered.
    #[error(
        "'{0}' is not a name for which a certificate can be ordered: give a host's name such as relay.example, without wildcard, port or path"
    )]
    Domain(String),
    /// Too many names.
    #[error("a certificate is ordered for at most {0} names")]
    TooManyDomains(usize),
    /// A directory must be reached under TLS.
    #[error("the ACME server's address {0} must begin with https://")]
    Directory(Box<url::Url>),
    /// The data folder does not take a certificate.
    #[error("cannot keep certificates in {0}: {1}. Mend its permissions, or choose another data folder")]
    Folder(PathBuf, std::io::Error),
    /// What should not happen: the TLS library refuses what this program gives it.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}
