//! A certificate for an address of the local network, for which no authority vouches: whoever opens it is warned once, and can compare its
//! fingerprint. It is no authority itself: who accepts it trusts this one server, and nothing that somebody else could sign.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use crate::certificate;
use crate::error::TlsError;

/// How long it is good for: browsers refuse more than 398 days.
const DAYS: i64 = 397;

/// Made again when it ends sooner than this.
const LEFT: u64 = 30 * 86_400;

/// A certificate in its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The certificate in PEM.
    pub certificate: PathBuf,
    /// Its key in PEM, for its owner's eyes only.
    pub key: PathBuf,
    /// SHA-256 of the certificate, as browsers show it: `AB:CD:…`.
    pub fingerprint: String,
}

/// The certificate in the folder for this address; made if there is none, if it is another address's or ends soon.
pub async fn certificate(folder: &Path, address: IpAddr, now: u64) -> Result<Local, TlsError> {
    let (file, key) = (folder.join("lan.crt"), folder.join("lan.key"));
    let der = match kept(&file, &key, address, now).await {
        Some(der) => der,
        None => make(&file, &key, address, now).await?,
    };
    let hex = data_encoding::HEXUPPER.encode(&Sha256::digest(&der));
    let pairs: Vec<_> = hex.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
    Ok(Local { certificate: file, key, fingerprint: pairs.join(":") })
}

async fn kept(file: &Path, key: &Path, address: IpAddr, now: u64) -> Option<Vec<u8>> {
    let (chain, secret) = (certificate::read(file).await.ok()?, certificate::read(key).await.ok()?);
    let loaded = certificate::load((file, &chain), (key, &secret), now).ok()?;
    let good = loaded.names == [address.to_string()] && loaded.ends > now + LEFT;
    good.then(|| loaded.key.cert.first().map(|der| der.to_vec()))?
}

async fn make(file: &Path, key: &Path, address: IpAddr, now: u64) -> Result<Vec<u8>, TlsError> {
    let setup = |error: &dyn std::fmt::Display| TlsError::Setup(error.to_string());
    let now = i64::try_from(now).ok().and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
    // A day ago: a phone's clock may be behind.
    let begins = now.unwrap_or(OffsetDateTime::UNIX_EPOCH) - Duration::DAY;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(address)];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Bulla on {address}"));
    (params.not_before, params.not_after) = (begins, begins + Duration::days(DAYS));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let pair = KeyPair::generate().map_err(|e| setup(&e))?;
    let made = params.self_signed(&pair).map_err(|e| setup(&e))?;
    write(key, pair.serialize_pem().as_bytes()).await?;
    write(file, made.pem().as_bytes()).await?;
    Ok(made.der().to_vec())
}

/// Writes a file that is whole or not there, readable by its owner only.
pub(crate) async fn write(file: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    use tokio::io::AsyncWriteExt as _;
    let folder = file.parent().unwrap_or(file).to_owned();
    make_folder(&folder).await?;
    let fail = |error| TlsError::Folder(folder.clone(), error);
    let beside = file.with_extension("new");
    let _ = tokio::fs::remove_file(&beside).await;
    let mut options = tokio::fs::OpenOptions::new();
    let mut opened = options.write(true).create_new(true).mode(0o600).open(&beside).await.map_err(fail)?;
    opened.write_all(bytes).await.map_err(fail)?;
    opened.sync_all().await.map_err(fail)?;
    tokio::fs::rename(&beside, file).await.map_err(fail)
}

/// Makes a folder, for its owner's eyes only.
pub(crate) async fn make_folder(folder: &Path) -> Result<(), TlsError> {
    let made = tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).await;
    made.map_err(|error| TlsError::Folder(folder.to_owned(), error))
}
