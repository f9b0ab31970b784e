//! Persons and how they are reached (`application/vnd.bulla.contacts+cbor`), as the Cloud API's `contacts`.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::ContentError;
use super::interactive::versioned;
use crate::cbor::Writer;
use crate::limits;

const VERSION: u64 = 1;

/// Persons in one message: what the Cloud API recommends is 257 at most; with all of their data they fit into one content.
pub const PERSONS: usize = 50;

/// Numbers, addresses and links of one person, of each kind.
const ENTRIES: usize = 20;

/// A person's card. The fields are the Cloud API's, and so are their names in JSON.
#[derive(Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
#[cbor(array)]
#[serde(default)]
pub struct Person {
    /// Its name.
    #[n(0)]
    pub name: Name,
    /// Numbers.
    #[n(1)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<Phone>,
    /// E-mail addresses.
    #[n(2)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<Email>,
    /// Postal addresses.
    #[n(3)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Pages.
    #[n(4)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<Page>,
    /// Where it works.
    #[n(5)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub org: Option<Organization>,
    /// `YYYY-MM-DD`.
    #[n(6)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birthday: Option<String>,
}

macro_rules! entry {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $n:literal $field:ident $(= $json:literal)?),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize)]
        #[cbor(array)]
        #[serde(default)]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[n($n)]
                #[serde(skip_serializing_if = "Option::is_none" $(, rename = $json)?)]
                pub $field: Option<String>,
            )*
        }

        impl $name {
            fn texts(&self) -> impl Iterator<Item = &String> {
                [$(self.$field.as_ref()),*].into_iter().flatten()
            }
        }
    };
}

entry! {
    /// A person's name.
    Name {
        /// As it is shown.
        0 formatted_name,
        /// Given name.
        1 first_name,
        /// Family name.
        2 last_name,
        /// Middle name.
        3 middle_name,
        /// `Jr.`
        4 suffix,
        /// `Dr.`
        5 prefix,
    }
}
entry! {
    /// A number.
    Phone {
        /// As it is written.
        0 phone,
        /// `CELL`, `WORK` …
        1 kind = "type",
        /// At the Cloud API.
        2 wa_id,
    }
}
entry! {
    /// An e-mail address.
    Email {
        /// The address.
        0 email,
        /// `HOME`, `WORK`.
        1 kind = "type",
    }
}
entry! {
    /// A page.
    Page {
        /// Its address.
        0 url,
        /// `HOME`, `WORK`.
        1 kind = "type",
    }
}
entry! {
    /// A postal address.
    Address {
        /// Street and number.
        0 street,
        /// City.
        1 city,
        /// State.
        2 state,
        /// Postal code.
        3 zip,
        /// Country.
        4 country,
        /// ISO 3166, two letters.
        5 country_code,
        /// `HOME`, `WORK`.
        6 kind = "type",
    }
}
entry! {
    /// Where a person works.
    Organization {
        /// The company.
        0 company,
        /// The department.
        1 department,
        /// What the person does.
        2 title,
    }
}

impl core::fmt::Debug for Person {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Person(redacted)")
    }
}

impl Person {
    /// What it is called; empty if nothing is known.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        self.name.formatted_name.as_deref().unwrap_or_default()
    }

    fn fits(&self) -> bool {
        let counts = [self.phones.len(), self.emails.len(), self.addresses.len(), self.urls.len()];
        let texts = self
            .name
            .texts()
            .chain(self.phones.iter().flat_map(Phone::texts))
            .chain(self.emails.iter().flat_map(Email::texts))
            .chain(self.addresses.iter().flat_map(Address::texts))
            .chain(self.urls.iter().flat_map(Page::texts))
            .chain(self.org.iter().flat_map(Organization::texts))
            .chain(&self.birthday);
        let mut texts = texts;
        !self.shown_name().is_empty()
            && counts.iter().all(|n| *n <= ENTRIES)
            && texts.all(|text| text.len() <= 4 * limits::NAME)
    }
}

pub(super) fn fit(persons: &[Person]) -> bool {
    (1..=PERSONS).contains(&persons.len()) && persons.iter().all(Person::fits)
}

pub(super) fn encode(persons: &Vec<Person>) -> Vec<u8> {
    Writer::new().array(2).uint(VERSION).raw(&minicbor::to_vec(persons).unwrap_or_default()).finish()
}

/// `None`: of a later version.
pub(super) fn read(content: &[u8]) -> Result<Option<Vec<Person>>, ContentError> {
    let Some(inner) = versioned(content, VERSION)? else { return Ok(None) };
    match minicbor::decode::<Vec<Person>>(inner) {
        Ok(persons) if fit(&persons) => Ok(Some(persons)),
        Ok(_) => Err(ContentError::Limit),
        Err(_) => Ok(None),
    }
}
