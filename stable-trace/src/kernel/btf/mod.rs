//! BTF, the running kernel's description of its types: offsets of members, values of enumerators,
//! names of parameters.
//!
//! With BTF the programs fit kernels that they were not built for. [`Btf`] borrows the bytes, and adds
//! 4 bytes a type and 8 a name; both can be dropped after the look-ups.

mod lookup;
mod raw;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use raw::{Kind, Type};

pub(crate) use lookup::Member;

/// The kernel's own BTF. The files of its modules are in the same folder.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why BTF cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BtfError {
    /// The file cannot be read.
    #[error(
        "cannot read {} (use a kernel with CONFIG_DEBUG_INFO_BTF, or give a file with --btf)",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The file does not begin with the magic of BTF.
    #[error(
        "this is not raw BTF; give a copy of {VMLINUX}, or extract it from an ELF file: objcopy \
         --dump-section .BTF=FILE vmlinux /dev/null"
    )]
    NotBtf,
    /// The file is of a machine of the other byte order.
    #[error("this BTF has the other byte order; give the BTF of this kernel")]
    ByteOrder,
    /// The file ends before its announced length.
    #[error("this BTF is truncated; copy the file again")]
    Truncated,
    /// The version is not supported.
    #[error("this BTF has version {0}, and only version 1 is supported; use a newer stable-trace")]
    Version(u8),
    /// A kind of type is not supported. Its length is not known, so nothing after it can be read.
    #[error(
        "type {id} of this BTF is of kind {number}, which is not supported; use a newer \
         stable-trace"
    )]
    Kind {
        /// ID of the type.
        id: u32,
        /// Number of the kind.
        number: u32,
    },
}

/// The types of the kernel, or of a module on top of the kernel's.
#[derive(Debug)]
pub(crate) struct Btf<'a> {
    base: Option<&'a Btf<'a>>,
    types: &'a [u8],
    strings: &'a [u8],
    /// The offset of each type in `types`.
    starts: Vec<u32>,
    /// The ID of the first type: 1, or for a module the ID after the kernel's last.
    first_id: u32,
    /// The offset of the first string: 0, or for a module the length of the kernel's strings.
    first_string: u32,
    /// Hashes of names with type IDs, sorted.
    names: Vec<(u32, u32)>,
}

/// Reads a whole BTF file: sysfs does not support mmap(2) of it before 6.16.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, BtfError> {
    std::fs::read(path).map_err(|source| BtfError::Read { path: path.to_owned(), source })
}

/// The BTF file of a module. Modules have them from 5.11 on.
pub(crate) fn module_path(module: &str) -> PathBuf {
    Path::new(VMLINUX).with_file_name(module)
}

/// BTF with nothing but functions, under the IDs that they have in the kernel's: a library that looks up IDs in BTF
/// then needs not parse the kernel's 100,000 types once more.
pub(crate) fn only_functions(ids: &BTreeMap<&str, u32>) -> Vec<u8> {
    raw::only_functions(ids)
}

impl<'a> Btf<'a> {
    /// Parses the BTF of a kernel.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        Self::parse_over(None, bytes)
    }

    /// Parses the BTF of a module, which continues the IDs and strings of the kernel's.
    pub(crate) fn parse_split(base: &'a Btf<'a>, bytes: &'a [u8]) -> Result<Self, BtfError> {
        Self::parse_over(Some(base), bytes)
    }

    fn parse_over(base: Option<&'a Btf<'a>>, bytes: &'a [u8]) -> Result<Self, BtfError> {
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
        // A type takes some 28 bytes. A smaller capacity would cost a copy, a larger one memory.
        let starts = Vec::with_capacity(types.len() / 28);
        let mut btf =
            Self { base, types, strings, starts, first_id, first_string, names: Vec::new() };
        btf.index()?;
        Ok(btf)
    }

    /// Records the offsets of all types, and the names of those that are looked up by name.
    fn index(&mut self) -> Result<(), BtfError> {
        let mut start = 0;
        let mut id = self.first_id;
        while start < self.types.len() {
            let (found, length) = Type::read(&self.types[start..], id)?;
            // `parse_over` checked: the section is shorter than 4 GiB.
            self.starts.push(u32::try_from(start).map_err(|_| BtfError::Truncated)?);
            if found.kind.is_indexed() {
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

    /// The number of types, without those of the kernel below a module.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Heap memory in bytes, without the borrowed bytes.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<u32>() + self.names.capacity() * size_of::<(u32, u32)>()
    }

    /// The type with this ID; `None` for `void` and unknown IDs.
    fn type_by_id(&self, id: u32) -> Option<Type<'a>> {
        let Some(index) = id.checked_sub(self.first_id) else {
            return self.base?.type_by_id(id);
        };
        let start = *self.starts.get(index as usize)? as usize;
        Type::read(self.types.get(start..)?, id).ok().map(|(found, _)| found)
    }

    /// The types with this name and a wanted kind, by ID, a module's before the kernel's.
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

    /// The string at an offset; empty if there is none.
    fn string(&self, offset: u32) -> &'a str {
        std::str::from_utf8(self.string_bytes(offset)).unwrap_or_default()
    }

    fn string_bytes(&self, offset: u32) -> &'a [u8] {
        let Some(start) = offset.checked_sub(self.first_string) else {
            return self.base.map_or(&[], |base| base.string_bytes(offset));
        };
        let rest = self.strings.get(start as usize..).unwrap_or_default();
        rest.iter().position(|byte| *byte == 0).map_or(&[], |end| &rest[..end])
    }
}

/// FNV-1a: fast for short names. The names are trusted, so collisions are chance.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests;
