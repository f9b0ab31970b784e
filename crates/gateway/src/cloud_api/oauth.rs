//! Tokens about tokens: `/oauth/access_token` and `/debug_token`.
//!
//! Nothing is issued here. A business has one access token, which its owner reads with `bulla env`; what clients ask for they have already.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Caller;
use super::error::ApiError;
use super::params::Params;
use super::values::{mandatory, text};
use crate::business::Business;

/// What an access token may do, in the Cloud API's words.
const SCOPES: &[&str] = &["whatsapp_business_management", "whatsapp_business_messaging"];

/// `GET|POST /oauth/access_token`: for who knows an app's secret. Also whose app it is.
pub(crate) fn access_token(businesses: &[Arc<Business>], params: &Params) -> Result<(Arc<Business>, Value), ApiError> {
    let root = params.root();
    let id = mandatory(&root, "client_id")?;
    let secret = mandatory(&root, "client_secret")?;
    let mut found = None;
    // One answer for a wrong id and a wrong secret: which apps there are is nobody's business.
    for business in businesses {
        if business.account.app_secret.matches(&secret) && business.account.app_id == id {
            found = Some(Arc::clone(business));
        }
    }
    let business = found.ok_or_else(ApiError::client_secret)?;
    let token = match text(&root, "grant_type")?.as_deref() {
        Some("client_credentials") => format!("{id}|{secret}"),
        // A token here does not expire: it is its own longer-lived one.
        Some("fb_exchange_token") => {
            let token = mandatory(&root, "fb_exchange_token")?;
            if !business.account.token_hash.matches(&token) {
                return Err(ApiError::invalid_token());
            }
            token
        }
        // There is no dialog that gives out codes.
        None | Some("authorization_code") if root.has("code") => return Err(ApiError::verification_code()),
        None => return Err(ApiError::required("grant_type")),
        Some(_) => {
            return Err(ApiError::parameter(
                "Param grant_type must be one of {client_credentials, fb_exchange_token}.",
            ));
        }
    };
    Ok((business, json!({"access_token": token, "token_type": "bearer"})))
}

/// `GET /debug_token?input_token=…`: a token of another business is like one of nobody.
pub(crate) fn debug_token(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let token = mandatory(&params.root(), "input_token")?;
    let account = &business.account;
    let data = match super::caller_of(account, &token) {
        Some(Caller::User) => json!({
            "app_id": account.app_id,
            "type": "SYSTEM_USER",
            "application": account.name,
            "data_access_expires_at": 0,
            "expires_at": 0,
            "is_valid": true,
            "scopes": SCOPES,
            "granular_scopes":
                SCOPES.iter().map(|scope| json!({"scope": scope, "target_ids": [account.waba_id]})).collect::<Vec<_>>(),
        }),
        Some(Caller::App) => json!({
            "app_id": account.app_id,
            "type": "APP",
            "application": account.name,
            "is_valid": true,
            "scopes": [],
        }),
        Some(Caller::Pass) | None => json!({
            "error": {"code": 190, "message": "Invalid OAuth access token."},
            "is_valid": false,
            "scopes": [],
        }),
    };
    Ok(json!({ "data": data }))
}
