//! Where webhooks go, as callers set it: for the app, the account, or the number. A URL is taken once it answered its challenge.

use serde_json::{Value, json};

use super::error::ApiError;
use super::nodes;
use super::params::{Node, NotThat, Params};
use crate::business::Business;
use crate::secret::Secret;
use crate::store::facts::{self, SetBy, Target, Targets};
use crate::webhooks::challenge;
use crate::webhooks::deliverer::Wake;

/// The object that subscriptions are about.
const OBJECT: &str = "whatsapp_business_account";

/// `GET /{app-id}/subscriptions`.
pub(crate) async fn app_list(business: &Business) -> Result<Value, ApiError> {
    let targets = nodes::targets(business).await?;
    let entry = targets.app.map(|target| {
        json!({
            "object": OBJECT,
            "callback_url": target.url.expose(),
            "active": target.verified,
            "fields": [{"name": "messages", "version": "v23.0"}],
        })
    });
    Ok(json!({ "data": Vec::from_iter(entry) }))
}

/// `POST /{app-id}/subscriptions`.
pub(crate) async fn app_set(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    match text(&root, "object")? {
        Some(object) if object == OBJECT => {}
        Some(_) => return Err(ApiError::parameter("Param object must be one of {WHATSAPP_BUSINESS_ACCOUNT}.")),
        None => return Err(ApiError::required("object")),
    }
    let url = text(&root, "callback_url")?.ok_or_else(|| ApiError::required("callback_url"))?;
    let token = text(&root, "verify_token")?.ok_or_else(|| ApiError::required("verify_token"))?;
    let target = verified(business, url, token).await?;
    change(business, |targets| targets.app = Some(target)).await
}

/// `DELETE /{app-id}/subscriptions`.
pub(crate) async fn app_delete(business: &Business) -> Result<Value, ApiError> {
    change(business, |targets| targets.app = None).await
}

/// `GET /{waba-id}/subscribed_apps`.
pub(crate) async fn waba_list(business: &Business) -> Result<Value, ApiError> {
    let targets = nodes::targets(business).await?;
    if targets.unsubscribed {
        return Ok(json!({"data": []}));
    }
    let mut entry = json!({
        "whatsapp_business_api_data": {"id": business.account.app_id, "name": business.account.name, "link": ""},
    });
    if let (Value::Object(entry), Some(target)) = (&mut entry, &targets.waba) {
        entry.insert("override_callback_uri".into(), target.url.expose().into());
    }
    Ok(json!({ "data": [entry] }))
}

/// `POST /{waba-id}/subscribed_apps`: without an address, an earlier one of the account is taken off.
pub(crate) async fn waba_subscribe(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let target = override_of(business, &params.root()).await?;
    change(business, |targets| {
        targets.unsubscribed = false;
        targets.waba = target;
    })
    .await
}

/// `DELETE /{waba-id}/subscribed_apps`.
pub(crate) async fn waba_unsubscribe(business: &Business) -> Result<Value, ApiError> {
    change(business, |targets| {
        targets.unsubscribed = true;
        targets.waba = None;
    })
    .await
}

/// `POST /{phone-number-id}` with `webhook_configuration`: an empty address takes the number's own off.
pub(crate) async fn phone_configure(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    let configuration = match root.object("webhook_configuration") {
        Ok(Some(configuration)) => configuration,
        Ok(None) => return Err(ApiError::required("webhook_configuration")),
        Err(NotThat) => return Err(ApiError::parameter("Param webhook_configuration must be an object.")),
    };
    let target = override_of(business, &configuration).await?;
    change(business, |targets| targets.phone = target).await
}

async fn override_of(business: &Business, node: &Node<'_>) -> Result<Option<Target>, ApiError> {
    let Some(url) = text(node, "override_callback_uri")?.filter(|url| !url.is_empty()) else { return Ok(None) };
    let token = text(node, "verify_token")?.ok_or_else(|| ApiError::required("verify_token"))?;
    verified(business, url, token).await.map(Some)
}

/// The URL, once it has answered.
async fn verified(business: &Business, url: String, token: String) -> Result<Target, ApiError> {
    let target = Target { url: Secret::new(url), verify_token: Secret::new(token), verified: true, set_by: SetBy::Api };
    match challenge::verify(&business.egress, &business.entropy, &target).await {
        Ok(()) => Ok(target),
        Err(e) => Err(ApiError::callback(&e.to_string())),
    }
}

async fn change(business: &Business, change: impl FnOnce(&mut Targets) + Send + 'static) -> Result<Value, ApiError> {
    let stored = business
        .endpoint
        .with_store(move |tx| {
            let mut targets = facts::targets(tx)?;
            change(&mut targets);
            facts::set_targets(tx, &targets)
        })
        .await;
    if let Err(e) = stored {
        tracing::error!(error = %e, "webhook settings could not be stored");
        return Err(ApiError::unavailable("The gateway could not store its settings; try again."));
    }
    // Without a deliverer the gateway is stopping, and reads the settings at its next start.
    let _ = business.wakes.send(Wake::Target);
    Ok(json!({"success": true}))
}

fn text(node: &Node<'_>, name: &str) -> Result<Option<String>, ApiError> {
    node.text(name).map_err(|NotThat| ApiError::parameter(&format!("Param {name} must be a string.")))
}
