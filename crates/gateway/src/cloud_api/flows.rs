//! `/{waba-id}/flows` and a flow's own routes: made, changed, published, deprecated, removed.

use bulla_client::store::StoreError;
use bulla_client::store::tx::Tx;
use bulla_e2ee::content::{Form, FormKind};
use serde_json::{Value, json};

use super::error::{ApiError, FlowError};
use super::fields::project;
use super::interactive::Flow as Asked;
use super::paging::{self, Place};
use super::params::Params;
use super::templates::failed;
use super::values::{mandatory, string, text};
use crate::business::Business;
use crate::flow::{self, Flow, MAX_JSON, Problem, Status};
use crate::store::flows;

const NODE: &str = "Flow";

/// What a flow shows unasked.
const FIELDS: &[&str] = &["id", "name", "status", "categories", "validation_errors"];

/// Meta's categories.
const CATEGORIES: &[&str] = &[
    "SIGN_UP",
    "SIGN_IN",
    "APPOINTMENT_BOOKING",
    "LEAD_GENERATION",
    "SHOPPING",
    "CONTACT_US",
    "CUSTOMER_SUPPORT",
    "SURVEY",
    "OTHER",
];

/// Characters of a name.
const MAX_NAME: usize = 200;

/// `GET /{waba-id}/flows`.
pub(crate) async fn list(business: &Business, params: &Params, place: &Place<'_>) -> Result<Value, ApiError> {
    let all = business.endpoint.with_store(|tx| flows::all(tx)).await.map_err(failed)?;
    let (piece, paging) = paging::cut(all, |flow| flow.id, params, place)?;
    let fields = text(&params.root(), "fields")?;
    let data = piece.iter().map(|flow| project(&node(business, flow), fields.as_deref(), FIELDS, NODE));
    let mut answer = json!({"data": data.collect::<Result<Vec<_>, _>>()?});
    if let (Value::Object(answer), Some(paging)) = (&mut answer, paging) {
        answer.insert("paging".into(), paging);
    }
    Ok(answer)
}

/// `POST /{waba-id}/flows`.
pub(crate) async fn create(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    for name in ["endpoint_uri", "clone_flow_id"] {
        if root.has(name) {
            return Err(ApiError::parameter(&format!("Param {name} is not supported.")));
        }
    }
    let name = name_of(mandatory(&root, "name")?)?;
    let categories = categories(root.json("categories"))?;
    let json = text(&root, "flow_json")?.unwrap_or_default();
    let publish = text(&root, "publish")?.as_deref() == Some("true");
    let problems = problems(&json)?;
    if publish && (json.is_empty() || !problems.is_empty()) {
        return Err(ApiError::flow(FlowError::Publish, "It has validation errors, or no flow_json."));
    }
    let status = if publish { Status::Published } else { Status::Draft };
    let made = change(business, move |tx| {
        if flows::all(tx)?.len() >= flows::MOST {
            return Ok(Err(ApiError::parameter("There are as many flows as a business may have.")));
        }
        if flows::find(tx, &name)?.is_some() {
            return Ok(Err(ApiError::parameter("Flow name is not unique: another flow has it.")));
        }
        let flow = Flow { id: flows::new_id(tx)?, name, status, categories, json, changed_ms: tx.now_ms() };
        flows::put(tx, &flow)?;
        Ok(Ok(flow.id))
    })
    .await?;
    Ok(json!({"id": made.to_string(), "success": true, "validation_errors": told(&problems)}))
}

/// `GET /{flow-id}`.
pub(crate) async fn show(business: &Business, id: &str, params: &Params) -> Result<Value, ApiError> {
    let flow = get(business, "GET", id).await?;
    let fields = text(&params.root(), "fields")?;
    project(&node(business, &flow), fields.as_deref(), FIELDS, NODE)
}

/// `GET /{flow-id}/assets`.
pub(crate) async fn assets(business: &Business, id: &str) -> Result<Value, ApiError> {
    let flow = get(business, "GET", id).await?;
    let asset = json!({"name": "flow.json", "asset_type": "FLOW_JSON", "flow_json": flow.json});
    Ok(json!({"data": if flow.json.is_empty() { vec![] } else { vec![asset] }}))
}

/// `POST /{flow-id}`: its name and categories.
pub(crate) async fn rename(business: &Business, id: &str, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    for name in ["endpoint_uri", "application_id"] {
        if root.has(name) {
            return Err(ApiError::parameter(&format!("Param {name} is not supported.")));
        }
    }
    let name = text(&root, "name")?.map(name_of).transpose()?;
    let categories = root.has("categories").then(|| categories(root.json("categories"))).transpose()?;
    let number = get(business, "POST", id).await?.id;
    change(business, move |tx| {
        let Some(flow) = flows::get(tx, number)? else { return Ok(Err(gone(number))) };
        let name = name.unwrap_or_else(|| flow.name.clone());
        if flows::find(tx, &name)?.is_some_and(|other| other.id != number) {
            return Ok(Err(ApiError::parameter("Flow name is not unique: another flow has it.")));
        }
        let categories = categories.unwrap_or_else(|| flow.categories.clone());
        flows::put(tx, &Flow { name, categories, changed_ms: tx.now_ms(), ..flow })?;
        Ok(Ok(()))
    })
    .await?;
    Ok(json!({"success": true}))
}

/// `POST /{flow-id}/assets`: its JSON.
pub(crate) async fn upload(business: &Business, id: &str, params: &Params) -> Result<Value, ApiError> {
    let json = mandatory(&params.root(), "file")?;
    let found = problems(&json)?;
    let number = get(business, "POST", id).await?.id;
    change(business, move |tx| {
        let Some(flow) = flows::get(tx, number)? else { return Ok(Err(gone(number))) };
        if flow.status != Status::Draft {
            return Ok(Err(ApiError::flow(FlowError::Update, "It was published: make another one.")));
        }
        flows::put(tx, &Flow { json, changed_ms: tx.now_ms(), ..flow })?;
        Ok(Ok(()))
    })
    .await?;
    Ok(json!({"success": true, "validation_errors": told(&found)}))
}

/// `POST /{flow-id}/publish`.
pub(crate) async fn publish(business: &Business, id: &str) -> Result<Value, ApiError> {
    let flow = get(business, "POST", id).await?;
    let good = !flow.json.is_empty() && flow::parse(&flow.json).is_ok();
    if flow.status != Status::Draft || !good {
        return Err(ApiError::flow(FlowError::Publish, "It is no draft, has validation errors, or no JSON."));
    }
    become_(business, flow, Status::Published).await
}

/// `POST /{flow-id}/deprecate`.
pub(crate) async fn deprecate(business: &Business, id: &str) -> Result<Value, ApiError> {
    let flow = get(business, "POST", id).await?;
    if flow.status != Status::Published {
        return Err(ApiError::flow(FlowError::Deprecate, "It is not published."));
    }
    become_(business, flow, Status::Deprecated).await
}

/// `DELETE /{flow-id}`: a draft.
pub(crate) async fn remove(business: &Business, id: &str) -> Result<Value, ApiError> {
    let flow = get(business, "DELETE", id).await?;
    if flow.status != Status::Draft {
        return Err(ApiError::flow(FlowError::Delete, "It was published: deprecate it."));
    }
    change(business, move |tx| {
        flows::remove(tx, flow.id);
        Ok(Ok(()))
    })
    .await?;
    Ok(json!({"success": true}))
}

/// The form that a message asks a customer to fill in.
pub(crate) async fn form(business: &Business, asked: Asked) -> Result<Form, ApiError> {
    let Asked { path, id, name, button, token, screen, data, draft } = asked;
    let unknown = || ApiError::invalid(&path, "names no flow of this business");
    let number = id.as_deref().map(|id| id.parse::<u64>().map_err(|_| unknown())).transpose()?;
    let name = name.unwrap_or_default();
    let found = business.endpoint.with_store(move |tx| match number {
        Some(number) => flows::get(tx, number),
        None => flows::find(tx, &name),
    });
    let flow = found.await.map_err(failed)?.ok_or_else(unknown)?;
    let may = flow.status == Status::Published || (draft && flow.status == Status::Draft);
    let screens = flow::parse(&flow.json).ok().filter(|_| may);
    let screens = screens.ok_or_else(|| ApiError::invalid(&path, "names a flow that is not published"))?;
    let screens = flow::filled(screens, screen.as_deref(), &data)
        .ok_or_else(|| ApiError::invalid(&format!("{path}.flow_action_payload.screen"), "is no screen of the flow"))?;
    Ok(Form { kind: FormKind::Flow, button, screens, token })
}

async fn get(business: &Business, method: &str, id: &str) -> Result<Flow, ApiError> {
    let unknown = || ApiError::unknown_node(method, id);
    let number = id.parse().map_err(|_| unknown())?;
    business.endpoint.with_store(move |tx| flows::get(tx, number)).await.map_err(failed)?.ok_or_else(unknown)
}

async fn become_(business: &Business, flow: Flow, status: Status) -> Result<Value, ApiError> {
    change(business, move |tx| {
        // Whoever changed it meanwhile has changed what was looked at.
        match flows::get(tx, flow.id)? {
            Some(now) if now == flow => {
                flows::put(tx, &Flow { status, changed_ms: tx.now_ms(), ..flow })?;
                Ok(Ok(()))
            }
            _ => Ok(Err(ApiError::unavailable("The flow was changed meanwhile; try again."))),
        }
    })
    .await?;
    Ok(json!({"success": true}))
}

async fn change<T: Send + 'static>(
    business: &Business,
    change: impl FnOnce(&mut Tx<'_>) -> Result<Result<T, ApiError>, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    business.endpoint.with_store(change).await.map_err(failed)?
}

fn gone(id: u64) -> ApiError {
    ApiError::unknown_node("POST", &id.to_string())
}

fn name_of(name: String) -> Result<String, ApiError> {
    if name.trim().is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ApiError::parameter(&format!("Param name must be one line of 1 to {MAX_NAME} characters.")));
    }
    Ok(name)
}

fn categories(given: Option<Value>) -> Result<Vec<String>, ApiError> {
    let given = given.ok_or_else(|| ApiError::required("categories"))?;
    let all = given.as_array().ok_or_else(|| string("categories"))?;
    let known = all.iter().map(|one| one.as_str().filter(|one| CATEGORIES.contains(one)).map(str::to_owned));
    let known: Option<Vec<String>> = known.collect();
    known
        .filter(|all| !all.is_empty() && all.len() <= CATEGORIES.len())
        .ok_or_else(|| ApiError::parameter(&format!("Param categories must be some of {{{}}}.", CATEGORIES.join(", "))))
}

fn problems(json: &str) -> Result<Vec<Problem>, ApiError> {
    if json.len() > MAX_JSON {
        return Err(ApiError::parameter(&format!("The flow's JSON may have at most {MAX_JSON} bytes.")));
    }
    if json.is_empty() { Ok(Vec::new()) } else { Ok(flow::parse(json).err().unwrap_or_default()) }
}

fn told(problems: &[Problem]) -> Value {
    let each = problems.iter().map(|problem| {
        json!({
            "error": problem.error,
            "error_type": "FLOW_JSON_ERROR",
            "message": problem.message,
            "pointers": [{"path": problem.pointer}],
        })
    });
    each.collect()
}

fn node(business: &Business, flow: &Flow) -> Value {
    let problems = if flow.json.is_empty() { Vec::new() } else { flow::parse(&flow.json).err().unwrap_or_default() };
    json!({
        "id": flow.id.to_string(),
        "name": flow.name,
        "status": flow.status.word(),
        "categories": flow.categories,
        "validation_errors": told(&problems),
        "json_version": Value::Null,
        "data_api_version": Value::Null,
        "endpoint_uri": Value::Null,
        "data_channel_uri": Value::Null,
        "whatsapp_business_account": {"id": business.account.waba_id, "name": business.account.name},
        "application": Value::Null,
        "preview": Value::Null,
        "health_status": Value::Null,
        "updated_at": (flow.changed_ms / 1_000).to_string(),
    })
}
