//! A FUSE file system with one file, which this process serves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyWrite,
    Request, WriteFlags,
};
use tempfile::TempDir;

use super::program;

/// Bytes of the file.
const SIZE: u64 = 1 << 20;

/// How long a write takes.
const DELAY: Duration = Duration::from_millis(2);

/// How long the kernel may remember names and attributes.
const TTL: Duration = Duration::from_mins(1);

const NAME: &str = "data";
const FILE: INodeNo = INodeNo(2);

/// The mounted file system. Unmounted on drop.
pub(crate) struct FuseServer {
    file: PathBuf,
    gate: Gate,
    session: Option<BackgroundSession>,
    folder: TempDir,
}

impl FuseServer {
    /// Mounts it with this source.
    pub(crate) fn mount(source: &str) -> Result<Self> {
        Self::mount_with(source, TTL)
    }

    /// Like [`mount`](Self::mount); the kernel remembers nothing, so that each look-up asks the server.
    pub(crate) fn mount_without_cache(source: &str) -> Result<Self> {
        Self::mount_with(source, Duration::ZERO)
    }

    fn mount_with(source: &str, ttl: Duration) -> Result<Self> {
        if !Path::new("/dev/fuse").exists() {
            program::run("modprobe", &["fuse"])?;
        }
        let folder = tempfile::Builder::new().prefix("stable-trace-").tempdir()?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(source.to_owned())];
        let gate = Gate::default();
        let session =
            fuser::spawn_mount(OneFile { gate: gate.clone(), ttl }, folder.path(), &config)
                .context("cannot mount a FUSE file system")?;
        let file = folder.path().join(NAME);
        Ok(Self { file, gate, session: Some(session), folder })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Answers nothing until the result is dropped, as a server that has stopped.
    pub(crate) fn stop_answering(&self) -> StoppedServer {
        self.gate.close();
        StoppedServer(self.gate.clone())
    }
}

impl Drop for FuseServer {
    fn drop(&mut self) {
        let session = self.session.take();
        if let Some(Err(error)) = session.map(BackgroundSession::umount_and_join) {
            eprintln!("cannot unmount {}: {error}", self.folder.path().display());
        }
    }
}

/// A server that answers again when this is dropped.
pub(crate) struct StoppedServer(Gate);

impl Drop for StoppedServer {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Holds requests back while it is closed.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn close(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let closed = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(closed, |closed| *closed));
    }
}

/// A root folder with one file of zeros, which takes every write and keeps none.
struct OneFile {
    gate: Gate,
    ttl: Duration,
}

fn attributes(ino: INodeNo) -> FileAttr {
    let is_file = ino == FILE;
    FileAttr {
        ino,
        size: if is_file { SIZE } else { 0 },
        blocks: if is_file { SIZE / 512 } else { 0 },
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_file { FileType::RegularFile } else { FileType::Directory },
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for OneFile {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.gate.pass();
        if parent == INodeNo::ROOT && name == NAME {
            reply.entry(&self.ttl, &attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.gate.pass();
        reply.attr(&self.ttl, &attributes(ino));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(&vec![0; size as usize]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        thread::sleep(DELAY);
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }
}
