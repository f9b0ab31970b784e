//! Flows: forms that the business designs, in Meta's Flow JSON, as far as a form goes.
//!
//! Screens follow each other in the order in which they stand, and what is asked on them is told when the last one is sent. What needs a server for each
//! screen (`data_exchange`), draws pictures or branches is refused when the flow is made, with its place in the JSON: a form without it would be another form.
//!
//! | component | becomes |
//! |---|---|
//! | `TextHeading`, `TextSubheading`, `TextBody`, `TextCaption` | words above the fields |
//! | `TextInput` (`text`, `number`, `email`, `phone`, `password`, `passcode`), `TextArea` | a field |
//! | `Dropdown`, `RadioButtonsGroup` | one of several |
//! | `CheckboxGroup` | some of several |
//! | `DatePicker`, `OptIn` | a day, a yes |
//! | `Form` | what is in it |
//! | `Footer` | the button |
//!
//! `${data.NAME}` as the whole of a text, a label or an `init-value` is what a message brings for it (`flow_action_payload.data`).

use bulla_e2ee::content::{Body, Content, Field, FieldKind, FieldOption, Form, FormKind, Interactive, Screen};
use serde_json::Value;

/// Bytes of Flow JSON: far more than fits into one message.
pub(crate) const MAX_JSON: usize = 128 * 1024;

/// Levels of `Form` in `Form`.
const DEPTH: usize = 4;

/// A flow as the store keeps it.
#[derive(Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub(crate) struct Flow {
    #[n(0)]
    pub(crate) id: u64,
    #[n(1)]
    pub(crate) name: String,
    #[n(2)]
    pub(crate) status: Status,
    #[n(3)]
    pub(crate) categories: Vec<String>,
    /// The Flow JSON, as it was given; empty before.
    #[n(4)]
    pub(crate) json: String,
    /// Unix ms.
    #[n(5)]
    pub(crate) changed_ms: u64,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}

/// Where flows' ids are: behind the 15 digits of accounts' and before those of files, which are microseconds since 1970. An id says what it names.
pub(crate) const IDS: std::ops::Range<u64> = 1_000_000_000_000_000..1_700_000_000_000_000;

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum Status {
    #[n(0)]
    Draft,
    #[n(1)]
    Published,
    #[n(2)]
    Deprecated,
}

impl Status {
    /// The Cloud API's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Published => "PUBLISHED",
            Self::Deprecated => "DEPRECATED",
        }
    }
}

/// What is wrong with a flow's JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Meta's word for its kind.
    pub(crate) error: &'static str,
    pub(crate) message: String,
    /// A path: `screens[0].layout.children[2]`.
    pub(crate) pointer: String,
}

/// A screen and the name by which messages begin with it.
type Named = (String, Screen);

/// Reads Flow JSON: the screens, or everything that is wrong.
pub(crate) fn parse(json: &str) -> Result<Vec<Named>, Vec<Problem>> {
    let mut reader = Reader::default();
    let value: Value = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(why) => {
            reader.wrong("INVALID_JSON", &format!("It is no JSON: line {}, column {}.", why.line(), why.column()), "");
            return Err(reader.problems);
        }
    };
    let screens = match value.get("screens").and_then(Value::as_array) {
        Some(screens) if !screens.is_empty() => screens.as_slice(),
        _ => {
            reader.wrong("MISSING_REQUIRED_PROPERTY", "There have to be screens.", "screens");
            &[]
        }
    };
    let read: Vec<Named> =
        screens.iter().enumerate().map(|(n, screen)| reader.screen(screen, &format!("screens[{n}]"))).collect();
    for name in ["data_api_version", "data_channel_uri"] {
        if value.get(name).is_some() {
            reader.wrong("INVALID_PROPERTY", "Screens that a server makes are not supported.", name);
        }
    }
    if reader.problems.is_empty() && !fits(&read) {
        let words = "It is too large, has a text that is too long, two fields of one name, or too many of something.";
        reader.wrong("INVALID_FLOW", words, "screens");
    }
    if reader.problems.is_empty() { Ok(read) } else { Err(reader.problems) }
}

/// Whether it fits into a message.
fn fits(screens: &[Named]) -> bool {
    let screens = screens.iter().map(|(_, screen)| screen.clone()).collect();
    let form = Form { kind: FormKind::Flow, button: "Open".into(), screens, token: None };
    let interactive = Interactive::new("x", bulla_e2ee::content::Action::Form(form));
    Content::new([0; 16], Body::Interactive(Box::new(interactive))).encode().is_ok()
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn wrong(&mut self, error: &'static str, message: &str, pointer: &str) {
        self.problems.push(Problem { error, message: message.to_owned(), pointer: pointer.to_owned() });
    }

    fn text(&mut self, value: &Value, name: &str, at: &str) -> String {
        match value.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty()) {
            Some(text) => text.to_owned(),
            None => {
                self.wrong("MISSING_REQUIRED_PROPERTY", &format!("'{name}' has to be a text."), at);
                String::new()
            }
        }
    }

    fn screen(&mut self, value: &Value, at: &str) -> Named {
        let id = self.text(value, "id", at);
        let title = value.get("title").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut screen = Screen { title, text: None, fields: Vec::new(), button: String::new() };
        let place = format!("{at}.layout");
        match value.get("layout").and_then(|layout| layout.get("children")).and_then(Value::as_array) {
            Some(children) => self.children(children, &mut screen, &place, DEPTH),
            None => self.wrong("MISSING_REQUIRED_PROPERTY", "A screen has a layout with children.", &place),
        }
        if screen.button.is_empty() {
            self.wrong("MISSING_REQUIRED_PROPERTY", "A screen has a Footer with a label.", &place);
        }
        (id, screen)
    }

    fn children(&mut self, children: &[Value], screen: &mut Screen, at: &str, depth: usize) {
        for (n, child) in children.iter().enumerate() {
            let at = format!("{at}.children[{n}]");
            let kind = child.get("type").and_then(Value::as_str).unwrap_or_default();
            match kind {
                "TextHeading" | "TextSubheading" | "TextBody" | "TextCaption" => {
                    let words = self.text(child, "text", &at);
                    let text = screen.text.get_or_insert_default();
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(&words);
                }
                "Form" if depth > 0 => match child.get("children").and_then(Value::as_array) {
                    Some(children) => self.children(children, screen, &at, depth - 1),
                    None => self.wrong("MISSING_REQUIRED_PROPERTY", "A Form has children.", &at),
                },
                "Footer" => {
                    screen.button = self.text(child, "label", &at);
                    let action = child.get("on-click-action").and_then(|action| action.get("name"));
                    if action.is_some_and(|name| name == "data_exchange") {
                        self.wrong("INVALID_PROPERTY", "'data_exchange' is not supported.", &at);
                    }
                }
                _ => match self.field(kind, child, &at) {
                    Some(field) => screen.fields.push(field),
                    None => {
                        let kind: String = kind.chars().take(40).collect();
                        self.wrong("INVALID_COMPONENT", &format!("'{kind}' is not supported."), &at);
                    }
                },
            }
        }
    }

    fn field(&mut self, component: &str, value: &Value, at: &str) -> Option<Field> {
        let word = |name: &str| value.get(name).and_then(Value::as_str);
        let kind = match (component, word("input-type").unwrap_or("text")) {
            ("TextInput", "text" | "password") => FieldKind::Text,
            ("TextInput", "number" | "passcode") => FieldKind::Number,
            ("TextInput", "email") => FieldKind::Email,
            ("TextInput", "phone") => FieldKind::Phone,
            ("TextArea", _) => FieldKind::Area,
            ("Dropdown" | "RadioButtonsGroup", _) => FieldKind::One,
            ("CheckboxGroup", _) => FieldKind::Some,
            ("DatePicker", _) => FieldKind::Date,
            ("OptIn", _) => FieldKind::Yes,
            _ => return None,
        };
        let number = |name: &str| {
            let given = value.get(name)?;
            given.as_u64().or_else(|| given.as_str()?.parse().ok()).and_then(|n| u32::try_from(n).ok())
        };
        let options = match kind {
            FieldKind::One | FieldKind::Some => self.options(value, at),
            _ => Vec::new(),
        };
        let most = if component == "TextArea" { number("max-length").or(Some(600)) } else { number("max-chars") };
        Some(Field {
            name: self.text(value, "name", at),
            label: self.text(value, "label", at),
            kind,
            required: value.get("required").and_then(Value::as_bool).unwrap_or(false),
            options,
            hint: word("helper-text").map(str::to_owned),
            value: word("init-value").map(str::to_owned),
            min: number("min-chars"),
            max: most,
        })
    }

    fn options(&mut self, value: &Value, at: &str) -> Vec<FieldOption> {
        match value.get("data-source").and_then(Value::as_array) {
            Some(all) if !all.is_empty() => all
                .iter()
                .map(|option| FieldOption { id: self.text(option, "id", at), title: self.text(option, "title", at) })
                .collect(),
            _ => {
                self.wrong("MISSING_REQUIRED_PROPERTY", "'data-source' has to be a list of ids and titles.", at);
                Vec::new()
            }
        }
    }
}

/// The screens from one on, with what a message brings in its places. `None`: there is no such screen.
pub(crate) fn filled(screens: Vec<Named>, from: Option<&str>, data: &Value) -> Option<Vec<Screen>> {
    let first = match from {
        None => 0,
        Some(name) => screens.iter().position(|(id, _)| id == name)?,
    };
    let fill = |text: &mut String| {
        let Some(name) = text.strip_prefix("${data.").and_then(|rest| rest.strip_suffix('}')) else { return };
        *text = match data.get(name) {
            Some(Value::String(value)) => value.clone(),
            Some(Value::Number(value)) => value.to_string(),
            Some(Value::Bool(value)) => value.to_string(),
            _ => String::new(),
        };
    };
    let rest = screens.into_iter().skip(first).map(|(_, mut screen)| {
        fill(&mut screen.title);
        if let Some(text) = &mut screen.text {
            let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
            lines.iter_mut().for_each(fill);
            *text = lines.join("\n");
        }
        for field in &mut screen.fields {
            fill(&mut field.label);
            field.value.iter_mut().for_each(fill);
            field.hint.iter_mut().for_each(fill);
        }
        screen
    });
    Some(rest.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn two_screens() -> Value {
        json!({"version": "6.0", "screens": [
            {"id": "WHO", "title": "Who", "layout": {"type": "SingleColumnLayout", "children": [
                {"type": "TextHeading", "text": "Your visit"},
                {"type": "TextBody", "text": "${data.words}"},
                {"type": "Form", "name": "f", "children": [
                    {"type": "TextInput", "name": "name", "label": "Name", "required": true, "min-chars": 2, "max-chars": "40",
                     "init-value": "${data.name}", "helper-text": "as on the card"},
                    {"type": "TextInput", "name": "mail", "label": "Mail", "input-type": "email"},
                    {"type": "Footer", "label": "Next", "on-click-action": {"name": "navigate", "next": {"name": "WHEN"}}},
                ]},
            ]}},
            {"id": "WHEN", "title": "When", "terminal": true, "layout": {"type": "SingleColumnLayout", "children": [
                {"type": "DatePicker", "name": "day", "label": "Day"},
                {"type": "RadioButtonsGroup", "name": "time", "label": "Time", "data-source": [{"id": "a", "title": "9 am"}]},
                {"type": "CheckboxGroup", "name": "with", "label": "With", "data-source": [{"id": "d", "title": "my dog"}]},
                {"type": "TextArea", "name": "more", "label": "More", "max-length": 100},
                {"type": "OptIn", "name": "ok", "label": "I agree", "required": true},
                {"type": "Footer", "label": "Book", "on-click-action": {"name": "complete"}},
            ]}},
        ]})
    }

    #[test]
    fn screens_and_fields_are_read_and_filled() {
        let screens = parse(&two_screens().to_string()).unwrap();
        let kinds: Vec<FieldKind> = screens.iter().flat_map(|(_, s)| &s.fields).map(|f| f.kind).collect();
        use FieldKind::{Area, Date, Email, One, Some as Many, Text, Yes};
        assert_eq!(kinds, [Text, Email, Date, One, Many, Area, Yes]);
        let data = json!({"words": "on Monday", "name": "Zoë"});
        let all = filled(screens.clone(), None, &data).unwrap();
        assert_eq!((all.len(), all[0].text.as_deref()), (2, Some("Your visit\non Monday")));
        let name = &all[0].fields[0];
        assert_eq!((name.value.as_deref(), name.min, name.max), (Some("Zoë"), Some(2), Some(40)));
        assert_eq!((all[0].button.as_str(), all[1].button.as_str()), ("Next", "Book"));
        let second = filled(screens.clone(), Some("WHEN"), &Value::Null).unwrap();
        assert_eq!((second.len(), second[0].title.as_str()), (1, "When"));
        assert!(filled(screens, Some("NOWHERE"), &data).is_none());
    }

    /// What is wrong is said with its place.
    #[test]
    fn what_is_not_a_form_is_refused_with_its_place() {
        let broken = |pointer: &str, value: Value| {
            let mut flow = two_screens();
            *flow.pointer_mut(pointer).unwrap() = value;
            parse(&flow.to_string()).err().unwrap()
        };
        let first = |problems: Vec<Problem>| (problems[0].error, problems[0].pointer.clone());
        assert_eq!(parse("{").err().unwrap()[0].error, "INVALID_JSON");
        assert_eq!(first(broken("/screens", json!([]))), ("MISSING_REQUIRED_PROPERTY", "screens".into()));
        for (pointer, value, error, place) in [
            ("/screens/0/id", json!(7), "MISSING_REQUIRED_PROPERTY", "screens[0]"),
            ("/screens/1/layout/children/0/type", json!("Image"), "INVALID_COMPONENT", "screens[1].layout.children[0]"),
            (
                "/screens/1/layout/children/0/name",
                json!(""),
                "MISSING_REQUIRED_PROPERTY",
                "screens[1].layout.children[0]",
            ),
            (
                "/screens/1/layout/children/1/data-source",
                json!([]),
                "MISSING_REQUIRED_PROPERTY",
                "screens[1].layout.children[1]",
            ),
            (
                "/screens/1/layout/children/5/on-click-action/name",
                json!("data_exchange"),
                "INVALID_PROPERTY",
                "screens[1].layout.children[5]",
            ),
            ("/screens/1/layout/children/0/name", json!("name"), "INVALID_FLOW", "screens"),
            ("/screens/1/layout/children/0/label", json!("x".repeat(400)), "INVALID_FLOW", "screens"),
        ] {
            assert_eq!(first(broken(pointer, value)), (error, place.to_owned()), "{pointer}");
        }
        let mut served = two_screens();
        served["data_api_version"] = "3.0".into();
        assert_eq!(parse(&served.to_string()).err().unwrap()[0].error, "INVALID_PROPERTY");
        let mut nested = json!({"type": "Form", "children": []});
        for _ in 0..50 {
            nested = json!({"type": "Form", "children": [nested]});
        }
        assert!(!broken("/screens/0/layout/children/0", nested).is_empty());
    }
}
