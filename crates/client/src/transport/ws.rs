//! The native transport: tokio-tungstenite and reqwest over rustls (ring; Mozilla's roots, or others that somebody added).

use std::sync::Arc;
use std::time::Duration;

use bulla_protocol::limits;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::{Connection, HttpAnswer, HttpRequest, Method, REQUEST_TIMEOUT, Transport, TransportError};

/// How long connecting and fetching may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Connects from this machine.
#[derive(Clone)]
pub struct WsTransport {
    tls: Arc<rustls::ClientConfig>,
    http: reqwest::Client,
    blobs: reqwest::Client,
}

impl std::fmt::Debug for WsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WsTransport")
    }
}

impl WsTransport {
    /// With Mozilla's root certificates.
    pub fn new() -> Result<Self, TransportError> {
        Self::with_roots(rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// With these root certificates.
    pub fn with_roots(roots: rustls::RootCertStore) -> Result<Self, TransportError> {
        let fail = |e: &dyn std::fmt::Display| TransportError(format!("TLS cannot be set up: {e}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| fail(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed session would tell a relay that two connections are one device's, the owner's and the anonymous one.
        tls.resumption = rustls::client::Resumption::disabled();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(3))
            .build()
            .map_err(|e| fail(&e))?;
        let blobs = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| fail(&e))?;
        Ok(Self { tls: Arc::new(tls), http, blobs })
    }
}

/// What it was in the end: a refused connection, a certificate that nobody vouches for.
fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), cause)
}

/// One WebSocket.
#[derive(Debug)]
pub struct WsConnection(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Transport for WsTransport {
    type Connection = WsConnection;

    async fn connect(&self, url: &str) -> Result<WsConnection, TransportError> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(limits::MAX_FRAME))
            .max_frame_size(Some(limits::MAX_FRAME));
        let connector = Connector::Rustls(self.tls.clone());
        let connecting = tokio_tungstenite::connect_async_tls_with_config(url, Some(config), true, Some(connector));
        match tokio::time::timeout(TIMEOUT, connecting).await {
            Ok(Ok((socket, _))) => Ok(WsConnection(socket)),
            Ok(Err(e)) => Err(TransportError(format!("the relay at {url} does not answer: {e}"))),
            Err(_) => Err(TransportError(format!("the relay at {url} does not answer within {TIMEOUT:?}"))),
        }
    }

    async fn request(&self, request: HttpRequest) -> Result<HttpAnswer, TransportError> {
        let fail =
            |e: reqwest::Error| TransportError(format!("the relay does not answer: {}", cause(&e.without_url())));
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut builder = self.blobs.request(method, &request.url);
        if let Some(key) = &request.key {
            builder = builder.bearer_auth(key);
        }
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        let mut response = builder.send().await.map_err(fail)?;
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let mut answer =
            HttpAnswer { status: response.status().as_u16(), retry_after_secs: retry_after, body: Vec::new() };
        if answer.status != 200 {
            return Ok(answer);
        }
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            if (answer.body.len() + chunk.len()) as u64 > request.longest {
                return Err(TransportError("the relay answers with more than was asked for".into()));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, TransportError> {
        let fail = |e: reqwest::Error| TransportError(format!("{url} does not answer: {}", cause(&e.without_url())));
        let mut response =
            self.http.get(url).header("accept", "application/vnd.bulla.bundle").send().await.map_err(fail)?;
        if !response.status().is_success() {
            return Err(TransportError(format!("{url} answers {}: check the link", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            if body.len() + chunk.len() > limits::MAX_BUNDLE {
                return Err(TransportError(format!("{url} answers more than a contact bundle: check the link")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl Connection for WsConnection {
    async fn send(&mut self, frames: Vec<Bytes>) -> Result<(), TransportError> {
        let lost = |e| TransportError(format!("the connection was lost: {e}"));
        for frame in frames {
            self.0.feed(Message::Binary(frame)).await.map_err(lost)?;
        }
        self.0.flush().await.map_err(lost)
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            match self.0.next().await {
                None | Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(Message::Binary(frame))) => return Ok(Some(frame)),
                // Pongs are sent by the library; text is nobody's frame.
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(TransportError(format!("the connection was lost: {e}"))),
            }
        }
    }
}
