//! Tells a static ELF binary from a dynamic one.

use anyhow::{Context as _, Result, bail};

/// Type of the program header that names the dynamic loader.
const PT_INTERP: u32 = 3;

/// Whether a 64-bit little-endian ELF binary runs without a dynamic loader.
pub(crate) fn is_static(image: &[u8]) -> Result<bool> {
    // The magic number, then class 2 (64 bits) and data 1 (little-endian).
    if !image.starts_with(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file");
    }
    let table = usize::try_from(u64::from_le_bytes(field(image, 32)?))?;
    let size = usize::from(u16::from_le_bytes(field(image, 54)?));
    let count = usize::from(u16::from_le_bytes(field(image, 56)?));
    for index in 0..count {
        let header = table
            .checked_add(index * size)
            .context("a program header lies beyond the end of the file")?;
        if u32::from_le_bytes(field(image, header)?) == PT_INTERP {
            return Ok(false);
        }
    }
    Ok(true)
}

fn field<const N: usize>(image: &[u8], offset: usize) -> Result<[u8; N]> {
    let bytes = image.get(offset..).and_then(|rest| rest.first_chunk());
    bytes.copied().with_context(|| format!("the ELF file ends before offset {offset}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header with program headers of these types.
    fn image(types: &[u32]) -> Vec<u8> {
        let mut image = vec![0; 64];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        image[32] = 64;
        image[54] = 56;
        image[56] = u8::try_from(types.len()).unwrap();
        for kind in types {
            image.extend(kind.to_le_bytes());
            image.extend([0; 52]);
        }
        image
    }

    #[test]
    fn a_binary_with_an_interpreter_is_dynamic() {
        assert!(is_static(&image(&[6, 1, 1])).unwrap());
        assert!(!is_static(&image(&[6, 3, 1])).unwrap());
    }

    #[test]
    fn other_files_and_truncated_files_are_errors() {
        assert!(is_static(b"#!/bin/sh").is_err());
        assert!(is_static(&image(&[1, 1])[..100]).is_err());
        assert!(is_static(&image(&[1])[..40]).is_err());
    }
}
