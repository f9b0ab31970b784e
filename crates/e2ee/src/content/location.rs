//! A place (`application/vnd.bulla.location+cbor`), as the Cloud API's `location`.

use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use super::ContentError;
use super::interactive::versioned;
use crate::cbor::Writer;
use crate::limits;

const VERSION: u64 = 1;

/// Units of a coordinate in one degree: a centimetre on the ground.
const PER_DEGREE: f64 = 10_000_000.0;

/// A place on Earth (WGS 84). Coordinates are whole numbers of 10⁻⁷ degrees, so that what is sealed has one encoding.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// 10⁻⁷ degrees north.
    #[n(0)]
    #[serde(serialize_with = "degrees")]
    pub latitude: i32,
    /// 10⁻⁷ degrees east.
    #[n(1)]
    #[serde(serialize_with = "degrees")]
    pub longitude: i32,
    /// What it is called.
    #[n(2)]
    pub name: Option<String>,
    /// Where it is, for the post.
    #[n(3)]
    pub address: Option<String>,
}

/// In JSON, coordinates are degrees.
fn degrees<S: Serializer>(units: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(f64::from(*units) / PER_DEGREE)
}

impl core::fmt::Debug for Location {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Location(redacted)")
    }
}

impl Location {
    /// At so many degrees; `None` where there is no such place.
    #[must_use]
    pub fn at(latitude: f64, longitude: f64) -> Option<Self> {
        if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "180 times ten million is less than 2^31")]
        let units = |degrees: f64| (degrees * PER_DEGREE).round() as i32;
        Some(Self { latitude: units(latitude), longitude: units(longitude), name: None, address: None })
    }

    /// Degrees north and east.
    #[must_use]
    pub fn degrees(&self) -> (f64, f64) {
        (f64::from(self.latitude) / PER_DEGREE, f64::from(self.longitude) / PER_DEGREE)
    }

    pub(super) fn fits(&self) -> bool {
        let fits = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= 4 * limits::NAME);
        self.latitude.unsigned_abs() <= 900_000_000
            && self.longitude.unsigned_abs() <= 1_800_000_000
            && fits(&self.name)
            && fits(&self.address)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        Writer::new().array(2).uint(VERSION).raw(&minicbor::to_vec(self).unwrap_or_default()).finish()
    }
}

/// `None`: of a later version.
pub(super) fn read(content: &[u8]) -> Result<Option<Location>, ContentError> {
    let Some(inner) = versioned(content, VERSION)? else { return Ok(None) };
    match minicbor::decode::<Location>(inner) {
        Ok(location) if location.fits() => Ok(Some(location)),
        Ok(_) => Err(ContentError::Limit),
        Err(_) => Ok(None),
    }
}
