//! The guest tests: one test binary that runs on each kernel of the laboratory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;

use crate::lab::{self, GuestSelection, Series};
use crate::progress;
use crate::report::{Tally, libtest::Reader};

/// Tests that a run of everything leaves out on some kernels, by parts of their names; `--kernel` runs them.
struct LeftOut {
    /// Whether a kernel leaves them out.
    on: fn(Series) -> bool,
    names: &'static [&'static str],
    /// What covers them.
    because: &'static str,
}

const LEFT_OUT: [LeftOut; 7] = [
    LeftOut {
        on: Series::is_between,
        names: &[
            "cleanup::",
            "device_stacks::",
            "identity::",
            "laboratory::",
            "nested_faults::",
            "stack_layouts::",
            "stall_contexts::fsync",
            "stall_contexts::truncation",
            "stall_contexts::unmount",
            "stuck::",
            "top::",
            "::kprobe_xfs",
        ],
        because: "the same programs and fields as on the oldest and the newest kernel",
    },
    LeftOut {
        on: Series::is_between,
        names: &[
            "counted_when_the_ring_is_full",
            "holes_auto_xfs",
            "of_ip_checksums",
            "proofs::of_unstable_pages_of_xfs",
            "unrelated_errors_are_not_counted",
        ],
        because: "another test shows there that the probes work, these how the agent judges",
    },
    LeftOut {
        on: |kernel| kernel != Series::OLDEST,
        names: &["agrees_on_ext4_profile_b", "agrees_on_xfs_profile_a"],
        because: "one workload a file system there, both on the oldest kernel",
    },
    LeftOut {
        on: |kernel| kernel != Series::OLDEST,
        names: &[
            "::kprobe_ext4",
            "::kprobe_btrfs",
            "holes_kprobe_ext4",
            "intact_kprobe",
            "nothing_kprobe",
            "once_kprobe",
            "reported_kprobe",
            "intact_tracepoint",
            "nothing_tracepoint",
            "once_tracepoint",
            "reported_tracepoint",
        ],
        because: "the same programs as on the oldest kernel; the tables of plans name their functions",
    },
    LeftOut {
        on: |kernel| kernel != Series::OLDEST,
        names: &["verdicts::", "paired_workload::", "stable_pages_patchset::"],
        because: "they judge what tests of integrity:: and proofs:: show on every kernel",
    },
    LeftOut {
        on: |kernel| kernel != Series::OLDEST,
        // Not `faults::`, which is in the name of each test of `nested_faults` too.
        names: &[
            "scope::",
            "processes::",
            "privileges::",
            "64_mib_of_memory_are_enough",
            "a_cpu_goes_offline",
            "a_read_only_root_is_enough",
            "few_open_files_are_enough",
            "the_clock_is_set",
            "the_device_goes_away",
            "two_agents_count_the_same",
        ],
        because: "the agent's own work: on the oldest kernel, and most natively",
    },
    LeftOut {
        on: |_| true,
        names: &[
            "filters::",
            "of_auto_on_btrfs",
            "of_auto_on_xfs",
            "of_tracepoint_on_ext4",
            "recording::",
            "scope::comm",
            "scope::run",
            "scope::wac",
            "service::",
        ],
        because: "they run natively, and differ from others by what no kernel changes",
    },
];

/// libtest's arguments for a run of everything on a kernel.
fn left_out(kernel: Series) -> Vec<OsString> {
    let left_out = LEFT_OUT.iter().filter(|left_out| (left_out.on)(kernel));
    let names = left_out.flat_map(|left_out| left_out.names);
    names.flat_map(|name| ["--skip", name]).map(Into::into).collect()
}

/// Runs the tests whose name contains `only` on these kernels, or on all kernels if there are none;
/// forwards their output and counts the results.
pub(crate) fn test(kernels: &[Series], only: Option<&str>) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut selection = GuestSelection {
        kernels: kernels.to_vec(),
        arguments: only.map(Into::into).into_iter().collect(),
        ..GuestSelection::default()
    };
    if kernels.is_empty() && only.is_none() {
        selection.arguments_of = left_out;
        for LeftOut { on, names, because } in &LEFT_OUT {
            let on: Vec<_> = Series::MATRIX.into_iter().filter(|kernel| on(*kernel)).collect();
            let on = on.into_iter().map(Series::name).collect::<Vec<_>>().join(" and ");
            for name in *names {
                tally.skip(format!("{name} on {on}"), format!("{because} (--kernel runs them)"));
            }
        }
    }
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
