//! Whether a template can be approved: `components` as they were given become [`Parts`], or an error that says what is wrong.
//!
//! The limits are those of the Cloud API, so that what passes here passes there, and the other way round. What it judges by taste (the proportion
//! of gaps to words, the tone) is left to the business.

use serde_json::{Map, Value};

use super::error::ApiError;
use super::error::Lint;
use crate::template::{ButtonPart, Category, Gaps, HeaderPart, MediaKind, Parts, Pattern};

/// Characters of a body.
pub(crate) const BODY: usize = 1_024;
/// Characters of a header or a footer.
pub(crate) const HEADER: usize = 60;
/// Characters of a button's words.
const BUTTON: usize = 25;
/// Buttons of a template.
const BUTTONS: usize = 10;
/// Characters of an address.
const URL: usize = 2_000;
/// Digits and signs of a telephone number.
const PHONE: usize = 20;
/// Characters of a coupon.
pub(crate) const CODE: usize = 15;
/// Bytes of all components, examples included.
const COMPONENTS: usize = 16 * 1024;
/// Minutes that a one-time password may count.
const MINUTES: std::ops::RangeInclusive<u64> = 1..=90;

/// Words that stand on a button for which the template names none.
const COPY: &str = "Copy code";
/// The body of a one-time password, which nobody writes but the Cloud API: it has to look the same for everybody.
const OTP: &str = "*{{1}}* is your verification code.";
const OTP_SECURITY: &str = "*{{1}}* is your verification code. For your security, do not share this code.";

/// `[a-z0-9_]{1,512}`.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=512).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `en`, `fil`, `pt_BR`.
pub(crate) fn is_language(code: &str) -> bool {
    let (language, region) = code.split_once('_').map_or((code, None), |(l, r)| (l, Some(r)));
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_lowercase())
        && region.is_none_or(|r| (2..=3).contains(&r.len()) && r.bytes().all(|b| b.is_ascii_uppercase()))
}

/// The parts of a template, and its components as they are shown: as given, with types in capitals.
pub(crate) fn parts(components: &Value, category: Category, gaps: Gaps) -> Result<(Parts, String), ApiError> {
    let Value::Array(given) = components else {
        return Err(ApiError::parameter("Param components must be an array."));
    };
    let (mut header, mut body, mut footer, mut buttons) = (None, None, None, None);
    let mut shown = Vec::new();
    for component in given {
        let Value::Object(component) = component else {
            return Err(ApiError::parameter("Param components must be an array of objects."));
        };
        let mut component = component.clone();
        let kind = capitals(&mut component, "type").ok_or_else(|| ApiError::required("components[type]"))?;
        let place = match kind.as_str() {
            "HEADER" => &mut header,
            "BODY" => &mut body,
            "FOOTER" => &mut footer,
            "BUTTONS" => &mut buttons,
            _ => {
                return Err(ApiError::parameter(
                    "Param components[type] must be one of {HEADER, BODY, FOOTER, BUTTONS}.",
                ));
            }
        };
        capitals(&mut component, "format");
        if let Some(Value::Array(buttons)) = component.get_mut("buttons") {
            for button in buttons.iter_mut().filter_map(Value::as_object_mut) {
                capitals(button, "type");
            }
        }
        if place.replace(component.clone()).is_some() {
            return Err(ApiError::parameter("Each type of component may be given once."));
        }
        shown.push(Value::Object(component));
    }
    let is_otp = category == Category::Authentication;
    let body = body.ok_or_else(|| missing("BODY", "text"))?;
    let parts = Parts {
        header: header.map(|header| self::header(&header, gaps, is_otp)).transpose()?,
        body: if is_otp { otp_body(&body, gaps)? } else { self::body(&body, gaps)? },
        footer: footer.map(|footer| self::footer(&footer, is_otp)).transpose()?,
        buttons: self::buttons(buttons.as_ref(), is_otp)?,
        gaps,
    };
    let shown = Value::Array(shown).to_string();
    if shown.len() > COMPONENTS {
        return Err(ApiError::template(Lint::TooLong, "All components together may have at most 16 KiB."));
    }
    Ok((parts, shown))
}

fn capitals(object: &mut Map<String, Value>, name: &str) -> Option<String> {
    let word = object.get(name)?.as_str()?.to_ascii_uppercase();
    object.insert(name.to_owned(), word.as_str().into());
    Some(word)
}

fn missing(component: &str, field: &str) -> ApiError {
    ApiError::template(Lint::Missing, format!("component of type {component} is missing expected field(s) ({field})"))
}

fn text<'a>(component: &'a Map<String, Value>, kind: &str, most: usize) -> Result<&'a str, ApiError> {
    let text = component.get("text").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| missing(kind, "text"))?;
    if text.chars().count() > most {
        let words = format!("The text of {kind} may have at most {most} characters.");
        return Err(ApiError::template(Lint::TooLong, words));
    }
    Ok(text)
}

fn header(component: &Map<String, Value>, gaps: Gaps, is_otp: bool) -> Result<HeaderPart, ApiError> {
    if is_otp {
        return Err(ApiError::template(Lint::Header, "Templates of category AUTHENTICATION have no header."));
    }
    let format = component.get("format").and_then(Value::as_str).unwrap_or_default();
    if let Some((kind, _)) = MediaKind::ALL.iter().find(|(_, word)| word.eq_ignore_ascii_case(format)) {
        return Ok(HeaderPart::Media(*kind));
    }
    match format {
        "LOCATION" => Ok(HeaderPart::Location),
        "TEXT" => {
            let text = text(component, "HEADER", HEADER)?;
            if text.contains('\n') {
                return Err(ApiError::template(Lint::Header, "A header has one line."));
            }
            let pattern = pattern(text, gaps, Lint::Header)?;
            if pattern.names().len() > 1 {
                return Err(ApiError::template(Lint::Header, "A header may have one variable at most."));
            }
            examples(component, &pattern, gaps, "HEADER")?;
            Ok(HeaderPart::Text(pattern))
        }
        "" => Err(missing("HEADER", "format")),
        _ => Err(ApiError::template(
            Lint::Header,
            "The format of HEADER must be one of TEXT, IMAGE, VIDEO, DOCUMENT, LOCATION.",
        )),
    }
}

fn body(component: &Map<String, Value>, gaps: Gaps) -> Result<Pattern, ApiError> {
    let pattern = pattern(text(component, "BODY", BODY)?, gaps, Lint::Body)?;
    if pattern.has_gap_at_an_end() {
        return Err(ApiError::template(Lint::GapAtAnEnd, "Variables can't be at the start or end of the template."));
    }
    examples(component, &pattern, gaps, "BODY")?;
    Ok(pattern)
}

/// The Cloud API's own words. A business whose customers read another language may give its own, around one gap.
fn otp_body(component: &Map<String, Value>, gaps: Gaps) -> Result<Pattern, ApiError> {
    let words = if component.contains_key("text") {
        text(component, "BODY", BODY)?
    } else if component.get("add_security_recommendation").and_then(Value::as_bool) == Some(true) {
        OTP_SECURITY
    } else {
        OTP
    };
    let pattern = pattern(words, gaps, Lint::Body)?;
    if pattern.names().len() == 1 {
        return Ok(pattern);
    }
    Err(ApiError::template(Lint::Body, "The body of category AUTHENTICATION has one variable, {{1}}: the code."))
}

fn footer(component: &Map<String, Value>, is_otp: bool) -> Result<String, ApiError> {
    if is_otp && let Some(minutes) = component.get("code_expiration_minutes") {
        let minutes = minutes.as_u64().or_else(|| minutes.as_str()?.parse().ok()).filter(|m| MINUTES.contains(m));
        return minutes
            .map(|minutes| format!("This code expires in {minutes} minutes."))
            .ok_or_else(|| ApiError::template(Lint::Footer, "code_expiration_minutes must be a number from 1 to 90."));
    }
    let text = text(component, "FOOTER", HEADER)?;
    if text.contains("{{") || text.contains('\n') {
        return Err(ApiError::template(Lint::Footer, "A footer has no variables, and one line."));
    }
    Ok(text.to_owned())
}

/// The text's pattern, with gaps named as the template says.
fn pattern(text: &str, gaps: Gaps, place: Lint) -> Result<Pattern, ApiError> {
    let wrong = |words: &str| ApiError::template(place, words);
    let pattern = Pattern::parse(text).map_err(|_| {
        wrong("This template contains variable parameters with incorrect formatting: {{1}} or {{first_name}}.")
    })?;
    let names = pattern.names();
    match gaps {
        Gaps::Positional => {
            let mut numbers: Vec<usize> = names.iter().filter_map(|n| n.parse().ok()).collect();
            numbers.sort_unstable();
            if numbers.len() != names.len() || numbers.iter().enumerate().any(|(i, n)| i + 1 != *n) {
                return Err(wrong(
                    "Variables are numbered from {{1}}, without gaps; others need parameter_format NAMED.",
                ));
            }
        }
        Gaps::Named => {
            if names.iter().any(|name| name.starts_with(|c: char| c.is_ascii_digit())) {
                return Err(wrong("With parameter_format NAMED, variables have names that begin with a letter."));
            }
        }
    }
    Ok(pattern)
}

/// There has to be an example for each gap: whoever approves sees what the text is going to be.
fn examples(component: &Map<String, Value>, pattern: &Pattern, gaps: Gaps, kind: &str) -> Result<(), ApiError> {
    let names = pattern.names();
    if names.is_empty() {
        return Ok(());
    }
    let small = kind.to_ascii_lowercase();
    let example = component.get("example").and_then(Value::as_object);
    let complete = match gaps {
        Gaps::Positional => {
            let given = example.and_then(|e| e.get(&format!("{small}_text")));
            // `[["a", "b"]]` for a body, `["a"]` for a header.
            let given = match given.and_then(Value::as_array) {
                Some(outer) => outer.first().and_then(Value::as_array).or(Some(outer)),
                None => None,
            };
            given.is_some_and(|given| given.len() == names.len() && given.iter().all(is_example))
        }
        Gaps::Named => {
            let given = example.and_then(|e| e.get(&format!("{small}_text_named_params"))).and_then(Value::as_array);
            let of = |name: &str| {
                given.into_iter().flatten().any(|g| {
                    g.get("param_name").and_then(Value::as_str) == Some(name)
                        && g.get("example").is_some_and(is_example)
                })
            };
            names.iter().all(|name| of(name))
        }
    };
    if complete { Ok(()) } else { Err(missing(kind, "example")) }
}

fn is_example(value: &Value) -> bool {
    value.is_number() || value.as_str().is_some_and(|text| !text.is_empty())
}

fn buttons(component: Option<&Map<String, Value>>, is_otp: bool) -> Result<Vec<ButtonPart>, ApiError> {
    let given = match component.map(|component| component.get("buttons").and_then(Value::as_array)) {
        None => &Vec::new(),
        Some(None) => return Err(missing("BUTTONS", "buttons")),
        Some(Some(given)) if given.is_empty() || given.len() > BUTTONS => {
            return Err(ApiError::parameter("A template may have from 1 to 10 buttons."));
        }
        Some(Some(given)) => given,
    };
    let parts = given.iter().map(button).collect::<Result<Vec<_>, _>>()?;
    let count = |is: fn(&ButtonPart) -> bool| parts.iter().filter(|part| is(part)).count();
    let otp = count(|part| matches!(part, ButtonPart::Otp(_)));
    if is_otp && (otp != 1 || parts.len() != 1) {
        return Err(ApiError::parameter("Templates of category AUTHENTICATION have one button, of type OTP."));
    }
    if !is_otp && otp > 0 {
        return Err(ApiError::parameter("Buttons of type OTP are for category AUTHENTICATION."));
    }
    for (most, is, kind) in [
        (2, (|part| matches!(part, ButtonPart::Url(..))) as fn(&ButtonPart) -> bool, "URL"),
        (1, |part| matches!(part, ButtonPart::Phone(..)), "PHONE_NUMBER"),
        (1, |part| matches!(part, ButtonPart::CopyCode(_)), "COPY_CODE"),
    ] {
        if count(is) > most {
            return Err(ApiError::parameter(&format!("A template may have at most {most} of type {kind}.")));
        }
    }
    Ok(parts)
}

fn button(given: &Value) -> Result<ButtonPart, ApiError> {
    let Value::Object(button) = given else {
        return Err(ApiError::parameter("Param buttons must be an array of objects."));
    };
    let kind = button.get("type").and_then(Value::as_str).unwrap_or_default();
    let words = || -> Result<String, ApiError> {
        let words = text(button, "BUTTONS", BUTTON)?;
        if words.contains("{{") || words.contains('\n') {
            return Err(ApiError::parameter("The text of a button has no variables, and one line."));
        }
        Ok(words.to_owned())
    };
    // Copying needs no words of its own.
    let copy = || if button.contains_key("text") { words() } else { Ok(COPY.to_owned()) };
    match kind {
        "QUICK_REPLY" => Ok(ButtonPart::QuickReply(words()?)),
        "PHONE_NUMBER" => {
            let number =
                button.get("phone_number").and_then(Value::as_str).ok_or_else(|| missing("BUTTONS", "phone_number"))?;
            if number.len() > PHONE || crate::numbers::parse(number).is_none() {
                return Err(ApiError::parameter("Param phone_number must be a phone number of at most 20 characters."));
            }
            Ok(ButtonPart::Phone(words()?, number.to_owned()))
        }
        "URL" => Ok(ButtonPart::Url(words()?, url(button)?)),
        "COPY_CODE" => match first_example(button) {
            Some(code) if code.chars().count() <= CODE => Ok(ButtonPart::CopyCode(copy()?)),
            Some(_) => Err(ApiError::template(Lint::TooLong, "A code to be copied may have at most 15 characters.")),
            None => Err(missing("BUTTONS", "example")),
        },
        "OTP" => match button.get("otp_type").and_then(Value::as_str).map(str::to_ascii_uppercase).as_deref() {
            // A customer's app has nobody to hand the code over to: all three copy it.
            Some("COPY_CODE" | "ONE_TAP" | "ZERO_TAP") => Ok(ButtonPart::Otp(copy()?)),
            _ => Err(ApiError::parameter("Param otp_type must be one of {COPY_CODE, ONE_TAP, ZERO_TAP}.")),
        },
        _ => Err(ApiError::parameter(
            "Param buttons[type] must be one of {QUICK_REPLY, URL, PHONE_NUMBER, COPY_CODE, OTP}.",
        )),
    }
}

fn url(button: &Map<String, Value>) -> Result<Pattern, ApiError> {
    let text = button.get("url").and_then(Value::as_str).ok_or_else(|| missing("BUTTONS", "url"))?;
    let wrong = || {
        ApiError::parameter(
            "Param url must be an http or https address of at most 2000 characters, with {{1}} at most at its end.",
        )
    };
    let pattern = Pattern::parse(text).map_err(|_| wrong())?;
    // The gap is behind the host: whoever fills it does not decide whose address it is.
    let fixed = pattern.fill(|_| None);
    let parsed = url::Url::parse(&fixed).map_err(|_| wrong())?;
    if text.chars().count() > URL || !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong());
    }
    if pattern.names().is_empty() {
        return Ok(pattern);
    }
    let behind_host = fixed.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    if !pattern.ends_with_its_only_gap() || !behind_host {
        return Err(wrong());
    }
    first_example(button).map(|_| pattern).ok_or_else(|| missing("BUTTONS", "example"))
}

/// `"example": "x"` and `"example": ["x"]` are both in use.
fn first_example(button: &Map<String, Value>) -> Option<&str> {
    let example = button.get("example")?;
    let example = example.as_array().map_or(Some(example), |all| all.first())?;
    example.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lint(components: Value) -> Result<Parts, (u32, Option<u32>)> {
        linted(components, Category::Marketing, Gaps::Positional)
    }

    fn linted(components: Value, category: Category, gaps: Gaps) -> Result<Parts, (u32, Option<u32>)> {
        parts(&components, category, gaps).map(|(parts, _)| parts).map_err(|e| (e.codes().1, e.codes().2))
    }

    fn body(text: &str, examples: &[&str]) -> Value {
        json!({"type": "BODY", "text": text, "example": {"body_text": [examples]}})
    }

    #[test]
    fn names_and_languages() {
        for (name, good) in [("a_1", true), ("", false), ("A", false), ("a b", false), ("ä", false)] {
            assert_eq!(is_name(name), good, "{name}");
        }
        assert!(is_name(&"a".repeat(512)) && !is_name(&"a".repeat(513)));
        for (code, good) in [
            ("en", true),
            ("fil", true),
            ("pt_BR", true),
            ("EN", false),
            ("en_us", false),
            ("en-US", false),
            ("e", false),
        ] {
            assert_eq!(is_language(code), good, "{code}");
        }
    }

    #[test]
    fn what_the_cloud_api_approves_is_taken_apart() {
        let parts = lint(json!([
            {"type": "header", "format": "text", "text": "Our {{1}} is on!", "example": {"header_text": ["Sale"]}},
            body("Shop now through {{1}} and get {{2}} off.", &["August", "25%"]),
            {"type": "FOOTER", "text": "Stop with STOP"},
            {"type": "BUTTONS", "buttons": [
                {"type": "QUICK_REPLY", "text": "Unsubscribe"},
                {"type": "url", "text": "Shop", "url": "https://shop.example/?p={{1}}", "example": ["x"]},
                {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+16467043595"},
                {"type": "COPY_CODE", "example": "25OFF"},
            ]},
        ]))
        .unwrap();
        assert!(matches!(&parts.header, Some(HeaderPart::Text(pattern)) if pattern.names() == ["1"]));
        assert_eq!((parts.body.names(), parts.footer.as_deref()), (vec!["1", "2"], Some("Stop with STOP")));
        assert!(matches!(
            parts.buttons.as_slice(),
            [ButtonPart::QuickReply(_), ButtonPart::Url(..), ButtonPart::Phone(..), ButtonPart::CopyCode(words)] if words == COPY
        ));
        for (format, expected) in
            [("IMAGE", MediaKind::Image), ("video", MediaKind::Video), ("DOCUMENT", MediaKind::Document)]
        {
            let parts = lint(json!([{"type": "HEADER", "format": format}, {"type": "BODY", "text": "x"}])).unwrap();
            assert_eq!(parts.header, Some(HeaderPart::Media(expected)));
        }
    }

    #[test]
    fn each_rule_has_its_error() {
        let long = |n: usize| "x".repeat(n);
        let text = |text: &str| json!([{"type": "BODY", "text": text}]);
        let with = |component: Value| json!([{"type": "BODY", "text": "x"}, component]);
        let button = |button: Value| with(json!({"type": "BUTTONS", "buttons": [button]}));
        let plain = (100, None);
        let sub = |subcode| (100, Some(subcode));
        for (components, expected) in [
            (json!({}), plain),
            (json!(["x"]), plain),
            (json!([{"text": "x"}]), plain),
            (json!([{"type": "CAROUSEL"}]), plain),
            (json!([]), sub(2_388_043)),
            (json!([{"type": "BODY"}]), sub(2_388_043)),
            (text(" "), sub(2_388_043)),
            (text(&long(BODY + 1)), sub(2_388_040)),
            (text("Hi {{1}}!"), sub(2_388_043)),
            (json!([body("Hi {{1}} and {{2}}!", &["a"])]), sub(2_388_043)),
            (json!([body("Hi {{2}}!", &["a"])]), sub(2_388_072)),
            (json!([body("Hi {{1}} {{3}}!", &["a", "b"])]), sub(2_388_072)),
            (json!([body("Hi {{name}}!", &["a"])]), sub(2_388_072)),
            (json!([body("Hi {{1}!", &["a"])]), sub(2_388_072)),
            (json!([body("{{1}} is here.", &["a"])]), sub(2_388_299)),
            (json!([body("Here is {{1}}", &["a"])]), sub(2_388_299)),
            (json!([{"type": "BODY", "text": "x"}, {"type": "BODY", "text": "y"}]), plain),
            (with(json!({"type": "HEADER", "format": "TEXT", "text": long(HEADER + 1)})), sub(2_388_040)),
            (with(json!({"type": "HEADER", "text": "x"})), sub(2_388_043)),
            (with(json!({"type": "HEADER", "format": "GIF"})), sub(2_388_047)),
            (with(json!({"type": "HEADER", "format": "TEXT", "text": "{{1}}"})), sub(2_388_043)),
            (
                with(
                    json!({"type": "HEADER", "format": "TEXT", "text": "{{1}} {{2}}", "example": {"header_text": ["a", "b"]}}),
                ),
                sub(2_388_047),
            ),
            (with(json!({"type": "FOOTER", "text": long(HEADER + 1)})), sub(2_388_040)),
            (with(json!({"type": "FOOTER", "text": "By {{1}}."})), sub(2_388_073)),
            (with(json!({"type": "BUTTONS"})), sub(2_388_043)),
            (with(json!({"type": "BUTTONS", "buttons": []})), plain),
            (with(json!({"type": "BUTTONS", "buttons": vec![json!({"type": "QUICK_REPLY", "text": "x"}); 11]})), plain),
            (
                with(
                    json!({"type": "BUTTONS", "buttons": vec![json!({"type": "PHONE_NUMBER", "text": "x", "phone_number": "12345"}); 2]}),
                ),
                plain,
            ),
            (button(json!({"type": "FLOW", "text": "x"})), plain),
            (button(json!({"type": "QUICK_REPLY", "text": long(BUTTON + 1)})), sub(2_388_040)),
            (button(json!({"type": "QUICK_REPLY", "text": "{{1}}"})), plain),
            (button(json!({"type": "URL", "text": "x"})), sub(2_388_043)),
            (button(json!({"type": "URL", "text": "x", "url": "javascript:alert(1)"})), plain),
            (button(json!({"type": "URL", "text": "x", "url": format!("https://a.example/{}", long(URL))})), plain),
            (button(json!({"type": "URL", "text": "x", "url": "https://{{1}}", "example": ["a"]})), plain),
            (button(json!({"type": "URL", "text": "x", "url": "https://a.example{{1}}", "example": ["a"]})), plain),
            (button(json!({"type": "URL", "text": "x", "url": "https://a.example/{{1}}/x", "example": ["a"]})), plain),
            (button(json!({"type": "URL", "text": "x", "url": "https://a.example/{{1}}"})), sub(2_388_043)),
            (button(json!({"type": "PHONE_NUMBER", "text": "x", "phone_number": "call me"})), plain),
            (button(json!({"type": "COPY_CODE"})), sub(2_388_043)),
            (button(json!({"type": "COPY_CODE", "example": long(CODE + 1)})), sub(2_388_040)),
            (button(json!({"type": "OTP", "otp_type": "COPY_CODE"})), plain),
            (json!([{"type": "BODY", "text": "x", "example": long(COMPONENTS)}]), sub(2_388_040)),
        ] {
            assert_eq!(lint(components.clone()).err(), Some(expected), "{components}");
        }
    }

    #[test]
    fn named_gaps_need_named_examples() {
        let named = |name: &str, example: &str| {
            let example = json!({"body_text_named_params": [{"param_name": example, "example": "Ada"}]});
            let body = json!([{"type": "BODY", "text": format!("Hi {{{{{name}}}}}!"), "example": example}]);
            linted(body, Category::Utility, Gaps::Named).map(|parts| parts.body.names().join(","))
        };
        assert_eq!(named("first_name", "first_name"), Ok("first_name".into()));
        assert_eq!(named("first_name", "last_name"), Err((100, Some(2_388_043))));
        assert_eq!(named("1", "1"), Err((100, Some(2_388_072))));
    }

    #[test]
    fn one_time_passwords_have_words_of_their_own() {
        let otp = |components| linted(components, Category::Authentication, Gaps::Positional);
        let button = json!({"type": "BUTTONS", "buttons": [{"type": "OTP", "otp_type": "copy_code", "text": "Copy"}]});
        let body = json!({"type": "BODY", "add_security_recommendation": true});
        let footer = json!({"type": "FOOTER", "code_expiration_minutes": 10});
        let parts = otp(json!([body, footer, button])).unwrap();
        assert_eq!(parts.body.fill(|_| Some("123")), OTP_SECURITY.replace("{{1}}", "123"));
        assert_eq!(parts.footer.as_deref(), Some("This code expires in 10 minutes."));
        assert_eq!(parts.buttons, [ButtonPart::Otp("Copy".into())]);
        let own = json!({"type": "BODY", "text": "Ihr Code ist {{1}}"});
        assert_eq!(otp(json!([own, button])).unwrap().body.fill(|_| Some("1")), "Ihr Code ist 1");
        for wrong in [
            json!([body, button, {"type": "FOOTER", "code_expiration_minutes": 91}]),
            json!([body, button, {"type": "HEADER", "format": "TEXT", "text": "x"}]),
            json!([{"type": "BODY", "text": "no code"}, button]),
            json!([body]),
        ] {
            assert!(otp(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
