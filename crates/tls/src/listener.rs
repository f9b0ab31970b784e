//! A listener for `axum::serve` that speaks TLS.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
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
                    self.tls.refused.fetch_add(1, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Source;

    #[tokio::test]
    async fn one_handshake_too_many_ends_the_oldest_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let tls = Tls::start(Source::Files { certificate, key }, std::sync::Arc::new(|| 0)).await.unwrap();

        let strangers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = tls.listen(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let mut silent = Vec::new();
        for _ in 0..=HANDSHAKES {
            silent.push(TcpStream::connect(strangers.local_addr().unwrap()).await.unwrap());
            listener.begin(strangers.accept().await.unwrap().0);
        }
        let ended = listener.handshakes.join_next().await.unwrap();
        assert!(ended.is_err_and(|ended| ended.is_cancelled()), "it was left to its time limit");
        assert_eq!(listener.handshakes.len(), HANDSHAKES);
        let mut byte = [0];
        assert_eq!(silent[0].read(&mut byte).await.unwrap(), 0, "another was ended");
    }
}
