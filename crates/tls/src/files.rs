//! A certificate in two files, which somebody else renews.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::certificate::{self, Loaded, day};
use crate::error::TlsError;
use crate::tls::{Current, Now};

/// The files, and what was in them.
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Hashes of both.
    seen: Option<[[u8; 32]; 2]>,
}

impl Files {
    pub(crate) fn new(certificate: &Path, key: &Path) -> Self {
        Self { certificate: certificate.to_owned(), key: key.to_owned(), seen: None }
    }

    /// What is in the files now, unless it is what was there before. A pair that is wrong is said so once.
    pub(crate) async fn look(&mut self, now: u64) -> Result<Option<Loaded>, TlsError> {
        let (chain, key) = (certificate::read(&self.certificate).await?, certificate::read(&self.key).await?);
        let seen = [Sha256::digest(&chain).into(), Sha256::digest(&key).into()];
        if self.seen.replace(seen) == Some(seen) {
            return Ok(None);
        }
        certificate::load((&self.certificate, &chain), (&self.key, &key), now).map(Some)
    }

    /// Looks at the files as long as this is polled. Whatever is wrong with new ones, the certificate in use stays.
    pub(crate) async fn follow(mut self, every: Duration, now: Now, current: Current) {
        let mut complained = None;
        loop {
            tokio::time::sleep(every).await;
            match self.look(now()).await {
                Ok(Some(loaded)) => {
                    tracing::info!(until = day(loaded.ends), "the certificate was renewed");
                    current.send_replace(Some(loaded.key));
                    complained = None;
                }
                Ok(None) => {}
                Err(error) => {
                    let sentence = error.to_string();
                    if complained.as_ref() != Some(&sentence) {
                        tracing::warn!(
                            error = sentence,
                            "the certificate's files have changed and cannot be used; the one from before stays"
                        );
                        complained = Some(sentence);
                    }
                }
            }
        }
    }
}
