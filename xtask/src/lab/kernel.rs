//! Fetches, unpacks and caches Debian's kernels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::cache_dir::CacheDir;
use super::mirror::Mirror;
use super::modules::Modules;
use super::process;
use super::series::Series;
use crate::progress;

/// Peak disk space of fetching and unpacking one kernel, in bytes: package lists (60 MB), packages
/// (190 MB for 7.3) and their content (330 MB for 5.10, whose modules are not compressed).
const SPACE: u64 = 1 << 30;

#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` prints it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// The folder that guests mount as `/lib/modules`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The cached kernel of `series`; fetches it if the cache has none.
    pub(crate) fn ensure(cache: &CacheDir, series: Series) -> Result<Self> {
        let _lock = cache.lock()?;
        if let Some(kernel) = Self::cached(cache, series)? {
            return Ok(kernel);
        }
        progress::step(format!("fetching kernel {series} from the host's Debian mirror"));
        Self::fetch(cache, series)?;
        match Self::cached(cache, series)? {
            Some(kernel) => Ok(kernel),
            None => bail!("the packages of kernel {series} contain no bootable image"),
        }
    }

    /// The newest complete kernel of `series` in the cache.
    fn cached(cache: &CacheDir, series: Series) -> Result<Option<Self>> {
        let folder = cache.kernels();
        if !folder.exists() {
            return Ok(None);
        }
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| series.has(name) && !name.ends_with(PART))
            .filter_map(|release| Self::at(&folder.join(&release), release))
            .max_by_key(|kernel| numbers(&kernel.release)))
    }

    fn at(folder: &Path, release: String) -> Option<Self> {
        let modules = folder.join("usr/lib/modules");
        // The first path is that of kernels up to 6.18, the second that of the split packages of 7.x.
        let images = [
            folder.join(format!("boot/vmlinuz-{release}")),
            modules.join(&release).join("vmlinuz"),
        ];
        let image = images.into_iter().find(|path| path.exists())?;
        Some(Self { release, image, modules })
    }

    fn fetch(cache: &CacheDir, series: Series) -> Result<()> {
        cache.need_space(SPACE, &format!("kernel {series}"))?;
        let mirror = Mirror::of_host(Path::new("/etc/apt"))?;
        let apt = Apt::create(&cache.apt(series.name()), &mirror, series.suites())?;
        apt.update()?;
        let Some(image) = newest_image(series, &apt.names("linux-image-")?) else {
            let suites: Vec<_> = series.suites().iter().map(|suite| suite.name()).collect();
            bail!(
                "the host's Debian mirror has no package linux-image-{series}.*-amd64 in {}",
                suites.join(" or ")
            );
        };
        let release = release_of(&image).to_owned();
        let mut packages = vec![image.clone()];
        packages.extend(parts(&apt.dependencies(&image)?, &release));

        let folder = cache.kernels().join(&release);
        let part = cache.kernels().join(format!("{release}{PART}"));
        remove(&part)?;
        let done = unpack(&apt, &packages, &part, &release)
            .and_then(|()| {
                fs::rename(&part, &folder)
                    .with_context(|| format!("cannot rename {}", part.display()))
            })
            .with_context(|| format!("cannot install kernel {release}"));
        if done.is_err() {
            // A partial folder is removed; the first error is reported.
            let _ = remove(&part);
        }
        done
    }
}

/// Suffix of the folder of an incomplete kernel.
const PART: &str = ".part";

fn unpack(apt: &Apt, packages: &[String], part: &Path, release: &str) -> Result<()> {
    let debs = part.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("cannot create {}", debs.display()))?;
    apt.download(packages, &debs)?;
    for entry in fs::read_dir(&debs).with_context(|| format!("cannot list {}", debs.display()))? {
        let deb = entry.with_context(|| format!("cannot list {}", debs.display()))?.path();
        process::output(Command::new("dpkg").arg("--extract").arg(&deb).arg(part))?;
    }
    remove(&debs)?;
    merge_lib(part)?;
    depmod(part, release)?;
    if Modules::read(&part.join("usr/lib/modules").join(release))?.unpack_files(&UNPACKED)? > 0 {
        depmod(part, release)?;
    }
    Ok(())
}

/// Modules that most guests load. Decompression takes long on an emulated CPU, and modprobe's first
/// attempt makes the kernel log the error "Invalid ELF header magic" (kmod 30).
const UNPACKED: [&str; 15] = [
    "9p",
    "9pnet_virtio",
    "overlay",
    "virtio_pci",
    "virtio_console",
    "scsi_debug",
    "sd_mod",
    "null_blk",
    "nvme",
    "loop",
    "ext4",
    "xfs",
    "btrfs",
    "dm_mod",
    "t10_pi",
];

fn depmod(part: &Path, release: &str) -> Result<()> {
    process::output(Command::new("depmod").arg("--basedir").arg(part).arg(release)).map(drop)
}

/// Moves the modules to `/usr/lib` and links `/lib` to it. Older packages have them below `/lib`, newer
/// ones below `/usr/lib`, and depmod searches `/lib`.
fn merge_lib(part: &Path) -> Result<()> {
    let (lib, usr) = (part.join("lib"), part.join("usr/lib"));
    let merge = || {
        fs::create_dir_all(&usr)?;
        if lib.join("modules").exists() {
            fs::rename(lib.join("modules"), usr.join("modules"))?;
            fs::remove_dir_all(&lib)?;
        }
        std::os::unix::fs::symlink("usr/lib", &lib)
    };
    merge().with_context(|| format!("cannot move the modules in {}", part.display()))
}

/// The newest generic kernel package of a series, without real-time, cloud and debug variants. A signed
/// package is preferred over the unsigned one of the same release.
fn newest_image(series: Series, names: &[String]) -> Option<String> {
    names
        .iter()
        .filter(|name| {
            let release = release_of(name);
            let generic = release
                .strip_suffix("-amd64")
                .is_some_and(|rest| !rest.ends_with("-rt") && !rest.ends_with("-cloud"));
            generic && series.has(release)
        })
        .max_by_key(|name| (numbers(release_of(name)), !name.ends_with(UNSIGNED)))
        .cloned()
}

const UNSIGNED: &str = "-unsigned";

fn release_of(package: &str) -> &str {
    let name = package.strip_prefix("linux-image-").unwrap_or(package);
    name.strip_suffix(UNSIGNED).unwrap_or(name)
}

/// The packages of a kernel that is split, as in the 7.x series.
fn parts(dependencies: &[String], release: &str) -> Vec<String> {
    let wanted = ["linux-base-", "linux-binary-", "linux-modules-"];
    let part_of =
        |name: &&String| wanted.iter().any(|prefix| name.strip_prefix(prefix) == Some(release));
    dependencies.iter().filter(part_of).cloned().collect()
}

/// The numbers of a release, by which releases of one series compare.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_newest_generic_signed_image_is_selected() {
        let names = names(
            "linux-image-6.1.0-9-amd64 linux-image-6.1.0-56-amd64-unsigned
             linux-image-6.1.0-56-amd64 linux-image-6.1.0-56-rt-amd64 linux-image-6.1.0-57-cloud-amd64
             linux-image-6.1.0-58-amd64-dbg linux-image-6.12.117+deb12-amd64 linux-image-amd64",
        );
        assert_eq!(newest_image(Series::V6_1, &names).unwrap(), "linux-image-6.1.0-56-amd64");
        assert_eq!(newest_image(Series::V5_10, &names), None);
    }

    #[test]
    fn an_unsigned_image_is_selected_if_it_is_newer() {
        let names = names("linux-image-5.10.0-46-amd64-unsigned linux-image-5.10.0-45-amd64");
        let image = newest_image(Series::V5_10, &names).unwrap();
        assert_eq!(release_of(&image), "5.10.0-46-amd64");
    }

    #[test]
    fn the_parts_of_a_split_kernel_are_found() {
        let release = "7.3.4+deb13-amd64";
        let dependencies = names(
            "linux-base dracut linux-base-7.3.4+deb13-amd64 linux-binary-7.3.4+deb13-amd64
             linux-modules-7.3.4+deb13-amd64",
        );
        assert_eq!(parts(&dependencies, release).len(), 3);
        assert!(parts(&names("kmod linux-base initramfs-tools"), release).is_empty());
    }
}
