//! Reads nested parameters of a message and names each by its path in what is refused: `interactive.action.buttons[0].reply.id`.

use serde_json::Value;

use super::error::ApiError;

/// A value and where it stands.
pub(crate) struct At<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> At<'a> {
    pub(crate) fn new(value: &'a Value, path: &str) -> Self {
        Self { value, path: path.to_owned() }
    }

    /// A member that is there.
    pub(crate) fn get(&self, name: &str) -> Option<At<'a>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(At { value, path: format!("{}.{name}", self.path) })
    }

    /// A member that must be there.
    pub(crate) fn need(&self, name: &str) -> Result<At<'a>, ApiError> {
        self.get(name).ok_or_else(|| ApiError::missing(&format!("{}.{name}", self.path)))
    }

    /// The elements of a list.
    pub(crate) fn items(&self) -> Result<Vec<At<'a>>, ApiError> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("has to be a list"))?;
        Ok(items.iter().enumerate().map(|(n, value)| At { value, path: format!("{}[{n}]", self.path) }).collect())
    }

    /// From one to so many elements.
    pub(crate) fn some(&self, most: usize) -> Result<Vec<At<'a>>, ApiError> {
        let items = self.items()?;
        if (1..=most).contains(&items.len()) {
            Ok(items)
        } else {
            Err(self.wrong(&format!("has to have from 1 to {most} elements")))
        }
    }

    /// The text that it is; numbers and booleans count as theirs.
    pub(crate) fn text(&self) -> Result<String, ApiError> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(bool) => Ok(bool.to_string()),
            _ => Err(self.wrong("has to be a string")),
        }
    }

    /// A text of at least one and at most so many characters.
    pub(crate) fn line(&self, most: usize) -> Result<String, ApiError> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Err(self.wrong("may not be empty"));
        }
        if text.chars().count() > most {
            return Err(self.wrong(&format!("may have at most {most} characters")));
        }
        Ok(text)
    }

    /// The same on one line.
    pub(crate) fn title(&self, most: usize) -> Result<String, ApiError> {
        let text = self.line(most)?;
        if text.chars().any(char::is_control) { Err(self.wrong("has to be on one line")) } else { Ok(text) }
    }

    /// A number, also where it is written as text.
    pub(crate) fn number(&self) -> Result<f64, ApiError> {
        let number = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|n| n.is_finite()).ok_or_else(|| self.wrong("has to be a number"))
    }

    /// The value itself, to be read as something that is known.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong with it.
    pub(crate) fn wrong(&self, problem: &str) -> ApiError {
        ApiError::invalid(&self.path, problem)
    }
}
