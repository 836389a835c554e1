//! The file that all workers rewrite: made anew under a name of its own, and gone afterwards.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, Stat, fallocate, fstat, fstatfs, fsync, open,
    openat, statat, unlinkat,
};
use rustix::io::{Errno, pwrite};

use super::error::WorkloadError;
use super::profile::Profile;

/// How many taken names are tried before giving up.
const NAMES: u32 = 1000;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h: file systems that never write back.
const MEMORY_FILE_SYSTEMS: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// A file of our own. Dropping it removes it.
#[derive(Debug)]
pub struct Scratch {
    // Names are taken relative to the open directory: it may be renamed meanwhile.
    directory: OwnedFd,
    path: PathBuf,
    name: String,
    file: OwnedFd,
    identity: (u64, u64),
}

impl Scratch {
    /// Makes a file of `size` bytes with all its blocks allocated, in `directory`, under a name that
    /// nobody uses. No file that exists is opened.
    ///
    /// # Errors
    /// The directory is not there, takes no file, or has no room. Nothing stays behind.
    pub fn create(directory: &Path, size: u64) -> Result<Self, WorkloadError> {
        let path = || directory.to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open(directory, flags, Mode::empty())
            .map_err(|errno| WorkloadError::Path { path: path(), errno })?;
        let (name, file) =
            create_unused(&dir).map_err(|errno| WorkloadError::Create { path: path(), errno })?;
        let stat = fstat(&file).map_err(|errno| WorkloadError::Create { path: path(), errno })?;
        let identity = identity(&stat);
        // From here on dropping it removes the file.
        let scratch = Self { directory: dir, path: directory.join(&name), name, file, identity };
        allocate(&scratch.file, size).map_err(|errno| WorkloadError::Allocate {
            path: path(),
            file_size: size,
            errno,
        })?;
        Ok(scratch)
    }

    /// Its path, as far as `--path` told.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its inode number.
    #[must_use]
    pub const fn ino(&self) -> u64 {
        self.identity.1
    }

    /// Opens the file once more: every worker has its own, because the kernel reports a failed
    /// write-back once for every open file.
    ///
    /// # Errors
    /// No `O_DIRECT` here, too many open files, or the file was replaced by another.
    pub fn open(&self, profile: Profile) -> Result<OwnedFd, WorkloadError> {
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if profile.direct() {
            // Since 6.6 tmpfs takes the flag and ignores it: no profile that needs it means that.
            if is_memory_file_system(&self.file) {
                return Err(self.no_direct_io(profile));
            }
            flags |= OFlags::DIRECT;
        }
        let file =
            openat(&self.directory, &self.name, flags, Mode::empty()).map_err(
                |errno| match errno {
                    Errno::INVAL if profile.direct() => self.no_direct_io(profile),
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

impl Drop for Scratch {
    fn drop(&mut self) {
        // Somebody may have put a file of his own in its place: that one is not ours to remove.
        let stat = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| identity(&stat) == self.identity)
            && let Err(errno) = unlinkat(&self.directory, &self.name, AtFlags::empty())
        {
            log::warn!("cannot remove the scratch file {}: {errno}", self.path.display());
        }
    }
}

/// Whether the file system of an open file keeps it in memory only, so that nothing is written back.
pub fn is_memory_file_system(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|stat| {
        u32::try_from(stat.f_type).is_ok_and(|magic| MEMORY_FILE_SYSTEMS.contains(&magic))
    })
}

/// Whether `directory` is on such a file system.
#[must_use]
pub fn in_memory(directory: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    open(directory, flags, Mode::empty()).is_ok_and(is_memory_file_system)
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn create_unused(directory: &OwnedFd) -> Result<(String, OwnedFd), Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut number = 0;
    loop {
        let name = format!(".stable-trace-wac.{}.{number}", std::process::id());
        match openat(directory, &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((name, file)),
            Err(Errno::EXIST) if number < NAMES => number += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// Gives the file all its blocks, so that no store to its mapping meets a hole on a full disk.
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
    // Delayed allocation would report a full disk only now.
    fsync(file)
}

/// What a path leads to, symbolic links followed.
pub(super) fn stat(path: &Path) -> Result<Stat, Errno> {
    statat(CWD, path, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_has_its_size_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path(), 65_536).unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().len(), 65_536);
        scratch.open(Profile::A).unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_taken_name_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join(format!(".stable-trace-wac.{}.0", std::process::id()));
        fs::write(&taken, "precious").unwrap();
        let scratch = Scratch::create(dir.path(), 4096).unwrap();
        assert_ne!(scratch.path(), taken);
        drop(scratch);
        assert_eq!(fs::read_to_string(&taken).unwrap(), "precious");
    }

    #[test]
    fn a_file_in_its_place_is_neither_opened_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path(), 4096).unwrap();
        let path = scratch.path().to_owned();
        fs::remove_file(&path).unwrap();
        // The old inode is still open, so the new file cannot get its number.
        fs::write(&path, "precious").unwrap();
        assert!(matches!(scratch.open(Profile::A), Err(WorkloadError::Replaced(_))));
        drop(scratch);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn zeros_where_fallocate_is_missing() {
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        write_zeros(&file, 100_000).unwrap();
        assert_eq!(fstat(&file).unwrap().st_size, 100_000);
    }

    #[test]
    fn no_directory_no_file() {
        let error = Scratch::create(Path::new("/no/such/place"), 4096).unwrap_err();
        assert!(error.to_string().contains("is not there"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Scratch::create(file.path(), 4096).unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }
}
