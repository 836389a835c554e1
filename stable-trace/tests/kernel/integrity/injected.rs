//! Known numbers of errors of every kind that a kernel can inject.

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Check, Operation, PageKind, Source};

use super::on_pi_disk;
use crate::harness::corrupt_blocks::corrupt_nvme_byte;
use crate::harness::direct_io::DirectFile;
use crate::harness::error_injection::CommandErrors;
use crate::harness::integrity_failures::{agent_agrees_with_tracefs, integrity};
use crate::harness::{
    Agent, Disk, Injection, Recording, Requirement, Test, TracefsInstance, host, kprobes_on,
    live_kprobes_on, program, wait_until,
};

/// Failing commands of each kind.
const EACH: usize = 7;

/// Bytes of a command.
const BLOCK: usize = 4096;

/// EILSEQ: the error that the caller gets.
const EILSEQ: i32 = 84;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests: Vec<_> = ["auto", "fentry", "kprobe", "tracepoint"]
        .into_iter()
        .map(|method| {
            on_pi_disk(&format!("every_injected_error_is_reported_{method}"), move || {
                every_error(method)
            })
        })
        .collect();
    tests.push(Test::guest("a_corrupt_nvme_block_is_one_error", a_corrupt_block).requires_all([
        Requirement::Agent,
        Requirement::Tracefs,
        Requirement::NvmePi,
    ]));
    tests.push(Test::guest("a_driver_loaded_later_is_probed", a_driver_is_loaded).requires_all([
        Requirement::Agent,
        Requirement::Tracefs,
        Requirement::NvmePi,
        Requirement::Program("modprobe"),
    ]));
    tests.push(
        Test::guest("a_driver_loaded_again_is_probed_again", a_driver_is_loaded_again)
            .requires_all([
                Requirement::Agent,
                Requirement::Tracefs,
                Requirement::NvmePi,
                Requirement::Program("modprobe"),
            ]),
    );
    tests
}

/// One injected kind, with `EACH` errors.
struct Injected {
    op: Operation,
    check: Check,
}

/// Injects guard errors of device and host on every kernel, and errors of each tag where the driver
/// offers them, one kind after the other with successful commands in between.
fn every_error(method: &str) -> Result<()> {
    let disk = Disk::pi()?;
    let direct = DirectFile::open(&disk.path)?;
    let agent = Agent::start(["--attach", method, "--fail-on=integrity", "-q"])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    let mut injected = Vec::new();
    for opts in [Injection::DEVICE, Injection::HOST] {
        for op in [Operation::Write, Operation::Read] {
            let failing = Injection::with(opts)?;
            fail(&direct, op, EACH)?;
            drop(failing);
            commands_succeed(&direct)?;
            injected.push(Injected { op, check: Check::Guard });
        }
    }
    if let Some(errors) = CommandErrors::of(&disk)? {
        for (qualifier, check) in
            [(1, Check::Guard), (2, Check::ApplicationTag), (3, Check::ReferenceTag)]
        {
            for (op, opcode) in [(Operation::Write, 0x2a), (Operation::Read, 0x28)] {
                let (key, asc) = (if op == Operation::Write { 5 } else { 0xb }, 0x10);
                errors.inject(EACH, opcode, key, asc, qualifier)?;
                fail(&direct, op, EACH)?;
                commands_succeed(&direct)?;
                injected.push(Injected { op, check });
            }
        }
    }
    let recording = agent.stop()?;

    let status = recording.status.code();
    ensure!(status == Some(4), "exit status with --fail-on: {status:?}: {}", recording.errors);
    let count = agent_agrees_with_tracefs(&recording, &completions, &disk)?;
    ensure!(count == (EACH * injected.len()) as u64, "{count} of {} kinds", injected.len());
    as_injected(&recording, &injected, method)
}

/// Commands fail one after the other, so the errors have the order of the injection.
fn as_injected(recording: &Recording, injected: &[Injected], method: &str) -> Result<()> {
    // Reading the check needs BTF of modules or a kprobe. Reading the submitter needs fentry or a
    // kprobe; fentry is unsuitable where the kernel skips programs: 7.x preempts them.
    let decoded = host::modules_have_btf() || matches!(method, "auto" | "kprobe");
    let submitted = match method {
        "tracepoint" => false,
        "fentry" => !host::preempts_programs(),
        _ => true,
    };
    let errors: Vec<_> = integrity(recording).collect();
    for (kind, errors) in injected.iter().zip(errors.chunks(EACH)) {
        let check = if decoded { kind.check } else { Check::Unknown };
        let unexpected = errors.iter().find(|error| {
            error.op != kind.op
                || error.check != check
                || error.source != Source::Scsi
                || error.status != "EILSEQ"
                || error.pages.len() != 1
                || error.pages.iter().any(|page| page.kind != PageKind::Anonymous)
                || error.pages_total.is_some()
                || error.path.is_some()
                || error.pid != submitted.then(std::process::id)
        });
        ensure!(unexpected.is_none(), "not {:?} {:?}: {unexpected:#?}", kind.op, kind.check);
    }
    Ok(())
}

/// Runs `count` commands at different offsets and checks that each fails.
fn fail(disk: &DirectFile, op: Operation, count: usize) -> Result<()> {
    for n in 0..count {
        let at = (n * 3 * BLOCK) as u64;
        let done = match op {
            Operation::Read => disk.read(at, BLOCK).map(drop),
            Operation::Write => disk.write(at, &[7; BLOCK]),
        };
        let errno = done.err().and_then(|error| error.raw_os_error());
        ensure!(errno == Some(EILSEQ), "{op:?} {n} of {count} got {errno:?}");
    }
    Ok(())
}

/// No injected error is left, and the medium is intact.
fn commands_succeed(disk: &DirectFile) -> Result<()> {
    for n in 0..3 {
        let at = (1 << 20) + n * BLOCK as u64;
        disk.write(at, &[1; BLOCK]).with_context(|| format!("write {n} after the injection"))?;
        disk.read(at, BLOCK).with_context(|| format!("read {n} after the injection"))?;
    }
    Ok(())
}

/// The agent reads the driver's decoded status behind the request, or by kprobe without BTF of
/// modules.
fn a_corrupt_block() -> Result<()> {
    one_failure(Agent::start(["-q"])?)
}

/// The programs are loaded before the driver and lack its offsets, so a kprobe reads the status.
fn a_driver_is_loaded() -> Result<()> {
    program::run("modprobe", &["-r", "nvme", "nvme_core"])?;
    let agent = Agent::start(["trace", "-q"])?;
    let planned = agent.started().context("no `start` line")?.probes.clone();
    program::run("modprobe", &["nvme"])?;
    let absent = planned.iter().find(|probe| probe.function == "nvme_error_status");
    let reason = absent.and_then(|probe| probe.reason.as_deref()).unwrap_or_default();
    ensure!(reason.contains("module nvme_core is not loaded"), "{planned:#?}");
    driver_is_probed()?;
    one_failure(agent)
}

/// The probe on the old module is dead, and the agent may not have seen that the module was gone. Of a driver that is
/// loaded before the agent, no function is probed on kernels that describe its structures.
fn a_driver_is_loaded_again() -> Result<()> {
    program::run("modprobe", &["-r", "nvme", "nvme_core"])?;
    let agent = Agent::start(["trace", "-q"])?;
    program::run("modprobe", &["nvme"])?;
    driver_is_probed()?;
    program::run("modprobe", &["-r", "nvme", "nvme_core"])?;
    program::run("modprobe", &["nvme"])?;
    driver_is_probed()?;
    one_failure(agent)
}

/// Waits until the NVMe driver has its probe, and its disk is there.
fn driver_is_probed() -> Result<()> {
    wait_until(|| {
        let [all, live] = [kprobes_on("nvme_error_status")?, live_kprobes_on("nvme_error_status")?];
        let probed = (all, live) == (1, 1);
        Ok((!probed).then(|| format!("{live} of {all} kprobes on nvme_error_status are live")))
    })?;
    wait_until(|| {
        let opened = Disk::nvme_pi().and_then(|disk| DirectFile::open(&disk.path));
        Ok(opened.err().map(|error| format!("{error:#}")))
    })
}

/// The controller fails the read of a corrupt block six times, because the driver retries it: that
/// is one error.
fn one_failure(agent: Agent) -> Result<()> {
    let disk = Disk::nvme_pi()?;
    let direct = DirectFile::open(&disk.path)?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    direct.write(0, &vec![0; 8 * BLOCK]).context("cannot write")?;
    corrupt_nvme_byte(3 * BLOCK as u64 + 100)?;
    for n in 0..8 {
        // `laboratory.rs` tests which of them fails.
        let _ = direct.read(n * BLOCK as u64, BLOCK);
    }
    let recording = agent.stop()?;
    let repaired = direct.write(0, &vec![0; 8 * BLOCK]);

    let count = agent_agrees_with_tracefs(&recording, &completions, &disk)?;
    let errors: Vec<_> = integrity(&recording).collect();
    ensure!(count == 1 && errors.len() == 1, "{errors:#?}");
    let error = errors[0];
    let location = (error.op, error.sector, error.sectors);
    ensure!(location == (Operation::Read, Some(3 * 8), 8), "{error:#?}");
    ensure!((error.check, error.source) == (Check::Guard, Source::Nvme), "{error:#?}");
    repaired.context("cannot overwrite the corrupt block")
}
