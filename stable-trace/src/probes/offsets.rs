//! From a kernel's facts to the offsets that the programs read through. Pure.

use stable_trace_common::offsets::Offsets;

use super::{
    facts::Facts,
    table::{AS_STABLE_WRITES, Constant, Field, IDENTITY, OPTIONAL, PG_WRITEBACK, STABILITY},
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
}

/// Finds every offset.
#[must_use]
pub fn resolve(facts: &Facts) -> Resolved {
    let mut offsets = Offsets::ABSENT;
    let identity = fill(facts, IDENTITY, &mut offsets);
    let stability = fill(facts, STABILITY, &mut offsets)
        .and_then(|()| constant(facts, &PG_WRITEBACK, &mut offsets));
    // What every kernel does without in one way or another.
    for field in OPTIONAL {
        let _ = fill(facts, std::slice::from_ref(field), &mut offsets);
    }
    let _ = constant(facts, &AS_STABLE_WRITES, &mut offsets);
    Resolved { offsets, stability: identity.clone().and(stability), identity }
}

fn fill(facts: &Facts, fields: &[Field], offsets: &mut Offsets) -> Result<(), String> {
    for field in fields {
        let found = field.names.iter().find_map(|name| facts.members.get(*name));
        *(field.slot)(offsets) = *found.ok_or_else(|| absent(facts, "member", field.names))?;
    }
    Ok(())
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
