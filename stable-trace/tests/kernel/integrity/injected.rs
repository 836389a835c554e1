//! Errors in a known number, of every kind that a kernel can inject.

use std::fs;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Check, Operation, PageKind, Source};

use super::on_the_disk;
use crate::bed::direct::Direct;
use crate::bed::failures::{agree, integrity};
use crate::bed::injection::CommandErrors;
use crate::bed::{
    Agent, Disk, Injection, Need, Recording, Test, TracefsInstance, eventually, host, kprobes_on,
    program,
};

/// Commands of each kind that fail.
const EACH: usize = 7;

/// Bytes of a command.
const BLOCK: usize = 4096;

/// EILSEQ: what the caller is told.
const EILSEQ: i32 = 84;

pub fn tests() -> Vec<Test> {
    let mut tests: Vec<_> = ["auto", "fentry", "kprobe", "tracepoint"]
        .into_iter()
        .map(|method| {
            on_the_disk(&format!("every_injected_error_{method}"), move || every_error(method))
        })
        .collect();
    tests.push(
        Test::guest("integrity::a_changed_byte_on_nvme", a_changed_byte)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::NvmePi),
    );
    tests.push(
        Test::guest("integrity::a_driver_that_comes_later", a_driver_comes)
            .needs(Need::Agent)
            .needs(Need::Tracefs)
            .needs(Need::NvmePi)
            .needs(Need::Program("modprobe")),
    );
    tests
}

/// What was injected: each has `EACH` errors, in this order.
struct Injected {
    op: Operation,
    check: Check,
}

/// Guard errors of device and host on every kernel, and of each tag where the driver offers it: one
/// after the other, each a number of times, between commands that do well.
fn every_error(method: &str) -> Result<()> {
    let disk = Disk::pi()?;
    let direct = Direct::open(&disk.path)?;
    let agent = Agent::start(["--attach", method, "--fail-on=integrity", "-q"])?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    let mut injected = Vec::new();
    for opts in [Injection::DEVICE, Injection::HOST] {
        for op in [Operation::Write, Operation::Read] {
            let failing = Injection::with(opts)?;
            fail(&direct, op, EACH)?;
            drop(failing);
            commands_do_well(&direct)?;
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
                commands_do_well(&direct)?;
                injected.push(Injected { op, check });
            }
        }
    }
    let recording = agent.stop()?;

    let status = recording.status.code();
    ensure!(status == Some(4), "--fail-on integrity: {status:?}: {}", recording.errors);
    let count = agree(&recording, &completions, &disk)?;
    ensure!(count == (EACH * injected.len()) as u64, "{count} of {} kinds", injected.len());
    as_injected(&recording, &injected, method)
}

/// One after the other, so in the order of the injection.
fn as_injected(recording: &Recording, injected: &[Injected], method: &str) -> Result<()> {
    // What failed is behind the request; without the types of modules it is said where only a kprobe
    // can be. Who submitted it, where none need be.
    let decoded = host::modules_have_types() || matches!(method, "auto" | "kprobe");
    // A trampoline does not do where its program may be skipped: 7.x preempts it.
    let submitted = match method {
        "tracepoint" => false,
        "fentry" => host::kernel_version() < (7, 0),
        _ => true,
    };
    let errors: Vec<_> = integrity(recording).collect();
    for (kind, errors) in injected.iter().zip(errors.chunks(EACH)) {
        let check = if decoded { kind.check } else { Check::Unknown };
        let strange = errors.iter().find(|error| {
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
        ensure!(strange.is_none(), "not {:?} {:?}: {strange:#?}", kind.op, kind.check);
    }
    Ok(())
}

/// So many commands fail, each at another place.
fn fail(disk: &Direct, op: Operation, count: usize) -> Result<()> {
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

/// What was injected is used up, and the medium is sound.
fn commands_do_well(disk: &Direct) -> Result<()> {
    for n in 0..3 {
        let at = (1 << 20) + n * BLOCK as u64;
        disk.write(at, &[1; BLOCK]).with_context(|| format!("write {n} after the injection"))?;
        disk.read(at, BLOCK).with_context(|| format!("read {n} after the injection"))?;
    }
    Ok(())
}

/// What the driver decodes is read behind the request, or by kprobe before there are types of modules.
fn a_changed_byte() -> Result<()> {
    one_failure(Agent::start(["-q"])?)
}

/// The programs are loaded by then and read through the offsets that they were given, so a kprobe says
/// what was wrong.
fn a_driver_comes() -> Result<()> {
    program::run("modprobe", &["-r", "nvme", "nvme_core"])?;
    let agent = Agent::start(["trace", "-q"])?;
    let planned = agent.started().context("no start")?.probes.clone();
    program::run("modprobe", &["nvme"])?;
    let absent = planned.iter().find(|probe| probe.function == "nvme_error_status");
    let reason = absent.and_then(|probe| probe.reason.as_deref()).unwrap_or_default();
    ensure!(reason.contains("module nvme_core is not loaded"), "{planned:#?}");
    eventually(|| {
        let probed = kprobes_on("nvme_error_status")? == 1;
        Ok((!probed).then(|| "no kprobe on nvme_error_status".to_owned()))
    })?;
    eventually(|| {
        let opened = Disk::nvme_pi().and_then(|disk| Direct::open(&disk.path));
        Ok(opened.err().map(|error| format!("{error:#}")))
    })?;
    one_failure(agent)
}

/// A byte of a block is another: the controller finds it six times, for the driver tries again, and
/// one failure is one.
fn one_failure(agent: Agent) -> Result<()> {
    let disk = Disk::nvme_pi()?;
    let direct = Direct::open(&disk.path)?;
    let image = std::env::var("LAB_NVME_IMAGE").context("LAB_NVME_IMAGE")?;
    let image = fs::OpenOptions::new().write(true).open(&image).context(image)?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    direct.write(0, &vec![0; 8 * BLOCK]).context("cannot write")?;
    image.write_all_at(b"!", 3 * BLOCK as u64 + 100)?;
    for n in 0..8 {
        // Which of them fails is the laboratory's own test.
        let _ = direct.read(n * BLOCK as u64, BLOCK);
    }
    let recording = agent.stop()?;
    let again = direct.write(0, &vec![0; 8 * BLOCK]);

    let count = agree(&recording, &completions, &disk)?;
    let errors: Vec<_> = integrity(&recording).collect();
    ensure!(count == 1 && errors.len() == 1, "{errors:#?}");
    let error = errors[0];
    let place = (error.op, error.sector, error.sectors);
    ensure!(place == (Operation::Read, 3 * 8, 8), "{error:#?}");
    ensure!((error.check, error.source) == (Check::Guard, Source::Nvme), "{error:#?}");
    again.context("cannot write the block anew")
}
