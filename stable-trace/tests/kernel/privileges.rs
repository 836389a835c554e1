//! The privileges that the agent keeps while it runs, by thread, as docs/security.md lists them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use stable_trace_analysis::event::Event;

use crate::harness::thread_privileges::{
    BPF, DAC_OVERRIDE, DAC_READ_SEARCH, KILL, PERFMON, SYS_ADMIN, SYS_PTRACE, SYSLOG,
    ThreadPrivileges,
};
use crate::harness::{
    Agent, Disk, Fs, KernelFile, Recording, Requirement, Scrape, Scratch, Test, TracefsInstance,
    Wac, every_wait_is_accounted_for, host, kprobes_on, program, wait_until,
};

/// What the thread that loads programs keeps.
const TRACING: u64 = BPF | PERFMON | SYSLOG | DAC_READ_SEARCH | SYS_PTRACE;

/// What README and docs/security.md ask an ordinary user to have.
const DOCUMENTED: [&str; 4] = ["bpf", "perfmon", "syslog", "dac_read_search"];

/// Who may open performance events.
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Stalls that a test waits for before it stops the workload.
const MANY: u64 = 5_000;

/// An emulated machine takes long to start a workload.
const START: Duration = Duration::from_mins(2);

/// The user without any file of its own.
const NOBODY: &str = "65534";

pub(crate) fn tests() -> Vec<Test> {
    let anywhere = |name: &str, body: fn() -> Result<()>| {
        Test::anywhere(name, body).requires_traced_loop_device()
    };
    vec![
        anywhere("of_each_thread_are_the_documented_ones", threads_of_trace),
        anywhere("of_run_include_signals_to_the_command", threads_of_run),
        anywhere("of_wac_include_signals_to_the_workload", threads_of_wac),
        anywhere("of_a_command_are_those_of_its_caller", command_has_the_callers),
        anywhere("reach_a_command_of_another_user", command_of_another_user)
            .requires(Requirement::Program("setpriv")),
        Test::guest("without_sys_admin_suffice_for_later_modules", later_module).requires_all([
            Requirement::Agent,
            Requirement::Tracefs,
            Requirement::Program("modprobe"),
        ]),
        anywhere("without_root_suffice_to_count_every_stall", || {
            with_performance_events(documented_set)
        })
        .requires_all([Requirement::Program("setpriv"), Requirement::Program("prlimit")])
        // util-linux of 5.10's Debian has no names for them, but the guests share one.
        .requires(Requirement::KernelFrom(5, 8)),
    ]
}

/// The threads that write the stream and the messages.
const WRITERS: [(&str, u64); 2] = [("messages", 0), ("stdout", 0)];

/// Waits until the agent's threads have exactly these capabilities, where this process has them: the
/// first one, the one that reads tables of device mapper, those that write, and others.
fn await_privileges(agent: &Agent, tracing: u64, others: &[(&str, u64)]) -> Result<()> {
    let own = ThreadPrivileges::own()?;
    let first = first_thread()?;
    // With the capability, the first thread reads the tables itself.
    let all = if events_need_admin()? {
        vec![(first.as_str(), tracing | SYS_ADMIN)]
    } else {
        vec![(first.as_str(), tracing), ("device-mapper", SYS_ADMIN)]
    };
    let expected = all
        .iter()
        .chain(&WRITERS)
        .chain(others)
        .map(|(name, set)| {
            ((*name).to_owned(), ThreadPrivileges::restricted_to(set & own.permitted))
        })
        .collect();
    await_threads(agent.pid(), expected)
}

/// Whether performance events need `CAP_SYS_ADMIN`, as docs/security.md says.
fn events_need_admin() -> Result<bool> {
    Ok(fs::read_to_string(PARANOID)?.trim().parse::<i32>()? > 2)
}

fn await_threads(pid: u32, mut expected: Vec<(String, ThreadPrivileges)>) -> Result<()> {
    expected.sort_by(|(name, _), (other, _)| name.cmp(other));
    wait_until(|| {
        let found = ThreadPrivileges::of_threads(pid)?;
        Ok((found != expected).then(|| format!("the threads have {found:#?}, not {expected:#?}")))
    })?;
    println!("threads of {pid}: {expected:?}");
    Ok(())
}

/// The name of the agent's first thread.
fn first_thread() -> Result<String> {
    let program = Agent::program();
    let name = program.file_name().context("the agent has no name")?.to_string_lossy();
    // `TASK_COMM_LEN`, include/linux/sched.h.
    Ok(name.chars().take(15).collect())
}

fn threads_of_trace() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let evidence = format!("--keep-evidence={}", folder.path().display());
    let agent = Agent::start(["trace", "--listen=127.0.0.1:0", &evidence])?;
    Scrape::of(&agent)?;
    await_privileges(&agent, TRACING, &[("metrics", 0), ("evidence", DAC_OVERRIDE)])?;
    finished_well(&agent.stop()?)
}

fn threads_of_run() -> Result<()> {
    let agent = Agent::start(["run", "--listen=127.0.0.1:0", "--", "sleep", "600"])?;
    await_privileges(&agent, TRACING | KILL, &[("metrics", 0)])?;
    agent.signal(Signal::TERM)?;
    let recording = agent.wait()?;
    ensure!(recording.status.code() == Some(128 + 15), "{}", recording.status);
    Ok(())
}

fn threads_of_wac() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let path = format!("--path={}", scratch.path().display());
    let mut agent =
        Agent::start(["wac", "--profile=a", "--duration=60s", &path, "--min-latency=1s"])?;
    await_privileges(&agent, TRACING | KILL, &[])?;
    // Earlier, a signal would end the workload before it can handle it.
    agent.await_line(START, |event| matches!(event, Event::Workload(_)))?;
    finished_well(&agent.stop()?)
}

fn finished_well(recording: &Recording) -> Result<()> {
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    ensure!(!recording.errors.contains("warning"), "{}", recording.errors);
    recording.summary()?;
    Ok(())
}

/// The command writes its privileges to a file once the agent has given its own up.
fn command_has_the_callers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (go, status) = (folder.path().join("go"), folder.path().join("status"));
    let script = format!(
        "until [ -e {} ] || ! kill -0 $PPID; do sleep 0.1; done; cat /proc/self/status >{}",
        go.display(),
        status.display()
    );
    let agent = Agent::start(["run", "--", "sh", "-c", &script])?;
    await_privileges(&agent, TRACING | KILL, &[])?;
    fs::write(&go, "")?;
    finished_well(&agent.wait()?)?;
    let text = fs::read_to_string(&status)?;
    let (_, found) = ThreadPrivileges::parse(&text).context("the status is incomplete")?;
    let own = ThreadPrivileges::own()?;
    ensure!(found == own, "the command has {found:?}, its caller has {own:?}");
    println!("the command: {found:?}");
    Ok(())
}

/// SIGTERM of the agent reaches a command that has left root.
fn command_of_another_user() -> Result<()> {
    let words =
        ["--", "setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "sleep", "600"];
    let agent = Agent::start([["run"].as_slice(), &words].concat())?;
    await_privileges(&agent, TRACING | KILL, &[])?;
    agent.signal(Signal::TERM)?;
    let recording = agent.wait()?;
    ensure!(recording.status.code() == Some(128 + 15), "{}", recording.status);
    Ok(())
}

/// `degradation::a_module_loaded_later_is_probed`, where the kernel is as it is upstream: Debian's asks
/// for `CAP_SYS_ADMIN`.
fn later_module() -> Result<()> {
    if Path::new("/sys/module/btrfs").exists() {
        program::run("modprobe", &["-r", "btrfs"])?;
    }
    with_performance_events(probes_later_module)
}

/// Runs a test where the kernel opens performance events without `CAP_SYS_ADMIN`, as docs/security.md tells Debian's
/// users to have it.
fn with_performance_events(body: fn() -> Result<()>) -> Result<()> {
    if !events_need_admin()? {
        return body();
    }
    let _permitted = KernelFile::set(PARANOID, "2")?;
    body()
}

fn probes_later_module() -> Result<()> {
    let agent = Agent::start(["trace"])?;
    await_privileges(&agent, TRACING, &[])?;
    program::run("modprobe", &["btrfs"])?;
    wait_until(|| {
        let kprobes = kprobes_on("btrfs_dirty_pages")? + kprobes_on("btrfs_dirty_folio")?;
        Ok((kprobes == 0).then(|| "no kprobe on btrfs".to_owned()))
    })?;
    finished_well(&agent.stop()?)
}

/// An ordinary user with the documented capabilities counts what tracefs counts.
fn documented_set() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(320)?, true)?;
    let mut wac = Wac::spawn_paused(scratch.path(), "a")?;
    let pid = wac.pid().to_string();
    let oracle = TracefsInstance::recording_process(&host::wait_event(), wac.pid())?;

    let set = DOCUMENTED.iter().fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
    let (inheritable, ambient) = (format!("--inh-caps={set}"), format!("--ambient-caps={set}"));
    let bounding = format!("--bounding-set={set}");
    let program = Agent::program();
    let program = program.to_string_lossy();
    let mut command = Vec::new();
    if host::kernel_version() < (5, 11) {
        // Maps count against it there.
        command.extend(["prlimit", "--memlock=unlimited"]);
    }
    command.extend(["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    command.extend([&inheritable, &ambient, &bounding, &*program]);
    command.extend(["--min-latency=0", "--pid", &pid]);
    let mut agent = Agent::start_program(Path::new(command[0]), &command[1..])?;
    let kept = BPF | PERFMON | SYSLOG | DAC_READ_SEARCH;
    // Without CAP_SETPCAP the bounding set stays; `no_new_privs` makes it of no use.
    let of = |set| ThreadPrivileges { bounding: kept, ..ThreadPrivileges::restricted_to(set) };
    let mut expected = vec![(first_thread()?, of(kept))];
    expected.extend(WRITERS.map(|(name, set)| (name.to_owned(), of(set))));
    await_threads(agent.pid(), expected)?;

    wac.start()?;
    agent.await_stalls(MANY)?;
    let work = wac.stop()?;
    ensure!(work.operations > 0 && work.errors.is_empty(), "the workload fails: {work:?}");
    let hits = oracle.hits()?;
    let recording = agent.stop()?;
    ensure!(recording.status.success(), "{}: {}", recording.status, recording.errors);
    let summary = recording.summary()?;
    println!("{hits} waits by tracefs, {} stalls", summary.stalls_total);
    every_wait_is_accounted_for(summary, hits)
}
