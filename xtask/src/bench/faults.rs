//! What faults of the machine cost the counts, in guests. The numbers come from the guest tests that assert them.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::guest_rows::{self, text};
use super::table::Table;
use crate::lab::{Accel, GuestSelection, Series};

/// The tests of `tests/kernel/faults.rs`.
const TESTS: &str = "faults::";

pub(crate) fn bench(kernels: &[Series], accel: Accel, rounds: u32) -> Result<()> {
    let selection = GuestSelection {
        kernels: kernels.to_vec(),
        arguments: vec![TESTS.into()],
        accel,
        ..GuestSelection::default()
    };
    let heading = "Waits that tracefs counted while something went wrong, and what became of them";
    guest_rows::print::<Rows>(&selection, heading, rounds)
}

/// Sums of one fault on one kernel.
#[derive(Debug, Default)]
struct Sums {
    tried: u64,
    /// Waits that tracefs counted.
    waits: u64,
    /// Those that the summary accounts for.
    accounted: u64,
    /// Runs of programs that the kernel skipped, as the summary says.
    skipped: u64,
    /// Events that are not in the stream, as the summary says.
    lost: u64,
}

/// For each fault and kernel.
#[derive(Debug, Default)]
struct Rows(BTreeMap<(String, String), Sums>);

impl guest_rows::Rows for Rows {
    const PREFIX: &str = "fault: ";

    fn add(&mut self, row: &Value) {
        let number = |name: &str| row[name].as_u64().unwrap_or(0);
        let sums = self.0.entry((text(row, "fault"), text(row, "kernel"))).or_default();
        sums.tried += 1;
        sums.waits += number("waits");
        sums.accounted += number("accounted");
        sums.skipped += number("skipped");
        sums.lost += number("lost");
    }

    fn table(&self) -> Table {
        let columns =
            ["fault", "kernel", "tried", "waits", "accounted for", "skipped runs", "lines lost"];
        let mut table = Table::new(columns);
        for ((fault, kernel), Sums { tried, waits, accounted, skipped, lost }) in &self.0 {
            let numbers = [tried, waits, accounted, skipped, lost].map(ToString::to_string);
            table.row([fault.clone(), kernel.clone()].into_iter().chain(numbers));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::guest_rows::Rows as _;
    use super::*;

    #[test]
    fn rows_of_a_fault_and_a_kernel_are_added() {
        let mut rows = Rows::default();
        for waits in [7, 8] {
            let row = format!(
                r#"test x ... fault: {{"fault":"the clock is set","kernel":"6.1","waits":{waits},"accounted":{waits}}}"#
            );
            assert!(rows.parse(&row));
        }
        let table = rows.table().to_string();
        let last = table.lines().last().unwrap().split('|').map(str::trim).collect::<Vec<_>>();
        assert_eq!(last[1..8], ["the clock is set", "6.1", "2", "15", "15", "0", "0"]);
    }
}
