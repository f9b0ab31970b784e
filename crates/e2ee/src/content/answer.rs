//! What a customer chose in a message that offers something (`application/vnd.bulla.answer+cbor`). It answers that message (`inReplyTo`), and
//! counts only if that message offers it: see [`Interactive::offers`].

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::ContentError;
use super::interactive::{Action, Button, FIELDS, Field, FieldKind, Interactive, OPTIONS, versioned};
use crate::cbor::Writer;
use crate::limits;

const VERSION: u64 = 1;

/// Of one thing to buy, at most.
pub const QUANTITY: u32 = 99;

/// A choice.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Answer {
    /// A button.
    #[n(0)]
    Button {
        /// Its id.
        #[n(0)]
        id: String,
        /// What stands on it.
        #[n(1)]
        title: String,
    },
    /// A row of a list.
    #[n(1)]
    Row {
        /// Its id.
        #[n(0)]
        id: String,
        /// What it is called.
        #[n(1)]
        title: String,
        /// What else is said of it.
        #[n(2)]
        description: Option<String>,
    },
    /// A form that was filled in.
    #[n(2)]
    Form {
        /// By field; those without an answer are not there.
        #[n(0)]
        values: Vec<FieldValue>,
    },
    /// Things that are wanted.
    #[n(3)]
    Order {
        /// What and how many.
        #[n(0)]
        items: Vec<Ordered>,
        /// What is said with it.
        #[n(1)]
        text: String,
    },
}

/// What was answered to one field.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct FieldValue {
    /// The field's name.
    #[n(0)]
    pub name: String,
    /// One value; of a field of which some are chosen, any number of ids; of yes or no, `true` or `false`.
    #[n(1)]
    pub values: Vec<String>,
}

/// Something that is wanted.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
pub struct Ordered {
    /// The product's id.
    #[n(0)]
    pub id: String,
    /// How many.
    #[n(1)]
    pub quantity: u32,
}

impl core::fmt::Debug for Answer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Answer(redacted)")
    }
}

/// Why a form cannot be sent as it is: of which field, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldProblem {
    /// It must be answered.
    Missing,
    /// Not of its kind: no number, no address, no such option.
    Invalid,
    /// Fewer characters than it must have.
    Short,
    /// More characters than it may have.
    Long,
}

impl Field {
    /// Whether values answer it.
    pub fn judge(&self, values: &[String]) -> Result<(), FieldProblem> {
        let given: Vec<&str> = values.iter().map(|v| v.trim()).filter(|v| !v.is_empty()).collect();
        if given.is_empty() || (self.kind == FieldKind::Yes && self.required && given != ["true"]) {
            return if self.required { Err(FieldProblem::Missing) } else { Ok(()) };
        }
        if self.kind != FieldKind::Some && given.len() != 1 {
            return Err(FieldProblem::Invalid);
        }
        let is_option = |id: &&str| self.options.iter().any(|option| option.id == **id);
        let first = given.first().copied().unwrap_or_default();
        let good = match self.kind {
            FieldKind::Text | FieldKind::Area => true,
            FieldKind::Number => first.parse::<f64>().is_ok_and(f64::is_finite),
            FieldKind::Email => is_email(first),
            FieldKind::Phone => is_phone(first),
            FieldKind::Date => is_date(first),
            FieldKind::One | FieldKind::Some => given.iter().all(is_option),
            FieldKind::Yes => matches!(first, "true" | "false"),
        };
        if !good {
            return Err(FieldProblem::Invalid);
        }
        let length = u32::try_from(first.chars().count()).unwrap_or(u32::MAX);
        let is_text = matches!(self.kind, FieldKind::Text | FieldKind::Area | FieldKind::Number);
        match (self.min, self.max) {
            (Some(min), _) if is_text && length < min => Err(FieldProblem::Short),
            (_, Some(max)) if is_text && length > max => Err(FieldProblem::Long),
            _ => Ok(()),
        }
    }
}

/// Something before one `@`, something with a dot behind it, nothing between: whether it exists, only a letter tells.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let plain = |part: &str| {
        !part.is_empty() && !part.contains(['@', '<', '>', '"', ',']) && !part.contains(char::is_whitespace)
    };
    let labels = domain.split('.').count() > 1 && domain.split('.').all(|label| !label.is_empty());
    plain(local) && plain(domain) && labels && text.len() <= 254
}

fn is_phone(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let rest = text.strip_prefix('+').unwrap_or(text);
    (3..=15).contains(&digits) && rest.bytes().all(|b| b.is_ascii_digit() || b" -./()".contains(&b))
}

/// `YYYY-MM-DD`, a day that exists.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    let number = |text: &str, len: usize| if text.len() == len { text.parse::<u32>().ok() } else { None };
    let (Some(year), Some(month), Some(day)) = (number(year, 4), number(month, 2), number(day, 2)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

impl Interactive {
    /// Whether an answer is one that this message offers: a button or a row that is there, a form's fields and no others, each answered as it asks.
    #[must_use]
    pub fn offers(&self, answer: &Answer) -> bool {
        match (&self.action, answer) {
            (Action::Buttons(buttons), Answer::Button { id, title }) => buttons.iter().any(
                |button| matches!(button, Button::Reply { id: known, title: shown } if known == id && shown == title),
            ),
            (Action::List(list), Answer::Row { id, title, description }) => list
                .sections
                .iter()
                .flat_map(|s| &s.rows)
                .any(|row| row.id == *id && row.title == *title && row.description == *description),
            (Action::Form(_), Answer::Form { values }) => {
                let known = values.iter().all(|value| self.fields().any(|field| field.name == value.name));
                let of = |field: &Field| {
                    let mut given = values.iter().filter(|value| value.name == field.name);
                    let (first, second) = (given.next(), given.next());
                    second.is_none() && field.judge(first.map_or(&[], |value| &value.values)).is_ok()
                };
                known && self.fields().all(of)
            }
            (Action::Products(products), Answer::Order { items, .. }) => {
                !items.is_empty()
                    && items.iter().all(|wanted| {
                        (1..=QUANTITY).contains(&wanted.quantity)
                            && products.items.iter().any(|product| product.id == wanted.id)
                    })
            }
            _ => false,
        }
    }
}

impl Answer {
    pub(super) fn fits(&self) -> bool {
        let short = |text: &str| text.len() <= 4 * limits::NAME;
        match self {
            Self::Button { id, title } => short(id) && short(title),
            Self::Row { id, title, description } => {
                short(id) && short(title) && description.as_ref().is_none_or(|text| short(text))
            }
            Self::Form { values } => {
                values.len() <= FIELDS
                    && values.iter().all(|v| {
                        short(&v.name)
                            && v.values.len() <= OPTIONS
                            && v.values.iter().all(|v| v.len() <= limits::CAPTION)
                    })
            }
            Self::Order { items, text } => {
                items.len() <= super::interactive::PRODUCTS
                    && items.iter().all(|item| short(&item.id))
                    && text.len() <= limits::CAPTION
            }
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        Writer::new().array(2).uint(VERSION).raw(&minicbor::to_vec(self).unwrap_or_default()).finish()
    }
}

/// `None`: of a later version.
pub(super) fn read(content: &[u8]) -> Result<Option<Answer>, ContentError> {
    let Some(inner) = versioned(content, VERSION)? else { return Ok(None) };
    match minicbor::decode::<Answer>(inner) {
        Ok(answer) if answer.fits() => Ok(Some(answer)),
        Ok(_) => Err(ContentError::Limit),
        Err(_) => Ok(None),
    }
}
