//! Nodes that are read: the number and the account.

use bulla_client::endpoint::CommandError;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::project;
use super::number;
use super::params::Params;
use crate::business::Business;
use crate::numbers;
use crate::store::facts::{self, Targets};

const PHONE: &str = "WhatsAppBusinessPhoneNumber";
const WABA: &str = "WhatsAppBusinessAccount";

/// What a number shows unasked. `status` is among them because Meta's description of the API demands it of every number.
const PHONE_FIELDS: &[&str] = &[
    "verified_name",
    "code_verification_status",
    "display_phone_number",
    "quality_rating",
    "status",
    "platform_type",
    "throughput",
    "webhook_configuration",
    "id",
];

/// `GET /{phone-number-id}`.
pub(crate) async fn phone(business: &Business, params: &Params) -> Result<Value, ApiError> {
    project(&phone_node(business).await?, fields(params)?.as_deref(), PHONE_FIELDS, PHONE)
}

/// `GET /{waba-id}`.
pub(crate) fn waba(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let all = json!({
        "id": business.account.waba_id,
        "name": business.account.name,
        "currency": "EUR",
        "timezone_id": "0",
        "message_template_namespace": business.account.waba_id,
        "account_review_status": "APPROVED",
    });
    project(&all, fields(params)?.as_deref(), &["id", "name", "timezone_id", "message_template_namespace"], WABA)
}

/// `GET /{waba-id}/phone_numbers`.
pub(crate) async fn phone_numbers(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let mut answer = json!({
        "data": [phone(business, params).await?],
        "paging": {"cursors": {"before": "MAZDZD", "after": "MAZDZD"}},
    });
    if let (Value::Object(answer), true) = (&mut answer, params.root().has("summary")) {
        answer.insert("summary".into(), json!({"total_count": 1}));
    }
    Ok(answer)
}

async fn phone_node(business: &Business) -> Result<Value, ApiError> {
    let targets = targets(business).await?;
    let url = |target: &Option<facts::Target>| target.as_ref().map(|t| t.url.expose().to_owned());
    let mut node = json!({
        "id": business.account.phone_number_id,
        "verified_name": business.account.name,
        "display_phone_number": numbers::display(&business.account.display_number),
        "quality_rating": "GREEN",
        "code_verification_status": "VERIFIED",
        "name_status": "APPROVED",
        "new_name_status": "NONE",
        "platform_type": "CLOUD_API",
        "account_mode": "LIVE",
        "is_official_business_account": false,
        "throughput": {"level": "STANDARD"},
        "messaging_limit_tier": "TIER_UNLIMITED",
        "whatsapp_business_manager_messaging_limit": "TIER_UNLIMITED",
        "health_status": Value::Null,
        "certificate": Value::Null,
        "last_onboarded_time": Value::Null,
        "webhook_configuration": {
            "phone_number": url(&targets.phone),
            "whatsapp_business_account": url(&targets.waba),
            "application": url(&targets.app),
        },
    });
    if let Value::Object(node) = &mut node {
        node.extend(number::shown(business).await?);
    }
    Ok(node)
}

pub(crate) async fn targets(business: &Business) -> Result<Targets, ApiError> {
    business.endpoint.with_store(|tx| facts::targets(tx)).await.map_err(|e: CommandError| {
        tracing::error!(error = %e, "webhook settings could not be read");
        ApiError::unavailable("The gateway could not read its settings; try again.")
    })
}

fn fields(params: &Params) -> Result<Option<String>, ApiError> {
    params.root().text("fields").map_err(|_| ApiError::parameter("Param fields must be a string."))
}
