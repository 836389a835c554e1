//! The scratch file that all workers rewrite.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, Stat, fallocate, fstat, fstatfs, fsync, open, openat,
    statat, unlinkat,
};
use rustix::io::{Errno, pwrite};

use super::error::WorkloadError;
use super::profile::Profile;

/// Number of file names that are tried.
const MAX_NAME_ATTEMPTS: u32 = 1000;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h: file systems without writeback.
const MEMORY_FILE_SYSTEMS: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A new file. Dropping it removes it.
#[derive(Debug)]
pub(super) struct ScratchFile {
    /// The name is resolved relative to the open directory, which may be renamed meanwhile.
    directory: OwnedFd,
    path: PathBuf,
    name: String,
    file: OwnedFd,
    /// Device and inode number.
    identity: (u64, u64),
}

impl ScratchFile {
    /// Creates a file of `size` bytes in `directory`, with all blocks allocated. Never opens an
    /// existing file, and leaves no file behind on error.
    pub(super) fn create(directory: &Path, size: u64) -> Result<Self, WorkloadError> {
        let path = || directory.to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(directory, flags, Mode::empty())
            .map_err(|errno| WorkloadError::Path { path: path(), errno })?;
        let (name, file) =
            create_new(&dir).map_err(|errno| WorkloadError::Create { path: path(), errno })?;
        let stat = fstat(&file).map_err(|errno| WorkloadError::Create { path: path(), errno })?;
        let identity = identity(&stat);
        // From here on, an error drops `scratch`, which removes the file.
        let scratch = Self { directory: dir, path: directory.join(&name), name, file, identity };
        allocate(&scratch.file, size).map_err(|errno| WorkloadError::Allocate {
            path: path(),
            file_size: size,
            errno,
        })?;
        Ok(scratch)
    }

    pub(super) const fn ino(&self) -> u64 {
        self.identity.1
    }

    /// Opens the file for one worker. Each worker has its own open file, because the kernel reports
    /// a writeback error once for each open file.
    pub(super) fn open(&self, profile: Profile) -> Result<OwnedFd, WorkloadError> {
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if profile.uses_direct_io() {
            // tmpfs accepts the flag since 6.6, but still uses the page cache.
            if is_memory_file_system(&self.file) {
                return Err(self.no_direct_io(profile));
            }
            flags |= OFlags::DIRECT;
        }
        let file =
            openat(&self.directory, &self.name, flags, Mode::empty()).map_err(
                |errno| match errno {
                    Errno::INVAL if profile.uses_direct_io() => self.no_direct_io(profile),
                    Errno::LOOP => WorkloadError::Replaced(self.path.clone()),
                    errno => WorkloadError::Open { path: self.path.clone(), errno },
                },
            )?;
        match fstat(&file) {
            Ok(stat) if identity(&stat) == self.identity => Ok(file),
            _ => Err(WorkloadError::Replaced(self.path.clone())),
        }
    }

    fn no_direct_io(&self, profile: Profile) -> WorkloadError {
        let directory = self.path.parent().unwrap_or(&self.path);
        WorkloadError::NoDirectIo { path: directory.to_owned(), profile }
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        // Another file may have replaced it; that one is not removed.
        let stat = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| identity(&stat) == self.identity)
            && let Err(errno) = unlinkat(&self.directory, &self.name, AtFlags::empty())
        {
            log::warn!("cannot remove the scratch file {}: {errno}", self.path.display());
        }
    }
}

/// Whether an open file is on a file system without writeback.
fn is_memory_file_system(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|stat| {
        u32::try_from(stat.f_type).is_ok_and(|magic| MEMORY_FILE_SYSTEMS.contains(&magic))
    })
}

/// Whether `directory` is on a file system without writeback.
pub(super) fn is_in_memory(directory: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    open(directory, flags, Mode::empty()).is_ok_and(is_memory_file_system)
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn create_new(directory: &OwnedFd) -> Result<(String, OwnedFd), Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut number = 0;
    loop {
        let name = format!(".stable-trace-wac.{}.{number}", std::process::id());
        match openat(directory, &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((name, file)),
            Err(Errno::EXIST) if number < MAX_NAME_ATTEMPTS => number += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// Allocates all blocks, so that no store to a mapping of the file hits a hole on a full disk.
fn allocate(file: &OwnedFd, size: u64) -> Result<(), Errno> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, size) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return write_zeros(file, size),
            other => return other,
        }
    }
}

fn write_zeros(file: &OwnedFd, size: u64) -> Result<(), Errno> {
    let zeros = vec![0_u8; 1 << 16];
    let mut offset = 0;
    while offset < size {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX).min(zeros.len());
        match pwrite(file, &zeros[..left], offset) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => offset += count as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // With delayed allocation a full disk is reported only here.
    fsync(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_file_has_its_size_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = ScratchFile::create(dir.path(), 65_536).unwrap();
        let path = scratch.path.clone();
        assert_eq!(fs::metadata(&path).unwrap().len(), 65_536);
        scratch.open(Profile::A).unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn an_existing_file_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join(format!(".stable-trace-wac.{}.0", std::process::id()));
        fs::write(&taken, "precious").unwrap();
        let scratch = ScratchFile::create(dir.path(), 4096).unwrap();
        assert_ne!(scratch.path, taken);
        drop(scratch);
        assert_eq!(fs::read_to_string(&taken).unwrap(), "precious");
    }

    #[test]
    fn a_replacement_file_is_neither_opened_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = ScratchFile::create(dir.path(), 4096).unwrap();
        let path = scratch.path.clone();
        fs::remove_file(&path).unwrap();
        // The old inode is still open, so the new file gets another number.
        fs::write(&path, "precious").unwrap();
        assert!(matches!(scratch.open(Profile::A), Err(WorkloadError::Replaced(_))));
        drop(scratch);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn write_zeros_fills_the_file() {
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        write_zeros(&file, 100_000).unwrap();
        assert_eq!(fstat(&file).unwrap().st_size, 100_000);
    }

    #[test]
    fn a_path_that_is_not_a_directory_is_rejected() {
        let error = ScratchFile::create(Path::new("/no/such/place"), 4096).unwrap_err();
        assert!(error.to_string().contains("is not there"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ScratchFile::create(file.path(), 4096).unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }
}
