//! The probes against the kernel's own `function_graph` tracer: the same waits, as many and as long,
//! each with the context and the name that it has in the kernel's source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Context, Stall, Summary};

use crate::bed::function_graph::Call;
use crate::bed::injection::SlowDisk;
use crate::bed::{
    Agent, Disk, Fs, FunctionGraph, Need, Recording, Scratch, Test, Wac, host, missed,
};

/// Stalls of one profile that are awaited before its workload is ended.
const MANY: u64 = 450;

/// The disk takes this long for a command: long beside what tracer and probes take for a wait, for
/// which an emulated machine needs a tenth of a millisecond, and now and then some milliseconds more
/// if it is interrupted there.
const COMMAND: Duration = Duration::from_millis(10);

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for method in ["fentry", "kprobe"] {
        for fs in Fs::ALL {
            let test = Test::guest(format!("probes::{method}_{fs}"), move || agree(method, fs))
                .needs(Need::Agent)
                .needs(Need::PiDisk)
                .needs(Need::Tracer("function_graph"));
            // On 5.10 the graph tracer does not see a function that carries a trampoline, whichever
            // came first: 0 calls beside 1,716 stalls. `stalls.rs` counts there, by the tracepoint.
            tests.push(if method == "fentry" { test.needs(Need::KernelFrom(5, 11)) } else { test });
        }
    }
    tests
}

/// One workload: which one that was, and for how long.
struct Run {
    profile: &'static str,
    pid: u32,
    threads: BTreeSet<u32>,
    took: Duration,
}

/// 64 threads rewrite 64 KiB by `write()`, by stores to mapped memory, and by both.
fn agree(method: &str, fs: Fs) -> Result<()> {
    let scratch = Scratch::new(fs, Disk::pi()?)?;
    let _slow = SlowDisk::new(scratch.disk(), COMMAND, 4)?;
    let mut ready = Vec::new();
    for profile in ["a", "b", "c"] {
        ready.push((profile, Wac::ready(scratch.path(), profile)?));
    }
    // A call that finds no writeback returns at once, and one that is interrupted returns late: how
    // long it took does not tell who waited. The kernel's own event does.
    let wanted = FunctionGraph::of(host::wait_function()).around(&host::wait_event());
    let graph = ready.iter().fold(wanted, |graph, (_, wac)| graph.in_process(wac.pid())).start()?;
    // Second: the unwinder finds its way through the tracer's return address to a kretprobe's and
    // on (`unwind_recover_ret_addr`, arch/x86/include/asm/unwind.h), but not the other way round.
    let mut agent =
        Agent::start(["--attach", method, "--min-latency=0", "--ring-size=64MiB", "--stacks"])?;
    let mut runs = Vec::new();
    for (profile, wac) in ready {
        runs.push(run(profile, wac, &mut agent)?);
    }
    let mut waits = graph.finish()?;
    waits.retain(|call| call.had_event);
    let missed = missed::by_kernel(agent.pid())?;
    let recording = agent.stop()?;

    let summary = recording.summary()?;
    nothing_is_lost(&recording, summary)?;
    // Where the kernel preempts programs several do the same work, and a run is missed only if all
    // of them were skipped: there we say fewer than the kernel, which counts each.
    let said = missed::by_summary(summary);
    let preempts = host::kernel_version() >= (7, 0);
    ensure!(
        said == missed || preempts && said < missed,
        "the kernel missed {missed} runs: {:?}",
        summary.probe_runs_missed
    );
    for run in &runs {
        let ours: Vec<_> = recording.stalls().filter(|stall| stall.pid == run.pid).collect();
        let theirs: Vec<_> = waits.iter().filter(|call| run.threads.contains(&call.tid)).collect();
        let about = || format!("profile {}", run.profile);
        as_many_and_as_long(run, &ours, &theirs, apart(method), &format!("{method} {fs}"))
            .with_context(about)?;
        contexts(run.profile, &ours).with_context(about)?;
        names(fs, &ours).with_context(about)?;
    }
    Ok(())
}

/// One workload from its first thread to its last.
fn run(profile: &'static str, mut wac: Wac, agent: &mut Agent) -> Result<Run> {
    let pid = wac.pid();
    let since = Instant::now();
    wac.go()?;
    let threads = threads(pid)?;
    agent.await_stalls(MANY)?;
    let work = wac.stop()?;
    let took = since.elapsed();
    ensure!(work.operations > 0 && work.errors.is_empty(), "the workload fails: {work:?}");
    Ok(Run { profile, pid, threads, took })
}

/// All threads of a workload that has begun: it starts no more.
fn threads(pid: u32) -> Result<BTreeSet<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| format!("cannot list {path}"))?;
    Ok(entries.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok()).collect())
}

/// Every stall is a line: the lines are what is compared.
fn nothing_is_lost(recording: &Recording, summary: &Summary) -> Result<()> {
    let lines = recording.stalls().count() as u64;
    ensure!(summary.stalls_total == lines, "{lines} lines: {summary:#?}");
    // An end that was not seen is a stall less: what is compared below holds how many there may be.
    let unseen = |what: &&String| *what != "the end of a wait was not seen";
    let failures: Vec<_> = summary.map_failures.keys().filter(unseen).collect();
    let missed = missed::by_summary(summary);
    let ends = summary.map_failures.values().sum::<u64>();
    ensure!(failures.is_empty() && ends <= missed, "{:?}", summary.map_failures);
    ensure!(summary.records_malformed == 0, "{} malformed", summary.records_malformed);
    Ok(())
}

/// How far the numbers may be apart, in percent. Up to 5.15 a kretprobe would hide who waits, so there
/// the scheduler ends waits, as it does with tracepoints (`oracle.rs`): a call that did not have to sleep
/// is no stall, and two in a row for one folio, with no switch of tasks between them, are one. Seen: 107
/// of 32,437 in 68 runs, and up to 8 of 582 in one.
fn apart(method: &str) -> usize {
    if method == "kprobe" && host::kernel_version() < (5, 16) { 2 } else { 1 }
}

fn as_many_and_as_long(
    run: &Run,
    ours: &[&Stall],
    theirs: &[&Call],
    apart: usize,
    what: &str,
) -> Result<()> {
    let durations = || ours.iter().map(|stall| Duration::from_nanos(stall.duration_ns));
    let (we, they) = (ours.len(), theirs.len());
    let our_time: Duration = durations().sum();
    let their_time: Duration = theirs.iter().map(|call| call.duration).sum();
    println!(
        "{what} {}: {we} stalls of {our_time:.1?}, {they} waits of {their_time:.1?}",
        run.profile
    );
    ensure!(they > 300, "the tracer has only {they} waits: nothing to compare with");
    ensure!(we.abs_diff(they) * 100 <= they * apart, "{we} stalls, but {they} calls waited");
    ensure!(
        our_time.abs_diff(their_time) * 20 <= their_time,
        "{our_time:?} in all, but the calls took {their_time:?}"
    );
    let longest = durations().max().unwrap_or_default();
    ensure!(longest <= run.took, "a stall of {longest:?} in a run of {:?}", run.took);
    Ok(())
}

/// Who writes waits in a write, who stores in a fault, and all of them for what they have asked to
/// be on the disk.
fn contexts(profile: &str, ours: &[&Stall]) -> Result<()> {
    let mut count = BTreeMap::from(Context::ALL.map(|context| (context.name(), 0)));
    for stall in ours {
        *count.entry(stall.context.name()).or_default() += 1;
    }
    let (writes, faults) = (count["write_begin"], count["page_mkwrite"]);
    ensure!((writes > 0) == (profile != "b"), "{count:?}");
    ensure!((faults > 0) == (profile != "a"), "{count:?}");
    ensure!(count["sync"] > 0, "{count:?}");
    let stacks: BTreeSet<_> = ours
        .iter()
        .filter(|stall| stall.context == Context::Other)
        .map(|stall| &stall.stack)
        .collect();
    ensure!(count["other"] * 50 <= ours.len(), "{count:?}: {stacks:#?}");
    Ok(())
}

/// The functions that file-system developers know.
fn names(fs: Fs, ours: &[&Stall]) -> Result<()> {
    let of = |context| {
        let stalls = ours.iter().filter(move |stall| stall.context == context);
        stalls.map(|stall| stall.function.as_str()).collect::<BTreeSet<_>>()
    };
    let faults = of(Context::PageMkwrite);
    let handler = match fs {
        Fs::Ext4 => "ext4_page_mkwrite",
        Fs::Xfs => "xfs_filemap_page_mkwrite",
        Fs::Btrfs => "btrfs_page_mkwrite",
    };
    ensure!(faults.iter().all(|name| *name == handler), "not only {handler}: {faults:?}");
    let grabs = of(Context::WriteBegin);
    let known = grabs_here(fs);
    ensure!(grabs.is_subset(&known), "not only {known:?}: {grabs:?}");
    ensure!(grabs.iter().all(|name| is_function(name)), "not in this kernel: {grabs:?}");
    Ok(())
}

/// Where a buffered write waits, by the kernel's source.
fn grabs_here(fs: Fs) -> BTreeSet<&'static str> {
    let names: &[_] = match (fs, host::kernel_version()) {
        // It waits for the folio of its own batch, or as the others do.
        (Fs::Xfs, (7.., _)) => &["__filemap_get_folio_mpol", "iomap_write_begin"],
        (_, (7.., _)) => &["__filemap_get_folio_mpol"],
        // It waits once more after the grab, whether anybody asks for it or not.
        (Fs::Btrfs, (6, 3..)) => &["pagecache_get_page", "prepare_pages", "prepare_one_folio"],
        (Fs::Btrfs, _) => &["prepare_pages"],
        (Fs::Xfs, (6, _)) | (Fs::Ext4, (6, 3..)) => &["__filemap_get_folio"],
        // It lets go of the page that it has grabbed, and waits once more.
        (Fs::Ext4, _) => &["grab_cache_page_write_begin", "ext4_da_write_begin"],
        (Fs::Xfs, _) => &["grab_cache_page_write_begin"],
    };
    names.iter().copied().collect()
}

/// Whether this kernel has a function of that name; the compiler may have hung something on it.
fn is_function(name: &str) -> bool {
    let symbols = fs::read_to_string(Path::new("/proc/kallsyms")).unwrap_or_default();
    symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).any(|symbol| {
        symbol.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}
