//! Whether a URL wants webhooks: it has to know the verify token and give back a random challenge.

use crate::egress::{self, AddressError, Egress, EgressError};
use crate::entropy::Entropy;
use crate::store::facts::Target;

/// Why a URL is not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChallengeError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error("did not answer with the value of hub.challenge")]
    Wrong,
}

/// `GET url?hub.mode=subscribe&hub.verify_token=…&hub.challenge=…` has to answer the challenge.
pub(crate) async fn verify(egress: &Egress, entropy: &Entropy, target: &Target) -> Result<(), ChallengeError> {
    let mut url = egress::admit(target.url.expose())?;
    let challenge = entropy.decimal(10);
    url.query_pairs_mut()
        .append_pair("hub.mode", "subscribe")
        .append_pair("hub.verify_token", target.verify_token.expose())
        .append_pair("hub.challenge", &challenge);
    let answer = egress.get_text(&url).await?;
    if answer.trim() == challenge { Ok(()) } else { Err(ChallengeError::Wrong) }
}
