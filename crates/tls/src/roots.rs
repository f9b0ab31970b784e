//! Whom a client trusts: Mozilla's roots, and those that somebody adds.

use std::path::Path;

use rustls::RootCertStore;

use crate::certificate;
use crate::error::TlsError;

/// Mozilla's roots, and every certificate in the PEM file, if there is one: a private authority, or a server's own self-signed certificate.
pub async fn with(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = file {
        for certificate in certificate::chain(file, &certificate::read(file).await?)? {
            roots.add(certificate).map_err(|error| TlsError::Unusable(file.to_owned(), error.to_string()))?;
        }
    }
    Ok(roots)
}
