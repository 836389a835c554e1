//! The guest tests: one test binary that runs on each kernel of the laboratory.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;

use crate::lab::{self, GuestSelection, Series};
use crate::progress;
use crate::report::{Tally, libtest::Reader};

/// Tests of programs that read the same fields in the same functions on all kernels, and of what the agent does
/// without programs. A run of everything has them natively, on the oldest kernel and on the newest one.
const AT_ENDS: [&str; 6] =
    ["scope::", "filters::", "processes::", "recording::", "service::", "privileges::"];

/// Runs the tests whose name contains `only` on these kernels, or on all kernels if there are none;
/// forwards their output and counts the results.
pub(crate) fn test(kernels: &[Series], only: Option<&str>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut arguments_between = Vec::new();
    if kernels.is_empty() && only.is_none() {
        let [oldest, between @ .., newest] = Series::MATRIX;
        let between = between.map(Series::name).join(" and ");
        let reason = format!("the same as on {oldest} and {newest} (--kernel runs them)");
        for module in AT_ENDS {
            arguments_between.extend(["--skip", module].map(Into::into));
            tally.skip(format!("{module} on {between}"), &reason);
        }
    }
    let selection = GuestSelection {
        arguments_between,
        kernels: kernels.to_vec(),
        arguments: only.map(Into::into).into_iter().collect(),
        ..GuestSelection::default()
    };
    // Guests run concurrently, so their lines are mixed: each guest has its own reader, and the time
    // since its first line is printed to show how long a test takes.
    let mut readers: BTreeMap<Series, (Instant, Reader)> = BTreeMap::new();
    let results = lab::guest_tests(&selection, &mut |kernel, line| {
        let (started, reader) =
            readers.entry(kernel).or_insert_with(|| (Instant::now(), Reader::default()));
        let at = started.elapsed().as_secs();
        // The exit status matters even if stdout is closed.
        let _ = writeln!(std::io::stdout(), "{kernel:>4} {at:>5} s | {line}");
        reader.read(line);
    })?;
    for result in results {
        let kernel = result.kernel;
        if let Some(failure) = &result.failure {
            progress::step(failure);
        }
        let boot = result.boot.map_or_else(
            || "did not boot".to_owned(),
            |boot| format!("{:.0} s to boot", boot.as_secs_f64()),
        );
        progress::step(format!(
            "kernel {kernel}: {boot}, {:.0} s in total",
            result.total.as_secs_f64()
        ));
        let reader = readers.remove(&kernel).map(|(_, reader)| reader).unwrap_or_default();
        tally.add(reader.end(&format!("guest {kernel}"), result.failure.is_none()));
    }
    Ok(tally)
}
