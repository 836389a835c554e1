//! Tells a static ELF binary from a dynamic one.

use anyhow::{Context as _, Result};
use object::LittleEndian;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// Whether a 64-bit little-endian ELF binary runs without a dynamic loader.
pub(crate) fn is_static(image: &[u8]) -> Result<bool> {
    let headers = FileHeader64::parse(image)
        .and_then(|header| header.program_headers(LittleEndian, image))
        .context("not a complete 64-bit little-endian ELF file")?;
    Ok(headers.iter().all(|header| header.p_type(LittleEndian) != PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header with program headers of these types.
    fn image(types: &[u32]) -> Vec<u8> {
        let mut image = vec![0; 64];
        image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
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
