//! A listener for `axum::serve` that speaks TLS.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::{CHALLENGE, Tls};

/// Handshakes at once. One more ends the oldest, which had the most time: whoever opens connections and says nothing is in nobody's way.
pub const HANDSHAKES: usize = 256;

/// How long a handshake may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 22;

/// Said to who speaks HTTP without TLS.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 54\r\nConnection: close\r\n\r\nThis port speaks TLS: begin the address with https://\n";

/// Connections whose handshake is done. It has no addresses: nobody behind it shall keep one.
pub struct TlsListener {
    listener: TcpListener,
    tls: Tls,
    handshakes: JoinSet<Option<TlsStream<TcpStream>>>,
    /// The same, oldest first; some have ended.
    order: VecDeque<AbortHandle>,
}

impl std::fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsListener")
    }
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, tls: Tls) -> Self {
        Self { listener, tls, handshakes: JoinSet::new(), order: VecDeque::new() }
    }

    fn begin(&mut self, stream: TcpStream) {
        if self.order.len() >= HANDSHAKES {
            self.order.retain(|handshake| !handshake.is_finished());
        }
        if self.order.len() >= HANDSHAKES
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        let acceptor = TlsAcceptor::from(self.tls.config.clone());
        let shaken = async move { tokio::time::timeout(TIMEOUT, handshake(acceptor, stream)).await.ok().flatten() };
        self.order.push_back(self.handshakes.spawn(shaken));
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, ()) {
        loop {
            tokio::select! {
                (stream, _) = axum::serve::Listener::accept(&mut self.listener) => self.begin(stream),
                Some(ended) = self.handshakes.join_next() => {
                    if let Ok(Some(stream)) = ended {
                        return (stream, ());
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Why one failed is between this client and the library: a stranger's mistake is no news, and must fill no log.
async fn handshake(acceptor: TlsAcceptor, mut stream: TcpStream) -> Option<TlsStream<TcpStream>> {
    // Frames are small and answers are waited for. If it cannot be set, they are only slower.
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    stream.peek(&mut first).await.ok()?;
    if first != [HANDSHAKE] {
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await.ok()?;
        if read > 0 && first.iter().all(u8::is_ascii_uppercase) {
            stream.write_all(SPEAK_TLS).await.ok()?;
            stream.shutdown().await.ok()?;
        }
        return None;
    }
    let mut stream = acceptor.accept(stream).await.ok()?;
    if stream.get_ref().1.alpn_protocol() == Some(CHALLENGE) {
        // The ACME server has seen what it wanted to see.
        stream.shutdown().await.ok()?;
        return None;
    }
    Some(stream)
}
