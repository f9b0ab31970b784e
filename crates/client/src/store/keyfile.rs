//! The root key's file: 32 random bytes, either as they are (mode 0600) or wrapped by a passphrase.
//!
//! `BULLA-KEY-1 plain <hex>` or `BULLA-KEY-1 argon2id <salt hex> <wrapped hex>`, one line. Argon2id as RFC 9106 recommends where
//! memory is limited (64 MiB, 3 passes, 4 lanes).

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use bulla_protocol::label;
use data_encoding::HEXLOWER;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::StoreError;
use super::vault::{RootKey, decrypt, encrypt};

const MAGIC: &str = "BULLA-KEY-1";

/// Loads the key in `path`, or makes it there. A passphrase that is given at the first start is asked for ever after.
pub fn load_or_create(
    path: &Path,
    passphrase: Option<&str>,
    rng: &mut impl CryptoRngCore,
) -> Result<RootKey, StoreError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &Zeroizing::new(text), passphrase),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => create(path, passphrase, rng),
        Err(e) => Err(StoreError::Key(format!("the key file {} cannot be read: {e}", path.display()))),
    }
}

/// Whether a key file can be opened without a passphrase.
pub fn is_open(path: &Path) -> Result<bool, StoreError> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|e| StoreError::Key(format!("the key file {} cannot be read: {e}", path.display())))?;
    Ok(text.split_whitespace().nth(1) == Some("plain"))
}

/// Writes a key that one has into a new file, under a passphrase.
pub fn write(path: &Path, key: &RootKey, passphrase: &str, rng: &mut impl CryptoRngCore) -> Result<(), StoreError> {
    save(path, key, Some(passphrase), rng)
}

fn create(path: &Path, passphrase: Option<&str>, rng: &mut impl CryptoRngCore) -> Result<RootKey, StoreError> {
    let key = RootKey::generate(rng);
    save(path, &key, passphrase, rng)?;
    Ok(key)
}

fn save(path: &Path, key: &RootKey, passphrase: Option<&str>, rng: &mut impl CryptoRngCore) -> Result<(), StoreError> {
    let line = Zeroizing::new(match passphrase {
        None => format!("{MAGIC} plain {}\n", &*Zeroizing::new(HEXLOWER.encode(key.expose()))),
        Some(passphrase) => {
            let mut salt = [0; 16];
            rng.fill_bytes(&mut salt);
            let wrapping = stretch(passphrase, &salt)?;
            let wrapped = encrypt(&wrapping, rng, label::STORE_KEY, key.expose())?;
            format!("{MAGIC} argon2id {} {}\n", HEXLOWER.encode(&salt), HEXLOWER.encode(&wrapped))
        }
    });
    let fail = |e: std::io::Error| StoreError::Key(format!("the key file {} cannot be written: {e}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    // Complete or absent: a half-written key after a crash would lock everything out.
    let partial = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial).map_err(fail)?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&partial, path).map_err(fail)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder).and_then(|d| d.sync_all()).map_err(fail)?;
    }
    Ok(())
}

fn parse(path: &Path, text: &str, passphrase: Option<&str>) -> Result<RootKey, StoreError> {
    let damaged = || StoreError::Key(format!("the key file {} is damaged; restore it from a backup", path.display()));
    let hex = |field: &str| HEXLOWER.decode(field.as_bytes()).map(Zeroizing::new).map_err(|_| damaged());
    let words: Vec<&str> = text.split_whitespace().collect();
    let key = match (words.as_slice(), passphrase) {
        ([MAGIC, "plain", key], None) => hex(key)?,
        ([MAGIC, "plain", _], Some(_)) => {
            return Err(StoreError::Key(format!(
                "the key file {} has no passphrase; start without one, or make a new data folder with it",
                path.display()
            )));
        }
        ([MAGIC, "argon2id", ..], None) => {
            return Err(StoreError::Key(format!("the key file {} needs its passphrase", path.display())));
        }
        ([MAGIC, "argon2id", salt, wrapped], Some(passphrase)) => {
            let wrapping = stretch(passphrase, &hex(salt)?)?;
            decrypt(&wrapping, label::STORE_KEY, &hex(wrapped)?)
                .ok_or_else(|| StoreError::Key(format!("wrong passphrase for the key file {}", path.display())))?
        }
        _ => return Err(damaged()),
    };
    <[u8; 32]>::try_from(key.as_slice()).map(RootKey::new).map_err(|_| damaged())
}

fn stretch(passphrase: &str, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let fail = |e: argon2::Error| StoreError::Key(format!("the passphrase cannot be stretched: {e}"));
    let params = Params::new(64 * 1024, 3, 4, Some(32)).map_err(fail)?;
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *out)
        .map_err(fail)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::OsRng;

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.key");
        let made = load_or_create(&path, None, &mut OsRng).unwrap();
        assert_eq!(load_or_create(&path, None, &mut OsRng).unwrap().expose(), made.expose());
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_passphrase_is_asked_for_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.key");
        let made = load_or_create(&path, Some("correct horse"), &mut OsRng).unwrap();
        let again = load_or_create(&path, Some("correct horse"), &mut OsRng).unwrap();
        assert_eq!(again.expose(), made.expose());
        let wrong = load_or_create(&path, Some("wrong"), &mut OsRng).unwrap_err();
        assert!(wrong.to_string().contains("wrong passphrase"), "{wrong}");
        let none = load_or_create(&path, None, &mut OsRng).unwrap_err();
        assert!(none.to_string().contains("needs its passphrase"), "{none}");
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&HEXLOWER.encode(made.expose())));
    }
}
