//! Look-ups in BTF: members, enumerators, functions.

use super::{Btf, Kind, Type, raw};

/// The most modifiers, pointers and arrays of one type that are followed. A kernel has a dozen.
const MAX_DEPTH: u32 = 32;

/// The most members that one look-up visits. The largest struct of a kernel has some hundreds;
/// nested anonymous structs must not make a look-up endless.
const MAX_VISITS: u32 = 1 << 16;

/// A member of a struct or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outermost struct; for a bit field, to the byte of its first bit.
    pub offset: u32,
    /// Size in bytes; for a bit field, of the bytes that contain it.
    pub size: u32,
    /// The bits of a bit field.
    pub bits: Option<Bits>,
    /// The type in C notation.
    pub type_name: String,
}

/// The bits of a bit field. On a little-endian machine they count from the lowest bit of the first
/// byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// The lowest bit.
    pub shift: u32,
    /// The number of bits.
    pub width: u32,
}

/// A function's prototype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The type's ID, for `attach_btf_id`.
    pub id: u32,
    /// The parameters in order.
    pub parameters: Vec<Parameter>,
    /// The return type in C notation.
    pub returns: String,
}

/// A function's parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name in the kernel's source.
    pub name: String,
    /// The type in C notation.
    pub type_name: String,
}

impl Function {
    /// The index of the first parameter with one of these names. Names (`page`, `folio`) and indexes
    /// differ between kernels.
    pub fn parameter_index(&self, names: &[&str]) -> Option<usize> {
        self.parameters.iter().position(|parameter| names.contains(&parameter.name.as_str()))
    }
}

impl<'a> Btf<'a> {
    /// Finds a member. `structure` names a struct, union or typedef. `path` names members, separated
    /// by dots (`bi_iter.bi_sector`); anonymous members are not named. A path does not go through
    /// pointers.
    pub fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let container = |kind| matches!(kind, Kind::Struct | Kind::Union | Kind::Typedef);
        // Several structs may have one name: the first with such a member counts.
        self.named(structure, container).find_map(|(id, _)| self.member_of(id, path))
    }

    fn member_of(&self, id: u32, path: &str) -> Option<Member> {
        let mut holder = self.resolve(id)?;
        let mut start: u64 = 0;
        let mut visits_left = MAX_VISITS;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let found = self.direct(holder, name, MAX_DEPTH, &mut visits_left)?;
            start = start.checked_add(found.start)?;
            if names.peek().is_none() {
                return self.layout(&found, start);
            }
            holder = self.resolve(found.type_id)?;
        }
        None
    }

    /// A member with this name in a struct, or in anonymous members of the struct.
    fn direct(
        &self,
        holder: Type<'a>,
        name: &str,
        depth: u32,
        visits_left: &mut u32,
    ) -> Option<Found> {
        if !matches!(holder.kind, Kind::Struct | Kind::Union) {
            return None;
        }
        let depth = depth.checked_sub(1)?;
        for [member, type_id, offset] in holder.elements() {
            *visits_left = visits_left.checked_sub(1)?;
            // With the flag, the upper 8 bits are the width of a bit field, 0 if it is none.
            let (start, width) =
                if holder.flag { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            let text = self.string_bytes(member);
            if text == name.as_bytes() {
                return (!name.is_empty()).then_some(Found { start: start.into(), width, type_id });
            }
            if text.is_empty()
                && let Some(inner) = self.resolve(type_id)
                && let Some(found) = self.direct(inner, name, depth, visits_left)
            {
                return Some(Found { start: found.start + u64::from(start), ..found });
            }
        }
        None
    }

    /// Converts bits to bytes.
    fn layout(&self, found: &Found, start: u64) -> Option<Member> {
        let type_name = self.type_name(found.type_id);
        let size = self.size_by_id(found.type_id, MAX_DEPTH)?;
        let width = match found.width {
            0 => self.old_bit_field(found.type_id),
            width => Some(width),
        };
        let offset = u32::try_from(start / 8).ok()?;
        let shift = u32::try_from(start % 8).ok()?;
        Some(match width {
            Some(width) => Member {
                offset,
                size: (shift + width).div_ceil(8),
                bits: Some(Bits { shift, width }),
                type_name,
            },
            None => Member { offset, size, bits: None, type_name },
        })
    }

    /// The width of a bit field in BTF without `kind_flag`: an integer of fewer bits than its bytes
    /// have.
    fn old_bit_field(&self, id: u32) -> Option<u32> {
        let found = self.resolve(id).filter(|found| found.kind == Kind::Int)?;
        let [encoding] = raw::words(found.tail)?;
        let bits = encoding & 0xff;
        (bits != 0 && u64::from(bits) != u64::from(found.reference) * 8).then_some(bits)
    }

    /// The size of a struct, union, enum or typedef in bytes.
    pub fn size_of(&self, name: &str) -> Option<u32> {
        let sized = |kind| kind != Kind::Function;
        self.named(name, sized).find_map(|(id, _)| self.size_by_id(id, MAX_DEPTH))
    }

    fn size_by_id(&self, id: u32, depth: u32) -> Option<u32> {
        let depth = depth.checked_sub(1)?;
        let found = self.resolve(id)?;
        match found.kind {
            Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float => {
                Some(found.reference)
            }
            // The BTF describes the kernel of this machine.
            Kind::Pointer => u32::try_from(size_of::<usize>()).ok(),
            Kind::Array => {
                let [element, _, count] = raw::words(found.tail)?;
                self.size_by_id(element, depth)?.checked_mul(count)
            }
            _ => None,
        }
    }

    /// The value of an enumerator of the enum with this name, or of any enum. An unsigned value past
    /// `i64::MAX` wraps.
    pub fn enum_value(&self, enumeration: Option<&str>, name: &str) -> Option<i64> {
        let is_enum = |kind| matches!(kind, Kind::Enum | Kind::Enum64);
        if let Some(enumeration) = enumeration {
            return self
                .named(enumeration, is_enum)
                .find_map(|(_, found)| self.value(found, name.as_bytes()));
        }
        let ours = self.starts.iter().filter_map(|start| {
            let (found, _) = Type::read(self.types.get(*start as usize..)?, 0).ok()?;
            is_enum(found.kind).then_some(found)
        });
        ours.into_iter()
            .find_map(|found| self.value(found, name.as_bytes()))
            .or_else(|| self.base?.enum_value(None, name))
    }

    fn value(&self, found: Type<'a>, name: &[u8]) -> Option<i64> {
        if found.kind == Kind::Enum64 {
            return found.elements().find_map(|[text, low, high]| {
                let value = u64::from(high) << 32 | u64::from(low);
                (self.string_bytes(text) == name).then_some(value.cast_signed())
            });
        }
        found.elements().find_map(|[text, value]| {
            let value = if found.flag { value.cast_signed().into() } else { value.into() };
            (self.string_bytes(text) == name).then_some(value)
        })
    }

    pub fn function(&self, name: &str) -> Option<Function> {
        self.named(name, |kind| kind == Kind::Function).find_map(|(id, found)| {
            let prototype = self.type_by_id(found.reference)?;
            if prototype.kind != Kind::Prototype {
                return None;
            }
            let parameters = prototype.elements().map(|[name, type_id]| Parameter {
                name: self.string(name).to_owned(),
                type_name: self.type_name(type_id),
            });
            Some(Function {
                id,
                parameters: parameters.collect(),
                returns: self.type_name(prototype.reference),
            })
        })
    }

    /// The index of a function's first parameter with one of these names.
    pub fn param_index(&self, function: &str, names: &[&str]) -> Option<usize> {
        self.function(function)?.parameter_index(names)
    }

    /// A type without modifiers; `None` for `void` and for an endless chain.
    fn resolve(&self, mut id: u32) -> Option<Type<'a>> {
        for _ in 0..MAX_DEPTH {
            let found = self.type_by_id(id)?;
            if !found.kind.is_modifier() {
                return Some(found);
            }
            id = found.reference;
        }
        None
    }

    /// A type in C notation, on one line: `const struct folio *`, `char[16]`, `int (*)(…)`.
    fn type_name(&self, id: u32) -> String {
        self.render(id, MAX_DEPTH).unwrap_or_else(|| "?".to_owned())
    }

    fn render(&self, id: u32, depth: u32) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        if id == 0 {
            return Some("void".to_owned());
        }
        let found = self.type_by_id(id)?;
        let name = match self.string(found.name) {
            "" => "(anonymous)",
            name => name,
        };
        let inner = || self.render(found.reference, depth);
        Some(match found.kind {
            Kind::Union => format!("union {name}"),
            Kind::Enum | Kind::Enum64 => format!("enum {name}"),
            Kind::Forward if found.flag => format!("union {name}"),
            Kind::Struct | Kind::Forward => format!("struct {name}"),
            Kind::Const => qualified("const", &inner()?),
            Kind::Volatile => qualified("volatile", &inner()?),
            Kind::Restrict => qualified("restrict", &inner()?),
            Kind::TypeTag => inner()?,
            Kind::Pointer => pointer(&inner()?),
            Kind::Array => {
                let [element, _, count] = raw::words(found.tail)?;
                format!("{}[{count}]", self.render(element, depth)?)
            }
            Kind::Prototype => format!("{} (…)", inner()?),
            Kind::Int
            | Kind::Float
            | Kind::Typedef
            | Kind::Function
            | Kind::Variable
            | Kind::Section
            | Kind::DeclTag => name.to_owned(),
        })
    }
}

/// Puts a qualifier before a type, or after the star of a pointer.
fn qualified(qualifier: &str, inner: &str) -> String {
    if inner.ends_with('*') {
        format!("{inner}{qualifier}")
    } else {
        format!("{qualifier} {inner}")
    }
}

fn pointer(inner: &str) -> String {
    match inner.strip_suffix("(…)") {
        Some(returns) => format!("{returns}(*)(…)"),
        None if inner.ends_with('*') => format!("{inner}*"),
        None => format!("{inner} *"),
    }
}

/// A member as BTF encodes it, in bits.
struct Found {
    start: u64,
    width: u32,
    type_id: u32,
}
