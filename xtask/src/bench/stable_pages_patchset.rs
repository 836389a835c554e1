//! Repeats the result of the 2011 stable-pages patch set: integrity errors of each workload profile on
//! each file system and kernel, with and without stable pages. The counts come from the guest tests that
//! assert the result.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

use super::table::Table;
use crate::lab::{self, Accel, GuestSelection, Series};
use crate::progress;

/// The tests of `tests/kernel/stable_pages_patchset.rs`.
const TESTS: &str = "stable_pages_patchset::";

/// Prefix of the rows that the tests print.
const ROW: &str = "stable_pages_patchset: ";

const PROFILES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

pub(crate) fn bench(kernels: &[Series], accel: Accel) -> Result<()> {
    let selection = GuestSelection {
        kernels: kernels.to_vec(),
        arguments: vec![TESTS.into()],
        accel,
        jobs: 1,
        ..GuestSelection::default()
    };
    let mut rows = Rows::default();
    let results = lab::guest_tests(&selection, &mut |series, line| {
        if !rows.parse(line) {
            progress::step(format!("{series} | {line}"));
        }
    })?;
    println!(
        "\n64 threads rewrite one file of 64 KiB for 1 s; integrity errors counted in tracefs\n"
    );
    println!("{}", rows.table());
    match results.into_iter().find_map(|result| result.failure) {
        Some(failure) => bail!("{failure}"),
        None => Ok(()),
    }
}

/// Integrity errors by profile, for each kernel, value of `stable_writes` and file system.
#[derive(Debug, Default)]
struct Rows(BTreeMap<(String, String, String), BTreeMap<String, u64>>);

impl Rows {
    /// Returns whether the line is a row. The last row of a profile counts.
    fn parse(&mut self, line: &str) -> bool {
        let Some((_, json)) = line.split_once(ROW) else { return false };
        let Ok(row) = serde_json::from_str::<Value>(json) else { return false };
        let text = |name: &str| row[name].as_str().unwrap_or("?").to_owned();
        let key = (text("kernel"), text("stable_writes"), text("fs"));
        let count = row["integrity_errors"].as_u64().unwrap_or(u64::MAX);
        self.0.entry(key).or_default().insert(text("profile"), count);
        true
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
