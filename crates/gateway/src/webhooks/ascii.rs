//! JSON in pure ASCII, with lowercase `\uXXXX` escapes.
//!
//! Some receivers compute the signature over the body as it came, others over the body after escaping everything beyond ASCII. Only bytes
//! that escaping leaves alone satisfy both (cloud-api.md §0.10 of the compatibility notes).

use std::fmt::Write as _;

use serde_json::Value;

/// The value's bytes: deterministic (members in order of their names), ASCII only.
pub(crate) fn to_ascii(value: &Value) -> Vec<u8> {
    let json = value.to_string();
    if json.is_ascii() {
        return json.into_bytes();
    }
    let mut out = String::with_capacity(json.len() + json.len() / 2);
    // Beyond ASCII there are only characters inside strings, so escaping needs no parser.
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a `String` cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn vectors() {
        for (text, expected) in [
            ("a/b", r#""a/b""#),
            ("é", r#""\u00e9""#),
            ("👍", r#""\ud83d\udc4d""#),
            ("\u{2028}", r#""\u2028""#),
            ("\u{1f}", r#""\u001f""#),
            ("ß\"\\\n", r#""\u00df\"\\\n""#),
            ("\u{10ffff}", r#""\udbff\udfff""#),
        ] {
            assert_eq!(String::from_utf8(to_ascii(&json!(text))).unwrap(), expected);
        }
        assert_eq!(to_ascii(&json!({"ä": "ö"})), br#"{"\u00e4":"\u00f6"}"#);
    }

    proptest! {
        #[test]
        fn is_ascii_and_reads_as_the_same(text in any::<String>()) {
            let bytes = to_ascii(&json!([text]));
            prop_assert!(bytes.is_ascii());
            prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), json!([text]));
        }
    }
}
