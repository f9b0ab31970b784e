//! What is taken out of an API call before the log keeps it: tokens and secrets, wherever callers put them.
//!
//! The `Authorization` header is never looked at. In queries and bodies, values under the names in [`NAMES`] go; and whatever reads like an
//! access token, or is a secret of one of this gateway's businesses, goes from everything that is kept, also from answers and from what
//! is no JSON.

use serde_json::Value;

use crate::secret::Secret;

/// What stands in the place of a secret.
const GONE: &str = "…";

/// Parameters of the Cloud API that carry secrets.
const NAMES: [&str; 10] = [
    "access_token",
    "app_secret",
    "appsecret_proof",
    "client_secret",
    "fb_exchange_token",
    "hub.verify_token",
    "input_token",
    "pin",
    // Of the address of a download, which counts without a token for some minutes.
    "signature",
    "verify_token",
];

/// How every access token begins, here and at Meta.
const TOKEN: &str = "EAA";

/// Letters and digits after that which make a word a token, and not a word.
const TOKEN_LEAST: usize = 24;

/// A body, as far as it is text: JSON or a form with its secrets taken out. Without any, the very bytes.
pub(crate) fn body(bytes: &[u8], secrets: &[Secret]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let structured = match serde_json::from_slice::<Value>(bytes) {
        Ok(mut value) => take_out(&mut value).then(|| value.to_string()),
        Err(_) => form(&text),
    };
    words(structured.as_deref().unwrap_or(&text), secrets)
}

/// A path with its query.
pub(crate) fn path(path: &str, query: Option<&str>, secrets: &[Secret]) -> String {
    let query = query.map(|query| form(query).unwrap_or_else(|| query.to_owned()));
    let whole = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    words(&whole, secrets)
}

/// Whether something was taken out.
fn take_out(value: &mut Value) -> bool {
    let mut any = false;
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if is_secret(name) {
                    *member = GONE.into();
                    any = true;
                } else {
                    any |= take_out(member);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                any |= take_out(item);
            }
        }
        // A form's field or a string may be JSON again.
        Value::String(text) if text.starts_with(['{', '[']) => {
            if let Ok(mut inner) = serde_json::from_str::<Value>(text)
                && take_out(&mut inner)
            {
                *text = inner.to_string();
                any = true;
            }
        }
        Value::String(text) => {
            // An address, of a webhook or of a download.
            if let Some((address, query)) = text.split_once('?')
                && address.starts_with("http")
                && let Some(query) = form(query)
            {
                *text = format!("{address}?{query}");
                any = true;
            }
        }
        _ => {}
    }
    any
}

/// The form without its secrets; `None` if it has none.
fn form(text: &str) -> Option<String> {
    let mut any = false;
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
        // `a[access_token]=…` names it too.
        let last = name.rsplit('[').next().unwrap_or_default().trim_end_matches(']');
        let mut inner = Value::String(value.into_owned());
        if is_secret(last) {
            inner = GONE.into();
            any = true;
        } else {
            any |= take_out(&mut inner);
        }
        pairs.append_pair(&name, inner.as_str().unwrap_or_default());
    }
    any.then(|| pairs.finish())
}

fn is_secret(name: &str) -> bool {
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name.trim()))
}

/// Takes out tokens and known secrets as words.
fn words(text: &str, secrets: &[Secret]) -> String {
    let mut out = text.to_owned();
    for secret in secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty()) {
        if out.contains(secret) {
            out = out.replace(secret, GONE);
        }
    }
    let mut left = out.as_str();
    let mut clean = String::with_capacity(out.len());
    while let Some(at) = left.find(TOKEN) {
        let (before, from) = left.split_at(at);
        let end = from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len());
        let (word, rest) = from.split_at(end);
        clean.push_str(before);
        clean.push_str(if word.len() >= TOKEN.len() + TOKEN_LEAST { GONE } else { word });
        left = rest;
    }
    clean.push_str(left);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::token;

    fn secrets() -> [Secret; 2] {
        [Secret::new("0123456789abcdef0123456789abcdef"), Secret::new("verifycanary")]
    }

    #[test]
    fn gw_16_no_token_is_left_wherever_it_stood() {
        let token = token::generate(&Entropy::new(Box::new(rand_core::OsRng)));
        let (token, app) = (token.expose(), secrets()[0].expose().to_owned());
        let bodies = [
            format!(r#"{{"access_token":"{token}","a":[{{"b":{{"ACCESS_TOKEN":"{app}"}}}}]}}"#),
            format!("access_token={token}&text[body]=hi"),
            format!("x=1&webhook[verify_token]={app}"),
            format!("config=%7B%22access_token%22%3A%22{token}%22%7D"),
            format!(r#"{{"config":"{{\"client_secret\":\"{app}\"}}"}}"#),
            format!("{{broken {token}"),
            format!("see {app} and verifycanary and 12|{app}"),
            format!("https://x/?t={token}"),
            format!(r#"{{"url":"http://127.0.0.1/media/1/2?until=3&signature={app}"}}"#),
            format!(r#"{{"url":"https://shop.example/hook?verify_token=x{app}"}}"#),
        ];
        for given in bodies {
            let kept = body(given.as_bytes(), &secrets());
            for secret in [token, &app, "verifycanary"] {
                assert!(!kept.contains(secret), "{given} became {kept}");
            }
            assert!(kept.contains(GONE) || kept.contains("%E2%80%A6"), "{kept}");
        }
        let kept = path("/v23.0/1/messages", Some(&format!("a=b&access_token={token}")), &secrets());
        assert_eq!(kept, "/v23.0/1/messages?a=b&access_token=%E2%80%A6");
        assert_eq!(path(&format!("/{token}/x"), None, &secrets()), "/…/x");
    }

    #[test]
    fn a_token_of_another_house_goes_too() {
        let metas = format!("EAAG{}", "Zb9".repeat(40));
        assert_eq!(
            body(format!(r#"{{"text":{{"body":"my {metas}!"}}}}"#).as_bytes(), &[]),
            r#"{"text":{"body":"my …!"}}"#
        );
    }

    #[test]
    fn without_secrets_the_very_bytes_are_kept() {
        for given in ["{ \"b\": 1,\n\"a\": [\"\\u00e4\"] }", "text%5Bbody%5D=h%C3%A4+x", "EAA EAAsy", "{", "", "hä"] {
            assert_eq!(body(given.as_bytes(), &secrets()), given);
        }
    }
}
