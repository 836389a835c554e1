//! Tables from rows of JSON that guest tests print.

use anyhow::{Result, bail};
use serde_json::Value;

use super::table::Table;
use crate::lab::{self, GuestSelection};
use crate::progress;

/// A table that rows are added to.
pub(super) trait Rows: Default {
    /// What a line has before its row.
    const PREFIX: &str;

    fn add(&mut self, row: &Value);

    fn table(&self) -> Table;

    /// Adds the row of a line; returns whether it has one.
    fn parse(&mut self, line: &str) -> bool {
        let row =
            line.split_once(Self::PREFIX).and_then(|(_, json)| serde_json::from_str(json).ok());
        if let Some(row) = &row {
            self.add(row);
        }
        row.is_some()
    }
}

/// A field of a row; `?` if it is no text.
pub(super) fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or("?").to_owned()
}

/// Runs guest tests a number of times and prints the table of their rows below `heading`. Fails if a test failed.
pub(super) fn print<R: Rows>(selection: &GuestSelection, heading: &str, rounds: u32) -> Result<()> {
    let mut rows = R::default();
    let mut failures = Vec::new();
    for _ in 0..rounds {
        let results = lab::guest_tests(selection, &mut |series, line| {
            if !rows.parse(line) {
                progress::step(format!("{series} | {line}"));
            }
        })?;
        failures.extend(results.into_iter().filter_map(|result| result.failure));
    }
    println!("\n{heading}\n\n{}", rows.table());
    match failures.into_iter().next() {
        Some(failure) => bail!("{failure}"),
        None => Ok(()),
    }
}
