//! The Cloud API, as a business's program calls it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// An HTTP client for addresses on this machine.
pub fn http() -> Result<reqwest::Client> {
    // The first call decides for the process; a later one finds that it has been done.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().context("an HTTP client")
}

/// One phone number's API.
#[derive(Debug, Clone)]
pub struct CloudApi {
    http: reqwest::Client,
    base: String,
    phone_number_id: String,
    token: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// The id of the message that was accepted.
    pub fn wamid(&self) -> Result<String> {
        let id = self.body["messages"][0]["id"].as_str();
        match id {
            Some(id) if self.status == 200 => Ok(id.to_owned()),
            _ => bail!("not accepted: {} {}", self.status, self.body),
        }
    }

    /// The code of the error object.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        self.body["error"]["code"].as_i64()
    }
}

impl CloudApi {
    /// `base` without version, as `bulla up --json` prints it (a version at its end is taken off).
    pub fn new(base: &str, phone_number_id: &str, token: &str) -> Result<Self> {
        let base = base.trim_end_matches('/');
        let base = base
            .rsplit_once("/v")
            .filter(|(_, v)| v.starts_with(|c: char| c.is_ascii_digit()))
            .map_or(base, |(b, _)| b);
        Ok(Self {
            http: http()?,
            base: base.to_owned(),
            phone_number_id: phone_number_id.to_owned(),
            token: token.to_owned(),
        })
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// `POST /{version}/{phone-number-id}/messages`. An error here is the connection's; the API's own are answers.
    pub async fn post(&self, body: &Value) -> Result<Answer> {
        let url = format!("{}/v23.0/{}/messages", self.base, self.phone_number_id);
        let request = self.http.post(url).bearer_auth(&self.token).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.context("POST messages")?;
        answer(response).await
    }

    /// Any other call: `path` is what follows the version, `{phone}` in it the number's id.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let path = path.replace("{phone}", &self.phone_number_id);
        let method = reqwest::Method::from_bytes(method.as_bytes()).context("a method")?;
        let mut request = self.http.request(method, format!("{}/v23.0/{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        answer(request.send().await.context("the call")?).await
    }

    /// Sends a message of a type to a `user_id`; `content` stands under the type's name.
    pub async fn send(&self, recipient: &str, kind: &str, content: &Value) -> Result<Answer> {
        self.post(&json!({"messaging_product": "whatsapp", "recipient": recipient, "type": kind, kind: content})).await
    }

    /// Sends a text to a `user_id`.
    pub async fn text(&self, recipient: &str, body: &str) -> Result<Answer> {
        self.post(&json!({
            "messaging_product": "whatsapp", "recipient": recipient, "type": "text", "text": {"body": body},
        }))
        .await
    }

    /// Sends a reply.
    pub async fn reply(&self, recipient: &str, to: &str, body: &str) -> Result<Answer> {
        self.post(&json!({
            "messaging_product": "whatsapp", "recipient": recipient, "type": "text", "text": {"body": body},
            "context": {"message_id": to},
        }))
        .await
    }

    /// Reacts; an empty emoji takes the reaction back.
    pub async fn react(&self, recipient: &str, to: &str, emoji: &str) -> Result<Answer> {
        self.post(&json!({
            "messaging_product": "whatsapp", "recipient": recipient, "type": "reaction",
            "reaction": {"message_id": to, "emoji": emoji},
        }))
        .await
    }

    /// Uploads a file; its media id.
    pub async fn upload(&self, name: &str, media_type: &str, file: &[u8]) -> Result<Answer> {
        const BOUNDARY: &str = "a-boundary-that-no-file-has";
        let field = |name: &str, value: &str| {
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let head = format!(
            "{}{}--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\ncontent-type: {media_type}\r\n\r\n",
            field("messaging_product", "whatsapp"),
            field("type", media_type),
        );
        let body = [head.as_bytes(), file, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat();
        let url = format!("{}/v23.0/{}/media", self.base, self.phone_number_id);
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = self.http.post(url).bearer_auth(&self.token).header("content-type", kind).body(body);
        answer(request.send().await.context("POST media")?).await
    }

    /// Sends an uploaded file as a document.
    pub async fn document(&self, recipient: &str, media: &str, name: &str, caption: &str) -> Result<Answer> {
        self.post(&json!({
            "messaging_product": "whatsapp", "recipient": recipient, "type": "document",
            "document": {"id": media, "filename": name, "caption": caption},
        }))
        .await
    }

    /// What is known of a file.
    pub async fn media(&self, id: &str) -> Result<Answer> {
        let request = self.http.get(format!("{}/v23.0/{id}", self.base)).bearer_auth(&self.token);
        answer(request.send().await.context("GET media")?).await
    }

    /// Forgets a file.
    pub async fn forget(&self, id: &str) -> Result<Answer> {
        let request = self.http.delete(format!("{}/v23.0/{id}", self.base)).bearer_auth(&self.token);
        answer(request.send().await.context("DELETE media")?).await
    }

    /// A file by its address, as some clients fetch it: without a token.
    pub async fn download(&self, url: &str) -> Result<reqwest::Response> {
        self.http.get(url).send().await.context("GET the file")
    }

    /// Marks as read.
    pub async fn read(&self, wamid: &str) -> Result<Answer> {
        self.post(&json!({"messaging_product": "whatsapp", "status": "read", "message_id": wamid})).await
    }
}

async fn answer(response: reqwest::Response) -> Result<Answer> {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.context("the answer's body")?;
    Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_in_the_base_is_not_doubled() {
        let base = |text: &str| CloudApi::new(text, "1", "t").unwrap().base;
        assert_eq!(base("http://127.0.0.1:7412"), "http://127.0.0.1:7412");
        assert_eq!(base("http://127.0.0.1:7412/"), "http://127.0.0.1:7412");
        assert_eq!(base("http://127.0.0.1:7412/v23.0"), "http://127.0.0.1:7412");
    }
}
