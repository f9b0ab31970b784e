//! The disclosure as a page for people: one file of HTML, without scripts and without anything from elsewhere.
//!
//! What each field is, why it is there and how long it stays is said in the words of `docs/metadata.md`, which a test compares with the fields.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use serde_json::Value;

use super::Disclosure;

const METADATA: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metadata.md"));

/// Around the table of fields in it.
const MARK: &str = "<!-- disclose -->";

/// Characters of a value that are shown; the rest is in the JSON.
const SHOWN: usize = 64;

/// What is said of a field.
struct Field {
    what: &'static str,
    why: &'static str,
    how_long: &'static str,
}

/// The fields by name.
fn fields() -> BTreeMap<&'static str, Field> {
    let table = METADATA.split(MARK).nth(1).unwrap_or_default();
    let row = |line: &'static str| {
        let mut cells = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((name, Field { what: cells.next()?, why: cells.next()?, how_long: cells.next()? }))
    };
    table.lines().filter_map(row).collect()
}

/// Text in HTML.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            c => f.write_char(c),
        })
    }
}

/// The page.
#[must_use]
pub fn page(disclosure: &Disclosure) -> String {
    let fields = fields();
    let mut out = String::with_capacity(64 * 1024);
    let value = serde_json::to_value(disclosure).unwrap_or_default();
    // Writing into a String does not fail.
    let _ = write(&mut out, disclosure, &value, &fields);
    out
}

fn write(out: &mut String, all: &Disclosure, value: &Value, fields: &BTreeMap<&str, Field>) -> fmt::Result {
    let waiting: usize = all.mailboxes.iter().map(|mailbox| mailbox.envelopes.len()).sum();
    let bytes: usize = all.mailboxes.iter().flat_map(|m| &m.envelopes).map(|one| one.envelope.len() / 2).sum();
    let blobs: u64 = all.blobs.iter().map(|blob| blob.bytes).sum();
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>What this relay holds</title>\n<style>{STYLE}</style>\n<main>\n<h1>What this relay holds</h1>\n\
         <p>All that it could hand out today. The same, in full length, is what <code>bulla-relay disclose --json</code> prints.</p>\n\
         <dl class=\"sum\"><div><dt>Mailboxes</dt><dd>{}</dd></div><div><dt>Envelopes that wait</dt><dd>{waiting}</dd></div>\
         <div><dt>Bytes of envelopes</dt><dd>{bytes}</dd></div><div><dt>Sealed files</dt><dd>{}</dd></div><div><dt>Bytes of files</dt><dd>{blobs}</dd></div>\
         <div><dt>Commit slots</dt><dd>{}</dd></div></dl>\n",
        all.mailboxes.len(),
        all.blobs.len(),
        all.slots.len(),
    )?;
    days(out, all)?;
    out.push_str(
        "<h2>What is not here</h2>\n<p>No sender, no recipient's name, number or user id; no time at which something came or went; no network address; no \
         count of what passed; no key that opens a message. None of it is stored: there is nothing to ask for.</p>\n",
    );
    out.push_str("<h2>What each field is</h2>\n<div class=\"wide\"><table><thead><tr><th scope=\"col\">Field<th scope=\"col\">What it is\
                  <th scope=\"col\">Why<th scope=\"col\">How long</thead><tbody>\n");
    for (name, Field { what, why, how_long }) in fields {
        writeln!(
            out,
            "<tr><th scope=\"row\"><code>{}</code><td>{}<td>{}<td>{}",
            Text(name),
            Text(&what.replace('`', "")),
            Text(&why.replace('`', "")),
            Text(&how_long.replace('`', ""))
        )?;
    }
    out.push_str("</tbody></table></div>\n<h2>Everything</h2>\n");
    whole(out, "relay", value, fields)?;
    out.push_str("</main></html>\n");
    Ok(())
}

/// How many envelopes wait until which day.
fn days(out: &mut String, all: &Disclosure) -> fmt::Result {
    let mut by_day: BTreeMap<u32, usize> = BTreeMap::new();
    for envelope in all.mailboxes.iter().flat_map(|mailbox| &mailbox.envelopes) {
        *by_day.entry(envelope.last_day).or_default() += 1;
    }
    let Some(most) = by_day.values().max() else { return Ok(()) };
    out.push_str("<h2>Until when they wait</h2>\n<table class=\"days\"><caption>Envelopes by the last day on which they wait, in days since 1970\
                  </caption>\n<thead><tr><th scope=\"col\">Last day<th scope=\"col\">Envelopes<th aria-hidden=\"true\"></thead><tbody>\n");
    for (day, count) in &by_day {
        let width = count * 100 / most.max(&1);
        writeln!(
            out,
            "<tr><th scope=\"row\">{day}<td>{count}<td aria-hidden=\"true\"><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\">\
             <rect width=\"{}\" height=\"10\"/></svg>",
            width.max(1)
        )?;
    }
    out.push_str("</tbody></table>\n");
    Ok(())
}

/// A value with all that is in it.
fn whole(out: &mut String, name: &str, value: &Value, fields: &BTreeMap<&str, Field>) -> fmt::Result {
    match value {
        Value::Object(map) => {
            let (lists, plain): (Vec<_>, Vec<_>) = map.iter().partition(|(_, value)| value.is_array());
            out.push_str("<dl>\n");
            for (key, value) in plain {
                let why = fields.get(key.as_str()).map_or("", |field| field.what);
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Null => "none".to_owned(),
                    other => other.to_string(),
                };
                let cut: String = text.chars().take(SHOWN).collect();
                let more =
                    if cut.len() < text.len() { format!(" … {} characters", text.len()) } else { String::new() };
                writeln!(
                    out,
                    "<div><dt title=\"{}\">{}</dt><dd><code>{}</code>{more}</dd></div>",
                    Text(&why.replace('`', "")),
                    Text(key),
                    Text(&cut)
                )?;
            }
            out.push_str("</dl>\n");
            lists.into_iter().try_for_each(|(key, value)| whole(out, key, value, fields))
        }
        Value::Array(list) => {
            writeln!(out, "<details><summary>{} ({})</summary>", Text(name), list.len())?;
            if list.iter().all(|one| !one.is_object()) {
                let joined: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                writeln!(out, "<p><code>{}</code></p>", Text(&joined.join(" ")))?;
            }
            for one in list.iter().filter(|one| one.is_object()) {
                out.push_str("<section>\n");
                whole(out, name, one, fields)?;
                out.push_str("</section>\n");
            }
            out.push_str("</details>\n");
            Ok(())
        }
        _ => Ok(()),
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}\
main{max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.75rem;line-height:1.2}h2{margin-top:2.5rem;font-size:1.25rem}\
code{font:.875em ui-monospace,monospace;overflow-wrap:anywhere}\
th code{white-space:nowrap}.sum{display:flex;flex-wrap:wrap;gap:1rem}.sum div{display:block;flex:1 1 8rem;border:1px solid #8888;border-radius:.5rem;padding:.5rem .75rem}\
.sum dd{margin:0;font-size:1.5rem;font-variant-numeric:tabular-nums}\
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid #8884}\
caption{text-align:left;padding-bottom:.5rem}\
.days td:last-child{width:60%}.days svg{width:100%;height:.75rem;display:block;margin-top:.35rem}rect{fill:#3a7d6b}\
section dl div,main>dl:not(.sum) div{display:flex;gap:.75rem;flex-wrap:wrap}main>dl,details dl{margin:.5rem 0}dt{min-width:10rem}dd{margin:0}\
details{margin:.5rem 0;padding-left:.75rem;border-left:2px solid #8886}summary{cursor:pointer;font-weight:600}\
section+section{border-top:1px solid #8884}";

#[cfg(test)]
mod tests {
    use super::super::{BlobDisclosure, EnvelopeDisclosure, MailboxDisclosure, SlotDisclosure};
    use super::*;

    fn disclosure() -> Disclosure {
        let envelope = |order, last_day| EnvelopeDisclosure {
            order,
            last_day,
            class: "ordinary".into(),
            tag: "7a".repeat(16),
            envelope: "e5".repeat(1_024),
        };
        Disclosure {
            instance: "1d".repeat(16),
            mailboxes: vec![MailboxDisclosure {
                mailbox: "4a".repeat(16),
                owner_key: "0e".repeat(32),
                mac_root: "5c".repeat(32),
                incarnation: 77_001,
                incarnation_nonce: "1c".repeat(16),
                renewed_month: 77_002,
                revoked_grants: vec!["6a".repeat(16), "6b".repeat(16)],
                bundle: None,
                gap: 77_003,
                envelopes: vec![envelope(77_004, 20_500), envelope(77_005, 20_500), envelope(77_006, 20_501)],
            }],
            blobs: vec![BlobDisclosure {
                blob: "b1".repeat(16),
                last_day: 20_502,
                furthest_day: 77_007,
                bytes: 77_008,
                read_hash: "4e".repeat(32),
                write_hash: "3e".repeat(32),
            }],
            slots: vec![SlotDisclosure { slot: "51".repeat(32), last_day: 20_503, bytes: 77_009 }],
        }
    }

    /// Every leaf of a value, as text.
    fn leaves(value: &Value, out: &mut Vec<(String, String)>, name: &str) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, out, key)),
            Value::Array(list) => list.iter().for_each(|one| leaves(one, out, name)),
            Value::String(text) => out.push((name.to_owned(), text.clone())),
            Value::Null => {}
            other => out.push((name.to_owned(), other.to_string())),
        }
    }

    #[test]
    fn everything_that_is_disclosed_is_on_the_page_with_what_it_is() {
        let disclosure = disclosure();
        let page = page(&disclosure);
        let mut all = Vec::new();
        leaves(&serde_json::to_value(&disclosure).unwrap(), &mut all, "");
        assert!(all.len() > 30, "{}", all.len());
        let fields = fields();
        for (name, value) in all {
            let shown: String = value.chars().take(SHOWN).collect();
            assert!(page.contains(&format!("<code>{shown}")) || page.contains(&format!(" {shown}")), "{name}: {shown}");
            let field = fields.get(name.as_str()).unwrap_or_else(|| panic!("nothing is said of {name}"));
            assert!(page.contains(&Text(&field.how_long.replace('`', "")).to_string()), "{name}");
        }
        assert!(
            page.contains("… 2048 characters") && page.contains("<dd>3</dd>"),
            "three envelopes, not in full length"
        );
    }

    #[test]
    fn what_a_page_holds_is_text() {
        let mut disclosure = disclosure();
        disclosure.instance = "<script>alert(\"1\")</script>&".into();
        let page = page(&disclosure);
        assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;") && !page.contains("<script"));
        assert!(
            !page.contains("http:") && !page.contains("https:") && !page.contains("src="),
            "nothing from elsewhere"
        );
    }
}
