//! What the proofs and the verdicts say of integrity errors that were made in a known way, in guests. The counts
//! come from the guest tests that assert the result.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::guest_rows::{self, text};
use super::table::Table;
use crate::lab::{Accel, GuestSelection, Series};

/// The tests of `tests/kernel/proofs.rs`.
const TESTS: &str = "proofs::";

/// The columns: counts of kinds of proofs, and of causes.
const COLUMNS: [(&str, &str); 12] = [
    ("kinds", "memory_changed"),
    ("kinds", "memory_changing"),
    ("kinds", "memory_intact"),
    ("kinds", "bit_flip"),
    ("kinds", "foreign_data"),
    ("kinds", "application_tuple"),
    ("kinds", "none"),
    ("causes", "page_rewritten_in_flight"),
    ("causes", "direct_io_buffer"),
    ("causes", "no_rewrite_seen"),
    ("causes", "application_tuple"),
    ("causes", "unknown"),
];

pub(crate) fn bench(kernels: &[Series], accel: Accel) -> Result<()> {
    let selection = GuestSelection {
        kernels: kernels.to_vec(),
        arguments: vec![TESTS.into()],
        accel,
        ..GuestSelection::default()
    };
    let heading =
        "Errors by how they were made, their proofs, and the causes that their verdicts name";
    guest_rows::print::<Rows>(&selection, heading, 1)
}

/// Counts of each column, for each kernel and each way of making errors.
#[derive(Debug, Default)]
struct Rows(BTreeMap<(String, String), [u64; COLUMNS.len()]>);

impl guest_rows::Rows for Rows {
    const PREFIX: &str = "proofs: ";

    fn add(&mut self, row: &Value) {
        let counts = self.0.entry((text(row, "kernel"), text(row, "made"))).or_default();
        for (count, (group, name)) in counts.iter_mut().zip(COLUMNS) {
            *count += row[group][name].as_u64().unwrap_or(0);
        }
    }

    fn table(&self) -> Table {
        let names = COLUMNS.map(|(_, name)| name);
        let mut table = Table::new(["kernel", "made"].into_iter().chain(names));
        for ((kernel, made), counts) in &self.0 {
            let text = |count: u64| if count == 0 { "–".to_owned() } else { count.to_string() };
            table.row([kernel.clone(), made.clone()].into_iter().chain(counts.map(text)));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::guest_rows::Rows as _;
    use super::*;

    #[test]
    fn rows_of_one_kernel_are_added() {
        let mut rows = Rows::default();
        let row = |kind: &str, count: u32| {
            format!(
                "test x ... proofs: {{\"kernel\":\"6.1\",\"made\":\"injected\",\"kinds\":{{\"{kind}\":{count}}}}}"
            )
        };
        assert!(rows.parse(&row("memory_intact", 3)) && rows.parse(&row("memory_intact", 4)));
        assert!(rows.parse(&row("none", 1)));
        assert!(!rows.parse("test proofs::x ... ok") && !rows.parse("proofs: nonsense"));
        let table = rows.table().to_string();
        let last = table.lines().last().unwrap().split('|').map(str::trim).collect::<Vec<_>>();
        assert_eq!(last[1..10], ["6.1", "injected", "–", "–", "7", "–", "–", "–", "1"]);
    }
}
