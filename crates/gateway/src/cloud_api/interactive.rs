//! `interactive` messages, as `POST /{phone-number-id}/messages` writes them, become what a customer sees.
//!
//! | `type` | becomes |
//! |---|---|
//! | `button` | up to three reply buttons |
//! | `list` | a list of up to ten rows |
//! | `cta_url` | a button that leads to a page |
//! | `location_request_message` | the customer is asked where he is |
//! | `address_message` | a form for a postal address |
//! | `request_contact_info` | a form for name, number and e-mail address |
//! | `flow` | the business's own form, if the flow is published |
//! | `product`, `product_list`, `catalog_message` | things to buy, of the business's catalog |
//!
//! Anything else is refused with 131051.

use bulla_e2ee::content::{
    Action, Button, Field, FieldKind, FieldOption, Form, FormKind, Header, Interactive, List, ROWS, Row, Screen,
    Section,
};
use serde_json::Value;

use super::at::At;
use super::error::ApiError;
use super::message::Source;
use crate::egress::admit;

/// Characters of the text.
const MAX_BODY: usize = 1_024;
/// Characters of a list's text.
const MAX_LIST_BODY: usize = 4_096;
/// Characters of a header and of a footer.
const MAX_LINE: usize = 60;
/// Characters on a button.
const MAX_BUTTON: usize = 20;
/// Characters of a row's and a section's title.
const MAX_TITLE: usize = 24;
/// Characters of a row's description.
const MAX_DESCRIPTION: usize = 72;
/// Characters of a button's id.
const MAX_BUTTON_ID: usize = 256;
/// Characters of a row's id.
const MAX_ROW_ID: usize = 200;
/// Reply buttons.
const MAX_BUTTONS: usize = 3;

/// What was asked for.
pub(crate) struct Asked {
    pub(crate) interactive: Interactive,
    /// The file above it: what kind it is said to be, and where it is.
    pub(crate) file: Option<(String, Source)>,
    /// The form is one of the business's own.
    pub(crate) flow: Option<Flow>,
}

/// Which flow is to be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) path: String,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) button: String,
    pub(crate) token: Option<String>,
    /// The screen to begin with.
    pub(crate) screen: Option<String>,
    /// What stands in its fields at first.
    pub(crate) data: Value,
    /// One that is not published may be tried.
    pub(crate) draft: bool,
}

/// Reads it.
pub(crate) fn interactive(at: &At<'_>) -> Result<Asked, ApiError> {
    let kind = at.need("type")?.text()?;
    let action = at.need("action")?;
    let mut flow = None;
    let what = match kind.as_str() {
        "button" => Action::Buttons(buttons(&action)?),
        "list" => Action::List(list(&action)?),
        "cta_url" => Action::Buttons(vec![url(&action)?]),
        "location_request_message" => {
            named(&action, "send_location")?;
            Action::Location
        }
        "address_message" => {
            named(&action, "address_message")?;
            Action::Form(address(action.get("parameters").as_ref()))
        }
        "request_contact_info" => {
            named(&action, "request_contact_info")?;
            Action::Form(contact())
        }
        "flow" => {
            flow = Some(self::flow(&action)?);
            Action::Nothing
        }
        other => {
            return Err(ApiError::unsupported_type(format!(
                "Interactive messages of type '{}' are not supported by this gateway.",
                other.chars().take(64).collect::<String>()
            )));
        }
    };
    // After the type: what is not supported may have no body either, and is to be refused for what it is.
    let most = if kind == "list" { MAX_LIST_BODY } else { MAX_BODY };
    let body = at.need("body")?.need("text")?.line(most)?;
    let footer = at.get("footer").map(|footer| footer.need("text")?.title(MAX_LINE)).transpose()?;
    let (header, file) = header(at, &kind)?;
    let interactive = Interactive { header, footer, ..Interactive::new(&body, what) };
    Ok(Asked { interactive, file, flow })
}

type Above = (Option<Header>, Option<(String, Source)>);

fn header(at: &At<'_>, kind: &str) -> Result<Above, ApiError> {
    let Some(header) = at.get("header") else { return Ok((None, None)) };
    let what = header.need("type")?;
    let name = what.text()?;
    match name.as_str() {
        "text" => Ok((Some(Header::Text(header.need("text")?.title(MAX_LINE)?)), None)),
        "image" | "video" | "document" if kind != "list" => {
            Ok((None, Some((name.clone(), Source::read(&header.need(&name)?)?))))
        }
        _ => Err(what.wrong("has to be 'text', 'image', 'video' or 'document' ('text' for lists)")),
    }
}

fn named(action: &At<'_>, name: &str) -> Result<(), ApiError> {
    let said = action.need("name")?;
    if said.text()? == name { Ok(()) } else { Err(said.wrong(&format!("has to be '{name}'"))) }
}

fn buttons(action: &At<'_>) -> Result<Vec<Button>, ApiError> {
    let at = action.need("buttons")?;
    let mut all: Vec<Button> = Vec::new();
    for button in at.some(MAX_BUTTONS)? {
        if let Some(kind) = button.get("type").filter(|kind| kind.value() != "reply") {
            return Err(kind.wrong("has to be 'reply'"));
        }
        let reply = button.need("reply")?;
        let (id, title) = (reply.need("id")?.title(MAX_BUTTON_ID)?, reply.need("title")?.title(MAX_BUTTON)?);
        let taken =
            |other: &Button| matches!(other, Button::Reply { id: known, .. } if *known == id) || other.title() == title;
        if all.iter().any(taken) {
            return Err(button.wrong("has an id or a title that another button has"));
        }
        all.push(Button::Reply { id, title });
    }
    Ok(all)
}

fn list(action: &At<'_>) -> Result<List, ApiError> {
    let button = action.need("button")?.title(MAX_BUTTON)?;
    let at = action.need("sections")?;
    let several = at.items()?.len() > 1;
    let mut ids = std::collections::BTreeSet::new();
    let mut sections = Vec::new();
    for section in at.some(ROWS)? {
        let title = match section.get("title") {
            Some(title) => title.title(MAX_TITLE)?,
            None if several => return Err(ApiError::missing(&format!("{}.title", section.path()))),
            None => String::new(),
        };
        let mut rows = Vec::new();
        for row in section.need("rows")?.some(ROWS)? {
            let id = row.need("id")?.title(MAX_ROW_ID)?;
            let description =
                row.get("description").filter(|d| d.value() != "").map(|d| d.title(MAX_DESCRIPTION)).transpose()?;
            if !ids.insert(id.clone()) {
                return Err(row.wrong("has an id that another row has"));
            }
            rows.push(Row { id, title: row.need("title")?.title(MAX_TITLE)?, description });
        }
        sections.push(Section { title, rows });
    }
    if ids.len() > ROWS {
        return Err(at.wrong(&format!("may have at most {ROWS} rows in all")));
    }
    Ok(List { button, sections })
}

fn url(action: &At<'_>) -> Result<Button, ApiError> {
    named(action, "cta_url")?;
    let parameters = action.need("parameters")?;
    let at = parameters.need("url")?;
    let url = at.text()?;
    admit(&url).map_err(|why| at.wrong(&format!("is not taken: {why}")))?;
    Ok(Button::Url { title: parameters.need("display_text")?.title(MAX_BUTTON)?, url })
}

fn flow(action: &At<'_>) -> Result<Flow, ApiError> {
    named(action, "flow")?;
    let parameters = action.need("parameters")?;
    let text = |name: &str| parameters.get(name).map(|text| text.title(MAX_BUTTON_ID)).transpose();
    let (id, name) = (text("flow_id")?, text("flow_name")?);
    if id.is_none() && name.is_none() {
        return Err(ApiError::missing(&format!("{}.flow_id", parameters.path())));
    }
    let payload = parameters.get("flow_action_payload");
    let screen = payload.as_ref().and_then(|payload| payload.get("screen")).map(|screen| screen.title(MAX_BUTTON_ID));
    if let Some(action) = parameters.get("flow_action").filter(|action| action.value() != "navigate") {
        return Err(action.wrong("has to be 'navigate': forms that ask a server for each screen are not supported"));
    }
    Ok(Flow {
        path: parameters.path().to_owned(),
        id,
        name,
        button: parameters.need("flow_cta")?.title(MAX_BUTTON * 2)?,
        token: text("flow_token")?,
        screen: screen.transpose()?,
        data: payload.and_then(|payload| payload.get("data").map(|data| data.value().clone())).unwrap_or(Value::Null),
        draft: text("mode")?.as_deref() == Some("draft"),
    })
}

fn field(name: &str, label: &str, kind: FieldKind, required: bool) -> Field {
    Field {
        name: name.to_owned(),
        label: label.to_owned(),
        kind,
        required,
        options: Vec::<FieldOption>::new(),
        hint: None,
        value: None,
        min: None,
        max: Some(200),
    }
}

/// The Cloud API's fields of an address; `values` stand in them at first.
fn address(parameters: Option<&At<'_>>) -> Form {
    let mut fields = vec![
        field("name", "Name", FieldKind::Text, true),
        field("phone_number", "Phone number", FieldKind::Phone, false),
        field("address", "Street and number", FieldKind::Text, true),
        field("house_number", "House or flat", FieldKind::Text, false),
        field("floor_number", "Floor", FieldKind::Text, false),
        field("building_name", "Building", FieldKind::Text, false),
        field("in_pin_code", "Postal code", FieldKind::Text, true),
        field("landmark_area", "Area or landmark", FieldKind::Text, false),
        field("city", "City", FieldKind::Text, true),
        field("state", "State or region", FieldKind::Text, false),
    ];
    let values = parameters.and_then(|parameters| parameters.get("values"));
    for field in &mut fields {
        let value = values.as_ref().and_then(|values| values.get(&field.name)).and_then(|value| value.title(200).ok());
        field.value = value;
    }
    let screen = Screen { title: "Address".into(), text: None, fields, button: "Send".into() };
    Form { kind: FormKind::Address, button: "Enter address".into(), screens: vec![screen], token: None }
}

fn contact() -> Form {
    let fields = vec![
        field("name", "Name", FieldKind::Text, true),
        field("phone", "Phone number", FieldKind::Phone, true),
        field("email", "E-mail address", FieldKind::Email, false),
    ];
    let screen = Screen { title: "How to reach you".into(), text: None, fields, button: "Send".into() };
    Form { kind: FormKind::Contact, button: "Share contact".into(), screens: vec![screen], token: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<Asked, ApiError> {
        interactive(&At::new(value, "interactive"))
    }

    fn buttons(all: &[(&str, &str)]) -> Value {
        let buttons: Vec<Value> =
            all.iter().map(|(id, title)| json!({"type": "reply", "reply": {"id": id, "title": title}})).collect();
        json!({"type": "button", "body": {"text": "?"}, "action": {"buttons": buttons}})
    }

    fn rows(sections: &[(&str, usize)]) -> Value {
        let mut id = 0;
        let sections: Vec<Value> = sections
            .iter()
            .map(|(title, count)| {
                let rows: Vec<Value> = (0..*count)
                    .map(|_| {
                        id += 1;
                        json!({"id": id.to_string(), "title": format!("row {id}")})
                    })
                    .collect();
                json!({"title": title, "rows": rows})
            })
            .collect();
        json!({"type": "list", "body": {"text": "?"}, "action": {"button": "Open", "sections": sections}})
    }

    /// What is allowed at its limit is refused one beyond, with the parameter's name.
    #[test]
    fn limits_hold_at_n_and_n_plus_1() {
        let x = |n: usize| "x".repeat(n);
        let with = |path: &str, text: String| {
            let mut value = buttons(&[("a", "A")]);
            value["footer"] = json!({"text": "small"});
            value["header"] = json!({"type": "text", "text": "above"});
            *value.pointer_mut(path).unwrap() = text.into();
            value
        };
        for (path, named, most) in [
            ("/body/text", "interactive.body.text", 1_024),
            ("/footer/text", "interactive.footer.text", 60),
            ("/header/text", "interactive.header.text", 60),
            ("/action/buttons/0/reply/title", "interactive.action.buttons[0].reply.title", 20),
            ("/action/buttons/0/reply/id", "interactive.action.buttons[0].reply.id", 256),
        ] {
            assert!(read(&with(path, x(most))).is_ok(), "{path}");
            let refused = read(&with(path, x(most + 1))).err();
            assert_eq!(refused, Some(ApiError::invalid(named, &format!("may have at most {most} characters"))));
            assert!(read(&with(path, " ".into())).is_err(), "{path} may not be empty");
        }
        assert!(read(&buttons(&[("a", "A"), ("b", "B"), ("c", "C")])).is_ok());
        assert!(read(&buttons(&[("a", "A"), ("b", "B"), ("c", "C"), ("d", "D")])).is_err());
        assert!(read(&buttons(&[])).is_err());
        assert!(read(&rows(&[("One", 4), ("Two", 6)])).is_ok());
        assert!(read(&rows(&[("One", 4), ("Two", 7)])).is_err());
        assert!(read(&rows(&[("One", 0)])).is_err());
    }

    #[test]
    fn what_could_not_be_told_apart_is_refused() {
        assert!(read(&buttons(&[("a", "A"), ("a", "B")])).is_err(), "two of one id");
        assert!(read(&buttons(&[("a", "A"), ("b", "A")])).is_err(), "two of one title");
        let mut same = rows(&[("One", 1), ("Two", 1)]);
        same["action"]["sections"][1]["rows"][0]["id"] = "1".into();
        assert!(read(&same).is_err(), "two rows of one id");
        let mut untitled = rows(&[("One", 1), ("Two", 1)]);
        untitled["action"]["sections"][1]["title"] = Value::Null;
        assert_eq!(read(&untitled).err(), Some(ApiError::missing("interactive.action.sections[1].title")));
        let mut lines = buttons(&[("a", "A")]);
        lines["action"]["buttons"][0]["reply"]["title"] = "A\nB".into();
        assert!(read(&lines).is_err(), "a button of two lines");
    }

    #[test]
    fn dev_03_a_button_leads_to_pages_and_nowhere_else() {
        let to = |url: &str| {
            read(&json!({"type": "cta_url", "body": {"text": "?"},
                "action": {"name": "cta_url", "parameters": {"display_text": "Open", "url": url}}}))
        };
        assert!(to("https://shop.example/t?7#x").is_ok() && to("http://127.0.0.1:8000/").is_ok());
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "intent://x",
            "tel:1",
            "sms:1",
            "bulla:o/1",
            "vbscript:x",
            "https://user:secret@shop.example/",
            "//shop.example",
            "shop.example",
            "",
        ] {
            assert!(to(url).is_err(), "{url}");
        }
    }

    #[test]
    fn other_types_say_so() {
        let kind = |kind: &str, name: &str| {
            read(&json!({"type": kind, "body": {"text": "?"}, "action": {"name": name}})).err()
        };
        assert_eq!(kind("location_request_message", "send_location"), None);
        assert!(kind("location_request_message", "send_money").is_some());
        assert_eq!(kind("request_contact_info", "request_contact_info"), None);
        let unknown = kind("carousel", "x").unwrap();
        assert!(format!("{unknown:?}").contains("131051"), "{unknown:?}");
        // Not for what it lacks: this one has no body at Meta either.
        let product = json!({"type": "product", "action": {"catalog_id": "1", "product_retailer_id": "1"}});
        assert_eq!(read(&product).err().map(|error| error.codes().1), Some(131_051));
    }

    #[test]
    fn a_header_may_be_a_file() {
        let with = |header: Value| {
            let mut value = buttons(&[("a", "A")]);
            value["header"] = header;
            read(&value)
        };
        let asked = with(json!({"type": "image", "image": {"id": "7"}})).unwrap();
        let (kind, source) = asked.file.unwrap();
        assert_eq!((kind.as_str(), source.of), ("image", super::super::message::Of::Id(7)));
        assert!(with(json!({"type": "document", "document": {"link": "https://a.example/b.pdf"}})).is_ok());
        assert!(with(json!({"type": "image", "image": {}})).is_err());
        assert!(with(json!({"type": "image", "image": {"id": "x"}})).is_err());
        assert!(with(json!({"type": "hologram"})).is_err());
        let mut list = rows(&[("One", 1)]);
        list["header"] = json!({"type": "image", "image": {"id": "7"}});
        assert!(read(&list).is_err(), "a list's header is text");
    }
}
