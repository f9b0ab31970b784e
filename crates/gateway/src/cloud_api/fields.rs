//! `fields=id,name,webhook{url}`: which members of a node an answer has.

use serde_json::{Map, Value};

use super::error::ApiError;

/// Nesting that is read; real requests have two levels.
const MAX_DEPTH: usize = 8;

/// The wanted members, each maybe with wanted members of its own.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    name: String,
    inner: Vec<Field>,
}

/// What a node shows: `all` cut down to what `fields` asks for, or to `default` if nothing is asked. `id` is always there.
pub(crate) fn project(all: &Value, fields: Option<&str>, default: &[&str], node: &str) -> Result<Value, ApiError> {
    let wanted = match fields.map(str::trim) {
        None | Some("") => default.iter().map(|n| Field { name: (*n).to_owned(), inner: Vec::new() }).collect(),
        Some(text) => parse(text)?,
    };
    let mut out = pick(all, &wanted, node)?;
    if let (Value::Object(out), Some(id)) = (&mut out, all.get("id")) {
        out.insert("id".into(), id.clone());
    }
    Ok(out)
}

fn pick(from: &Value, wanted: &[Field], node: &str) -> Result<Value, ApiError> {
    let Value::Object(members) = from else { return Ok(from.clone()) };
    if wanted.is_empty() {
        return Ok(from.clone());
    }
    let mut out = Map::new();
    for field in wanted {
        let value = members.get(&field.name).ok_or_else(|| ApiError::unknown_field(&field.name, node))?;
        // A member that the node could have and does not is left out.
        if !value.is_null() {
            out.insert(field.name.clone(), pick(value, &field.inner, node)?);
        }
    }
    Ok(Value::Object(out))
}

fn parse(text: &str) -> Result<Vec<Field>, ApiError> {
    let wrong = || ApiError::parameter("Syntax error in the parameter fields.");
    // Lists that are being read, the innermost last; a `{` opens one for the field before it.
    let mut open: Vec<Vec<Field>> = vec![Vec::new()];
    let mut name = String::new();
    let mut closed = false;
    let finish = |name: &mut String, closed: &mut bool, open: &mut Vec<Vec<Field>>| -> Result<(), ApiError> {
        let done = std::mem::take(name);
        match (done.is_empty(), std::mem::take(closed)) {
            (true, true) => Ok(()),
            (false, false) => {
                open.last_mut().ok_or_else(wrong)?.push(Field { name: done, inner: Vec::new() });
                Ok(())
            }
            _ => Err(wrong()),
        }
    };
    for c in text.chars() {
        match c {
            ',' => finish(&mut name, &mut closed, &mut open)?,
            '{' => {
                finish(&mut name, &mut closed, &mut open)?;
                if open.len() >= MAX_DEPTH || open.last().is_none_or(Vec::is_empty) {
                    return Err(wrong());
                }
                open.push(Vec::new());
            }
            '}' => {
                finish(&mut name, &mut closed, &mut open)?;
                let inner = open.pop().ok_or_else(wrong)?;
                open.last_mut().and_then(|o| o.last_mut()).ok_or_else(wrong)?.inner = inner;
                closed = true;
            }
            c if c.is_whitespace() => {}
            c if c.is_alphanumeric() || "_.-:()[]\"'".contains(c) => name.push(c),
            _ => return Err(wrong()),
        }
    }
    finish(&mut name, &mut closed, &mut open)?;
    match (open.pop(), open.is_empty()) {
        (Some(fields), true) => Ok(fields),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn shows_what_is_asked_for() {
        let node = json!({"id": "1", "name": "n", "status": null, "hook": {"app": "a", "phone": "p"}});
        let show = |fields| project(&node, fields, &["name"], "T");
        assert_eq!(show(None).unwrap(), json!({"id": "1", "name": "n"}));
        assert_eq!(show(Some("")).unwrap(), json!({"id": "1", "name": "n"}));
        assert_eq!(show(Some("hook{app}, name")).unwrap(), json!({"id": "1", "name": "n", "hook": {"app": "a"}}));
        assert_eq!(show(Some("hook")).unwrap(), json!({"id": "1", "hook": {"app": "a", "phone": "p"}}));
        assert_eq!(show(Some("status")).unwrap(), json!({"id": "1"}));
        for wrong in ["nope", "hook{nope}", "a{", "a}", "{a}", "a,,b", ",", "a{b}c", "a{b}{c}", "a;b", "}{"] {
            assert!(show(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(show(Some(&"a{".repeat(10_000))).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-c{},. ]{0,40}") {
            let _ = project(&json!({"id": "1", "a": {"b": 1}, "b": 2, "c": 3}), Some(&text), &[], "T");
        }
    }
}
