//! Places and persons, as `POST /{phone-number-id}/messages` writes them.

use bulla_e2ee::content::{Location, PERSONS, Person};
use serde_json::{Map, Value};

use super::at::At;
use super::error::ApiError;

/// Characters of a place's name and address.
const MAX_PLACE: usize = 250;

/// Reads a `location`.
pub(crate) fn location(at: &At<'_>) -> Result<Location, ApiError> {
    let (latitude, longitude) = (at.need("latitude")?, at.need("longitude")?);
    let (north, east) = (latitude.number()?, longitude.number()?);
    if !(-90.0..=90.0).contains(&north) {
        return Err(latitude.wrong("has to be from -90 to 90"));
    }
    let place = Location::at(north, east).ok_or_else(|| longitude.wrong("has to be from -180 to 180"))?;
    let text = |name| at.get(name).map(|text| text.title(MAX_PLACE)).transpose();
    Ok(Location { name: text("name")?, address: text("address")?, ..place })
}

/// Reads `contacts`.
pub(crate) fn contacts(at: &At<'_>) -> Result<Vec<Person>, ApiError> {
    at.some(PERSONS)?.iter().map(person).collect()
}

fn person(at: &At<'_>) -> Result<Person, ApiError> {
    at.need("name")?.need("formatted_name")?.title(MAX_PLACE)?;
    // Numbers and booleans count as their text here too, and what is `null` is not there.
    let value = texts(at.value());
    let person: Person = serde_json::from_value(value).map_err(|_| at.wrong("is not the form of a contact"))?;
    Ok(person)
}

fn texts(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(bool) => Value::String(bool.to_string()),
        Value::Array(items) => Value::Array(items.iter().map(texts).collect()),
        Value::Object(members) => {
            let there = members.iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(name, value)| (name.clone(), texts(value))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}
