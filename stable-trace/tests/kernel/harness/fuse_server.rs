//! A FUSE file system with one file, which this process serves, or one that can be stopped.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyWrite,
    Request, WriteFlags,
};
use tempfile::TempDir;

use super::process::kill_with_parent;
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
        let folder = mount_point()?;
        let gate = Gate::default();
        let session = serve(OneFile { gate: gate.clone(), ttl }, folder.path(), source)?;
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

fn mount_point() -> Result<TempDir> {
    if !Path::new("/dev/fuse").exists() {
        program::run("modprobe", &["fuse"])?;
    }
    Ok(tempfile::Builder::new().prefix("stable-trace-").tempdir()?)
}

fn serve(files: OneFile, folder: &Path, source: &str) -> Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName(source.to_owned())];
    fuser::spawn_mount(files, folder, &config).context("cannot mount a FUSE file system")
}

/// The same file system, served by a process of its own. Unmounted on drop.
pub(crate) struct ServerProcess {
    child: Child,
    folder: TempDir,
}

impl ServerProcess {
    /// The variable with the mount point that makes this program a server.
    const SERVES_AT: &str = "STABLE_TRACE_TEST_SERVES_FUSE_AT";
    /// The file system's source.
    pub(crate) const SOURCE: &str = "process";

    /// Starts the server, and waits until the file system is mounted.
    pub(crate) fn mount() -> Result<Self> {
        let folder = mount_point()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.env(Self::SERVES_AT, folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        kill_with_parent(&mut command);
        let child = command.spawn().context("cannot start a FUSE server")?;
        let mut server = Self { child, folder };
        let out = server.child.stdout.take().context("the server has no standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line.trim() == "mounted", "the FUSE server says {line:?}");
        Ok(server)
    }

    /// Serves, if this program was started for that, until standard input ends.
    pub(crate) fn serve_if_asked() -> Option<ExitCode> {
        let folder = PathBuf::from(std::env::var_os(Self::SERVES_AT)?);
        let files = OneFile { gate: Gate::default(), ttl: TTL };
        let served = serve(files, &folder, Self::SOURCE).and_then(|session| {
            println!("mounted");
            io::stdin().read_to_end(&mut Vec::new())?;
            Ok(session.umount_and_join()?)
        });
        Some(match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for the FUSE server: {error}");
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
