//! A thread that reads the tables of device-mapper devices.
//!
//! The kernel requires `CAP_SYS_ADMIN` for each of these ioctls (`ctl_ioctl`, drivers/md/dm-ioctl.c, 5.10
//! to 7.3), and devices come while the agent runs. So that no other thread keeps the capability, this
//! one does, and does nothing else.

use std::{
    io,
    sync::{
        OnceLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use stable_trace_analysis::{error_chain::ErrorChain, units::DeviceId};

use super::{
    dm_table::{self, Target},
    least_privilege::{self, Work},
};

struct Request {
    dev: DeviceId,
    answer: SyncSender<Option<Vec<Target>>>,
}

/// The thread's requests, once it is started. A thread that ends drops the requests.
static READER: OnceLock<SyncSender<Request>> = OnceLock::new();

/// Starts the thread. From then on it reads all tables.
pub(crate) fn start_reader() -> io::Result<()> {
    let (sender, requests) = sync_channel::<Request>(1);
    let read = move || {
        if let Err(error) = least_privilege::keep_only_for(Work::ReadTables) {
            log::warn!("tables of device mapper are not read: {}", ErrorChain(&error));
            return;
        }
        for request in requests {
            // An error means that nothing waits for it.
            let _ = request.answer.send(dm_table::targets(request.dev));
        }
    };
    thread::Builder::new().name("device-mapper".to_owned()).spawn(read)?;
    // A second one in a process, as tests may start, ends here.
    let _ = READER.set(sender);
    Ok(())
}

/// The targets of a device; `None` if it has none, or they are not known.
pub(super) fn targets(dev: DeviceId) -> Option<Vec<Target>> {
    let Some(reader) = READER.get() else { return dm_table::targets(dev) };
    let (answer, answered) = sync_channel(1);
    reader.send(Request { dev, answer }).ok()?;
    answered.recv().ok()?
}
