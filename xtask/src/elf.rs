//! The little of an ELF file that tells a static binary from a dynamic one.

use anyhow::{Context as _, Result, bail};

/// Type of the program header that names a dynamic loader (`PT_INTERP`).
const INTERPRETER: u32 = 3;

/// Whether a 64-bit little-endian ELF binary runs without a dynamic loader.
///
/// # Errors
/// If it is no such binary, or is cut short.
pub fn is_static(image: &[u8]) -> Result<bool> {
    // The magic number, then class 2 (64 bits) and data 1 (little-endian).
    if !image.starts_with(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file");
    }
    let table = usize::try_from(u64::from_le_bytes(field(image, 32)?))?;
    let size = usize::from(u16::from_le_bytes(field(image, 54)?));
    let count = usize::from(u16::from_le_bytes(field(image, 56)?));
    for index in 0..count {
        let header = table.checked_add(index * size).context("program headers beyond the file")?;
        if u32::from_le_bytes(field(image, header)?) == INTERPRETER {
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

    /// An ELF header and program headers of these types.
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
    fn a_loader_makes_it_dynamic() {
        assert!(is_static(&image(&[6, 1, 1])).unwrap());
        assert!(!is_static(&image(&[6, 3, 1])).unwrap());
    }

    #[test]
    fn what_is_no_elf_or_cut_short_is_refused() {
        assert!(is_static(b"#!/bin/sh").is_err());
        assert!(is_static(&image(&[1, 1])[..100]).is_err());
        assert!(is_static(&image(&[1])[..40]).is_err());
    }
}
