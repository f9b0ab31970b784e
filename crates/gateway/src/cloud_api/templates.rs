//! Message templates: made, listed, changed and removed.
//!
//! Who approves is the business itself, and its rule is that what passes the lint is approved: the answer to `POST` says so at once, and a webhook
//! `message_template_status_update` tells the business's other programs.

use bulla_client::endpoint::CommandError;
use bulla_client::store::StoreError;
use bulla_client::store::tx::Tx;
use serde_json::{Map, Value, json};

use super::error::{ApiError, Lint};
use super::fields::project;
use super::paging::{self, Place};
use super::params::{Node, Params};
use super::template_lint as lint;
use super::values::{mandatory, string, text};
use crate::business::Business;
use crate::store::{BUSINESS, templates};
use crate::template::{Category, Gaps, Parts, Status, Template};
use crate::webhooks::deliverer::Wake;
use crate::webhooks::template_status::{self, Became};

const NODE: &str = "WhatsAppMessageTemplate";

/// What a template shows unasked.
const FIELDS: &[&str] = &["id", "name", "parameter_format", "components", "language", "status", "category"];

/// What the Cloud API does with a template and this gateway does not: whoever sets it relies on it.
const NOT_HERE: &[&str] =
    &["message_send_ttl_seconds", "library_template_name", "library_template_button_inputs", "bid_spec"];

/// Languages of one `upsert`, and ids of one removal.
const AT_ONCE: usize = 100;

/// What is to be made.
struct Wanted {
    name: String,
    language: String,
    category: Category,
    parts: Parts,
    components: String,
}

/// `GET /{waba-id}/message_templates`.
pub(crate) async fn list(business: &Business, params: &Params, place: &Place<'_>) -> Result<Value, ApiError> {
    let root = params.root();
    let all = business.endpoint.with_store(|tx| templates::all(tx)).await.map_err(failed)?;
    let whole = all.len();
    let filter = Filter::read(&root)?;
    let found: Vec<Template> = all.into_iter().filter(|template| filter.takes(template)).collect();
    let count = found.len();
    let (piece, paging) = paging::cut(found, |template| template.id, params, place)?;
    let fields = text(&root, "fields")?;
    let data =
        piece.iter().map(|t| project(&node(t), fields.as_deref(), FIELDS, NODE)).collect::<Result<Vec<_>, _>>()?;
    let mut answer = json!({
        "data": data,
        // Unasked too: one client cannot do without.
        "summary": {
            "total_count": count,
            "message_template_count": whole,
            "message_template_limit": templates::MOST,
            "are_translations_complete": true,
        },
    });
    if let (Value::Object(answer), Some(paging)) = (&mut answer, paging) {
        answer.insert("paging".into(), paging);
    }
    Ok(answer)
}

/// Which templates are asked for: all that fit every word that is given.
struct Filter {
    exact: Vec<(&'static str, Vec<String>)>,
    within: Vec<(&'static str, String)>,
}

impl Filter {
    fn read(root: &Node<'_>) -> Result<Self, ApiError> {
        let mut filter = Self { exact: Vec::new(), within: Vec::new() };
        for name in ["name", "status", "category", "language", "quality_score"] {
            match root.json(name) {
                None => {}
                Some(Value::String(word)) => filter.exact.push((name, vec![word])),
                Some(Value::Array(words)) => {
                    let words = words.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<_>>();
                    filter.exact.push((name, words.ok_or_else(|| string(name))?));
                }
                Some(_) => return Err(string(name)),
            }
        }
        for name in ["content", "name_or_content"] {
            if let Some(word) = text(root, name)? {
                filter.within.push((name, word.to_lowercase()));
            }
        }
        Ok(filter)
    }

    fn takes(&self, template: &Template) -> bool {
        let is = |name: &str, word: &String| match name {
            "name" => template.name == *word,
            "language" => template.language == *word,
            "status" => template.status.word().eq_ignore_ascii_case(word),
            "category" => template.category.word().eq_ignore_ascii_case(word),
            _ => "UNKNOWN".eq_ignore_ascii_case(word),
        };
        let content = || template.components.to_lowercase();
        self.exact.iter().all(|(name, words)| words.iter().any(|word| is(name, word)))
            && self.within.iter().all(|(name, word)| {
                content().contains(word) || (*name == "name_or_content" && template.name.contains(word))
            })
    }
}

/// `POST /{waba-id}/message_templates`.
pub(crate) async fn create(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    let name = mandatory(&root, "name")?;
    let language = mandatory(&root, "language")?;
    let wanted = wanted(&root, name, language)?;
    let made = store(business, move |tx, account| {
        if templates::find(tx, &wanted.name, &wanted.language)?.is_some() {
            let words =
                "There is already content for this template in this language. Create a new template, or edit this one.";
            return Ok(Err(ApiError::template(Lint::Taken, words)));
        }
        make(tx, account, wanted)
    })
    .await?;
    Ok(json!({"id": made.id.to_string(), "status": made.status.word(), "category": made.category.word()}))
}

/// `POST /{waba-id}/upsert_message_templates`: one-time passwords in several languages at once.
pub(crate) async fn upsert(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    let name = mandatory(&root, "name")?;
    let Some(Value::Array(languages)) = root.json("languages") else { return Err(ApiError::required("languages")) };
    if languages.is_empty() || languages.len() > AT_ONCE {
        return Err(ApiError::parameter("Param languages must have from 1 to 100 entries."));
    }
    let mut all = Vec::new();
    for language in &languages {
        let language = language.as_str().ok_or_else(|| string("languages"))?;
        all.push(wanted(&root, name.clone(), language.to_owned())?);
    }
    if all.iter().any(|wanted| wanted.category != Category::Authentication) {
        return Err(ApiError::parameter("Param category must be AUTHENTICATION."));
    }
    let made = store(business, move |tx, account| {
        let mut made = Vec::new();
        for wanted in all {
            let template = match templates::find(tx, &wanted.name, &wanted.language)? {
                Some(old) => change(tx, account, old, wanted)?,
                None => match make(tx, account, wanted)? {
                    Ok(template) => template,
                    Err(refusal) => return Ok(Err(refusal)),
                },
            };
            made.push(template);
        }
        Ok(Ok(made))
    })
    .await?;
    let data: Vec<Value> = made
        .iter()
        .map(|t| json!({"id": t.id.to_string(), "status": t.status.word(), "language": t.language}))
        .collect();
    Ok(json!({ "data": data }))
}

/// `GET /{template-id}`.
pub(crate) async fn show(business: &Business, id: &str, params: &Params) -> Result<Value, ApiError> {
    let template = known(business, id, "GET").await?;
    project(&node(&template), text(&params.root(), "fields")?.as_deref(), FIELDS, NODE)
}

/// `POST /{template-id}`: a new version of it. What is not given stays.
pub(crate) async fn edit(business: &Business, id: &str, params: &Params) -> Result<Value, ApiError> {
    let old = known(business, id, "POST").await?;
    let root = params.root();
    for (given, has) in [("name", &old.name), ("language", &old.language)] {
        if text(&root, given)?.is_some_and(|given| given != *has) {
            return Err(ApiError::parameter(&format!("Param {given} of a template cannot be changed.")));
        }
    }
    if old.status == Status::Disabled {
        return Err(ApiError::parameter("A template that is disabled cannot be edited."));
    }
    if !["components", "category", "parameter_format"].into_iter().any(|name| root.has(name)) {
        return Err(ApiError::required("components"));
    }
    let wanted = read(&root, old.name.clone(), old.language.clone(), Some(&old))?;
    let (id, version) = (old.id, old.version);
    store(business, move |tx, account| match templates::get(tx, id)? {
        // Of two edits at once one would be lost without a word.
        Some(old) if old.version == version => change(tx, account, old, wanted).map(Ok),
        Some(_) => Ok(Err(ApiError::unavailable("The template was edited at the same time; try again."))),
        None => Ok(Err(ApiError::unknown_node("POST", &id.to_string()))),
    })
    .await?;
    Ok(json!({"success": true}))
}

/// `POST /{template-id}/unpause`.
pub(crate) async fn unpause(business: &Business, id: &str) -> Result<Value, ApiError> {
    let id = known(business, id, "POST").await?.id;
    let unpaused = store(business, move |tx, account| {
        let Some(template) = templates::get(tx, id)?.filter(|template| template.status == Status::Paused) else {
            return Ok(Ok(false));
        };
        let template = Template { status: Status::Approved, ..template };
        templates::put(tx, &template)?;
        template_status::tell(tx, account, &template, Became::Its)?;
        Ok(Ok(true))
    })
    .await?;
    match unpaused {
        true => Ok(json!({"success": true})),
        false => Ok(json!({"success": false, "reason": "The template is not paused."})),
    }
}

/// `DELETE /{waba-id}/message_templates`: by name, in all languages; or one of them by `hsm_id`; or any by `hsm_ids`.
pub(crate) async fn delete(business: &Business, params: &Params) -> Result<Value, ApiError> {
    let root = params.root();
    let name = text(&root, "name")?;
    let ids = match (root.json("hsm_ids"), text(&root, "hsm_id")?) {
        (Some(Value::Array(ids)), _) if (1..=AT_ONCE).contains(&ids.len()) => {
            Some(ids.iter().map(number).collect::<Option<Vec<_>>>().ok_or_else(|| string("hsm_ids"))?)
        }
        (Some(_), _) => return Err(ApiError::parameter("Param hsm_ids must be an array of 1 to 100 template ids.")),
        (None, Some(id)) => {
            // One id alone is not enough at the Cloud API: what is meant to be gone has to be named.
            name.as_ref().ok_or_else(|| ApiError::required("name"))?;
            Some(vec![id.parse().map_err(|_| ApiError::parameter("Param hsm_id must be a template id."))?])
        }
        (None, None) => None,
    };
    if name.is_none() && ids.is_none() {
        return Err(ApiError::required("name"));
    }
    store(business, move |tx, account| {
        let mut gone = templates::all(tx)?;
        gone.retain(|template| {
            name.as_ref().is_none_or(|name| *name == template.name)
                && ids.as_ref().is_none_or(|ids| ids.contains(&template.id))
        });
        let wanted = ids.as_ref().map_or(1, Vec::len);
        if gone.len() < wanted {
            return Ok(Err(ApiError::template(Lint::NotFound, "There is no such message template.")));
        }
        for template in &gone {
            templates::remove(tx, template);
            template_status::tell(tx, account, template, Became::Deleted)?;
        }
        Ok(Ok(()))
    })
    .await?;
    Ok(json!({"success": true}))
}

fn make(
    tx: &mut Tx<'_>,
    account: &crate::account::Account,
    wanted: Wanted,
) -> Result<Result<Template, ApiError>, StoreError> {
    if templates::all(tx)?.len() >= templates::MOST {
        let words = format!("A business may have {} message templates: remove some first.", templates::MOST);
        return Ok(Err(ApiError::template(Lint::TooMany, words)));
    }
    let template = Template {
        id: templates::new_id(tx)?,
        name: wanted.name,
        language: wanted.language,
        category: wanted.category,
        status: Status::Approved,
        parts: wanted.parts,
        components: wanted.components,
        version: 1,
        changed_ms: tx.now_ms(),
    };
    templates::put(tx, &template)?;
    template_status::tell(tx, account, &template, Became::Its)?;
    Ok(Ok(template))
}

fn change(
    tx: &mut Tx<'_>,
    account: &crate::account::Account,
    old: Template,
    wanted: Wanted,
) -> Result<Template, StoreError> {
    let template = Template {
        category: wanted.category,
        status: Status::Approved,
        parts: wanted.parts,
        components: wanted.components,
        version: old.version.saturating_add(1),
        changed_ms: tx.now_ms(),
        ..old
    };
    templates::put(tx, &template)?;
    template_status::tell(tx, account, &template, Became::Its)?;
    Ok(template)
}

/// Runs a change; what it tells goes to the webhook's receiver once it is durable.
async fn store<R, F>(business: &Business, change: F) -> Result<R, ApiError>
where
    R: Send + 'static,
    F: FnOnce(&mut Tx<'_>, &crate::account::Account) -> Result<Result<R, ApiError>, StoreError> + Send + 'static,
{
    let account = business.account.clone();
    let result = business.endpoint.with_store(move |tx| change(tx, &account)).await.map_err(failed)?;
    if result.is_ok() {
        // Without a deliverer the gateway is stopping; the row waits for the next start.
        let _ = business.wakes.send(Wake::Row(BUSINESS));
        business.came.notify_one();
    }
    result
}

pub(crate) fn failed(error: CommandError) -> ApiError {
    tracing::error!(%error, "what is managed could not be read or kept");
    ApiError::unavailable("The gateway could not store this; try again.")
}

async fn known(business: &Business, id: &str, method: &str) -> Result<Template, ApiError> {
    let unknown = || ApiError::unknown_node(method, id);
    let number = id.parse().map_err(|_| unknown())?;
    business.endpoint.with_store(move |tx| templates::get(tx, number)).await.map_err(failed)?.ok_or_else(unknown)
}

fn wanted(root: &Node<'_>, name: String, language: String) -> Result<Wanted, ApiError> {
    if !lint::is_name(&name) {
        return Err(ApiError::parameter("Param name must be of a-z, 0-9 and _, with at most 512 characters."));
    }
    if !lint::is_language(&language) {
        return Err(ApiError::parameter("Param language must be a language code, as en or pt_BR."));
    }
    read(root, name, language, None)
}

/// A template's content; what is not given is the old one's.
fn read(root: &Node<'_>, name: String, language: String, old: Option<&Template>) -> Result<Wanted, ApiError> {
    if let Some(name) = NOT_HERE.iter().find(|name| root.has(name)) {
        return Err(ApiError::parameter(&format!("Param {name} is not supported by this gateway.")));
    }
    let category = match (text(root, "category")?, old) {
        (Some(word), _) => {
            let known = Category::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(&word));
            known.map(|(category, _)| *category).ok_or_else(|| {
                ApiError::parameter("Param category must be one of {AUTHENTICATION, MARKETING, UTILITY}.")
            })?
        }
        (None, Some(old)) => old.category,
        (None, None) => return Err(ApiError::required("category")),
    };
    let gaps = match (text(root, "parameter_format")?.map(|word| word.to_ascii_uppercase()).as_deref(), old) {
        (Some("NAMED"), _) => Gaps::Named,
        (Some("POSITIONAL"), _) => Gaps::Positional,
        (Some(_), _) => return Err(ApiError::parameter("Param parameter_format must be one of {NAMED, POSITIONAL}.")),
        (None, Some(old)) => old.parts.gaps,
        (None, None) => Gaps::Positional,
    };
    let components = match (root.json("components"), old) {
        (Some(components), _) => components,
        (None, Some(old)) => components(old),
        (None, None) => return Err(ApiError::required("components")),
    };
    let (parts, components) = lint::parts(&components, category, gaps)?;
    Ok(Wanted { name, language, category, parts, components })
}

/// As they were given.
fn components(template: &Template) -> Value {
    serde_json::from_str(&template.components).unwrap_or_default()
}

fn node(template: &Template) -> Value {
    let mut node = Map::new();
    let format = match template.parts.gaps {
        Gaps::Positional => "POSITIONAL",
        Gaps::Named => "NAMED",
    };
    for (name, value) in [
        ("id", template.id.to_string().into()),
        ("name", template.name.as_str().into()),
        ("language", template.language.as_str().into()),
        ("status", template.status.word().into()),
        ("category", template.category.word().into()),
        ("parameter_format", format.into()),
        ("components", components(template)),
        ("quality_score", json!({"score": "UNKNOWN"})),
        ("rejected_reason", "NONE".into()),
        // Ours: the Cloud API keeps no count of edits.
        ("version", template.version.into()),
        ("last_updated_time", (template.changed_ms / 1_000).into()),
        ("previous_category", Value::Null),
        ("correct_category", Value::Null),
        ("sub_category", Value::Null),
        ("library_template_name", Value::Null),
        ("message_send_ttl_seconds", Value::Null),
        ("cta_url_link_tracking_opted_out", Value::Null),
    ] {
        node.insert(name.to_owned(), value);
    }
    Value::Object(node)
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
