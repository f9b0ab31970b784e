//! What a business shows with something to choose: the Cloud API's `interactive` messages and its templates, as they stand on the customer's screen.
//!
//! ```text
//! [1 render, "", 1, application/vnd.bulla.interactive+cbor, [version, Interactive]]
//! [1 render, "", 3, 1 singleUnit, [ that, the header's file (as an attachment) ]]
//! ```
//!
//! A template arrives filled in: its text is the approved one with the variables' values in their places, and its name says which it was.

use minicbor::{Decode, Encode};
use serde::Serialize;

use super::{Attachment, ContentError, Location};
use crate::cbor::{self, Writer};
use crate::limits;

const VERSION: u64 = 1;

/// Buttons under one message: the most that a template has.
pub const BUTTONS: usize = 10;

/// Rows of a list, over all of its sections.
pub const ROWS: usize = 10;

/// Fields of a form, over all of its screens.
pub(super) const FIELDS: usize = 50;

/// Screens of a form.
const SCREENS: usize = 10;

/// Options of one field.
pub(super) const OPTIONS: usize = 200;

/// Products in one message.
pub const PRODUCTS: usize = 30;

/// Characters of a title on a button or a row: generous, since what a gateway lets through is the Cloud API's business.
const TITLE: usize = 100;

/// Characters of an id that comes back with a choice.
const ID: usize = 256;

/// Characters of longer lines: descriptions, labels, footers.
const LINE: usize = 300;

/// Something that can be answered with a choice.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Interactive {
    /// Above the text.
    #[n(0)]
    pub header: Option<Header>,
    /// The text; may be empty where there is a file.
    #[n(1)]
    pub body: String,
    /// In small letters below the text.
    #[n(2)]
    pub footer: Option<String>,
    /// What can be done.
    #[n(3)]
    pub action: Action,
    /// It is a template, and which.
    #[n(4)]
    pub template: Option<TemplateName>,
    /// A file above the text.
    #[cbor(skip)]
    #[serde(skip)]
    pub file: Option<Attachment>,
}

/// What stands above the text, but for files.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(tag = "kind", content = "value", rename_all = "camelCase")]
pub enum Header {
    /// A line of text.
    #[n(0)]
    Text(#[n(0)] String),
    /// A place.
    #[n(1)]
    Location(#[n(0)] Location),
}

/// Which template a message was made of.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct TemplateName {
    /// Its name at the business.
    #[n(0)]
    pub name: String,
    /// Its language, as the Cloud API writes it (`en_US`).
    #[n(1)]
    pub language: String,
    /// What it is for.
    #[n(2)]
    pub category: Category,
}

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "camelCase")]
pub enum Category {
    /// One-time codes.
    #[n(0)]
    Authentication,
    /// Offers.
    #[n(1)]
    Marketing,
    /// What concerns an order, an appointment, an account.
    #[n(2)]
    Utility,
}

/// What can be done with a message.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(tag = "kind", content = "value", rename_all = "camelCase")]
pub enum Action {
    /// Nothing: it is to be read.
    #[n(0)]
    Nothing,
    /// Buttons below it.
    #[n(1)]
    Buttons(#[n(0)] Vec<Button>),
    /// A list that opens.
    #[n(2)]
    List(#[n(0)] List),
    /// The customer is asked where he is.
    #[n(3)]
    Location,
    /// A form that opens.
    #[n(4)]
    Form(#[n(0)] Form),
    /// Things to buy.
    #[n(5)]
    Products(#[n(0)] Products),
}

/// A button.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Button {
    /// Answers.
    #[n(0)]
    Reply {
        /// Comes back with the answer.
        #[n(0)]
        id: String,
        /// What stands on it.
        #[n(1)]
        title: String,
    },
    /// Leads to a page.
    #[n(1)]
    Url {
        /// What stands on it.
        #[n(0)]
        title: String,
        /// `https://…` or `http://…`.
        #[n(1)]
        url: String,
    },
    /// Calls a number.
    #[n(2)]
    Phone {
        /// What stands on it.
        #[n(0)]
        title: String,
        /// The number, as it is dialled.
        #[n(1)]
        number: String,
    },
    /// Copies a code.
    #[n(3)]
    Copy {
        /// What stands on it.
        #[n(0)]
        title: String,
        /// What is copied.
        #[n(1)]
        code: String,
    },
}

/// A list of which one row is chosen.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct List {
    /// What opens it.
    #[n(0)]
    pub button: String,
    /// At least one, each with at least one row.
    #[n(1)]
    pub sections: Vec<Section>,
}

/// Rows under a title.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// Empty where there is one section.
    #[n(0)]
    pub title: String,
    /// What can be chosen.
    #[n(1)]
    pub rows: Vec<Row>,
}

/// What can be chosen in a list.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Comes back with the answer.
    #[n(0)]
    pub id: String,
    /// What it is called.
    #[n(1)]
    pub title: String,
    /// What else is said of it.
    #[n(2)]
    pub description: Option<String>,
}

/// A form: what the Cloud API calls a flow, an address or a request for contact data.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Form {
    /// Where it comes from; comes back with the answer.
    #[n(0)]
    pub kind: FormKind,
    /// What opens it.
    #[n(1)]
    pub button: String,
    /// At least one.
    #[n(2)]
    pub screens: Vec<Screen>,
    /// The business's own word for this form; comes back with the answer.
    #[n(3)]
    pub token: Option<String>,
}

/// Where a form comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "camelCase")]
pub enum FormKind {
    /// One that the business has designed.
    #[n(0)]
    Flow,
    /// An address.
    #[n(1)]
    Address,
    /// How the customer can be reached elsewhere. Its answer is a person's card.
    #[n(2)]
    Contact,
}

/// Fields that are seen together.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Screen {
    /// Above the fields.
    #[n(0)]
    pub title: String,
    /// Below the title.
    #[n(1)]
    pub text: Option<String>,
    /// What is asked.
    #[n(2)]
    pub fields: Vec<Field>,
    /// What goes on from here.
    #[n(3)]
    pub button: String,
}

/// Something that is asked.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// Its name in the answer.
    #[n(0)]
    pub name: String,
    /// What is asked.
    #[n(1)]
    pub label: String,
    /// How it is answered.
    #[n(2)]
    pub kind: FieldKind,
    /// It must be answered.
    #[n(3)]
    pub required: bool,
    /// Of a choice: among what.
    #[n(4)]
    pub options: Vec<FieldOption>,
    /// What helps to answer it.
    #[n(5)]
    pub hint: Option<String>,
    /// What stands in it at first.
    #[n(6)]
    pub value: Option<String>,
    /// Characters, at least.
    #[n(7)]
    pub min: Option<u32>,
    /// Characters, at most.
    #[n(8)]
    pub max: Option<u32>,
}

/// How a field is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "camelCase")]
pub enum FieldKind {
    /// A line.
    #[n(0)]
    Text,
    /// Several lines.
    #[n(1)]
    Area,
    /// A number.
    #[n(2)]
    Number,
    /// An e-mail address.
    #[n(3)]
    Email,
    /// A telephone number.
    #[n(4)]
    Phone,
    /// A day, `YYYY-MM-DD`.
    #[n(5)]
    Date,
    /// One of several.
    #[n(6)]
    One,
    /// Some of several.
    #[n(7)]
    Some,
    /// Yes or no.
    #[n(8)]
    Yes,
}

/// Something that can be chosen in a field.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct FieldOption {
    /// Comes back with the answer.
    #[n(0)]
    pub id: String,
    /// What it is called.
    #[n(1)]
    pub title: String,
}

/// Things to buy.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Products {
    /// The catalog's id at the business.
    #[n(0)]
    pub catalog: String,
    /// What opens it.
    #[n(1)]
    pub button: String,
    /// At least one.
    #[n(2)]
    pub items: Vec<Product>,
}

/// Something to buy.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// The business's own number for it; comes back with the order.
    #[n(0)]
    pub id: String,
    /// What it is called.
    #[n(1)]
    pub name: String,
    /// What else is said of it.
    #[n(2)]
    pub description: Option<String>,
    /// What one costs, in thousandths of the currency.
    #[n(3)]
    pub price: u64,
    /// ISO 4217.
    #[n(4)]
    pub currency: String,
    /// The heading under which it stands.
    #[n(5)]
    pub section: Option<String>,
}

impl core::fmt::Debug for Interactive {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Interactive({} bytes)", self.body.len())
    }
}

fn line(text: &str, max: usize) -> bool {
    text.chars().count() <= max && !text.chars().any(char::is_control)
}

fn title(text: &str) -> bool {
    !text.is_empty() && line(text, TITLE)
}

fn optional(text: Option<&String>, max: usize) -> bool {
    text.is_none_or(|text| text.chars().count() <= max)
}

impl Interactive {
    /// Text with an action.
    #[must_use]
    pub fn new(body: &str, action: Action) -> Self {
        Self { header: None, body: body.to_owned(), footer: None, action, template: None, file: None }
    }

    /// All fields of its form, if it has one.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        let form = if let Action::Form(form) = &self.action { Some(form) } else { None };
        form.into_iter().flat_map(|form| form.screens.iter()).flat_map(|screen| screen.fields.iter())
    }

    pub(super) fn check(&self) -> Result<(), ContentError> {
        if let Some(file) = &self.file {
            file.check()?;
        }
        let header = match &self.header {
            None => true,
            Some(Header::Text(text)) => line(text, LINE),
            Some(Header::Location(location)) => location.fits(),
        };
        let name = |t: &TemplateName| line(&t.name, 512) && line(&t.language, 20);
        let fits = header
            && self.body.len() <= limits::TEXT
            && (!self.body.is_empty() || self.file.is_some() || self.header.is_some())
            && optional(self.footer.as_ref(), LINE)
            && self.template.as_ref().is_none_or(name)
            && self.action.fits();
        if fits { Ok(()) } else { Err(ContentError::Limit) }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let inner = minicbor::to_vec(self).unwrap_or_default();
        Writer::new().array(2).uint(VERSION).raw(&inner).finish()
    }
}

impl Action {
    fn fits(&self) -> bool {
        match self {
            Self::Nothing | Self::Location => true,
            Self::Buttons(buttons) => (1..=BUTTONS).contains(&buttons.len()) && buttons.iter().all(Button::fits),
            Self::List(list) => {
                let rows: Vec<&Row> = list.sections.iter().flat_map(|s| &s.rows).collect();
                title(&list.button)
                    && (1..=ROWS).contains(&rows.len())
                    && list.sections.iter().all(|s| line(&s.title, TITLE) && !s.rows.is_empty())
                    && rows.iter().all(|r| line(&r.id, ID) && title(&r.title) && optional(r.description.as_ref(), LINE))
            }
            Self::Form(form) => form.fits(),
            Self::Products(products) => {
                line(&products.catalog, ID)
                    && title(&products.button)
                    && (1..=PRODUCTS).contains(&products.items.len())
                    && products.items.iter().all(|item| {
                        line(&item.id, ID)
                            && title(&item.name)
                            && item.currency.len() == 3
                            && optional(item.description.as_ref(), LINE)
                            && optional(item.section.as_ref(), TITLE)
                    })
            }
        }
    }
}

impl Button {
    /// What stands on it.
    #[must_use]
    pub fn title(&self) -> &str {
        match self {
            Self::Reply { title, .. }
            | Self::Url { title, .. }
            | Self::Phone { title, .. }
            | Self::Copy { title, .. } => title,
        }
    }

    fn fits(&self) -> bool {
        title(self.title())
            && match self {
                Self::Reply { id, .. } => line(id, ID),
                // Whoever opens it looks at where it leads once more.
                Self::Url { url, .. } => {
                    line(url, 2_048) && (url.starts_with("https://") || url.starts_with("http://"))
                }
                Self::Phone { number, .. } => line(number, 32),
                Self::Copy { code, .. } => line(code, LINE),
            }
    }
}

impl Form {
    fn fits(&self) -> bool {
        let fields: Vec<&Field> = self.screens.iter().flat_map(|s| &s.fields).collect();
        let mut names: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
        names.sort_unstable();
        let distinct = names.windows(2).all(|pair| pair.first() != pair.last());
        title(&self.button)
            && optional(self.token.as_ref(), ID)
            && (1..=SCREENS).contains(&self.screens.len())
            && fields.len() <= FIELDS
            && distinct
            && self.screens.iter().all(|s| {
                line(&s.title, TITLE)
                    && title(&s.button)
                    && s.text.as_ref().is_none_or(|text| text.len() <= limits::CAPTION)
            })
            && fields.iter().all(|field| field.fits())
    }
}

impl Field {
    fn fits(&self) -> bool {
        let choice = matches!(self.kind, FieldKind::One | FieldKind::Some);
        title(&self.name)
            && line(&self.label, LINE)
            && choice != self.options.is_empty()
            && self.options.len() <= OPTIONS
            && self.options.iter().all(|o| line(&o.id, ID) && title(&o.title))
            && optional(self.hint.as_ref(), LINE)
            && optional(self.value.as_ref(), LINE)
    }
}

/// `None`: of a later version, or with something in it that this one does not know.
pub(super) fn read(content: &[u8], file: Option<Attachment>) -> Result<Option<Interactive>, ContentError> {
    let Some(inner) = versioned(content, VERSION)? else { return Ok(None) };
    let Ok(read) = minicbor::decode::<Interactive>(inner) else { return Ok(None) };
    let read = Interactive { file, ..read };
    read.check().map(|()| Some(read))
}

/// The record behind a version, checked for shape; `None`: of a later version.
pub(super) fn versioned(content: &[u8], version: u64) -> Result<Option<&[u8]>, ContentError> {
    let mut r = cbor::Reader::new(content)?;
    let len = r.list()?;
    if len < 2 || r.uint()? != version {
        return Ok(None);
    }
    Ok(Some(r.raw()?))
}
