//! The running kernel's own description of its types: BTF.
//!
//! Where a member lies, what an enum's value is, which parameter is called `folio`: no kernel has
//! to be the one that we were built for. The bytes are borrowed and can be dropped when everything
//! has been looked up; what is built over them is 4 bytes a type and 8 a name.

mod lookup;
mod raw;

use std::{
    io,
    path::{Path, PathBuf},
};

use raw::{Kind, Type};

pub use lookup::{Bits, Function, Member, Parameter};

/// Where the kernel keeps its own, and next to it those of its modules.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// What is wrong with BTF.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error(
        "cannot read {}: {source}; the kernel needs CONFIG_DEBUG_INFO_BTF, or give a file with \
         --btf",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It begins with other bytes.
    #[error(
        "this is not raw BTF; give a copy of {VMLINUX}, or out of an ELF file: objcopy \
         --dump-section .BTF=FILE vmlinux /dev/null"
    )]
    NotBtf,
    /// It was made for a machine of the other byte order.
    #[error("this BTF is of a machine of the other byte order; give the one of this kernel")]
    ByteOrder,
    /// It ends before what it announces.
    #[error("this BTF ends too early; is the file whole?")]
    Truncated,
    /// It has another version.
    #[error("this BTF has version {0}, and version 1 is understood; stable-trace is too old")]
    Version(u8),
    /// It has a kind of type whose length is not known, so nothing after it can be read.
    #[error(
        "type {id} of this BTF is of kind {number}, which is not known; stable-trace is too old"
    )]
    Kind {
        /// The type.
        id: u32,
        /// Its kind.
        number: u32,
    },
}

/// The types of the kernel, or of a module over those of the kernel.
#[derive(Debug)]
pub struct Btf<'a> {
    base: Option<&'a Btf<'a>>,
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`.
    starts: Vec<u32>,
    /// The number of the first of them: 1, or for a module the one after the kernel's last.
    first_id: u32,
    /// Where our strings begin in the numbering: 0, or for a module after the kernel's.
    first_string: u32,
    /// Hash of a name and type of that name, sorted.
    names: Vec<(u32, u32)>,
}

/// Reads a BTF file as a whole: sysfs does not let it be mapped before 6.16.
///
/// # Errors
/// [`BtfError::Read`] if it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, BtfError> {
    std::fs::read(path).map_err(|source| BtfError::Read { path: path.to_owned(), source })
}

/// The file of a module's own types. Those of modules exist from 5.11 on.
#[must_use]
pub fn module_path(module: &str) -> PathBuf {
    Path::new(VMLINUX).with_file_name(module)
}

impl<'a> Btf<'a> {
    /// Understands BTF that stands by itself, as the kernel's does.
    ///
    /// # Errors
    /// [`BtfError`] if the bytes are not BTF, or not whole, or of a newer form.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        Self::over(None, bytes)
    }

    /// Understands BTF that goes on where another ends, as a module's does.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse_split(base: &'a Btf<'a>, bytes: &'a [u8]) -> Result<Self, BtfError> {
        Self::over(Some(base), bytes)
    }

    fn over(base: Option<&'a Btf<'a>>, bytes: &'a [u8]) -> Result<Self, BtfError> {
        let (types, strings) = raw::sections(bytes)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| BtfError::Truncated);
        let (first_id, first_string) = match base {
            None => (1, 0),
            Some(base) => (
                base.first_id.saturating_add(u32::try_from(base.starts.len()).unwrap_or(u32::MAX)),
                base.first_string.saturating_add(length(base.strings)?),
            ),
        };
        length(types)?;
        // A type takes some 28 bytes; too small a guess costs a copy, too large a one memory.
        let starts = Vec::with_capacity(types.len() / 28);
        let mut btf =
            Self { base, types, strings, starts, first_id, first_string, names: Vec::new() };
        btf.index()?;
        Ok(btf)
    }

    /// Finds where the types begin, and files those that have a name.
    fn index(&mut self) -> Result<(), BtfError> {
        let mut start = 0;
        let mut id = self.first_id;
        while start < self.types.len() {
            let (found, length) = Type::read(&self.types[start..], id)?;
            // Checked above: the section is shorter than 4 GiB.
            self.starts.push(u32::try_from(start).map_err(|_| BtfError::Truncated)?);
            if found.kind.is_sought() {
                let name = self.string_bytes(found.name);
                if !name.is_empty() {
                    self.names.push((hash(name), id));
                }
            }
            start += length;
            id = id.saturating_add(1);
        }
        self.names.shrink_to_fit();
        self.names.sort_unstable();
        Ok(())
    }

    /// How many types it has, those below it not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes that it holds on the heap beside the borrowed ones.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<u32>() + self.names.capacity() * size_of::<(u32, u32)>()
    }

    /// A type by its number; none for `void` and for numbers that no type has.
    fn type_by_id(&self, id: u32) -> Option<Type<'a>> {
        let Some(place) = id.checked_sub(self.first_id) else {
            return self.base?.type_by_id(id);
        };
        let start = *self.starts.get(place as usize)? as usize;
        Type::read(self.types.get(start..)?, id).ok().map(|(found, _)| found)
    }

    /// The types of a name and of a kind that is asked for, by number, ours before the kernel's.
    fn named<'b>(
        &'b self,
        name: &'b str,
        wanted: fn(Kind) -> bool,
    ) -> Box<dyn Iterator<Item = (u32, Type<'a>)> + 'b> {
        let wanted_hash = hash(name.as_bytes());
        let first = self.names.partition_point(|(hash, _)| *hash < wanted_hash);
        let ours = self.names[first..]
            .iter()
            .take_while(move |(hash, _)| *hash == wanted_hash)
            .filter_map(|(_, id)| Some((*id, self.type_by_id(*id)?)))
            .filter(move |(_, found)| wanted(found.kind))
            .filter(move |(_, found)| self.string_bytes(found.name) == name.as_bytes());
        match self.base {
            None => Box::new(ours),
            Some(base) => Box::new(ours.chain(base.named(name, wanted))),
        }
    }

    /// A string by its place, as text; empty if it is not there.
    fn string(&self, place: u32) -> &'a str {
        std::str::from_utf8(self.string_bytes(place)).unwrap_or_default()
    }

    fn string_bytes(&self, place: u32) -> &'a [u8] {
        let Some(start) = place.checked_sub(self.first_string) else {
            return self.base.map_or(&[], |base| base.string_bytes(place));
        };
        let rest = self.strings.get(start as usize..).unwrap_or_default();
        rest.iter().position(|byte| *byte == 0).map_or(&[], |end| &rest[..end])
    }
}

/// FNV-1a: short names, no state, and nobody here makes collisions on purpose.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests;
