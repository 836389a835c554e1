//! Device numbers.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text_form;

/// The number (`dev_t`) of a disk, of a partition, or of a file system without a disk.
///
/// Its text form is `major:minor`, in serde and in [`fmt::Display`], as in sysfs and `mountinfo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Number of the driver.
    pub major: u32,
    /// Number of the device within the driver.
    pub minor: u32,
}

impl DeviceId {
    /// The device with these numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.major, self.minor)
    }
}

/// Why a text is not a [`DeviceId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a device number: write `major:minor`, such as 8:0")]
pub struct DeviceIdError;

impl From<ParseIntError> for DeviceIdError {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl FromStr for DeviceId {
    type Err = DeviceIdError;

    fn from_str(text: &str) -> Result<Self, DeviceIdError> {
        let (major, minor) = text.split_once(':').ok_or(DeviceIdError)?;
        // `u32` accepts a plus sign, but a device number has none.
        if major.starts_with('+') || minor.starts_with('+') {
            return Err(DeviceIdError);
        }
        Ok(Self { major: major.parse()?, minor: minor.parse()? })
    }
}

impl Serialize for DeviceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_form::deserialize(deserializer, "a device number as `major:minor`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_major_and_minor() {
        let id = DeviceId::new(8, 17);
        assert_eq!(id.to_string(), "8:17");
        assert_eq!("8:17".parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"8:17\"");
        assert_eq!(serde_json::from_str::<DeviceId>("\"8:17\"").unwrap(), id);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "8", "8:", ":1", "a:b", "-1:2", "+1:2", "1:2:3", " 1:2", "1:4294967296"] {
            assert_eq!(text.parse::<DeviceId>(), Err(DeviceIdError), "{text:?}");
        }
    }
}
