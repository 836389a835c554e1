//! Parses flat JSON objects as this program writes them: one line, no white space, no escapes, and
//! only strings and unsigned integers as values.
//!
//! Nearly every line of a recording is one. Parsing it here takes half of the instructions of
//! `serde_json`, which parses every other line, and reports all errors.

use std::str;

use serde::{
    Deserialize,
    de::{
        Deserializer, IntoDeserializer, Visitor,
        value::{BorrowedStrDeserializer, Error, MapDeserializer, U64Deserializer},
    },
    forward_to_deserialize_any,
};

/// Iterates over the fields of an object. Ends early at anything that is not flat JSON.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    /// The line from the delimiter before the next field on.
    rest: &'a str,
    /// The delimiter before the next field: `{` or `,`.
    delimiter: u8,
    /// Whether `rest` reaches to the end of the line.
    is_complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Count(u64),
}

impl<'a> Fields<'a> {
    pub(super) fn of(line: &'a [u8]) -> Self {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let is_special = |byte: &u8| matches!(byte, b'\\' | ..b' ');
        // Without an early exit, so that the compiler vectorises the loop.
        let flat = if line.iter().fold(false, |special, byte| special | is_special(byte)) {
            line.split(is_special).next().unwrap_or_default()
        } else {
            line
        };
        let text = str::from_utf8(flat)
            .or_else(|error| str::from_utf8(flat.get(..error.valid_up_to()).unwrap_or_default()));
        let rest = text.unwrap_or_default();
        Self { rest, delimiter: b'{', is_complete: rest.len() == line.len() }
    }

    /// Deserializes the remaining fields. Returns `None` if they are not flat JSON, or not those of
    /// `T`.
    pub(super) fn deserialize<T: Deserialize<'a>>(mut self) -> Option<T> {
        let value = T::deserialize(MapDeserializer::new(&mut self)).ok()?;
        (self.is_complete && self.rest == "}").then_some(value)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = text(after(self.rest, self.delimiter)?)?;
        let rest = after(rest, b':')?;
        let (value, rest) = match text(rest) {
            Some((text, rest)) => (Value::Text(text), rest),
            None => count(rest)?,
        };
        (self.rest, self.delimiter) = (rest, b',');
        Some((name, value))
    }
}

/// Strips a delimiter.
fn after(json: &str, delimiter: u8) -> Option<&str> {
    if json.as_bytes().first() == Some(&delimiter) { json.get(1..) } else { None }
}

/// Splits off a string.
fn text(json: &str) -> Option<(&str, &str)> {
    let json = after(json, b'"')?;
    let end = json.bytes().position(|byte| byte == b'"')?;
    Some((json.get(..end)?, json.get(end + 1..)?))
}

/// Splits off an unsigned integer.
fn count(json: &str) -> Option<(Value<'_>, &str)> {
    let (mut count, mut length) = (0_u64, 0);
    for byte in json.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        count = count.checked_mul(10)?.checked_add(u64::from(digit))?;
        length += 1;
    }
    // JSON has no leading zeros.
    if length == 0 || (length > 1 && json.starts_with('0')) {
        return None;
    }
    Some((Value::Count(count), json.get(length..)?))
}

impl<'de> IntoDeserializer<'de> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Text(text) => visitor.visit_borrowed_str(text),
            Self::Count(count) => visitor.visit_u64(count),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Self::Text(text) => {
                BorrowedStrDeserializer::new(text).deserialize_enum(name, variants, visitor)
            }
            Self::Count(count) => {
                U64Deserializer::new(count).deserialize_enum(name, variants, visitor)
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
