//! Debian's kernels: found, fetched, unpacked, and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::mirror::Mirror;
use super::modules::Modules;
use super::place::Place;
use super::process;
use super::series::Series;

/// What fetching and unpacking one kernel takes at its peak, in bytes: package lists (60 MB), the
/// packages (190 MB for 7.3) and what is in them (5.10's modules are not compressed: 330 MB).
const SPACE: u64 = 1 << 30;

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// The folder that a guest has as `/lib/modules`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The cached kernel of `series`, fetched first where there is none.
    ///
    /// # Errors
    /// If it has to be fetched and cannot be.
    pub fn ensure(place: &Place, series: Series) -> Result<Self> {
        let _lock = place.lock()?;
        if let Some(kernel) = Self::cached(place, series)? {
            return Ok(kernel);
        }
        eprintln!("fetching kernel {series} from this machine's Debian mirror");
        Self::fetch(place, series)?;
        match Self::cached(place, series)? {
            Some(kernel) => Ok(kernel),
            None => bail!("the packages of kernel {series} have no bootable image in them"),
        }
    }

    /// The newest complete kernel of `series` in the cache.
    fn cached(place: &Place, series: Series) -> Result<Option<Self>> {
        let folder = place.kernels();
        if !folder.exists() {
            return Ok(None);
        }
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("cannot list the kernels in {}", folder.display()))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| series.has(name) && !name.ends_with(PART))
            .filter_map(|release| Self::at(&folder.join(&release), release))
            .max_by_key(|kernel| numbers(&kernel.release)))
    }

    fn at(folder: &Path, release: String) -> Option<Self> {
        let modules = folder.join("usr/lib/modules");
        // Up to 6.18 in one place, from the split packages of 7.x on in the other.
        let images = [
            folder.join(format!("boot/vmlinuz-{release}")),
            modules.join(&release).join("vmlinuz"),
        ];
        let image = images.into_iter().find(|path| path.exists())?;
        Some(Self { release, image, modules })
    }

    fn fetch(place: &Place, series: Series) -> Result<()> {
        place.need_space(SPACE, &format!("kernel {series}"))?;
        let mirror = Mirror::of_this_machine(Path::new("/etc/apt"))?;
        let apt = Apt::lay_out(&place.apt(series.name()), &mirror, series.suites())?;
        apt.update()?;
        let Some(image) = newest_image(series, &apt.names("linux-image-")?) else {
            let suites: Vec<_> = series.suites().iter().map(|suite| suite.name()).collect();
            bail!(
                "the Debian mirror of this machine has no package linux-image-{series}.*-amd64 in {}",
                suites.join(" or ")
            );
        };
        let release = release_of(&image).to_owned();
        let mut packages = vec![image.clone()];
        packages.extend(parts(&apt.dependencies(&image)?, &release));

        let folder = place.kernels().join(&release);
        let part = place.kernels().join(format!("{release}{PART}"));
        remove(&part)?;
        let done = unpack(&apt, &packages, &part, &release)
            .and_then(|()| {
                fs::rename(&part, &folder)
                    .with_context(|| format!("cannot move {} into place", part.display()))
            })
            .with_context(|| format!("kernel {release} is not there"));
        if done.is_err() {
            // Nothing half-made stays; the first error is the one to report.
            let _ = remove(&part);
        }
        done
    }
}

/// Ends the name of a folder that is not complete.
const PART: &str = ".part";

fn unpack(apt: &Apt, packages: &[String], part: &Path, release: &str) -> Result<()> {
    let debs = part.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
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

/// What most guests load. Compressed, each costs a slow emulated CPU time, and modprobe's first
/// try has the kernel say "Invalid ELF header magic" as an error (kmod 30).
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

/// Older packages have their modules below `/lib`, newer ones below `/usr/lib`, and depmod looks
/// below `/lib`: one folder, and a link to it.
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
    merge().with_context(|| format!("cannot arrange the modules in {}", part.display()))
}

/// The newest ordinary kernel package of a series: no real-time, cloud or debug variant, and the
/// signed package before the unsigned one of the same release.
fn newest_image(series: Series, names: &[String]) -> Option<String> {
    names
        .iter()
        .filter(|name| {
            let release = release_of(name);
            let ordinary = release
                .strip_suffix("-amd64")
                .is_some_and(|rest| !rest.ends_with("-rt") && !rest.ends_with("-cloud"));
            ordinary && series.has(release)
        })
        .max_by_key(|name| (numbers(release_of(name)), !name.ends_with(UNSIGNED)))
        .cloned()
}

const UNSIGNED: &str = "-unsigned";

fn release_of(package: &str) -> &str {
    let name = package.strip_prefix("linux-image-").unwrap_or(package);
    name.strip_suffix(UNSIGNED).unwrap_or(name)
}

/// The packages that the 7.x series splits a kernel into.
fn parts(dependencies: &[String], release: &str) -> Vec<String> {
    let wanted = ["linux-base-", "linux-binary-", "linux-modules-"];
    let part_of =
        |name: &&String| wanted.iter().any(|prefix| name.strip_prefix(prefix) == Some(release));
    dependencies.iter().filter(part_of).cloned().collect()
}

/// The numbers of a release in order, which is how releases of one series compare.
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
    fn the_newest_ordinary_signed_image_is_taken() {
        let names = names(
            "linux-image-6.1.0-9-amd64 linux-image-6.1.0-56-amd64-unsigned
             linux-image-6.1.0-56-amd64 linux-image-6.1.0-56-rt-amd64 linux-image-6.1.0-57-cloud-amd64
             linux-image-6.1.0-58-amd64-dbg linux-image-6.12.117+deb12-amd64 linux-image-amd64",
        );
        assert_eq!(newest_image(Series::V6_1, &names).unwrap(), "linux-image-6.1.0-56-amd64");
        assert_eq!(newest_image(Series::V5_10, &names), None);
    }

    #[test]
    fn an_unsigned_image_serves_where_no_other_is() {
        let names = names("linux-image-5.10.0-46-amd64-unsigned linux-image-5.10.0-45-amd64");
        let image = newest_image(Series::V5_10, &names).unwrap();
        assert_eq!(release_of(&image), "5.10.0-46-amd64");
    }

    #[test]
    fn a_split_kernel_is_put_together() {
        let release = "7.3.4+deb13-amd64";
        let dependencies = names(
            "linux-base dracut linux-base-7.3.4+deb13-amd64 linux-binary-7.3.4+deb13-amd64
             linux-modules-7.3.4+deb13-amd64",
        );
        assert_eq!(parts(&dependencies, release).len(), 3);
        assert!(parts(&names("kmod linux-base initramfs-tools"), release).is_empty());
    }
}
