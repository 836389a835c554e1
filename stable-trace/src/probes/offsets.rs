//! From a kernel's facts to the offsets that the programs read through. Pure.

use std::{collections::BTreeMap, slice};

use stable_trace_common::offsets::{ABSENT, Offsets};

use super::{
    facts::Facts,
    table::{
        AS_STABLE_WRITES, Constant, Field, IDENTITY, IN_IOWAIT, OPTIONAL, PG_WRITEBACK, STABILITY,
        integrity,
    },
};

/// Offsets, and what cannot be read for want of one: the reason, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What the programs are given.
    pub offsets: Offsets,
    /// Whether folios can be identified.
    pub identity: Result<(), String>,
    /// Whether unstable writes can be told.
    pub stability: Result<(), String>,
    /// Whether failed requests can be read.
    pub requests: Result<(), String>,
    /// Whether failed bios can be read.
    pub bios: Result<(), String>,
    /// Whether what the host verified can be read.
    pub verified: Result<(), String>,
}

/// Finds every offset.
#[must_use]
pub fn resolve(facts: &Facts) -> Resolved {
    let mut offsets = Offsets::ABSENT;
    let identity = fill(facts, IDENTITY, &mut offsets);
    let stability = fill(facts, STABILITY, &mut offsets)
        .and_then(|()| constant(facts, &PG_WRITEBACK, &mut offsets));
    let pages = fill(facts, integrity::PAGES, &mut offsets)
        .and_then(|()| size(facts, &integrity::PAGE, &mut offsets));
    let pages = stability.clone().and(pages);
    let requests = pages.clone().and(fill(facts, integrity::REQUESTS, &mut offsets));
    let flags =
        integrity::BIO_FLAGS.iter().try_for_each(|flag| constant(facts, flag, &mut offsets));
    let bios = pages.and(flags).and(fill(facts, integrity::BIOS, &mut offsets));
    let verified = bios.clone().and(fill(facts, integrity::VERIFIED, &mut offsets));
    // What every kernel does without in one way or another.
    for field in OPTIONAL.iter().chain(integrity::OPTIONAL) {
        let _ = fill(facts, slice::from_ref(field), &mut offsets);
    }
    let _ = constant(facts, &AS_STABLE_WRITES, &mut offsets);
    *(IN_IOWAIT.slot)(&mut offsets) = place(&facts.bit_fields, &IN_IOWAIT).unwrap_or(ABSENT);
    let behind = size(facts, &integrity::REQUEST_BYTES, &mut offsets);
    if behind.is_ok() && offsets.disk_name != ABSENT {
        for kept in integrity::kept() {
            let _ = fill(facts, slice::from_ref(&kept.field), &mut offsets);
        }
    }
    let requests =
        requests.and(either(facts, [offsets.request_disk, offsets.queue_disk], "a disk"));
    let device = either(facts, [offsets.bio_disk, offsets.bio_bdev], "a device");
    let (bios, verified) = (bios.and(device.clone()), verified.and(device));
    let stability = identity.clone().and(stability);
    Resolved { offsets, identity, stability, requests, bios, verified }
}

/// Whether one of two members is there that never are both.
fn either(facts: &Facts, offsets: [u32; 2], what: &str) -> Result<(), String> {
    if offsets == [ABSENT; 2] {
        return Err(absent(facts, "member", &[what]));
    }
    Ok(())
}

fn size(facts: &Facts, structure: &Constant, offsets: &mut Offsets) -> Result<(), String> {
    let found = facts.sizes.get(structure.name).filter(|size| **size > 0);
    let size = found.ok_or_else(|| absent(facts, "structure", &[structure.name]))?;
    *(structure.slot)(offsets) = *size;
    Ok(())
}

fn fill(facts: &Facts, fields: &[Field], offsets: &mut Offsets) -> Result<(), String> {
    for field in fields {
        let found = place(&facts.members, field);
        *(field.slot)(offsets) = found.ok_or_else(|| absent(facts, "member", field.names))?;
    }
    Ok(())
}

/// Where a kernel has a field, by the first of its names that it knows.
fn place(places: &BTreeMap<String, u32>, field: &Field) -> Option<u32> {
    field.names.iter().find_map(|name| places.get(*name)).copied()
}

fn constant(facts: &Facts, constant: &Constant, offsets: &mut Offsets) -> Result<(), String> {
    let found = facts.constants.get(constant.name);
    let bit = found.and_then(|value| u32::try_from(*value).ok()).filter(|bit| *bit < 64);
    *(constant.slot)(offsets) = bit.ok_or_else(|| absent(facts, "constant", &[constant.name]))?;
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
