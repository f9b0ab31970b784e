//! A web app, as it was built: a folder of files, read once and served from the business's own origin. The customer's is served by
//! [`crate::public`], the developer's console by [`crate::console`].
//!
//! Whoever serves the app could read the chat, so that it is the business that does, and never the relay. The page is the same for every
//! business; who is meant says the link, and the key of that is in its fragment, which is never sent here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use url::Url;

/// The page behind every link.
const PAGE: &str = "index.html";

/// What a business's own site includes.
pub(crate) const WIDGET: &str = "widget.js";

/// The largest file; the engine is a fifth of that.
const MAX_FILE: u64 = 16 << 20;

/// Files in a build, at most.
const MAX_FILES: usize = 500;

/// Files with a hash in their names are kept for ever; others are asked for again.
pub(crate) const FOR_EVER: &str = "public, max-age=31536000, immutable";
pub(crate) const ASK_AGAIN: &str = "no-cache";

/// Why a folder is no build of the app.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// It cannot be read.
    #[error("the app in {path} cannot be read: {cause}")]
    Unreadable {
        /// Folder or file.
        path: PathBuf,
        /// In the system's words.
        cause: std::io::Error,
    },
    /// It is not one.
    #[error("{0} holds no build of the app: there is no index.html")]
    NoPage(PathBuf),
    /// It is larger than any build.
    #[error("{0} is larger than anything in a build of the app, or one file too many")]
    TooLarge(PathBuf),
    /// A file that the app does not have.
    #[error("{0} is of a kind that the app does not have")]
    Kind(PathBuf),
    /// An export cannot be written.
    #[error("{path} cannot be written: {cause}")]
    Unwritable {
        /// Folder or file.
        path: PathBuf,
        /// In the system's words.
        cause: std::io::Error,
    },
    /// An export would lie among other files.
    #[error("{0} is not empty: name a folder that is, or a new one")]
    NotEmpty(PathBuf),
    /// A web server's configuration cannot name it.
    #[error(
        "{0:?} has a quote, a dollar sign, a backslash or a control character, which nginx.conf cannot say: choose another folder"
    )]
    Unquotable(String),
}

#[derive(Debug, Clone)]
struct File {
    kind: &'static str,
    cached: &'static str,
    plain: Bytes,
    brotli: Option<Bytes>,
}

/// A build of the app.
#[derive(Clone)]
pub struct App {
    files: BTreeMap<String, File>,
    page: File,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "App({} files)", self.files.len())
    }
}

impl App {
    /// Reads a build. A `.br` beside a file is the same, compressed.
    pub fn from_folder(folder: &Path) -> Result<Self, AppError> {
        let mut all = BTreeMap::new();
        read(folder, "", &mut all)?;
        let mut files: BTreeMap<String, File> = BTreeMap::new();
        for (name, plain) in all.iter().filter(|(name, _)| !name.ends_with(".br")) {
            let kind = kind_of(name).ok_or_else(|| AppError::Kind(folder.join(name)))?;
            let cached = if name.starts_with("assets/") { FOR_EVER } else { ASK_AGAIN };
            let brotli = all.get(&format!("{name}.br")).cloned();
            files.insert(name.clone(), File { kind, cached, plain: plain.clone(), brotli });
        }
        let page = files.remove(PAGE).ok_or_else(|| AppError::NoPage(folder.to_owned()))?;
        Ok(Self { files, page })
    }

    /// All files by name, and their compressed twins.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, &Bytes)> {
        let named = self.files.iter().map(|(name, file)| (name.as_str(), file)).chain([(PAGE, &self.page)]);
        named.flat_map(|(name, file)| {
            let compressed = file.brotli.as_ref().map(|bytes| (format!("{name}.br"), bytes));
            [(name.to_owned(), &file.plain)].into_iter().chain(compressed)
        })
    }

    /// The page, under a policy of the caller's.
    pub(crate) fn page(&self, policy: &str, headers: &HeaderMap) -> Response {
        answer(&self.page, policy, headers)
    }

    /// A file, under a policy of the caller's.
    pub(crate) fn file(&self, path: &str, policy: &str, headers: &HeaderMap) -> Option<Response> {
        let mut response = answer(self.files.get(path)?, policy, headers);
        if path == WIDGET {
            // Pages of other origins include it, also such as want everything that they include to agree.
            let everybody = HeaderValue::from_static("cross-origin");
            response.headers_mut().insert(HeaderName::from_static("cross-origin-resource-policy"), everybody);
        }
        Some(response)
    }
}

fn read(folder: &Path, prefix: &str, all: &mut BTreeMap<String, Bytes>) -> Result<(), AppError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |cause| AppError::Unreadable { path, cause }
    };
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let entry = entry.map_err(unreadable(folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { return Err(AppError::Kind(path)) };
        let meta = entry.metadata().map_err(unreadable(&path))?;
        if meta.is_dir() {
            read(&path, &format!("{prefix}{name}/"), all)?;
        } else if meta.len() > MAX_FILE || all.len() == MAX_FILES {
            return Err(AppError::TooLarge(path));
        } else {
            let bytes = std::fs::read(&path).map_err(unreadable(&path))?;
            all.insert(format!("{prefix}{name}"), bytes.into());
        }
    }
    Ok(())
}

/// The media types of what a build has, by the ends of names.
pub(crate) const KINDS: [(&str, &str); 9] = [
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("webmanifest", "application/manifest+json"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
];

fn kind_of(name: &str) -> Option<&'static str> {
    let end = Path::new(name).extension()?.to_str()?;
    KINDS.iter().find(|(known, _)| *known == end).map(|(_, kind)| *kind)
}

/// What the page may do: run its own files, talk to its own origin and to this relay, and nothing else; and which origins' pages may have it
/// in a frame.
pub(crate) fn policy(relay: &str, embed: &[url::Origin]) -> String {
    let ancestors = embed.iter().map(url::Origin::ascii_serialization).collect::<Vec<_>>().join(" ");
    let ancestors = if embed.is_empty() { "'none'".to_owned() } else { ancestors };
    // Its socket, and its blobs beside it.
    let socket = Url::parse(relay).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let relay = format!("{socket} {}", socket.replacen("ws", "http", 1));
    format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; \
         connect-src 'self' {relay}; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors {ancestors}; require-trusted-types-for 'script'; trusted-types bulla"
    )
}

/// What comes with every file, besides the policy.
pub(crate) const WITH_EVERY_FILE: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(self), microphone=(), payment=(), usb=()"),
];

fn answer(file: &File, policy: &str, headers: &HeaderMap) -> Response {
    let brotli = file.brotli.as_ref().filter(|_| takes_brotli(headers));
    let own = [(CONTENT_TYPE, file.kind), (CACHE_CONTROL, file.cached), (VARY, "accept, accept-encoding")];
    let body = brotli.unwrap_or(&file.plain).clone();
    let mut response = (StatusCode::OK, own, WITH_EVERY_FILE, body).into_response();
    if let Ok(policy) = HeaderValue::from_str(policy) {
        response.headers_mut().insert(HeaderName::from_static("content-security-policy"), policy);
    }
    if brotli.is_some() {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    response
}

fn takes_brotli(headers: &HeaderMap) -> bool {
    let all = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    all.into_iter().any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("br")) && !parts.any(|q| matches!(q, "q=0" | "q=0.0"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("assets")).unwrap();
        for (name, text) in [("index.html", "<!doctype html>"), ("assets/a-1.js", "1"), ("assets/a-1.js.br", "br")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_page_may_talk_to_its_relay_and_nobody_else() {
        let folder = build();
        let app = App::from_folder(folder.path()).unwrap();
        let response = app.page(&policy("wss://relay.example:8443/v1/ws", &[]), &HeaderMap::new());
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("connect-src 'self' wss://relay.example:8443 https://relay.example:8443;"), "{policy}");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe-inline"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none';"), "{policy}");
        assert_eq!(response.headers()["cache-control"], ASK_AGAIN);
    }

    #[test]
    fn only_sites_that_the_operator_named_may_have_the_page_in_a_frame() {
        let sites =
            ["https://www.shop.example/a?b", "http://127.0.0.1:8000"].map(|site| Url::parse(site).unwrap().origin());
        let policy = policy("wss://relay.example/v1/ws", &sites);
        assert!(policy.contains("; frame-ancestors https://www.shop.example http://127.0.0.1:8000;"), "{policy}");
    }

    #[test]
    fn other_origins_pages_may_include_the_widget_and_nothing_else() {
        let folder = build();
        std::fs::write(folder.path().join(WIDGET), "1").unwrap();
        let app = App::from_folder(folder.path()).unwrap();
        let shared = |path| {
            app.file(path, "", &HeaderMap::new()).unwrap().headers().contains_key("cross-origin-resource-policy")
        };
        assert!(shared(WIDGET));
        assert!(!shared("assets/a-1.js"));
    }

    #[test]
    fn files_are_served_as_they_are_or_compressed_and_no_other() {
        let folder = build();
        let app = App::from_folder(folder.path()).unwrap();
        let mut headers = HeaderMap::new();
        let plain = app.file("assets/a-1.js", "", &headers).unwrap();
        assert!(plain.headers().get(CONTENT_ENCODING).is_none());
        assert_eq!(plain.headers()[CACHE_CONTROL], FOR_EVER);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br;q=0.9"));
        assert_eq!(app.file("assets/a-1.js", "", &headers).unwrap().headers()[CONTENT_ENCODING], "br");
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br;q=0"));
        assert!(app.file("assets/a-1.js", "", &headers).unwrap().headers().get(CONTENT_ENCODING).is_none());
        for path in ["assets/a-1.js.br", "../secret", "assets", "", "index.html"] {
            assert!(app.file(path, "", &headers).is_none(), "{path}");
        }
    }

    #[test]
    fn what_is_no_build_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(App::from_folder(folder.path()), Err(AppError::NoPage(_))));
        std::fs::write(folder.path().join("index.html"), "").unwrap();
        std::fs::write(folder.path().join("run.sh"), "").unwrap();
        assert!(matches!(App::from_folder(folder.path()), Err(AppError::Kind(_))));
        assert!(matches!(App::from_folder(&folder.path().join("none")), Err(AppError::Unreadable { .. })));
    }
}
