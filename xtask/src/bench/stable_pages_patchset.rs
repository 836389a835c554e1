//! Repeats the result of the 2011 stable-pages patch set: integrity errors of each workload profile on
//! each file system and kernel, with and without stable pages. The counts come from the guest tests that
//! assert the result.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::guest_rows::{self, text};
use super::table::Table;
use crate::lab::{Accel, GuestSelection, Series};

/// The tests of `tests/kernel/stable_pages_patchset.rs`.
const TESTS: &str = "stable_pages_patchset::";

const PROFILES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

pub(crate) fn bench(kernels: &[Series], accel: Accel) -> Result<()> {
    let selection = GuestSelection {
        kernels: kernels.to_vec(),
        arguments: vec![TESTS.into()],
        accel,
        jobs: 1,
        ..GuestSelection::default()
    };
    let heading =
        "64 threads rewrite one file of 64 KiB for 1 s; integrity errors counted in tracefs";
    guest_rows::print::<Rows>(&selection, heading, 1)
}

/// Integrity errors by profile, for each kernel, value of `stable_writes` and file system.
#[derive(Debug, Default)]
struct Rows(BTreeMap<(String, String, String), BTreeMap<String, u64>>);

impl guest_rows::Rows for Rows {
    const PREFIX: &str = "stable_pages_patchset: ";

    /// The last row of a profile counts.
    fn add(&mut self, row: &Value) {
        let key = (text(row, "kernel"), text(row, "stable_writes"), text(row, "fs"));
        let count = row["integrity_errors"].as_u64().unwrap_or(u64::MAX);
        self.0.entry(key).or_default().insert(text(row, "profile"), count);
    }

    fn table(&self) -> Table {
        let head = ["kernel", "stable writes", "file system"];
        let mut table = Table::new(head.into_iter().chain(PROFILES));
        for ((kernel, stable, fs), counts) in &self.0 {
            let key = [kernel.clone(), stable.clone(), fs.clone()];
            let counts = PROFILES
                .map(|profile| counts.get(profile).map_or_else(|| "–".to_owned(), u64::to_string));
            table.row(key.into_iter().chain(counts));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::guest_rows::Rows as _;
    use super::*;

    #[test]
    fn rows_become_a_table() {
        let mut rows = Rows::default();
        let row = |fs: &str, profile: &str, count: u32| {
            format!(
                "stable_pages_patchset: {{\"kernel\":\"6.1\",\"fs\":\"{fs}\",\"profile\":\"{profile}\",\
                 \"stable_writes\":\"off\",\"integrity_errors\":{count}}}"
            )
        };
        assert!(rows.parse(&row("xfs", "a", 0)) && rows.parse(&row("xfs", "a", 7)));
        assert!(rows.parse(&row("xfs", "b", 3)));
        assert!(
            !rows.parse("test stable_pages_patchset::x ... ok")
                && !rows.parse("stable_pages_patchset: nonsense")
        );
        let table = rows.table().to_string();
        let last = table.lines().last().unwrap().split('|').map(str::trim).collect::<Vec<_>>();
        assert_eq!(last[1..7], ["6.1", "off", "xfs", "7", "3", "–"]);
    }
}
