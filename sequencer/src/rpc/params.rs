//! How are a method's arguments read?
//!
//! By position. What is missing, too much or of another type is named, not guessed.

use jsonrpsee::types::Params;
use lockstep_protocol::{hex, refusal::Refusal, rpc::QueryError, wire::Wire};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::Failure;
use crate::facts::Refused;

/// Arguments in order.
pub(super) struct Arguments<'a> {
    values: std::vec::IntoIter<&'a RawValue>,
    taken: usize,
}

impl<'a> Arguments<'a> {
    /// Reads at most `max` arguments.
    pub(super) fn read(params: &'a Params<'_>, max: usize) -> Result<Self, Failure> {
        let values: Vec<&RawValue> = match params.as_str() {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|_| Failure::bad_request("parameters are given by position: expected an array"))?,
        };
        if values.len() > max {
            return Err(Failure::bad_request(format!("takes at most {max} parameters, found {}", values.len())));
        }
        Ok(Self { values: values.into_iter(), taken: 0 })
    }

    /// The next argument, called `name` in the description.
    pub(super) fn next<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        self.optional(name)?
            .ok_or_else(|| Failure::bad_request(format!("parameter {} ({name}) is missing", self.taken)))
    }

    /// The next argument; `None` if it is missing or null.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        self.taken += 1;
        let Some(value) = self.values.next().filter(|value| value.get() != "null") else { return Ok(None) };
        let read = serde_json::from_str(value.get());
        read.map(Some).map_err(|error| Failure::bad_request(format!("parameter {} ({name}): {error}", self.taken)))
    }

    /// The next argument as text, of at most `max` bytes.
    pub(super) fn text(&mut self, name: &str, max: usize) -> Result<&'a str, Failure> {
        self.taken += 1;
        let missing = || Failure::bad_request(format!("parameter {} ({name}) is missing", self.taken));
        let text = self.values.next().ok_or_else(missing)?.get();
        if text.len() > max {
            return Err(Refused::TooLarge { found: text.len(), max }.into());
        }
        Ok(text)
    }

    /// The next argument, a signed message: the hexadecimal of its envelope, which is the cheaper, or an object.
    pub(super) fn message<T: Wire + DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        self.taken += 1;
        let missing = || Failure::bad_request(format!("parameter 1 ({name}) is missing"));
        let text = self.values.next().ok_or_else(missing)?.get();
        let malformed = |detail: String| Refusal::Malformed { detail };
        let message = match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(digits) if digits.len() > 2 + 2 * T::MAX_BYTES => {
                Err(malformed(format!("{} bytes, at most {} are allowed", digits.len() / 2 - 1, T::MAX_BYTES)))
            }
            Some(digits) => hex::decode(digits)
                .map_err(|error| malformed(error.to_string()))
                .and_then(|bytes| T::from_wire(&bytes).map_err(|error| malformed(error.to_string()))),
            None => serde_json::from_str(text).map_err(|error| malformed(error.to_string())),
        };
        Ok(message?)
    }
}

/// How many of something were asked for, if that is allowed.
pub(super) fn bounded(found: u64, max: u64) -> Result<usize, Failure> {
    match found {
        0 => Err(Failure::bad_request("asked for nothing: at least 1")),
        found if found > max => Err(QueryError::TooMany { max, found }.into()),
        found => Ok(usize::try_from(found).expect("the bounds are small")),
    }
}
