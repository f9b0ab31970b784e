//! The browser's WebSocket and fetch.

use bulla_client::transport::{Connection, HttpAnswer, HttpRequest, REQUEST_TIMEOUT, Transport, TransportError};
use bulla_protocol::limits;
use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt as _;
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortSignal, BinaryType, CloseEvent, Event, MessageEvent, Request, RequestCache, RequestCredentials, RequestInit,
    RequestRedirect, Response, WebSocket, WorkerGlobalScope,
};

use crate::idb::words;

/// Connects from a worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct BrowserTransport;

/// One WebSocket.
#[derive(Debug)]
pub struct BrowserConnection {
    socket: WebSocket,
    frames: mpsc::UnboundedReceiver<Result<Bytes, TransportError>>,
    // They live as long as the socket may call them.
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Drop for BrowserConnection {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // One that is closed already says so, which changes nothing.
        let _ = self.socket.close();
    }
}

impl Transport for BrowserTransport {
    type Connection = BrowserConnection;

    async fn connect(&self, url: &str) -> Result<BrowserConnection, TransportError> {
        let refused = |e: JsValue| TransportError(format!("the relay at {url} cannot be reached: {}", words(&e)));
        let socket = WebSocket::new(url).map_err(refused)?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let (to, frames) = mpsc::unbounded();
        let (opened, opening) = oneshot::channel();
        let message = Closure::new({
            let to = to.clone();
            move |event: MessageEvent| {
                // Text is nobody's frame.
                if let Ok(buffer) = event.data().dyn_into::<js_sys::ArrayBuffer>() {
                    let frame = Uint8Array::new(&buffer);
                    let frame = match usize::try_from(frame.length()) {
                        Ok(length) if length <= limits::MAX_FRAME => Ok(Bytes::from(frame.to_vec())),
                        _ => Err(TransportError("the relay sends more than a frame".into())),
                    };
                    let _ = to.unbounded_send(frame);
                }
            }
        });
        let close = Closure::new(move |_: CloseEvent| to.close_channel());
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        let open = Closure::once(move |_: Event| {
            // Nobody waits any more where the engine has stopped meanwhile.
            let _ = opened.send(());
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        let mut connection = BrowserConnection { socket, frames, _message: message, _close: close };
        // A socket that does not open closes, and says nothing of why.
        match futures_util::future::select(opening, connection.frames.next()).await {
            futures_util::future::Either::Left((Ok(()), _)) => {}
            _ => return Err(TransportError(format!("the relay at {url} does not answer"))),
        }
        connection.socket.set_onopen(None);
        Ok(connection)
    }

    async fn request(&self, request: HttpRequest) -> Result<HttpAnswer, TransportError> {
        Self::answer(request).await.map_err(|e| TransportError(format!("the relay does not answer: {}", words(&e))))
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, TransportError> {
        let fail = |e: JsValue| TransportError(format!("{url} does not answer: {}", words(&e)));
        let options = RequestInit::new();
        options.set_cache(RequestCache::NoStore);
        options.set_credentials(RequestCredentials::Omit);
        options.set_redirect(RequestRedirect::Error);
        let request = Request::new_with_str_and_init(url, &options).map_err(fail)?;
        request.headers().set("accept", "application/vnd.bulla.bundle").map_err(fail)?;
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        let response: Response =
            JsFuture::from(scope.fetch_with_request(&request)).await.map_err(fail)?.unchecked_into();
        if !response.ok() {
            return Err(TransportError(format!("{url} answers {}: check the link", response.status())));
        }
        let body = JsFuture::from(response.array_buffer().map_err(fail)?).await.map_err(fail)?;
        let body = Uint8Array::new(&body);
        if usize::try_from(body.length()).is_ok_and(|length| length <= limits::MAX_BUNDLE) {
            return Ok(body.to_vec());
        }
        Err(TransportError(format!("{url} answers more than a contact bundle: check the link")))
    }
}

impl BrowserTransport {
    /// What a request for a blob comes to.
    async fn answer(request: HttpRequest) -> Result<HttpAnswer, JsValue> {
        let options = RequestInit::new();
        options.set_method(request.method.as_str());
        options.set_cache(RequestCache::NoStore);
        options.set_credentials(RequestCredentials::Omit);
        options.set_redirect(RequestRedirect::Error);
        options.set_referrer("");
        let timeout = u32::try_from(REQUEST_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        options.set_signal(Some(&AbortSignal::timeout_with_u32(timeout)));
        if let Some(body) = &request.body {
            options.set_body(&Uint8Array::from(body.as_slice()));
        }
        let asked = Request::new_with_str_and_init(&request.url, &options)?;
        if let Some(key) = &request.key {
            asked.headers().set("authorization", &format!("Bearer {key}"))?;
        }
        let scope: WorkerGlobalScope = js_sys::global().unchecked_into();
        let response: Response = JsFuture::from(scope.fetch_with_request(&asked)).await?.unchecked_into();
        let retry_after = response.headers().get("retry-after")?.and_then(|value| value.parse().ok());
        let mut answer = HttpAnswer { status: response.status(), retry_after_secs: retry_after, body: Vec::new() };
        if answer.status == 200 {
            // A length is said of every part; one that is larger than that is not taken at all.
            let length = response.headers().get("content-length")?.and_then(|value| value.parse::<u64>().ok());
            if length.is_some_and(|length| length > request.longest) {
                return Err(JsError::new("more than was asked for").into());
            }
            let body = Uint8Array::new(&JsFuture::from(response.array_buffer()?).await?);
            if u64::from(body.length()) > request.longest {
                return Err(JsError::new("more than was asked for").into());
            }
            answer.body = body.to_vec();
        }
        Ok(answer)
    }
}

impl Connection for BrowserConnection {
    async fn send(&mut self, frames: Vec<Bytes>) -> Result<(), TransportError> {
        for frame in frames {
            let sent = self.socket.send_with_u8_array(&frame);
            sent.map_err(|e| TransportError(format!("the connection was lost: {}", words(&e))))?;
        }
        if self.socket.ready_state() != WebSocket::OPEN {
            return Err(TransportError("the connection was lost".into()));
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, TransportError> {
        self.frames.next().await.transpose()
    }
}
