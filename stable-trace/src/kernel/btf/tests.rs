//! With encoded test types, and compared with bpftool on the running kernel.

use std::{collections::HashSet, process::Command};

use proptest::prelude::*;

use super::{lookup::Bits, *};

/// Encodes BTF.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Length of the strings of the base.
    after: u32,
}

impl Writer {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn over(base: &Self) -> Self {
        Self { after: u32::try_from(base.strings.len()).unwrap(), ..Self::default() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = self.after + u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.bytes().chain([0]));
        offset
    }

    fn add(&mut self, kind: u32, flag: bool, name: &str, word: u32, count: u32, tail: &[u32]) {
        let name = self.name(name);
        let info = u32::from(flag) << 31 | kind << 24 | count;
        for word in [name, info, word].iter().chain(tail) {
            self.types.extend(word.to_ne_bytes());
        }
    }

    fn members(
        &mut self,
        kind: u32,
        flag: bool,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) {
        let tail: Vec<_> =
            members.iter().flat_map(|(member, id, bits)| [self.name(member), *id, *bits]).collect();
        let count = u32::try_from(members.len()).unwrap();
        self.add(kind, flag, name, size, count, &tail);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let types = u32::try_from(self.types.len()).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        for word in [24, 0, types, types, strings] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        [bytes, self.types.clone(), self.strings.clone()].concat()
    }
}

fn kernel() -> Writer {
    let mut kernel = Writer::new();
    kernel.add(1, false, "unsigned int", 4, 0, &[32]); // 1
    kernel.add(1, false, "char", 1, 0, &[8]); // 2
    kernel.add(3, false, "", 0, 0, &[2, 1, 16]); // 3: char[16]
    kernel.add(2, false, "", 7, 0, &[]); // 4: struct page *
    kernel.members(4, false, "", 8, &[("first", 1, 0), ("second", 1, 32)]); // 5: anonymous
    kernel.members(5, false, "", 8, &[("", 5, 0), ("whole", 1, 0)]); // 6: anonymous union
    kernel.members(
        4,
        true,
        "page",
        40,
        &[
            ("flags", 1, 0),
            ("", 6, 64),
            ("low", 1, 3 << 24 | 0x80),
            ("high", 1, 7 << 24 | 0x83),
            ("comm", 3, 160),
            ("lru", 8, 288),
        ],
    ); // 7
    kernel.add(8, false, "list_t", 9, 0, &[]); // 8: typedef of const of 5
    kernel.add(10, false, "", 5, 0, &[]); // 9
    let [locked, writeback] = ["PG_locked", "PG_writeback"].map(|name| kernel.name(name));
    kernel.add(6, false, "pageflags", 4, 2, &[locked, 0, writeback, 0xffff_ffff]); // 10
    let negative = kernel.name("NEGATIVE");
    kernel.add(6, true, "", 4, 1, &[negative, 0xffff_ffff]); // 11
    let wide = kernel.name("WIDE");
    kernel.add(19, false, "wide", 8, 1, &[wide, 5, 1]); // 12
    let [size, page] = ["size", "page"].map(|name| kernel.name(name));
    kernel.add(13, false, "", 1, 2, &[size, 1, page, 4]); // 13
    kernel.add(12, false, "write_end", 13, 0, &[]); // 14
    kernel.add(8, false, "endless", 15, 0, &[]); // 15
    kernel
}

/// The index of a function's first parameter with one of these names.
fn parameter_index(btf: &Btf<'_>, function: &str, names: &[&str]) -> Option<usize> {
    let parameters = btf.function(function)?.parameters;
    parameters.iter().position(|parameter| names.contains(&parameter.name.as_str()))
}

fn at(btf: &Btf<'_>, path: &str) -> Option<(u32, u32)> {
    btf.member("page", path).map(|member| (member.offset, member.size))
}

#[test]
fn members_of_anonymous_members_are_found() {
    let bytes = kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.len(), 15);
    assert_eq!(at(&btf, "flags"), Some((0, 4)));
    assert_eq!(at(&btf, "second"), Some((12, 4)));
    assert_eq!(at(&btf, "whole"), Some((8, 4)));
    assert_eq!(at(&btf, "comm"), Some((20, 16)));
    assert_eq!(at(&btf, "lru.second"), Some((40, 4)), "through a typedef and a const");
    assert_eq!(btf.member("list_t", "second").unwrap().offset, 4);
    for path in ["", ".", "none", "flags.none", "flags.", "lru..first", "comm.first"] {
        assert_eq!(at(&btf, path), None, "{path}");
    }
    assert_eq!(btf.member("none", "flags"), None);
    assert_eq!(btf.member("endless", "flags"), None);
    assert_eq!((btf.size_of("page"), btf.size_of("list_t")), (Some(40), Some(8)));
    assert_eq!((btf.size_of("endless"), btf.size_of("write_end")), (None, None));
}

#[test]
fn bit_fields_have_shift_and_width() {
    let bytes = kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    let low = btf.member("page", "low").unwrap();
    assert_eq!((low.offset, low.size, low.bits), (16, 1, Some(Bits { shift: 0, width: 3 })));
    let high = btf.member("page", "high").unwrap();
    assert_eq!((high.offset, high.size, high.bits), (16, 2, Some(Bits { shift: 3, width: 7 })));
}

#[test]
fn enumerators_are_found_with_and_without_their_enum() {
    let bytes = kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.enum_value(Some("pageflags"), "PG_writeback"), Some(0xffff_ffff));
    assert_eq!(btf.enum_value(None, "PG_locked"), Some(0));
    assert_eq!(btf.enum_value(None, "NEGATIVE"), Some(-1));
    assert_eq!(btf.enum_value(None, "WIDE"), Some(1 << 32 | 5));
    assert_eq!(btf.enum_value(Some("wide"), "PG_locked"), None);
    assert_eq!(btf.enum_value(None, "PG_none"), None);
}

#[test]
fn parameters_are_found_by_name() {
    let bytes = kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    let function = btf.function("write_end").unwrap();
    assert_eq!((function.id, function.returns.as_str()), (14, "unsigned int"));
    assert_eq!(function.parameters[1].type_name, "struct page *");
    assert_eq!(parameter_index(&btf, "write_end", &["folio", "page"]), Some(1));
    assert_eq!(parameter_index(&btf, "write_end", &["folio"]), None);
    assert_eq!(btf.function("page"), None, "a struct");
}

#[test]
fn a_module_continues_the_types_of_the_kernel() {
    let kernel = kernel();
    let mut module = Writer::over(&kernel);
    module.members(4, false, "scsi_cmnd", 48, &[("page", 7, 0), ("retries", 1, 320)]); // 16
    module.add(2, false, "", 16, 0, &[]); // 17
    let command = module.name("command");
    module.add(13, false, "", 0, 1, &[command, 17]); // 18
    module.add(12, false, "scsi_done", 18, 0, &[]); // 19
    let (kernel, module) = (kernel.bytes(), module.bytes());
    let kernel = Btf::parse(&kernel).unwrap();
    let module = Btf::parse_split(&kernel, &module).unwrap();
    assert_eq!(module.len(), 4);
    assert_eq!(module.member("scsi_cmnd", "retries").unwrap().offset, 40);
    assert_eq!(module.member("scsi_cmnd", "page.lru.second").unwrap().offset, 40);
    assert_eq!(module.member("page", "flags").unwrap().offset, 0, "from the kernel below");
    assert_eq!(module.enum_value(None, "PG_locked"), Some(0));
    let done = module.function("scsi_done").unwrap();
    assert_eq!((done.id, done.returns.as_str()), (19, "void"));
    assert_eq!(done.parameters[0].type_name, "struct scsi_cmnd *");
    assert_eq!(kernel.function("scsi_done"), None);
}

#[test]
fn other_bytes_are_refused() {
    let bytes = kernel().bytes();
    let refused = |bytes: &[u8]| Btf::parse(bytes).unwrap_err();
    assert!(matches!(refused(b""), BtfError::NotBtf));
    assert!(matches!(refused(b"\x7fELF"), BtfError::NotBtf));
    assert!(matches!(refused(&bytes[..20]), BtfError::Truncated));
    assert!(matches!(refused(&bytes[..bytes.len() - 1]), BtfError::Truncated));
    let mut other = bytes.clone();
    other.swap(0, 1);
    assert!(matches!(refused(&other), BtfError::ByteOrder));
    other = bytes.clone();
    other[2] = 2;
    assert!(matches!(refused(&other), BtfError::Version(2)));
    let mut newer = Writer::new();
    newer.add(20, false, "", 0, 0, &[]);
    assert!(matches!(refused(&newer.bytes()), BtfError::Kind { id: 1, number: 20 }));
}

/// Runs every kind of look-up.
fn look_up_everything(btf: &Btf<'_>) {
    for name in ["page", "list_t", "pageflags", "write_end", "endless", "unsigned int", ""] {
        for path in ["flags", "second", "lru.second", "none", ""] {
            let _ = btf.member(name, path);
        }
        let _ = (btf.size_of(name), btf.function(name), btf.enum_value(Some(name), "PG_locked"));
    }
    let _ = btf.enum_value(None, "WIDE");
}

proptest! {
    #[test]
    fn parsing_accepts_any_bytes(bytes: Vec<u8>) {
        let _ = Btf::parse(&bytes);
    }

    #[test]
    fn parsing_accepts_damaged_btf(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut bytes = kernel().bytes();
        for (place, byte) in damage {
            let place = 24 + place.index(bytes.len() - 24);
            bytes[place] = byte;
        }
        if let Ok(btf) = Btf::parse(&bytes) {
            look_up_everything(&btf);
            let module = kernel().bytes();
            if let Ok(split) = Btf::parse_split(&btf, &module) {
                look_up_everything(&split);
            }
        }
    }
}

/// Each anonymous struct contains the next one twice: a failing look-up must still end.
#[test]
fn a_look_up_in_nested_anonymous_structs_ends() {
    let mut maze = Writer::new();
    maze.members(4, false, "", 4, &[]);
    for id in 2..31 {
        let name = if id == 30 { "maze" } else { "" };
        maze.members(4, false, name, 4, &[("", id - 1, 0), ("", id - 1, 0)]);
    }
    let bytes = maze.bytes();
    assert_eq!(Btf::parse(&bytes).unwrap().member("maze", "exit"), None);
}

#[test]
fn types_of_the_running_kernel_are_read() {
    let Ok(bytes) = read(Path::new(VMLINUX)) else {
        eprintln!("skipped: no {VMLINUX}");
        return;
    };
    let began = std::time::Instant::now();
    let btf = Btf::parse(&bytes).unwrap();
    let parsed = began.elapsed();
    let began = std::time::Instant::now();
    let bio = btf.member("bio", "bi_iter.bi_sector").unwrap();
    let index = parameter_index(&btf, "folio_wait_writeback", &["folio", "page"]);
    let value = btf.enum_value(None, "PG_writeback");
    eprintln!(
        "{} types of {} KiB parsed in {parsed:?} to {} KiB; three look-ups in {:?}",
        btf.len(),
        bytes.len() >> 10,
        btf.heap_bytes() >> 10,
        began.elapsed()
    );
    assert_eq!((bio.size, bio.type_name.as_str()), (8, "sector_t"));
    assert!(value.is_some());
    if btf.size_of("folio").is_some() {
        assert_eq!(index, Some(0));
        assert_eq!(btf.member("folio", "mapping").unwrap().offset, 24);
    }
}

/// Compares every struct, enum and function of the running kernel with bpftool.
#[test]
fn bpftool_agrees() {
    let bytes = read(Path::new(VMLINUX));
    let dump = Command::new("bpftool").args(["btf", "dump", "file", VMLINUX]).output();
    let (Ok(bytes), Ok(dump)) = (bytes, dump) else {
        eprintln!("skipped: no bpftool or no {VMLINUX}");
        return;
    };
    if !dump.status.success() {
        eprintln!("skipped: bpftool: {}", String::from_utf8_lossy(&dump.stderr));
        return;
    }
    let btf = Btf::parse(&bytes).unwrap();
    let text = String::from_utf8_lossy(&dump.stdout);
    let number = |line: &str, key: &str| -> Option<i64> {
        let at = line.find(key)? + key.len();
        line[at..].split(' ').next()?.parse().ok()
    };
    let mut seen = HashSet::new();
    let (mut types, mut members, mut values, mut functions) = (0, 0, 0, 0);
    let (mut kind, mut owner) = ("", "");
    for line in text.lines() {
        let quoted = line.split('\'').nth(1).unwrap_or_default();
        if line.starts_with('[') {
            types += 1;
            kind = line.split(' ').nth(1).unwrap();
            // Of several types with one name the first counts. `(anon)` is a type without a name.
            let first = quoted != "(anon)" && seen.insert((kind, quoted));
            owner = if first { quoted } else { "" };
            if first && kind == "FUNC" {
                let function = btf.function(quoted).unwrap();
                assert!(line.starts_with(&format!("[{}]", function.id)), "{line}");
                functions += 1;
            } else if first && kind == "STRUCT" {
                // A union or a typedef with this name may come before it.
                let size = btf.size_of(quoted).map(i64::from);
                assert!(
                    size == number(line, "size=") || !seen.is_disjoint(&others(quoted)),
                    "{line}"
                );
            }
        } else if owner.is_empty() || quoted == "(anon)" {
        } else if kind == "STRUCT" {
            let member = btf.member(owner, quoted).unwrap();
            let shift = member.bits.map_or(0, |bits| bits.shift);
            let place = i64::from(member.offset) * 8 + i64::from(shift);
            assert_eq!(Some(place), number(line, "bits_offset="), "{owner}: {line}");
            let width = member.bits.map(|bits| i64::from(bits.width));
            assert_eq!(width, number(line, "bitfield_size="), "{owner}: {line}");
            members += 1;
        } else if kind.starts_with("ENUM") {
            let value = btf.enum_value(Some(owner), quoted);
            let theirs = line.split("val=").nth(1).unwrap();
            let theirs = theirs.trim_end_matches("ULL").parse::<i128>().unwrap();
            let ours = i128::from(value.unwrap());
            assert!(ours == theirs || ours + (1 << 64) == theirs, "{line}");
            values += 1;
        }
    }
    assert_eq!(types, btf.len());
    assert!(members > 10_000 && values > 1000 && functions > 10_000);
    eprintln!("{types} types, {members} members, {values} values, {functions} functions agree");
}

fn others(name: &str) -> HashSet<(&'static str, &str)> {
    ["UNION", "TYPEDEF", "ENUM"].map(|kind| (kind, name)).into()
}

#[test]
fn functions_alone_keep_their_ids() {
    let ids = [("write_end", 14), ("folio_wait_writeback", 3)].into();
    let bytes = only_functions(&ids);
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.len(), 15);
    for (name, id) in ids {
        assert_eq!(
            btf.function(name).map(|function| (function.id, function.parameters)),
            Some((id, vec![]))
        );
    }
    aya::Btf::parse(&bytes, aya::Endianness::default()).unwrap();
    assert!(Btf::parse(&only_functions(&BTreeMap::new())).unwrap().function("write_end").is_none());
}
