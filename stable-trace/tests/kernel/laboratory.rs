//! Tests of the laboratory: its disks and oracles have the properties that the other tests rely on.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::harness::corrupt_blocks::corrupt_nvme_byte;
use crate::harness::direct_io::DirectFile;
use crate::harness::function_graph::{call, calls};
use crate::harness::scratch::drop_caches;
use crate::harness::unreadable_blocks;
use crate::harness::{
    Agent, Disk, Dmesg, Fs, FunctionGraph, Injection, Requirement, Scratch, SlowDisk, Test,
    TracefsInstance, host,
};

/// EILSEQ: the block layer's error for a failed integrity check.
const EILSEQ: i32 = 84;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::guest("the_dif_disk_has_protection_information", || {
            the_disk_has_protection_information(&Disk::pi()?)
        })
        .requires(Requirement::PiDisk),
        Test::anywhere("tracefs_counts_events_that_it_overwrites", overwritten_events)
            .requires_all([Requirement::Root, Requirement::Tracefs]),
        Test::guest("the_nvme_disk_has_protection_information", || {
            the_disk_has_protection_information(&Disk::nvme_pi()?)
        })
        .requires(Requirement::NvmePi),
        Test::guest("the_plain_disk_has_no_protection_information", plain_disk)
            .requires(Requirement::PlainDisk),
        Test::guest("the_oracles_see_each_injected_guard_error", injected_guard_errors)
            .requires(Requirement::PiDisk)
            .requires(Requirement::Tracefs),
        Test::guest("one_corrupt_byte_fails_one_nvme_read", one_corrupt_byte_fails_one_nvme_read)
            .requires(Requirement::NvmePi)
            .requires(Requirement::Tracefs),
        Test::guest("the_graph_tracer_sees_waits", the_graph_tracer_sees_waits)
            .requires(Requirement::PiDisk)
            .requires(Requirement::Tracer("function_graph")),
        Test::anywhere(
            "a_loop_device_is_mounted_and_detached",
            loop_device_is_mounted_and_detached,
        )
        .requires(Requirement::Root)
        .requires(Requirement::Program("losetup")),
        Test::anywhere("the_harness_reads_the_output_of_an_agent", agent_output_is_read),
        Test::anywhere("the_harness_parses_lines_of_the_graph_tracer", graph_lines_are_parsed),
    ];
    for fs in Fs::ALL {
        tests.push(
            Test::guest(format!("{fs}_keeps_data_on_the_dif_disk"), move || {
                data_is_kept(fs, Disk::pi()?)
            })
            .requires(Requirement::PiDisk),
        );
        let on_nvme = Test::guest(format!("{fs}_keeps_data_on_the_nvme_disk"), move || {
            data_is_kept(fs, Disk::nvme_pi()?)
        })
        .requires(Requirement::NvmePi);
        // mkfs.xfs uses the disk's command to write zeros, for which 5.10's driver requests no
        // tags: reads of these blocks fail (seen on 5.10, not on 6.1 and later).
        tests.push(if fs == Fs::Xfs {
            on_nvme.requires(Requirement::KernelFrom(6, 1))
        } else {
            on_nvme
        });
    }
    tests
}

fn the_disk_has_protection_information(disk: &Disk) -> Result<()> {
    let format = disk.integrity_format();
    ensure!(format.as_deref() == Some("T10-DIF-TYPE1-CRC"), "{}: {format:?}", disk.name);
    Ok(())
}

fn plain_disk() -> Result<()> {
    let disk = Disk::plain()?;
    // Newer kernels have `none` in the file, older ones no file.
    let format = disk.integrity_format();
    ensure!(format.as_deref().is_none_or(|format| format == "none"), "{format:?}");
    let before = disk.attribute("queue/stable_writes");
    ensure!(before.as_deref() == Some("0"), "stable_writes is {before:?}");
    Ok(())
}

/// Data that was written, dropped from the cache and read back is unchanged, and the kernel logs no
/// error.
fn data_is_kept(fs: Fs, disk: Disk) -> Result<()> {
    let mut dmesg = Dmesg::from_now()?;
    let scratch = Scratch::new(fs, disk)?;
    let path = scratch.path().join("data");
    let data: Vec<u8> =
        (0..1_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut file = File::create(&path).context("cannot create a file")?;
    file.write_all(&data).and_then(|()| file.sync_all()).context("cannot write")?;
    drop(file);

    drop_caches()?;
    let back = fs::read(&path).context("cannot read back")?;

    ensure!(back == data, "the data has changed");
    let errors = dmesg.integrity_errors()?;
    ensure!(errors.is_empty(), "the kernel logs errors: {errors:?}");
    Ok(())
}

fn injected_guard_errors() -> Result<()> {
    let disk = DirectFile::open(&Disk::pi()?.path)?;
    let mut dmesg = Dmesg::from_now()?;
    let completions = TracefsInstance::recording_integrity_completions()?;
    let failing = Injection::into_every_command()?;

    let errors: Vec<_> = (0..10).map(|n| disk.read_errno(n * 4096, 4096)).collect();
    drop(failing);

    ensure!(errors == [Some(EILSEQ); 10], "the reads end with {errors:?}");
    let lines = completions.lines()?;
    ensure!(lines.len() == 10, "tracefs has {}: {lines:#?}", lines.len());
    ensure!(!dmesg.integrity_errors()?.is_empty(), "dmesg has no message");
    disk.read(0, 4096).context("the disk does not recover")?;
    Ok(())
}

fn overwritten_events() -> Result<()> {
    const EVENTS: usize = 5_000;
    let instance = TracefsInstance::overflowing(EVENTS)?;
    ensure!(instance.lines().is_err(), "nothing was overwritten");
    let hits = instance.hits()?;
    ensure!(hits == EVENTS as u64, "tracefs counts {hits} of {EVENTS} events");
    Ok(())
}

fn one_corrupt_byte_fails_one_nvme_read() -> Result<()> {
    let nvme = Disk::nvme_pi()?;
    let disk = DirectFile::open(&nvme.path)?;
    disk.write(0, &vec![b'?'; 8 * 4096]).context("cannot write")?;
    corrupt_nvme_byte(3 * 4096 + 100)?;
    let completions = TracefsInstance::recording_integrity_completions()?;

    let errors: Vec<_> = (0..8).map(|n| disk.read_errno(n * 4096, 4096)).collect();

    let mut expected = [None; 8];
    expected[3] = Some(EILSEQ);
    ensure!(errors == expected, "the reads end with {errors:?}");
    ensure!(completions.count()? == 1, "tracefs has {:#?}", completions.lines()?);

    let rewritten = unreadable_blocks::rewrite(&nvme)?;
    ensure!(rewritten == 1, "{rewritten} blocks were rewritten");
    let bytes = disk.read(2 * 4096, 2 * 4096).context("the block is still unreadable")?;
    let (before, corrupt) = bytes.split_at(4096);
    ensure!(before == [b'?'; 4096], "another block was rewritten");
    ensure!(corrupt == [0; 4096], "the block was not completely rewritten");
    Ok(())
}

/// Two threads rewrite one page of a slow disk and sync it: they wait for its writeback.
fn the_graph_tracer_sees_waits() -> Result<()> {
    let scratch = Scratch::new(Fs::Ext4, Disk::pi()?)?;
    let path = scratch.path().join("page");
    fs::write(&path, [0; 4096]).context("cannot create a file")?;
    let _slow = SlowDisk::new(scratch.disk(), Duration::from_millis(2), 4)?;
    let graph = FunctionGraph::of(host::wait_function())
        .in_process(std::process::id())
        .at_least(Duration::from_micros(500))
        .start()?;

    let rewrite = || -> Result<()> {
        let file = fs::OpenOptions::new().write(true).open(&path)?;
        for n in 0..20 {
            std::os::unix::fs::FileExt::write_all_at(&file, &[n; 4096], 0)?;
            file.sync_data()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(rewrite), scope.spawn(rewrite)];
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;

    let calls = graph.finish()?;
    ensure!(calls.len() >= 20, "only {} waits: {calls:#?}", calls.len());
    let unexpected = calls.iter().find(|call| {
        call.function != host::wait_function()
            || call.duration < Duration::from_micros(500)
            || call.duration > Duration::from_secs(10)
    });
    ensure!(unexpected.is_none(), "{unexpected:?}");
    Ok(())
}

fn loop_device_is_mounted_and_detached() -> Result<()> {
    let scratch = Scratch::with_stable_writes(Fs::Ext4, Disk::loop_device(64)?, true)?;
    let name = scratch.disk().name.clone();
    ensure!(scratch.disk().attribute("queue/stable_writes").as_deref() == Some("1"));
    fs::write(scratch.path().join("file"), "data").context("cannot write")?;
    let folder = scratch.path().to_owned();
    drop(scratch);
    ensure!(!folder.exists(), "{} is still there", folder.display());
    let backing = format!("/sys/block/{name}/loop/backing_file");
    ensure!(!fs::exists(&backing)?, "{name} is still attached");
    Ok(())
}

/// A shell script stands in for the agent, so that this tests only the harness.
fn agent_output_is_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("agent");
    fs::write(
        &program,
        r#"#!/bin/sh
time='"time":"2026-01-01T00:00:00.000000000Z"'
trap 'echo "{\"seq\":2,$time,\"type\":\"lost\",\"count\":3,\"since_seq\":1}"; exit 4' INT
echo warning >&2
echo "{\"seq\":1,$time,\"type\":\"start\",\"version\":\"$*\",\"kernel\":\"\",\"arch\":\"\",\"hostname\":\"\",\"probes\":[],\"devices\":[]}"
n=0; while [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
"#,
    )?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let agent = Agent::start_program(&program, ["run", "--", "true"])?;
    ensure!(
        agent
            .started()
            .is_some_and(|start| start.version == "run --listen=off --format json -- true")
    );
    let recording = agent.stop()?;
    ensure!(recording.status.code() == Some(4), "{recording:?}");
    ensure!(recording.lines.len() == 2 && recording.errors == "warning\n", "{recording:?}");
    ensure!(recording.summary().is_err(), "a summary was found where there is none");
    Ok(())
}

fn graph_lines_are_parsed() -> Result<()> {
    let end = " 1)  wac-a b-1234   | ! 250.125 us  |  } /* folio_wait_writeback */";
    let read = call(end).context("the end of a call is not parsed")?;
    ensure!(read.function == "folio_wait_writeback" && read.tid == 1234, "{read:?}");
    ensure!(read.comm == "wac-a b" && read.duration == Duration::from_nanos(250_125), "{read:?}");
    let leaf = call(" 0)   sh-7    |   0.500 us    |  wait_on_page_writeback();");
    ensure!(leaf.is_some_and(|call| call.function == "wait_on_page_writeback"));
    for other in [
        " 1)   sh-7    |               |  folio_wait_writeback() {",
        " 0)   sh-7    =>  wac-8 ",
        " ------------------------------------------",
    ] {
        ensure!(call(other).is_none(), "{other}");
    }
    let event = " 1)  wac-a b-1234   |               |  /* folio_wait_writeback: bdi 8:0 */";
    let switch = " 1)  wac-a b-1234   |               |  /* sched_switch: prev_state=D ==> */";
    let leaf = " 0)   sh-7    |   0.500 us    |  wait_on_page_writeback();";
    let lines = [event, leaf, end, switch, end, event, switch, end];
    let marks: Vec<_> = calls(&lines.map(str::to_owned))
        .iter()
        .map(|call| (call.tid, call.had_event, call.switched, call.slept))
        .collect();
    let expected = [
        (7, false, false, false),
        (1234, true, false, false),
        (1234, false, false, false),
        (1234, true, true, true),
    ];
    ensure!(marks == expected, "{marks:?}");
    Ok(())
}
