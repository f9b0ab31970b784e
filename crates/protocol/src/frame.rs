//! The frames of `proto/relay.proto`, and their encoding.

use bytes::Bytes;
use prost::Message as _;

use crate::limits;

#[expect(missing_docs, clippy::doc_markdown, reason = "generated; documented in proto/relay.proto")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/bulla.relay.v1.rs"));
}
pub use generated::*;

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// More bytes than any frame has; nothing was parsed.
    #[error("frame over {} bytes", limits::MAX_FRAME)]
    TooLarge,
    /// Not protobuf of the expected message.
    #[error("malformed frame")]
    Malformed,
    /// A frame without a body that this side knows.
    #[error("empty or unknown frame")]
    Empty,
}

impl ClientFrame {
    /// Wraps a body as request number `request`.
    #[must_use]
    pub fn new(request: u64, body: client_frame::Body) -> Self {
        Self { request, body: Some(body) }
    }

    /// The bytes of one WebSocket message.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Decodes one WebSocket message.
    pub fn from_bytes(bytes: Bytes) -> Result<(u64, client_frame::Body), FrameError> {
        let frame: Self = decode(bytes)?;
        Ok((frame.request, frame.body.ok_or(FrameError::Empty)?))
    }
}

impl ServerFrame {
    /// Wraps a body as the answer to `request` (0: of its own accord).
    #[must_use]
    pub fn new(request: u64, body: server_frame::Body) -> Self {
        Self { request, body: Some(body) }
    }

    /// The bytes of one WebSocket message.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Decodes one WebSocket message.
    pub fn from_bytes(bytes: Bytes) -> Result<(u64, server_frame::Body), FrameError> {
        let frame: Self = decode(bytes)?;
        Ok((frame.request, frame.body.ok_or(FrameError::Empty)?))
    }
}

fn decode<M: prost::Message + Default>(bytes: Bytes) -> Result<M, FrameError> {
    if bytes.len() > limits::MAX_FRAME {
        return Err(FrameError::TooLarge);
    }
    M::decode(bytes).map_err(|_| FrameError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_parsed() {
        let frame = ClientFrame::new(
            1,
            client_frame::Body::PublishBundle(PublishBundle {
                mailbox: vec![0; 16],
                bundle: vec![0; limits::MAX_FRAME],
            }),
        );
        assert_eq!(ClientFrame::from_bytes(frame.to_bytes()), Err(FrameError::TooLarge));
    }

    proptest! {
        /// MLS-02 for this decoder: no bytes make it panic, and what it accepts it encodes again.
        #[test]
        fn mls_02_any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let bytes = Bytes::from(bytes);
            if let Ok((request, body)) = ClientFrame::from_bytes(bytes.clone()) {
                let again = ClientFrame::new(request, body.clone()).to_bytes();
                prop_assert_eq!(ClientFrame::from_bytes(again), Ok((request, body)));
            }
            let _ = ServerFrame::from_bytes(bytes);
        }
    }
}
