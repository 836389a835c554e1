//! Access to JSON values that treats a missing or mistyped value as empty.

use serde_json::Value;

/// The elements of an array; empty for any other value.
#[must_use]
pub fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The text of a string; empty for any other value.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
