//! The encoding of BTF: header and types.
//!
//! The layout is that of include/uapi/linux/btf.h, 6.12 (kinds up to `BTF_KIND_ENUM64`), and of
//! Documentation/bpf/btf.rst. Every read is checked, for any bytes.

use std::collections::BTreeMap;

use super::BtfError;

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;

/// Size of `struct btf_header` in bytes.
const HEADER_SIZE: u32 = 24;

/// Size of `struct btf_type` in bytes.
const TYPE_SIZE: usize = 12;

/// `BTF_KIND_FWD`, `BTF_KIND_FUNC` and `BTF_KIND_FUNC_PROTO` in the word `info`.
const FORWARD: u32 = 7 << 24;
const FUNCTION: u32 = 12 << 24;
const PROTOTYPE: u32 = 13 << 24;

/// `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Forward,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Function,
    Prototype,
    Variable,
    Section,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Int,
            2 => Self::Pointer,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Forward,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Function,
            13 => Self::Prototype,
            14 => Self::Variable,
            15 => Self::Section,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// The bytes after the `btf_type`: a fixed part, and a part for each element.
    const fn tail(self) -> (usize, usize) {
        match self {
            Self::Int | Self::Variable | Self::DeclTag => (4, 0),
            Self::Array => (12, 0),
            Self::Struct | Self::Union | Self::Section | Self::Enum64 => (0, 12),
            Self::Enum | Self::Prototype => (0, 8),
            Self::Pointer
            | Self::Forward
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Function
            | Self::Float
            | Self::TypeTag => (0, 0),
        }
    }

    /// Whether the type is another one with a qualifier or another name.
    pub(super) const fn is_modifier(self) -> bool {
        matches!(
            self,
            Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
        )
    }

    /// Whether types of this kind are looked up by name.
    pub(super) const fn is_indexed(self) -> bool {
        matches!(
            self,
            Self::Struct | Self::Union | Self::Enum | Self::Enum64 | Self::Function | Self::Typedef
        )
    }
}

/// One type, with undecoded elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type<'a> {
    pub(super) kind: Kind,
    /// Offset of the name in the strings; 0 without a name.
    pub(super) name: u32,
    /// `kind_flag`: bit fields in a struct, signed values in an enum.
    pub(super) flag: bool,
    /// The ID of the type that it refers to; without one, its size in bytes.
    pub(super) reference: u32,
    /// Members, values or parameters.
    pub(super) tail: &'a [u8],
}

impl<'a> Type<'a> {
    /// Decodes the type at the start of these bytes, and its length.
    pub(super) fn read(bytes: &'a [u8], id: u32) -> Result<(Self, usize), BtfError> {
        let [name, info, reference] = words(bytes).ok_or(BtfError::Truncated)?;
        let number = info >> 24 & 0x1f;
        let kind = Kind::from_number(number).ok_or(BtfError::Kind { id, number })?;
        let (fixed, each) = kind.tail();
        let end = TYPE_SIZE + fixed + each * (info & 0xffff) as usize;
        let tail = bytes.get(TYPE_SIZE..end).ok_or(BtfError::Truncated)?;
        Ok((Self { kind, name, flag: info >> 31 == 1, reference, tail }, end))
    }

    /// The elements of the tail, of `N` words each.
    pub(super) fn elements<const N: usize>(self) -> impl Iterator<Item = [u32; N]> + use<'a, N> {
        self.tail.chunks_exact(N * 4).filter_map(words)
    }
}

/// The first words of `bytes`, in native byte order.
pub(super) fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let mut words = [0; N];
    let mut chunks = bytes.chunks_exact(4);
    for word in &mut words {
        *word = u32::from_ne_bytes(chunks.next()?.try_into().ok()?);
    }
    Some(words)
}

/// The two sections of BTF: types and strings.
pub(super) fn sections(bytes: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    let magic = bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic));
    match magic {
        Some(MAGIC) => {}
        Some(other) if other == MAGIC.swap_bytes() => return Err(BtfError::ByteOrder),
        _ => return Err(BtfError::NotBtf),
    }
    match bytes.get(2) {
        Some(1) => {}
        Some(version) => return Err(BtfError::Version(*version)),
        None => return Err(BtfError::Truncated),
    }
    let [header, type_start, type_length, string_start, string_length] =
        bytes.get(4..).and_then(words).ok_or(BtfError::Truncated)?;
    let section = |start: u32, length: u32| {
        let start = (header as usize).checked_add(start as usize)?;
        bytes.get(start..start.checked_add(length as usize)?)
    };
    let types = section(type_start, type_length).ok_or(BtfError::Truncated)?;
    let strings = section(string_start, string_length).ok_or(BtfError::Truncated)?;
    Ok((types, strings))
}

/// BTF that has only these functions, by their IDs in other BTF: 12 bytes for each type up to the last of them. They
/// share one prototype, which tells nothing.
pub(super) fn only_functions(ids: &BTreeMap<&str, u32>) -> Vec<u8> {
    let last = ids.values().copied().max().unwrap_or_default();
    // Types that nothing names: forward declarations.
    let mut types = vec![[0, FORWARD, 0]; last as usize];
    let mut strings = vec![0];
    for (name, id) in ids {
        // ID 0 is `void`, which BTF does not contain.
        let Some(index) = id.checked_sub(1) else { continue };
        types[index as usize] = [word(strings.len()), FUNCTION, last.saturating_add(1)];
        strings.extend(name.bytes().chain([0]));
    }
    types.push([0, PROTOTYPE, 0]);
    let type_length = word(types.len() * TYPE_SIZE);
    let header = [HEADER_SIZE, 0, type_length, type_length, word(strings.len())];
    let mut bytes = [MAGIC.to_ne_bytes(), [1, 0]].concat();
    bytes.extend(header.into_iter().chain(types.into_iter().flatten()).flat_map(u32::to_ne_bytes));
    bytes.extend(strings);
    bytes
}

/// A length; too long ones are refused by who reads it.
fn word(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
