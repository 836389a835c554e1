//! A setting of the kernel for as long as a test needs it.

use std::fs;

use anyhow::{Context as _, Result};

/// A file in `/proc/sys` or `/sys` with another value, until this is dropped.
#[derive(Debug)]
pub(crate) struct KernelFile {
    path: &'static str,
    before: String,
}

impl KernelFile {
    pub(crate) fn set(path: &'static str, value: &str) -> Result<Self> {
        let before = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        fs::write(path, value).with_context(|| format!("cannot write {value} to {path}"))?;
        Ok(Self { path, before: before.trim().to_owned() })
    }
}

impl Drop for KernelFile {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.before) {
            eprintln!("cannot write {} to {}: {error}", self.before, self.path);
        }
    }
}
