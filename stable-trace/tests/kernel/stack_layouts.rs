//! Stacks are recognised by their layouts: hardly any is walked, and none is taken for another.

use anyhow::{Result, ensure};
use stable_trace_analysis::event::Stall;

use crate::harness::{
    Agent, Disk, Fs, Scrape, Scratch, Test, TracefsInstance, Wac, every_wait_is_accounted_for, host,
};
use crate::probes::{contexts_match_profile, functions_match_source};

/// Stalls that a test waits for.
const MANY: u64 = 3_000;

/// Of so many stalls one may need a walk, at least, when the layouts are known: tasks that are preempted, or sleep
/// for another reason while they are about to wait.
const WALKED_ONE_IN: f64 = 4.0;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    // The file system decides on the stack above the wait, and the method on the frames below it.
    let methods = Fs::ALL.map(|fs| ("auto", fs)).into_iter().chain([("tracepoint", Fs::Ext4)]);
    for (method, fs) in methods {
        let name = format!("of_{method}_on_{fs}_tell_writes_from_stores");
        tests.push(
            Test::anywhere(name, move || layouts_tell_contexts_apart(method, fs))
                .requires_traced_loop_device(),
        );
    }
    tests.push(
        Test::anywhere("of_whole_stacks_are_not_used", whole_stacks).requires_traced_loop_device(),
    );
    tests
}

/// One process only writes, another one only stores to mapped memory and calls `msync`, on the same file
/// system at the same time.
fn layouts_tell_contexts_apart(method: &str, fs: Fs) -> Result<()> {
    // xfs has the largest minimum size.
    let scratch = Scratch::with_stable_writes(fs, Disk::loop_device(320)?, true)?;
    let mut workloads = Vec::new();
    for profile in ["a", "b"] {
        let wac = Wac::spawn_paused_with(16, scratch.path(), profile)?;
        workloads.push((profile, wac.pid(), wac));
    }
    let arguments = ["--attach", method, "--min-latency=0", "--ring-size=64MiB"];
    let mut agent = Agent::start(arguments.iter().chain(&["--listen=127.0.0.1:0"]))?;
    for (_, _, wac) in &mut workloads {
        wac.start()?;
    }
    // The agent has read these stalls from the ring, so it has read the samples before them.
    agent.await_stalls(MANY)?;
    let early = Scrape::of(&agent)?;
    agent.await_stalls(MANY)?;
    let late = Scrape::of(&agent)?;
    let mut processes = Vec::new();
    for (profile, pid, wac) in workloads {
        wac.stop()?;
        processes.push((profile, pid));
    }
    let recording = agent.stop()?;

    let between = |metric| late.sum(metric, &[]) - early.sum(metric, &[]);
    let stalls = between("stable_trace_stall_seconds_count");
    let walks = between("stable_trace_stack_walks_total");
    let at_first = early.sum("stable_trace_stack_walks_total", &[]);
    println!("{method} {fs}: {walks} walks for {stalls} stalls, and {at_first} before");
    for (profile, pid) in processes {
        let stalls: Vec<&Stall> = recording.stalls().filter(|stall| stall.pid == pid).collect();
        contexts_match_profile(profile, &stalls)?;
        functions_match_source(fs, &stalls)?;
    }
    ensure!(at_first > 0.0, "no stack was walked at first");
    ensure!(stalls > 0.0 && walks * WALKED_ONE_IN <= stalls, "{walks} walks for {stalls} stalls");
    Ok(())
}

/// With `--stacks` each stall has its own stack up to the place where its task entered the kernel.
fn whole_stacks() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "c")?;
    let pid = wac.pid().to_string();
    let oracle = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;
    let mut agent =
        Agent::start(["--stacks", "--min-latency=0", "--ring-size=64MiB", "--pid", &pid])?;
    wac.start()?;
    agent.await_stalls(MANY)?;
    wac.stop()?;
    let hits = oracle.hits()?;
    let recording = agent.stop()?;

    every_wait_is_accounted_for(recording.summary()?, hits)?;
    for stall in recording.stalls() {
        let outermost = stall.stack.iter().flatten().next_back();
        // entry_SYSCALL_64_after_hwframe or asm_exc_page_fault (arch/x86/entry/entry_64.S).
        let entered = |frame: &String| frame.starts_with("entry_") || frame.starts_with("asm_exc_");
        ensure!(outermost.is_some_and(entered), "a stack that is cut: {stall:?}");
    }
    Ok(())
}
