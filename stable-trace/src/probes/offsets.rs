//! Resolves the offsets that the programs read through from a kernel's facts.

use std::collections::BTreeMap;

use stable_trace_common::{
    folio::BtrfsOffsets,
    offsets::{ABSENT, Offsets, Purpose, Row, Source},
};

use super::{
    facts::Facts,
    table::{BTRFS_CHECKSUM_MEMBERS, BTRFS_INODE_MEMBERS, BTRFS_MEMBERS},
};

/// The offsets, and for each purpose that lacks one the reason, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The table for the programs.
    pub offsets: Offsets,
    /// Whether folios can be identified.
    pub identity: Result<(), String>,
    /// Whether unstable writes can be recognised.
    pub stability: Result<(), String>,
    /// Whether failed requests can be read.
    pub requests: Result<(), String>,
    /// Whether failed bios can be read.
    pub bios: Result<(), String>,
    /// Whether the host's verifications can be read.
    pub verified: Result<(), String>,
    /// Whether tasks that wait can be found.
    pub waiting: Result<(), String>,
}

/// Finds every offset.
pub fn resolve(facts: &Facts) -> Resolved {
    let mut offsets = Offsets::ABSENT;
    // The first missing offset of each purpose.
    let mut gaps: BTreeMap<Purpose, String> = BTreeMap::new();
    for Row { slot, purpose, source } in Offsets::TABLE {
        match find(facts, source) {
            Ok(offset) => *slot(&mut offsets) = offset,
            Err(reason) => {
                gaps.entry(*purpose).or_insert(reason);
            }
        }
    }
    // A driver's part of a request is found behind it, and the driver by the name of the disk.
    if offsets.request_bytes == ABSENT || offsets.disk_name == ABSENT {
        offsets.scsi_sense = ABSENT;
        offsets.nvme_status = ABSENT;
    }
    let met = |purpose| gaps.get(&purpose).map_or(Ok(()), |reason| Err(reason.clone()));
    let (identity, stability) = (met(Purpose::Identity), met(Purpose::Stability));
    let pages = stability.clone().and(met(Purpose::Pages));
    let disk = either(
        facts,
        [offsets.request_disk, offsets.queue_disk],
        &["request.rq_disk", "request_queue.disk"],
    );
    let device =
        either(facts, [offsets.bio_disk, offsets.bio_bdev], &["bio.bi_disk", "bio.bi_bdev"]);
    let requests = pages.clone().and(met(Purpose::Requests)).and(disk);
    let bios = pages.and(met(Purpose::Bios));
    let verified = bios
        .clone()
        .and(met(Purpose::Verification))
        .and(met(Purpose::FailedInterval))
        .and(device.clone());
    let bios = bios.and(device);
    let stability = identity.clone().and(stability);
    let waiting = stability.clone().and(met(Purpose::Waiting));
    Resolved { offsets, identity, stability, requests, bios, verified, waiting }
}

/// The offsets of btrfs's structures; not `known` unless btrfs is loaded and BTF describes it.
pub(crate) fn btrfs(facts: &Facts) -> BtrfsOffsets {
    let mut offsets = BtrfsOffsets::default();
    if let Some([vfs_inode, root, anon_dev]) = all(facts, BTRFS_MEMBERS) {
        offsets = BtrfsOffsets { known: 1, vfs_inode, root, anon_dev, ..offsets };
    }
    if let Some([device_fs, device_bdev, fs_sb, fs_block_bytes, fs_roots]) =
        all(facts, BTRFS_CHECKSUM_MEMBERS)
    {
        offsets = BtrfsOffsets {
            checksums_known: 1,
            device_fs,
            device_bdev,
            fs_sb,
            fs_block_bytes,
            fs_roots,
            ..offsets
        };
    }
    let optional = BTRFS_INODE_MEMBERS.map(|name| facts.members.get(name).copied());
    let [root_inodes, root_inode_tree, inode_node] = optional.map(|found| found.unwrap_or(ABSENT));
    BtrfsOffsets { root_inodes, root_inode_tree, inode_node, ..offsets }
}

/// The offsets of these members; `None` if one is not known.
fn all<const N: usize>(facts: &Facts, names: [&str; N]) -> Option<[u32; N]> {
    let mut found = [0; N];
    for (slot, name) in found.iter_mut().zip(names) {
        *slot = *facts.members.get(name)?;
    }
    Some(found)
}

/// Looks up one offset.
fn find(facts: &Facts, source: &Source) -> Result<u32, String> {
    match source {
        Source::Member(names) => {
            let found = names.iter().find_map(|name| facts.members.get(*name));
            found.copied().ok_or_else(|| absent(facts, "member", names))
        }
        Source::ModuleMember(_, name) => {
            facts.members.get(*name).copied().ok_or_else(|| absent(facts, "member", &[name]))
        }
        Source::BitField(name) => {
            facts.bit_fields.get(*name).copied().ok_or_else(|| absent(facts, "bit field", &[name]))
        }
        Source::Bit(name) => {
            let found = facts.constants.get(*name).and_then(|bit| u32::try_from(*bit).ok());
            found.filter(|bit| *bit < 64).ok_or_else(|| absent(facts, "constant", &[name]))
        }
        Source::Size(name) => {
            let found = facts.sizes.get(*name).copied();
            found.filter(|size| *size > 0).ok_or_else(|| absent(facts, "structure", &[name]))
        }
        // Set when the programs load.
        Source::PageShift => Ok(ABSENT),
    }
}

/// Whether a kernel has at least one of two members.
fn either(facts: &Facts, offsets: [u32; 2], names: &[&str]) -> Result<(), String> {
    if offsets == [ABSENT; 2] {
        return Err(absent(facts, "member", names));
    }
    Ok(())
}

fn absent(facts: &Facts, kind: &str, names: &[&str]) -> String {
    match facts.refused.get("btf") {
        Some(reason) => reason.clone(),
        None => format!("this kernel's BTF has no {kind} {}", names.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_btf_the_reason_is_btf() {
        let mut facts = Facts::default();
        facts.refused.insert("btf".into(), "no /sys/kernel/btf/vmlinux".into());
        let resolved = resolve(&facts);
        assert_eq!(resolved.identity, Err("no /sys/kernel/btf/vmlinux".into()));
        assert_eq!(resolved.stability, resolved.identity);
        assert_eq!(resolved.offsets, Offsets::ABSENT);
    }

    #[test]
    fn a_member_that_is_gone_is_named() {
        let facts =
            Facts { members: [("folio.mapping".to_owned(), 24)].into(), ..Facts::default() };
        let resolved = resolve(&facts);
        assert_eq!(resolved.offsets.folio_mapping, 24);
        assert_eq!(
            resolved.identity,
            Err("this kernel's BTF has no member folio.index or page.index".into())
        );
    }
}
