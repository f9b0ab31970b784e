//! The only place that makes HTTP requests to addresses that others chose.
//!
//! No proxy from the environment, no redirects, ten seconds for everything, at most [`MAX_RESPONSE`] bytes of an answer. Errors say
//! what kind of failure it was and nothing of the address: URLs may carry secrets (GW-16).
//!
//! [`admit`] is the gate for addresses that the business chose: webhook URLs may be loopback, as receivers on the business's own machine
//! are the normal case when developing. What strangers chose goes through [`outside`], and reaches the public internet only (GW-03).

pub(crate) mod outside;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER};
use url::Url;

use outside::Outside;

/// The whole exchange. The Cloud API's own receivers are expected to answer within a second.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A file that is fetched: the largest, over a slow line.
const FILE_TIMEOUT: Duration = Duration::from_secs(300);

/// An unreachable address is known sooner than that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers are a status and at most a challenge; more is not read.
const MAX_RESPONSE: usize = 4 * 1024;

/// Longest URL, as browsers and proxies bear it.
const MAX_URL: usize = 2_048;

/// Why an address is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not a URL, or longer than 2,048 characters.
    #[error("it is not a URL of at most 2048 characters")]
    Form,
    /// Neither `http` nor `https`.
    #[error("it has to begin with http:// or https://")]
    Scheme,
    /// No host.
    #[error("it has no host")]
    Host,
    /// `user:password@` in it: such secrets end in logs.
    #[error("it must not contain a user name or password")]
    Credentials,
    /// Inside somebody's network, where a stranger's address must not lead.
    #[error("it leads into a network that is not public")]
    Inside,
    /// A stranger's address that is not `https` on port 443.
    #[error("it has to begin with https:// and to name no port")]
    Plain,
}

/// Why a request got no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// No connection: refused, unreachable, unknown name, TLS.
    #[error("no connection")]
    Connect,
    /// No complete answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// Answered, but not with 2xx; redirects are not followed.
    #[error("answered {0}")]
    Status(u16),
    /// The connection broke, or what came was not HTTP.
    #[error("the connection broke")]
    Broken,
    /// More bytes than may come.
    #[error("it is larger than such a file may be")]
    TooLarge,
    /// The system has no TLS roots or no sockets.
    #[error("the HTTP client cannot be built")]
    Client,
}

/// The HTTP client for foreign addresses.
#[derive(Debug, Clone)]
pub(crate) struct Egress {
    own: reqwest::Client,
    outside: (Outside, reqwest::Client),
}

/// A file on its way here.
#[derive(Debug)]
pub(crate) struct Coming {
    /// As the server says.
    pub(crate) media_type: String,
    /// As the address ends.
    pub(crate) name: String,
    response: reqwest::Response,
    left: u64,
}

impl Coming {
    /// What comes next of it; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, OutsideError> {
        let Some(piece) = self.response.chunk().await.map_err(|e| classify(&e))? else { return Ok(None) };
        self.left = self.left.checked_sub(piece.len() as u64).ok_or(EgressError::TooLarge)?;
        Ok(Some(piece.to_vec()))
    }
}

fn percent_decoded(text: &str) -> String {
    let form = text.replace('+', "%2B");
    url::form_urlencoded::parse(form.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// What a stranger's address answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Seconds after which to come again, if it said so as a number.
    pub(crate) retry_after: Option<u64>,
}

/// Why a stranger's address was not asked, or gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutsideError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Request(#[from] EgressError),
}

impl Egress {
    /// `outside`: what strangers' addresses may reach.
    pub(crate) fn new(outside: Outside) -> Result<Self, EgressError> {
        // Another part of the program may have installed it before; either is the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let build = |builder: reqwest::ClientBuilder| {
            builder
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TIMEOUT)
                .user_agent(concat!("bulla/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|_| EgressError::Client)
        };
        let own = build(reqwest::Client::builder())?;
        let guarded = build(reqwest::Client::builder().dns_resolver(Arc::new(outside.clone())))?;
        Ok(Self { own, outside: (outside, guarded) })
    }

    /// Sends bytes to an address that a stranger chose. `Ok` is any answer; its body is not read.
    pub(crate) async fn post_outside(
        &self,
        to: &str,
        body: Vec<u8>,
        headers: HeaderMap,
    ) -> Result<Answered, OutsideError> {
        let (outside, client) = &self.outside;
        let url = outside.admit(to)?;
        let response = client.post(url).headers(headers).body(body).send().await.map_err(|e| guarded(&e))?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        Ok(Answered { status: response.status().as_u16(), retry_after })
    }

    /// Fetches a file of at most so many bytes from an address of the public internet.
    pub(crate) async fn get_outside(&self, from: &str, most: u64) -> Result<Coming, OutsideError> {
        let (outside, client) = &self.outside;
        let url = outside.admit(from)?;
        let last = url.path_segments().and_then(|mut all| all.next_back()).unwrap_or_default();
        let name = percent_decoded(last);
        let response = client.get(url).timeout(FILE_TIMEOUT).send().await.map_err(|e| guarded(&e))?;
        success(response.status())?;
        if response.content_length().is_some_and(|length| length > most) {
            return Err(EgressError::TooLarge.into());
        }
        let said = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media_type = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let media_type = if media_type.is_empty() { "application/octet-stream".to_owned() } else { media_type };
        Ok(Coming { media_type, name, response, left: most })
    }

    /// Sends JSON. `Ok` is a 2xx, and which; the answer's body is not read.
    pub(crate) async fn post_json(
        &self,
        to: &Url,
        body: Vec<u8>,
        headers: [(&'static str, String); 2],
    ) -> Result<u16, EgressError> {
        let mut request = self.own.post(to.clone()).header(CONTENT_TYPE, "application/json").body(body);
        for (name, value) in headers {
            request = request.header(HeaderName::from_static(name), value);
        }
        let response = request.send().await.map_err(|e| classify(&e))?;
        success(response.status()).map(|()| response.status().as_u16())
    }

    /// Fetches a short text.
    pub(crate) async fn get_text(&self, from: &Url) -> Result<String, EgressError> {
        let mut response = self.own.get(from.clone()).send().await.map_err(|e| classify(&e))?;
        success(response.status())?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| classify(&e))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_RESPONSE {
                body.truncate(MAX_RESPONSE);
                break;
            }
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// Whether this gateway sends requests to a URL that somebody gave it.
pub(crate) fn admit(text: &str) -> Result<Url, AddressError> {
    if text.len() > MAX_URL {
        return Err(AddressError::Form);
    }
    let url = Url::parse(text).map_err(|_| AddressError::Form)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(AddressError::Scheme);
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(AddressError::Host);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressError::Credentials);
    }
    Ok(url)
}

fn success(status: reqwest::StatusCode) -> Result<(), EgressError> {
    if status.is_success() { Ok(()) } else { Err(EgressError::Status(status.as_u16())) }
}

/// The guard's refusal is somewhere among the causes.
fn guarded(e: &reqwest::Error) -> OutsideError {
    let mut cause = std::error::Error::source(e);
    while let Some(error) = cause {
        if let Some(address) = error.downcast_ref::<AddressError>() {
            return OutsideError::Address(*address);
        }
        cause = error.source();
    }
    OutsideError::Request(classify(e))
}

fn classify(e: &reqwest::Error) -> EgressError {
    if e.is_timeout() {
        EgressError::Timeout
    } else if e.is_connect() {
        EgressError::Connect
    } else {
        EgressError::Broken
    }
}

#[cfg(test)]
mod tests {
    use bulla_testkit::alone::Alone;

    use super::*;

    #[test]
    fn admits_http_urls_only() {
        for good in ["http://127.0.0.1:9000/hook", "https://shop.example/a?b=c", "http://[::1]:1/"] {
            assert!(admit(good).is_ok(), "{good}");
        }
        let long = format!("http://a/{}", "x".repeat(MAX_URL));
        for (bad, why) in [
            ("", AddressError::Form),
            ("hook", AddressError::Form),
            ("ftp://a/", AddressError::Scheme),
            ("file:///etc/passwd", AddressError::Scheme),
            ("unix:/run/x", AddressError::Scheme),
            ("http://u:p@a/", AddressError::Credentials),
            ("http://u@a/", AddressError::Credentials),
            (long.as_str(), AddressError::Form),
        ] {
            assert_eq!(admit(bad), Err(why), "{bad}");
        }
    }

    #[tokio::test]
    async fn gw_16_errors_do_not_contain_the_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let url = admit(&format!("http://127.0.0.1:{port}/hook?secret=canary")).unwrap();
        let error = Egress::new(Outside::default()).unwrap().get_text(&url).await.unwrap_err();
        assert_eq!(error, EgressError::Connect);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    /// Counted and not only answered: in a network where every address has a route, not one packet leaves for an inside one, nor goes to this machine.
    #[test]
    fn gw_03_no_packet_leaves_for_an_inside_address() {
        let Some(alone) = Alone::enter("egress::tests::gw_03_no_packet_leaves_for_an_inside_address").unwrap() else {
            return;
        };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let post = |egress: &Egress, url: &str| {
            let (egress, url) = (egress.clone(), url.to_owned());
            async move { egress.post_outside(&url, vec![1], HeaderMap::new()).await }
        };
        // The count is alive: an outside address is tried, of either kind.
        let egress = Egress::new(Outside::default()).unwrap();
        let mut before = alone.sent().unwrap();
        for outside in ["https://8.8.8.8/", "https://[2606:4700::1]/"] {
            let tried = runtime()
                .block_on(async { tokio::time::timeout(Duration::from_millis(300), post(&egress, outside)).await });
            assert!(tried.is_err(), "{outside}: nobody answers here: {tried:?}");
            let after = alone.sent().unwrap();
            assert!(after.out > before.out, "{outside}: {after:?}");
            before = after;
        }
        let refused = std::net::TcpStream::connect("127.0.0.1:1");
        assert!(refused.is_err() && alone.sent().unwrap().looped > before.looped, "{refused:?}");

        let egress = Egress::new(Outside::default()).unwrap();
        let before = alone.sent().unwrap();
        let urls = outside::tests::inside_urls();
        assert!(urls.len() > 1_200, "{}", urls.len());
        runtime().block_on(async {
            for url in &urls {
                let refused = post(&egress, url).await;
                assert_eq!(refused, Err(OutsideError::Address(AddressError::Inside)), "{url}");
            }
        });
        assert_eq!(alone.sent().unwrap(), before, "for {} URLs", urls.len());
    }

    /// The guard's reason comes through the client, for a name as for an address.
    #[tokio::test]
    async fn gw_03_nothing_is_sent_to_an_inside_address() {
        let egress = Egress::new(Outside::default()).unwrap();
        for url in ["https://localhost/canary", "https://127.0.0.1/canary"] {
            let refused = egress.post_outside(url, vec![1], HeaderMap::new()).await;
            assert_eq!(refused, Err(OutsideError::Address(AddressError::Inside)), "{url}");
        }
    }

    /// A server that answers the first request with these bytes, and keeps the connection.
    async fn serves(answer: Vec<u8>) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4_096];
            let _ = socket.read(&mut asked).await;
            let _ = socket.write_all(&answer).await;
            // Until the other side hangs up.
            let _ = socket.read(&mut asked).await;
        });
        format!("http://{at}/a%20b.png")
    }

    #[tokio::test]
    async fn gw_04_a_file_is_fetched_up_to_its_limit_and_from_public_addresses_alone() {
        let here = Egress::new(Outside::with(vec!["127.0.0.0/8".parse().unwrap()])).unwrap();
        let fetch = |url: String, most: u64| {
            let here = here.clone();
            async move {
                let mut coming = here.get_outside(&url, most).await?;
                let mut all = Vec::new();
                while let Some(piece) = coming.next().await? {
                    all.extend(piece);
                }
                Ok::<_, OutsideError>((coming.media_type, coming.name, all))
            }
        };
        let answer = |head: &str, body: &[u8]| [head.as_bytes(), b"\r\n\r\n", body].concat();
        let good = answer("HTTP/1.1 200 OK\r\ncontent-type: Image/PNG; x=y\r\ncontent-length: 9", &[7; 9]);
        let fetched = fetch(serves(good.clone()).await, 9).await.unwrap();
        assert_eq!(fetched, ("image/png".to_owned(), "a b.png".to_owned(), vec![7; 9]));
        let too_large = Err(OutsideError::Request(EgressError::TooLarge));
        assert_eq!(fetch(serves(good).await, 8).await, too_large, "it says so before");
        let chunked = answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", b"9\r\n777777777\r\n9\r\n777777777\r\n");
        assert_eq!(fetch(serves(chunked).await, 17).await, too_large, "it never says how much is to come");
        let moved = answer("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0", b"");
        assert_eq!(fetch(serves(moved).await, 9).await, Err(OutsideError::Request(EgressError::Status(302))));
        let public = Egress::new(Outside::default()).unwrap();
        let refused = public.get_outside("https://169.254.169.254/latest/meta-data", 9).await.err();
        assert_eq!(refused, Some(OutsideError::Address(AddressError::Inside)));
    }
}
