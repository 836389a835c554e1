//! The NVMe disk that two controllers of one subsystem share: native multipath.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::disk::Disk;
use super::wait_until;

/// The controllers, which have no driver when the guest starts (`guest/init.sh`).
const CONTROLLERS: [&str; 2] = ["0000:00:1c.0", "0000:00:1d.0"];

/// The multipath device, with both paths.
#[derive(Debug)]
pub(crate) struct NvmePaths {
    pub(crate) disk: Disk,
    _controllers: Controllers,
}

impl NvmePaths {
    /// Gives both controllers to the driver, and waits for the paths.
    pub(crate) fn connect() -> Result<Self> {
        let controllers = Controllers::bind()?;
        let mut name = None;
        wait_until(|| {
            name = multipath_device();
            Ok(name.is_none().then(|| "no disk with two paths".to_owned()))
        })?;
        let disk = Disk::named(&name.context("no disk with two paths")?)?;
        Ok(Self { disk, _controllers: controllers })
    }
}

/// The controllers with the driver, which they lose on drop.
#[derive(Debug)]
struct Controllers;

impl Controllers {
    fn bind() -> Result<Self> {
        let controllers = Self;
        for address in CONTROLLERS {
            set_driver(address, "nvme")?;
            write("/sys/bus/pci/drivers_probe", address)?;
        }
        Ok(controllers)
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        for address in CONTROLLERS {
            let unbound = write("/sys/bus/pci/drivers/nvme/unbind", address);
            for error in [unbound, set_driver(address, "none")].into_iter().filter_map(Result::err)
            {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The name of the disk with two hidden paths in `/sys/block`, such as `nvme1c1n1` and `nvme1c2n1` of
/// `nvme1n1`.
fn multipath_device() -> Option<String> {
    let disks: Vec<_> = fs::read_dir("/sys/block").ok()?.flatten().collect();
    let names: Vec<_> =
        disks.iter().filter_map(|disk| disk.file_name().into_string().ok()).collect();
    let is_head = |head: &&String| {
        let Some((subsystem, namespace)) = head.rsplit_once('n') else { return false };
        let (start, end) = (format!("{subsystem}c"), format!("n{namespace}"));
        let paths = names.iter().filter(|name| name.starts_with(&start) && name.ends_with(&end));
        paths.count() == CONTROLLERS.len() && Path::new("/dev").join(head).exists()
    };
    names.iter().find(is_head).cloned()
}

fn set_driver(address: &str, driver: &str) -> Result<()> {
    write(&format!("/sys/bus/pci/devices/{address}/driver_override"), driver)
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {path}"))
}
