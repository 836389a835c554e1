//! A flat JSON object in its plainest form: one line, no spaces, nothing escaped, and nothing but
//! strings and counts in it.
//!
//! Nearly every line of a recording is one, and reading it takes half of the instructions that
//! `serde_json` needs, which looks for so much more. Whatever is not as plain as this is left to it,
//! and so is the word on what is wrong.

use std::str;

use serde::{
    Deserialize,
    de::{
        Deserializer, IntoDeserializer, Visitor,
        value::{BorrowedStrDeserializer, Error, MapDeserializer, U64Deserializer},
    },
    forward_to_deserialize_any,
};

/// The fields of an object, one by one. They end early where something is not plain.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// From the mark before the next field on.
    rest: &'a str,
    /// What stands before the next field.
    mark: u8,
    /// Whether the line has nothing after `rest`, so that its end can be told from a cut.
    is_whole: bool,
}

/// What a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Text(&'a str),
    Count(u64),
}

impl<'a> Fields<'a> {
    /// The fields of a line.
    pub fn of(line: &'a [u8]) -> Self {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let is_odd = |byte: &u8| matches!(byte, b'\\' | ..b' ');
        // All of it at once: a loop without a way out takes many bytes at a time.
        let plain = if line.iter().fold(false, |odd, byte| odd | is_odd(byte)) {
            line.split(is_odd).next().unwrap_or_default()
        } else {
            line
        };
        let text = str::from_utf8(plain)
            .or_else(|error| str::from_utf8(plain.get(..error.valid_up_to()).unwrap_or_default()));
        let rest = text.unwrap_or_default();
        Self { rest, mark: b'{', is_whole: rest.len() == line.len() }
    }

    /// Makes of the fields that are left what they belong to; nothing if that is not plain, or they
    /// are not its fields.
    pub fn read<T: Deserialize<'a>>(mut self) -> Option<T> {
        let read = T::deserialize(MapDeserializer::new(&mut self)).ok()?;
        (self.is_whole && self.rest == "}").then_some(read)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = text(after(self.rest, self.mark)?)?;
        let rest = after(rest, b':')?;
        let (value, rest) = match text(rest) {
            Some((text, rest)) => (Value::Text(text), rest),
            None => count(rest)?,
        };
        (self.rest, self.mark) = (rest, b',');
        Some((name, value))
    }
}

/// What follows a mark.
fn after(json: &str, mark: u8) -> Option<&str> {
    if json.as_bytes().first() == Some(&mark) { json.get(1..) } else { None }
}

/// A string, and what follows it.
fn text(json: &str) -> Option<(&str, &str)> {
    let json = after(json, b'"')?;
    let end = json.bytes().position(|byte| byte == b'"')?;
    Some((json.get(..end)?, json.get(end + 1..)?))
}

/// A count, and what follows it.
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
