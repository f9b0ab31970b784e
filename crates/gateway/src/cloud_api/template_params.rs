//! Fills a template with what `POST /{phone-number-id}/messages` gives for it.
//!
//! Every gap takes exactly one value and every value goes into a gap: otherwise the customer would read a text that nobody approved. Values
//! stand on one line, as the Cloud API has it, so that none can look like a paragraph of the business's own.

use serde_json::{Map, Value};

use super::error::ApiError;
use super::template_lint::{BODY, CODE, HEADER};
use crate::business::Business;
use crate::store::templates;
use crate::template::{ButtonPart, Category, Gaps, HeaderPart, MediaKind, Pattern, Status, Template};

/// Characters of a body to which nothing else belongs: as many as a text may have.
const BODY_ALONE: usize = 4_096;
/// Characters of an address, filled.
const URL: usize = 2_000;
/// Characters of a quick reply's payload.
const PAYLOAD: usize = 256;
/// Characters of a place's name and address, of a file's name and of its address.
const WORDS: usize = 1_000;

/// What the customer gets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) name: String,
    pub(crate) language: String,
    pub(crate) category: Category,
    pub(crate) header: Option<Header>,
    pub(crate) body: String,
    pub(crate) footer: Option<String>,
    pub(crate) buttons: Vec<Button>,
}

/// What stands above the body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Header {
    Text(String),
    /// One of `id` and `link` is there; with both, the id counts.
    Media {
        kind: MediaKind,
        id: Option<String>,
        link: Option<String>,
        filename: Option<String>,
    },
    Location {
        latitude: f64,
        longitude: f64,
        name: Option<String>,
        address: Option<String>,
    },
}

/// What stands below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Button {
    QuickReply { text: String, payload: String },
    Url { text: String, url: String },
    Phone { text: String, number: String },
    CopyCode { text: String, code: String },
}

/// Finds the template that a message names, and fills it. `send` is the message's `template`.
pub(crate) async fn for_sending(business: &Business, send: &Value) -> Result<Rendered, ApiError> {
    let (name, language) = named(send)?;
    let (wanted, code) = (name.to_owned(), language.to_owned());
    let found = business.endpoint.with_store(move |tx| templates::find(tx, &wanted, &code)).await;
    let found = found.map_err(super::templates::failed)?;
    let template = found.ok_or_else(|| ApiError::template_unknown(name, language))?;
    render(&template, send)
}

fn named(send: &Value) -> Result<(&str, &str), ApiError> {
    let name = send.get("name").and_then(Value::as_str).ok_or_else(|| ApiError::missing("template.name"))?;
    let language = send.get("language").map_or(&Value::Null, |l| l.get("code").unwrap_or(l));
    let language = language.as_str().ok_or_else(|| ApiError::missing("template.language.code"))?;
    Ok((name, language))
}

/// Fills a template. `send` is the `template` of the message: `name`, `language`, `components`.
pub(crate) fn render(template: &Template, send: &Value) -> Result<Rendered, ApiError> {
    if template.status != Status::Approved {
        return Err(ApiError::template_stopped(template.status, &template.name, &template.language));
    }
    let given = Given::read(send, template.parts.buttons.len())?;
    let parts = &template.parts;
    let header = match (&parts.header, &given.header) {
        (None, None) => None,
        (None, Some(given)) => return Err(ApiError::template_count("header", given.len().max(1), 0)),
        (Some(part), given) => Some(header(part, given.as_deref().unwrap_or_default(), parts.gaps)?),
    };
    let body = fill(&parts.body, given.body.as_deref().unwrap_or_default(), parts.gaps, "body")?;
    let is_alone = header.is_none() && parts.footer.is_none() && parts.buttons.is_empty();
    short("body", &body, if is_alone { BODY_ALONE } else { BODY })?;
    let buttons = parts.buttons.iter().zip(&given.buttons).enumerate();
    let buttons = buttons.map(|(i, (part, given))| button(i, part, given.as_ref())).collect::<Result<_, _>>()?;
    Ok(Rendered {
        name: template.name.clone(),
        language: template.language.clone(),
        category: template.category,
        header,
        body,
        footer: parts.footer.clone(),
        buttons,
    })
}

type Parameters = Vec<Map<String, Value>>;

/// A message's components, each in its place.
#[derive(Default)]
struct Given {
    header: Option<Parameters>,
    body: Option<Parameters>,
    /// One for each of the template's: which kind the sender takes it for, and its parameters.
    buttons: Vec<Option<(String, Parameters)>>,
}

impl Given {
    fn read(send: &Value, buttons: usize) -> Result<Self, ApiError> {
        let mut given = Self { buttons: vec![None; buttons], ..Self::default() };
        let components = match send.get("components") {
            None | Some(Value::Null) => return Ok(given),
            Some(Value::Array(components)) => components,
            Some(_) => return Err(ApiError::template_format("components", "has to be an array")),
        };
        for component in components {
            let word = |name| component.get(name).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
            let parameters = parameters(component)?;
            let twice = match word("type").as_str() {
                "header" => given.header.replace(parameters).is_some(),
                "body" => given.body.replace(parameters).is_some(),
                "button" => {
                    let index = component.get("index").map_or(Some(0), index);
                    let place = index.and_then(|index| given.buttons.get_mut(index));
                    let place = place
                        .ok_or_else(|| ApiError::template_format("button", "index names no button of the template"))?;
                    place.replace((word("sub_type"), parameters)).is_some()
                }
                _ => return Err(ApiError::template_format("components", "type has to be header, body or button")),
            };
            if twice {
                return Err(ApiError::template_format("components", "each may be given once"));
            }
        }
        Ok(given)
    }
}

fn parameters(component: &Value) -> Result<Parameters, ApiError> {
    let wrong = || ApiError::template_format("parameters", "has to be an array of objects");
    match component.get("parameters") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) => all.iter().map(|p| p.as_object().cloned().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

/// `0` and `"0"` are both in use.
fn index(value: &Value) -> Option<usize> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    usize::try_from(number).ok()
}

fn kind(parameter: &Map<String, Value>) -> String {
    parameter.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
}

fn header(part: &HeaderPart, given: &[Map<String, Value>], gaps: Gaps) -> Result<Header, ApiError> {
    let mismatch = |expected: &str| {
        let received = given.first().map_or_else(|| "UNKNOWN".to_owned(), |p| kind(p).to_ascii_uppercase());
        let received: String = received.chars().take(20).collect();
        ApiError::template_format("header", &format!("Format mismatch, expected {expected}, received {received}"))
    };
    let only = |word: &str| match given {
        [one] if kind(one) == word => {
            one.get(word).and_then(Value::as_object).ok_or_else(|| mismatch(&word.to_ascii_uppercase()))
        }
        _ => Err(mismatch(&word.to_ascii_uppercase())),
    };
    match part {
        HeaderPart::Text(pattern) => {
            let text = fill(pattern, given, gaps, "header")?;
            short("header", &text, HEADER)?;
            Ok(Header::Text(text))
        }
        HeaderPart::Media(kind) => {
            let file = only(kind.word())?;
            let (id, link, filename) = (words(file, "id")?, words(file, "link")?, words(file, "filename")?);
            if id.is_none() && link.is_none() {
                return Err(ApiError::template_format("header", "needs the id or the link of a file"));
            }
            Ok(Header::Media { kind: *kind, id, link, filename })
        }
        HeaderPart::Location => {
            let place = only("location")?;
            let degrees = |name, most: f64| {
                let value = place.get(name).and_then(|v| v.as_f64().or_else(|| v.as_str()?.parse().ok()));
                let problem = format!("{name} has to be a number of degrees");
                value
                    .filter(|d| (-most..=most).contains(d))
                    .ok_or_else(|| ApiError::template_format("header", &problem))
            };
            Ok(Header::Location {
                latitude: degrees("latitude", 90.0)?,
                longitude: degrees("longitude", 180.0)?,
                name: words(place, "name")?,
                address: words(place, "address")?,
            })
        }
    }
}

/// A text of a parameter, if it is there.
fn words(object: &Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    let text = match object.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(ApiError::template_format("header", &format!("{name} has to be a string"))),
    };
    short("header", &text, WORDS)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn button(i: usize, part: &ButtonPart, given: Option<&(String, Parameters)>) -> Result<Button, ApiError> {
    let place = format!("button {i}");
    let kinds: &[&str] = match part {
        ButtonPart::QuickReply(_) => &["quick_reply"],
        ButtonPart::Url(..) => &["url"],
        ButtonPart::Phone(..) => &["phone_number", "voice_call"],
        ButtonPart::CopyCode(_) => &["copy_code"],
        // The Cloud API takes it for an address with the code at its end.
        ButtonPart::Otp(_) => &["url", "copy_code"],
    };
    let parameters = match given {
        Some((sub_type, _)) if !kinds.contains(&sub_type.as_str()) => {
            return Err(ApiError::template_format(&place, &format!("sub_type has to be {}", kinds.join(" or "))));
        }
        Some((_, parameters)) => parameters.as_slice(),
        None => &[],
    };
    let parameter = match parameters {
        [] => None,
        [one] => Some(one),
        more => return Err(ApiError::template_count(&place, more.len(), 1)),
    };
    let mandatory = || ApiError::missing(&format!("template.components[button {i}].parameters"));
    let value = |word: &str, most: usize| -> Result<Option<String>, ApiError> {
        let Some(parameter) = parameter else { return Ok(None) };
        let value = Some(parameter).filter(|p| kind(p) == word).and_then(|p| p.get(word)).and_then(plain);
        let problem = format!("needs one parameter of type {word}");
        let value = value.ok_or_else(|| ApiError::template_format(&place, &problem))?;
        line(&place, &value)?;
        short(&place, &value, most)?;
        Ok(Some(value))
    };
    match part {
        ButtonPart::QuickReply(text) => {
            // Meta's documentation has a payload; its own example of a template with two replies has texts.
            let word = if parameter.is_some_and(|p| kind(p) == "text") { "text" } else { "payload" };
            let payload = value(word, PAYLOAD)?.unwrap_or_else(|| text.clone());
            Ok(Button::QuickReply { text: text.clone(), payload })
        }
        ButtonPart::Phone(text, number) => match parameter {
            None => Ok(Button::Phone { text: text.clone(), number: number.clone() }),
            Some(_) => Err(ApiError::template_count(&place, 1, 0)),
        },
        ButtonPart::Url(text, pattern) => {
            if pattern.names().is_empty() && parameter.is_some() {
                return Err(ApiError::template_count(&place, 1, 0));
            }
            let end = if pattern.names().is_empty() { None } else { value("text", URL)? };
            if end.is_none() && !pattern.names().is_empty() {
                return Err(mandatory());
            }
            let url = pattern.fill(|_| end.as_deref());
            short(&place, &url, URL)?;
            Ok(Button::Url { text: text.clone(), url })
        }
        ButtonPart::CopyCode(text) => {
            let code = value("coupon_code", CODE)?.ok_or_else(mandatory)?;
            Ok(Button::CopyCode { text: text.clone(), code })
        }
        ButtonPart::Otp(text) => {
            let code = match parameter.map(kind).as_deref() {
                Some("coupon_code") => value("coupon_code", CODE)?,
                _ => value("text", CODE)?,
            };
            Ok(Button::CopyCode { text: text.clone(), code: code.ok_or_else(mandatory)? })
        }
    }
}

/// Fills a pattern with as many values as it has gaps.
fn fill(pattern: &Pattern, given: &[Map<String, Value>], gaps: Gaps, place: &str) -> Result<String, ApiError> {
    let names = pattern.names();
    if given.len() != names.len() {
        return Err(ApiError::template_count(place, given.len(), names.len()));
    }
    let mut values: Vec<(&str, &str)> = Vec::new();
    for (i, parameter) in given.iter().enumerate() {
        let name = match gaps {
            // The first value is for {{1}}, wherever that stands.
            Gaps::Positional => names.iter().find(|name| name.parse() == Ok(i + 1)).copied(),
            Gaps::Named => {
                let said = parameter.get("parameter_name").and_then(Value::as_str).unwrap_or_default();
                names.iter().find(|name| **name == said).copied()
            }
        };
        let name = name.filter(|name| values.iter().all(|(filled, _)| filled != name));
        let name = name.ok_or_else(|| {
            ApiError::template_format(place, "Parameter name is missing, is not in the template, or is there twice")
        })?;
        values.push((name, text(place, parameter)?));
    }
    Ok(pattern.fill(|name| values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)))
}

/// What is written in a gap. Money and dates come with a text; the customer's own form of them is not made here.
fn text<'a>(place: &str, parameter: &'a Map<String, Value>) -> Result<&'a str, ApiError> {
    let value = match kind(parameter).as_str() {
        "text" => parameter.get("text"),
        kind @ ("currency" | "date_time") => parameter.get(kind).and_then(|value| value.get("fallback_value")),
        _ => None,
    };
    let value = value.and_then(Value::as_str).filter(|value| !value.is_empty()).ok_or_else(|| {
        ApiError::template_format(
            place,
            "a parameter has to be a text, or a currency or date_time with its fallback_value",
        )
    })?;
    line(place, value)?;
    Ok(value)
}

/// A text. Numbers and booleans count as their text, as the Graph API has it.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn line(place: &str, value: &str) -> Result<(), ApiError> {
    if value.chars().any(char::is_control) || value.contains("     ") {
        return Err(ApiError::template_format(
            place,
            "Param text cannot have new-line/tab characters or more than 4 consecutive spaces",
        ));
    }
    Ok(())
}

fn short(place: &str, text: &str, most: usize) -> Result<(), ApiError> {
    if text.chars().count() > most { Err(ApiError::template_too_long(place, most)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud_api::template_lint;
    use proptest::prelude::*;
    use serde_json::json;

    fn template(components: Value, gaps: Gaps, category: Category) -> Template {
        let (parts, components) = template_lint::parts(&components, category, gaps).unwrap();
        Template {
            id: 1,
            name: "order".into(),
            language: "en".into(),
            category,
            status: Status::Approved,
            parts,
            components,
            version: 1,
            changed_ms: 1,
        }
    }

    fn of(components: Value) -> Template {
        template(components, Gaps::Positional, Category::Utility)
    }

    fn order() -> Template {
        of(json!([
            {"type": "HEADER", "format": "TEXT", "text": "For {{1}}", "example": {"header_text": ["Ada"]}},
            {"type": "BODY", "text": "Order {{2}} of {{1}} is here.", "example": {"body_text": [["Ada", "7"]]}},
            {"type": "FOOTER", "text": "Thank you"},
            {"type": "BUTTONS", "buttons": [
                {"type": "QUICK_REPLY", "text": "Fine"},
                {"type": "URL", "text": "Look", "url": "https://shop.example/o/{{1}}", "example": ["7"]},
                {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+15551234"},
                {"type": "COPY_CODE", "example": "X"},
            ]},
        ]))
    }

    fn texts(texts: &[&str]) -> Value {
        texts.iter().map(|text| json!({"type": "text", "text": text})).collect()
    }

    fn filled() -> Value {
        json!({"name": "order", "language": {"code": "en"}, "components": [
            {"type": "header", "parameters": texts(&["Ada"])},
            {"type": "BODY", "parameters": texts(&["Ada", "7 {{1}}"])},
            {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{"type": "payload", "payload": "ok"}]},
            {"type": "button", "sub_type": "URL", "index": 1, "parameters": texts(&["7"])},
            {"type": "button", "sub_type": "copy_code", "index": "3", "parameters": [{"type": "coupon_code", "coupon_code": "C1"}]},
        ]})
    }

    fn code(template: &Template, send: &Value) -> (u16, u32) {
        let error = render(template, send).unwrap_err();
        (error.codes().0, error.codes().1)
    }

    #[test]
    fn every_part_is_filled_in_its_place() {
        let rendered = render(&order(), &filled()).unwrap();
        assert_eq!(rendered.header, Some(Header::Text("For Ada".into())));
        assert_eq!(rendered.body, "Order 7 {{1}} of Ada is here.", "a value is no pattern");
        assert_eq!(rendered.footer.as_deref(), Some("Thank you"));
        assert_eq!(
            rendered.buttons,
            [
                Button::QuickReply { text: "Fine".into(), payload: "ok".into() },
                Button::Url { text: "Look".into(), url: "https://shop.example/o/7".into() },
                Button::Phone { text: "Call".into(), number: "+15551234".into() },
                Button::CopyCode { text: "Copy code".into(), code: "C1".into() },
            ]
        );
    }

    #[test]
    fn what_a_quick_reply_answers_is_a_payload_or_a_text() {
        for (parameter, expected) in [
            (json!({"type": "payload", "payload": "ok"}), "ok"),
            (json!({"type": "text", "text": "ok"}), "ok"),
            (json!({"type": "text", "text": true}), "true"),
            (json!({"type": "payload", "payload": 7}), "7"),
        ] {
            let mut send = filled();
            *send.pointer_mut("/components/2/parameters/0").unwrap() = parameter;
            let rendered = render(&order(), &send).unwrap();
            assert_eq!(rendered.buttons[0], Button::QuickReply { text: "Fine".into(), payload: expected.into() });
        }
    }

    #[test]
    fn each_way_to_fill_it_wrong_has_its_error() {
        let change = |pointer: &str, value: Value| {
            let mut send = filled();
            *send.pointer_mut(pointer).unwrap() = value;
            send
        };
        let long = "x".repeat(BODY);
        for (send, expected) in [
            (change("/components", Value::Null), (400, 132_000)),
            (change("/components", json!({})), (400, 132_012)),
            (change("/components/0/type", json!("carousel")), (400, 132_012)),
            (change("/components/0/type", json!("body")), (400, 132_012)),
            (change("/components/0/parameters", json!("x")), (400, 132_012)),
            (change("/components/1/parameters", texts(&["Ada"])), (400, 132_000)),
            (change("/components/1/parameters", texts(&["Ada", "7", "8"])), (400, 132_000)),
            (change("/components/1/parameters", texts(&["Ada", ""])), (400, 132_012)),
            (change("/components/1/parameters", texts(&["Ada", "a\nb"])), (400, 132_012)),
            (change("/components/1/parameters", texts(&["Ada", "a     b"])), (400, 132_012)),
            (change("/components/1/parameters", texts(&["Ada", &long])), (400, 132_005)),
            (change("/components/0/parameters", texts(&[&"x".repeat(HEADER)])), (400, 132_005)),
            (change("/components/1/parameters/0", json!({"type": "image", "image": {"id": "1"}})), (400, 132_012)),
            (change("/components/2/index", json!("4")), (400, 132_012)),
            (change("/components/2/index", json!(1)), (400, 132_012)),
            (change("/components/2/sub_type", json!("url")), (400, 132_012)),
            (change("/components/2/parameters/0/type", json!("text")), (400, 132_012)),
            (change("/components/2/parameters/0/payload", json!("x".repeat(PAYLOAD + 1))), (400, 132_005)),
            (change("/components/3/parameters", json!([])), (400, 131_008)),
            (change("/components/3/parameters", texts(&["a", "b"])), (400, 132_000)),
            (change("/components/3/parameters/0/text", json!("x".repeat(URL))), (400, 132_005)),
            (change("/components/4/parameters", json!([])), (400, 131_008)),
            (change("/components/4/parameters/0/coupon_code", json!("x".repeat(CODE + 1))), (400, 132_005)),
        ] {
            assert_eq!(code(&order(), &send), expected, "{send}");
        }
        let bare = of(json!([{"type": "BODY", "text": "x"}]));
        assert_eq!(
            code(&bare, &json!({"components": [{"type": "header", "parameters": texts(&["a"])}]})),
            (400, 132_000)
        );
        assert_eq!(
            code(&bare, &json!({"components": [{"type": "body", "parameters": texts(&["a"])}]})),
            (400, 132_000)
        );
    }

    #[test]
    fn only_what_is_approved_is_sent() {
        for (status, expected) in [
            (Status::Pending, (404, 132_001)),
            (Status::Rejected, (404, 132_001)),
            (Status::Paused, (400, 132_015)),
            (Status::Disabled, (400, 132_016)),
        ] {
            assert_eq!(code(&Template { status, ..order() }, &filled()), expected);
        }
        for (send, path) in [(json!({}), "template.name"), (json!({"name": "order"}), "template.language.code")] {
            assert_eq!(named(&send).unwrap_err(), ApiError::missing(path));
        }
        assert_eq!(named(&json!({"name": "a", "language": "en"})), Ok(("a", "en")));
    }

    #[test]
    fn files_and_places_go_above_the_body() {
        let with = |format: &str, parameter: Value| {
            let template = of(json!([{"type": "HEADER", "format": format}, {"type": "BODY", "text": "x"}]));
            render(&template, &json!({"components": [{"type": "header", "parameters": [parameter]}]}))
                .map(|rendered| rendered.header.unwrap())
                .map_err(|e| e.codes().1)
        };
        let file = |kind, id: Option<&str>, link: Option<&str>| Header::Media {
            kind,
            id: id.map(str::to_owned),
            link: link.map(str::to_owned),
            filename: None,
        };
        let image = json!({"type": "image", "image": {"id": 17}});
        assert_eq!(with("IMAGE", image.clone()), Ok(file(MediaKind::Image, Some("17"), None)));
        let video = json!({"type": "video", "video": {"link": "https://a.example/v"}});
        assert_eq!(with("VIDEO", video), Ok(file(MediaKind::Video, None, Some("https://a.example/v"))));
        assert_eq!(with("DOCUMENT", image), Err(132_012));
        assert_eq!(with("IMAGE", json!({"type": "image", "image": {}})), Err(132_012));
        assert_eq!(with("IMAGE", json!({"type": "image", "image": {"link": "x".repeat(WORDS + 1)}})), Err(132_005));
        let place = |latitude: Value| {
            with(
                "LOCATION",
                json!({"type": "location", "location": {"latitude": latitude, "longitude": "-3.5", "name": "Pier"}}),
            )
        };
        let expected = Header::Location { latitude: 52.25, longitude: -3.5, name: Some("Pier".into()), address: None };
        assert_eq!((place(json!("52.25")), place(json!(52.25))), (Ok(expected.clone()), Ok(expected)));
        assert_eq!((place(json!(91)), place(json!("north"))), (Err(132_012), Err(132_012)));
        let none = of(json!([{"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "x"}]));
        assert_eq!(code(&none, &json!({})), (400, 132_012));
    }

    #[test]
    fn named_values_find_their_gaps_in_any_order() {
        let params = json!([{"param_name": "first", "example": "a"}, {"param_name": "sum", "example": "b"}]);
        let body = json!([{"type": "BODY", "text": "Hi {{first}}, pay {{sum}}.", "example": {"body_text_named_params": params}}]);
        let template = template(body, Gaps::Named, Category::Utility);
        let fill = |names: [&str; 2]| {
            let sum = json!({"type": "currency", "parameter_name": names[0], "currency": {"fallback_value": "€ 3", "code": "EUR"}});
            let first = json!({"type": "text", "parameter_name": names[1], "text": "Ada"});
            render(&template, &json!({"components": [{"type": "body", "parameters": [sum, first]}]}))
                .map(|rendered| rendered.body)
                .map_err(|e| e.codes().1)
        };
        assert_eq!(fill(["sum", "first"]).as_deref(), Ok("Hi Ada, pay € 3."));
        assert_eq!((fill(["sum", "sum"]), fill(["sum", "other"])), (Err(132_012), Err(132_012)));
    }

    #[test]
    fn a_one_time_password_is_copied() {
        let components = json!([
            {"type": "BODY"}, {"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "COPY_CODE"}]},
        ]);
        let template = template(components, Gaps::Positional, Category::Authentication);
        for (sub_type, parameter) in [
            ("url", json!({"type": "text", "text": "123456"})),
            ("copy_code", json!({"type": "coupon_code", "coupon_code": "123456"})),
        ] {
            let rendered = render(
                &template,
                &json!({"components": [
                    {"type": "body", "parameters": texts(&["123456"])},
                    {"type": "button", "sub_type": sub_type, "index": "0", "parameters": [parameter]},
                ]}),
            )
            .unwrap();
            assert_eq!(rendered.body, "*123456* is your verification code.");
            assert_eq!(rendered.buttons, [Button::CopyCode { text: "Copy code".into(), code: "123456".into() }]);
        }
    }

    proptest! {
        /// What the customer reads is what was approved, with the values in its gaps and no character more or less.
        #[test]
        fn rendering_is_the_approved_text_with_its_gaps_filled(
            words in proptest::collection::vec("[a-zäß☕.,!*_ }-]{1,12}", 2..8),
            values in proptest::collection::vec("[^\\p{C} ]{1,9}( \\{\\{1\\}\\})?", 8),
        ) {
            let words: Vec<String> = words.iter().map(|w| format!("x{w}x")).collect();
            let (mut source, mut expected) = (words[0].clone(), words[0].clone());
            for (i, words) in words.iter().enumerate().skip(1) {
                source += &format!("{{{{{i}}}}}{words}");
                expected += &format!("{}{words}", values[i]);
            }
            let examples = vec!["e"; words.len() - 1];
            let template = of(json!([{"type": "BODY", "text": source, "example": {"body_text": [examples]}}]));
            let given: Vec<&str> = values[1..words.len()].iter().map(String::as_str).collect();
            let send = json!({"components": [{"type": "body", "parameters": texts(&given)}]});
            prop_assert_eq!(render(&template, &send).unwrap().body, expected);
        }

        #[test]
        fn nothing_that_is_sent_makes_it_fail_otherwise_than_with_an_error(text in "[a-z{}\\[\\]\":,0-9_]{0,80}") {
            if let Ok(send) = serde_json::from_str::<Value>(&text) {
                let _ = render(&order(), &json!({"components": send}));
                let _ = render(&order(), &send);
            }
        }
    }
}
