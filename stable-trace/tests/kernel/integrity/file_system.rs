//! Checksums that a file system keeps, and finds wrong on a read: btrfs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use stable_trace_analysis::event::{Cause, Check, IntegrityError, Operation, Source};

use crate::harness::direct_io::DirectFile;
use crate::harness::integrity_failures::integrity;
use crate::harness::scratch::drop_caches;
use crate::harness::{Agent, Disk, Dmesg, Fs, Requirement, Scrape, Scratch, Test, program};
use crate::verdicts::errors_with_verdicts;

/// Blocks of each file. btrfs logs 10 errors in 5 s.
const BLOCKS: u64 = 8;

/// Bytes of a block of btrfs.
const BLOCK: usize = 4096;

/// Bytes that are searched at a time.
const CHUNK: usize = 1 << 20;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::guest("wrong_checksums_of_btrfs_name_the_file", wrong_checksums)
            .requires(Requirement::Agent)
            .requires(Requirement::Program("btrfs"))
            // BTF of modules.
            .requires(Requirement::KernelFrom(5, 11)),
    ]
}

/// Files with the same inode number in two subvolumes, whose blocks are changed on the medium.
fn wrong_checksums() -> Result<()> {
    let scratch = Scratch::new(Fs::Btrfs, Disk::loop_device(256)?)?;
    let subvolume = scratch.path().join("subvolume");
    program::run("btrfs", &["-q", "subvolume", "create", &subvolume.to_string_lossy()])?;
    let paths = [scratch.path().join("file"), subvolume.join("file")];
    for path in &paths {
        let content = [marker(path).as_slice(), &[0xa5; BLOCK]].concat();
        fs::write(path, content[..BLOCK].repeat(usize::try_from(BLOCKS)?))?;
    }
    let inodes = [fs::metadata(&paths[0])?.ino(), fs::metadata(&paths[1])?.ino()];
    ensure!(inodes[0] == inodes[1], "the inodes {inodes:?} do not show whether subvolumes differ");
    drop_caches()?;
    let changed = change_blocks(scratch.disk(), &paths.each_ref().map(|path| marker(path)))?;
    ensure!(changed == 2 * BLOCKS, "{changed} blocks of the files are on the disk");
    drop_caches()?;

    let agent = Agent::start(["-q", "--listen=127.0.0.1:0"])?;
    let mut log = Dmesg::from_now()?;
    let before = corruption_errors(scratch.path())?;
    for path in &paths {
        let file = File::open(path)?;
        for block in 0..BLOCKS {
            let read = file.read_exact_at(&mut [0; BLOCK], block * BLOCK as u64);
            ensure!(read.is_err(), "block {block} of {} could be read", path.display());
        }
    }
    let counted = corruption_errors(scratch.path())? - before;
    let scraped =
        Scrape::of(&agent)?.sum("stable_trace_integrity_errors_total", &[("source", "filesystem")]);
    let logged = logged_blocks(&log.messages()?)?;
    let recording = agent.stop()?;

    ensure!(counted >= 2 * BLOCKS, "btrfs counted {counted} errors");
    ensure!(
        scraped.to_string() == counted.to_string(),
        "{scraped} in the metrics, {counted} counted by btrfs"
    );
    let errors: Vec<_> = integrity(&recording).collect();
    ensure!(errors.len() as u64 == counted, "{} events of {counted} errors", errors.len());
    ensure!(recording.summary()?.integrity_errors_total == counted, "the summary differs");
    let mut named: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for error in &errors {
        let IntegrityError { op, check, source, device, sectors, fs, .. } = error;
        ensure!((*op, *check, *source) == (Operation::Read, Check::Guard, Source::Filesystem));
        ensure!(device.as_ref() == Some(&scratch.disk().name), "on {device:?}");
        ensure!(*sectors == BLOCK as u64 / 512, "{sectors} sectors");
        ensure!(fs.as_deref() == Some("btrfs"), "on {fs:?}");
        let page = error.pages.first().context("an event has no page")?;
        if let Some(index) = page.index {
            ensure!(page.ino == Some(inodes[0]), "{page:?}");
            let path = error.path.clone().with_context(|| format!("no path: {error:#?}"))?;
            *named.entry((path, index * BLOCK as u64)).or_default() += 1;
        }
    }
    // The top-level tree is number 5; the other one is that of the subvolume.
    let expected = logged.into_iter().map(|((root, at), count)| {
        let path = if root == 5 { &paths[0] } else { &paths[1] };
        ((path.to_string_lossy().into_owned(), at), count)
    });
    let expected: BTreeMap<_, _> = expected.collect();
    ensure!(!expected.is_empty(), "btrfs has logged nothing");
    ensure!(named == expected, "named {named:#?}, logged {expected:#?}");
    for (_, verdict) in errors_with_verdicts(&recording)? {
        ensure!(verdict.cause == Cause::Unknown, "{verdict:#?}");
    }
    Ok(())
}

/// What each block of a file begins with.
fn marker(path: &Path) -> [u8; 64] {
    let mut marker = [b'.'; 64];
    let name = path.to_string_lossy();
    let end = name.as_bytes();
    let length = end.len().min(marker.len());
    marker[..length].copy_from_slice(&end[end.len() - length..]);
    marker
}

/// Changes one byte of each block that begins with one of these.
fn change_blocks(disk: &Disk, markers: &[[u8; 64]]) -> Result<u64> {
    let device = DirectFile::open(&disk.path)?;
    let bytes = disk.sectors()? * 512;
    let mut changed = 0;
    for chunk in (0..bytes).step_by(CHUNK) {
        let data = device.read(chunk, CHUNK)?;
        for (number, block) in (0_u64..).zip(data.chunks(BLOCK)) {
            if markers.iter().any(|marker| block.starts_with(marker)) {
                let mut block = block.to_vec();
                block[BLOCK / 2] ^= 1;
                device.write(chunk + number * BLOCK as u64, &block)?;
                changed += 1;
            }
        }
    }
    Ok(changed)
}

/// The wrong checksums that btrfs has counted.
fn corruption_errors(mount_point: &Path) -> Result<u64> {
    let text = program::run("btrfs", &["device", "stats", &mount_point.to_string_lossy()])?;
    let line = text.lines().find(|line| line.contains(".corruption_errs"));
    let count = line.and_then(|line| line.split_whitespace().last());
    count.and_then(|count| count.parse().ok()).with_context(|| format!("no count in {text}"))
}

/// How often btrfs has logged each block: by the number of its tree, and its place in the file.
fn logged_blocks(messages: &[String]) -> Result<BTreeMap<(u64, u64), u64>> {
    let mut logged = BTreeMap::new();
    for message in messages {
        let Some((_, text)) = message.split_once("csum failed root ") else {
            continue;
        };
        let words: Vec<_> = text.split(' ').collect();
        let [root, "ino", _, "off", at, ..] = words[..] else {
            anyhow::bail!("unknown message: {message}");
        };
        *logged.entry((root.parse()?, at.parse()?)).or_default() += 1;
    }
    Ok(logged)
}
