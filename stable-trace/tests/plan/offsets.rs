//! The offsets that each kernel's plan passes to the programs, compared with values that another
//! tool read from the BTF of kernels of the same series.

use stable_trace::probes::{offsets::resolve, plan::plan};
use stable_trace_analysis::event::Method;
use stable_trace_common::offsets::{ABSENT, Offsets};

use super::{KERNELS, facts};

/// The kernel's name of an offset, a bit or a size, its field in `Offsets`, and its value on 5.10,
/// 6.1, 6.12 and 7.3.
type Row = (&'static str, fn(&Offsets) -> u32, [Option<u32>; 4]);

const LABORATORY: [&str; 4] = ["5.10", "6.1", "6.12", "7.3"];

/// 5.10 has `page` in place of `folio`. Another tool read each value from the BTF of a Debian
/// kernel of the series.
const EXPECTED: [Row; 18] = [
    ("folio.flags", |at| at.folio_flags, [Some(0), Some(0), Some(0), Some(0)]),
    ("folio.mapping", |at| at.folio_mapping, [Some(24), Some(24), Some(24), Some(24)]),
    ("folio.index", |at| at.folio_index, [Some(32), Some(32), Some(32), Some(32)]),
    // 7.x has `compound_info` with a different encoding.
    ("page.compound_head", |at| at.page_compound_head, [Some(8), Some(8), Some(8), None]),
    ("address_space.host", |at| at.mapping_host, [Some(0), Some(0), Some(0), Some(0)]),
    ("address_space.flags", |at| at.mapping_flags, [Some(120), Some(152), Some(112), Some(104)]),
    ("inode.i_ino", |at| at.inode_ino, [Some(64), Some(64), Some(64), Some(64)]),
    ("inode.i_sb", |at| at.inode_sb, [Some(40), Some(40), Some(40), Some(40)]),
    ("inode.i_rdev", |at| at.inode_rdev, [Some(76), Some(76), Some(76), Some(76)]),
    ("super_block.s_dev", |at| at.sb_dev, [Some(16), Some(16), Some(16), Some(16)]),
    ("super_block.s_type", |at| at.sb_type, [Some(40), Some(40), Some(40), Some(56)]),
    ("super_block.s_iflags", |at| at.sb_iflags, [Some(88), Some(88), Some(88), Some(104)]),
    ("file_system_type.name", |at| at.fs_type_name, [Some(0), Some(0), Some(0), Some(0)]),
    ("vm_fault.page", |at| at.vmf_page, [Some(64), Some(80), Some(80), Some(80)]),
    // 6.8 moved it.
    ("PG_writeback", |at| at.pg_writeback, [Some(15), Some(15), Some(1), Some(1)]),
    // Without this flag, the super block has it. 6.1 got the flag in a 6.1.y release.
    ("AS_STABLE_WRITES", |at| at.as_stable_writes, [None, Some(8), Some(7), Some(7)]),
    ("request", |at| at.request_bytes, [Some(280), Some(272), Some(248), Some(272)]),
    // In a module, and 5.10 has no BTF of modules.
    ("scsi_cmnd.sense_buffer", |at| at.scsi_sense, [None, Some(248), Some(248), Some(248)]),
];

#[test]
fn offsets_equal_those_of_another_tool() {
    let mut wrong = Vec::new();
    for (column, kernel) in LABORATORY.into_iter().enumerate() {
        let resolved = resolve(&facts(kernel));
        assert_eq!((resolved.identity, resolved.stability), (Ok(()), Ok(())), "{kernel}");
        for (name, read, expected) in EXPECTED {
            let (found, expected) = (read(&resolved.offsets), expected[column].unwrap_or(ABSENT));
            if found != expected {
                wrong.push(format!("{kernel}: {name} is at {found}, not at {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// There are no values of another tool for 6.18: these are the values of 6.12 and 7.3.
#[test]
fn offsets_of_6_18_equal_those_of_its_neighbours() {
    let between = resolve(&facts("6.18")).offsets;
    assert_eq!((between.pg_writeback, between.as_stable_writes), (1, 7));
    assert_eq!((between.folio_mapping, between.folio_index), (24, 32));
    assert_eq!((between.inode_sb, between.inode_ino, between.sb_dev), (40, 64, 16));
}

#[test]
fn every_plan_carries_the_same_offsets() {
    for kernel in KERNELS {
        let facts = facts(kernel);
        let offsets = resolve(&facts).offsets;
        for only in [None, Some(Method::Fentry), Some(Method::Kprobe), Some(Method::Tracepoint)] {
            assert_eq!(plan(&facts, only).offsets, offsets, "{kernel}, {only:?}");
        }
    }
}
