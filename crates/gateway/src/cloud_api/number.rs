//! What can be set about the number.
//!
//! A business's number is made when `bulla gateway` first serves it: there is nobody to verify it with and no other to bring in, and what asks
//! for that is told so. Registering is kept, because it guards something: a number that was deregistered sends nothing until somebody with the
//! PIN registers it again.

use bulla_client::endpoint::CommandError;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::params::{Node, Params};
use super::subscriptions;
use super::values::{mandatory, only, product, text};
use crate::business::Business;
use crate::store::number::{self, Automation, Command, Pin};

const PROMPTS: usize = 4;
const PROMPT: usize = 80;
const COMMANDS: usize = 30;
const COMMAND: usize = 32;
const DESCRIPTION: usize = 256;

/// `POST /{phone-number-id}/register`.
pub(crate) async fn register(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    product(&root)?;
    // `tier` and the region change nothing about where a gateway keeps what it keeps: on its own machine.
    only(params, &["pin"])?;
    let pin = pin(&mandatory(&root, "pin")?)?;
    let answer = business.endpoint.with_store(move |tx| number::register(tx, &pin)).await.map_err(failed)?;
    match answer {
        Pin::Good => {
            business.set_deregistered(false);
            Ok(json!({"success": true}))
        }
        Pin::Wrong => Err(ApiError::pin_mismatch()),
        Pin::TooMany => Err(ApiError::pin_guesses()),
    }
}

/// `POST /{phone-number-id}/deregister`.
pub(crate) async fn deregister(business: &Business) -> Result<Value, ApiError> {
    business.endpoint.with_store(number::deregister).await.map_err(failed)?;
    business.set_deregistered(true);
    Ok(json!({"success": true}))
}

/// Whether the number may send. Asked before every message, so that the store is asked once.
pub(crate) async fn must_be_registered(business: &Business) -> Result<(), ApiError> {
    let deregistered = match business.is_deregistered() {
        Some(known) => known,
        None => {
            let stored = business.endpoint.with_store(|tx| number::number(tx)).await.map_err(failed)?;
            business.set_deregistered(stored.is_deregistered);
            stored.is_deregistered
        }
    };
    if deregistered { Err(ApiError::not_registered()) } else { Ok(()) }
}

/// `POST /{phone-number-id}/request_code`.
pub(crate) fn request_code() -> Result<Value, ApiError> {
    Err(ApiError::request_code())
}

/// `POST /{phone-number-id}/verify_code`.
pub(crate) fn verify_code() -> Result<Value, ApiError> {
    Err(ApiError::verify_code())
}

/// `POST /{waba-id}/phone_numbers`.
pub(crate) fn add() -> Result<Value, ApiError> {
    Err(ApiError::capability("Numbers are made by `bulla gateway --business`, one for each business."))
}

/// `POST /{phone-number-id}`: the PIN, where webhooks go.
pub(crate) async fn configure(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    only(params, &["pin", "new_display_name", "webhook_configuration"])?;
    if root.has("new_display_name") {
        return Err(ApiError::capability("A business's name is given where it is served: `bulla gateway --business`."));
    }
    let new_pin = text(&root, "pin")?.as_deref().map(pin).transpose()?;
    if new_pin.is_none() || root.has("webhook_configuration") {
        subscriptions::phone_configure(business, params).await?;
    }
    if let Some(pin) = new_pin {
        business.endpoint.with_store(move |tx| number::set_pin(tx, &pin)).await.map_err(failed)?;
    }
    Ok(json!({"success": true}))
}

fn pin(text: &str) -> Result<String, ApiError> {
    let is_pin = text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit());
    if is_pin { Ok(text.to_owned()) } else { Err(ApiError::parameter("Param pin must have 6 digits.")) }
}

/// `GET /{phone-number-id}/settings`: all of it is as it is.
pub(crate) fn settings() -> Value {
    json!({
        "calling": {
            "status": "disabled",
            "call_icon_visibility": "hidden",
            "callback_permission_status": "disabled",
            "ip_addresses": {"default": []},
        },
        "payload_encryption": {"status": "disabled"},
        "storage_configuration": {"status": "default"},
        "user_identity_change": {"enabled": false},
    })
}

/// `POST /{phone-number-id}/settings`: takes what is so anyway and refuses all else, so that nobody believes that it is set.
pub(crate) fn set_settings(params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    let known = ["calling", "payload_encryption", "storage_configuration", "user_identity_change"];
    only(params, &known)?;
    let given: Vec<&str> = known.into_iter().filter(|name| root.has(name)).collect();
    let [name] = given.as_slice() else {
        return Err(ApiError::parameter(
            "One of calling, payload_encryption, storage_configuration, user_identity_change is required.",
        ));
    };
    let Ok(Some(setting)) = root.object(name) else {
        return Err(ApiError::parameter(&format!("Param {name} must be an object.")));
    };
    let is_off = |name| {
        let word = text(&setting, name)?.map(|word| word.to_ascii_lowercase());
        Ok::<_, ApiError>(matches!(word.as_deref(), Some("disabled" | "default" | "false")))
    };
    let switch = match *name {
        "user_identity_change" if setting.has("enable_identity_key_check") => "enable_identity_key_check",
        "user_identity_change" => "enabled",
        "storage_configuration" if setting.has("enabled") => "enabled",
        _ => "status",
    };
    if !setting.has(switch) {
        return Err(ApiError::required(&format!("{name}[{switch}]")));
    }
    if is_off(switch)? {
        return Ok(json!({"success": true}));
    }
    Err(match *name {
        "calling" => ApiError::calling(),
        "payload_encryption" => ApiError::capability(
            "The gateway runs where the business's programs run: there is no cloud between them to be encrypted against.",
        ),
        "storage_configuration" => ApiError::capability(
            "All that is stored lies in the gateway's data folder, wherever the business keeps it.",
        ),
        _ => ApiError::capability(
            "Changes of a customer's identity are told by the gateway's own rules, and not by hash.",
        ),
    })
}

/// `POST /{phone-number-id}/conversational_automation`: what is not given stays.
pub(crate) async fn automate(business: &Business, params: &Params) -> Result<Value, ApiError> {
    only(params, &["enable_welcome_message", "prompts", "commands"])?;
    let root = params.root();
    let welcome = match text(&root, "enable_welcome_message")?.as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(ApiError::parameter("Param enable_welcome_message must be a boolean.")),
    };
    let (prompts, commands) = (prompts(&root)?, commands(&root)?);
    business
        .endpoint
        .with_store(move |tx| {
            let old = number::automation(tx)?;
            let automation = Automation {
                welcome: welcome.unwrap_or(old.welcome),
                prompts: prompts.unwrap_or(old.prompts),
                commands: commands.unwrap_or(old.commands),
            };
            number::set_automation(tx, &automation)
        })
        .await
        .map_err(failed)?;
    Ok(json!({"success": true}))
}

fn list(root: &Node<'_>, name: &str, most: usize) -> Result<Option<Vec<Value>>, ApiError> {
    match root.json(name) {
        None => Ok(None),
        Some(Value::Array(all)) if all.len() <= most => Ok(Some(all)),
        Some(_) => Err(ApiError::parameter(&format!("Param {name} must be an array of at most {most} entries."))),
    }
}

fn prompts(root: &Node<'_>) -> Result<Option<Vec<String>>, ApiError> {
    let Some(given) = list(root, "prompts", PROMPTS)? else { return Ok(None) };
    let prompt = |value: &Value| words(value, PROMPT);
    let all = given.iter().map(prompt).collect::<Option<Vec<_>>>();
    all.map(Some).ok_or_else(|| ApiError::parameter("Param prompts must be strings of 1 to 80 characters."))
}

fn commands(root: &Node<'_>) -> Result<Option<Vec<Command>>, ApiError> {
    let Some(given) = list(root, "commands", COMMANDS)? else { return Ok(None) };
    let wrong = || {
        ApiError::parameter(
            "Param commands must be objects with a command_name of 1 to 32 letters, digits and _, each once, and a command_description \
             of 1 to 256 characters.",
        )
    };
    let mut all: Vec<Command> = Vec::new();
    for value in &given {
        let name = words(value.get("command_name").unwrap_or(&Value::Null), COMMAND).ok_or_else(wrong)?;
        let description = value.get("command_description").unwrap_or(&Value::Null);
        let description = words(description, DESCRIPTION).ok_or_else(wrong)?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name || all.iter().any(|command| command.name == name) {
            return Err(wrong());
        }
        all.push(Command { name, description });
    }
    Ok(Some(all))
}

fn words(value: &Value, most: usize) -> Option<String> {
    let text = value.as_str()?;
    (1..=most).contains(&text.chars().count()).then(|| text.to_owned())
}

/// What the number's node says about itself.
pub(crate) async fn shown(business: &Business) -> Result<Map<String, Value>, ApiError> {
    let read = |tx: &mut bulla_client::store::tx::Tx<'_>| Ok((number::number(tx)?, number::automation(tx)?));
    let (number, automation) = business.endpoint.with_store(read).await.map_err(failed)?;
    let commands: Vec<Value> = automation
        .commands
        .iter()
        .map(|command| json!({"command_name": command.name, "command_description": command.description}))
        .collect();
    let automation = json!({
        "enable_welcome_message": automation.welcome,
        "prompts": automation.prompts,
        "commands": commands,
        "id": business.account.phone_number_id,
    });
    Ok(Map::from_iter([
        ("is_pin_enabled".to_owned(), number.has_pin().into()),
        ("status".to_owned(), if number.is_deregistered { "DISCONNECTED" } else { "CONNECTED" }.into()),
        ("conversational_automation".to_owned(), automation),
    ]))
}

fn failed(error: CommandError) -> ApiError {
    tracing::error!(%error, "what is set about a number could not be read or kept");
    ApiError::unavailable("The gateway could not store its settings; try again.")
}
