//! Backing devices by name: each is looked up once, and again when something is mounted.

use std::{collections::HashMap, rc::Rc};

use aya::maps::{HashMap as KernelMap, MapData};
use stable_trace_common::{device::Wish, record::BDI_NAME_LEN};

use super::decode::name;
use crate::kernel::mounts::{Backing, Mounts};

/// A disk's `major:minor`.
pub type Dev = (u32, u32);

/// A name as the kernel writes it.
type Name = [u8; BDI_NAME_LEN];

/// The devices behind the waits of a run, and which of them the user asked for.
pub struct Identities {
    mounts: Mounts,
    known: HashMap<Name, Rc<Identity>>,
    /// The disks of `--device`; empty for all.
    only: Vec<Dev>,
    /// Where the kernel reads which devices nobody asked for.
    wishes: KernelMap<MapData, Name, Wish>,
}

/// What is known of one backing device.
#[derive(Debug, Default)]
pub struct Identity {
    /// Device and file system, where they could be found.
    pub backing: Option<Backing>,
    /// Whether the user asked for it.
    pub wanted: bool,
}

impl Identities {
    /// Takes the mounts, the disks of `--device` and the map `WISHES`.
    #[must_use]
    pub fn new(mounts: Mounts, only: Vec<Dev>, wishes: KernelMap<MapData, Name, Wish>) -> Self {
        Self { mounts, known: HashMap::new(), only, wishes }
    }

    /// Looks whether something was mounted or unmounted, and if so asks again from here on. A
    /// device that is no longer mounted keeps what was known of it until its name is used anew.
    pub fn follow_mounts(&mut self) {
        match self.mounts.refresh() {
            Ok(false) => {}
            Ok(true) => {
                let mounts = &self.mounts;
                let only = &self.only;
                for (name, identity) in &mut self.known {
                    let found = identify(mounts, only, name);
                    if found.backing.as_ref().is_some_and(|backing| backing.fs.is_some()) {
                        *identity = Rc::new(found);
                        tell(&mut self.wishes, only, name, identity);
                    }
                }
            }
            Err(error) => log::warn!("{error}"),
        }
    }

    /// What is behind a name.
    pub fn get(&mut self, name: &Name) -> Rc<Identity> {
        if let Some(identity) = self.known.get(name) {
            return Rc::clone(identity);
        }
        // The name may be younger than the last look.
        self.follow_mounts();
        let identity = Rc::new(identify(&self.mounts, &self.only, name));
        tell(&mut self.wishes, &self.only, name, &identity);
        self.known.insert(*name, Rc::clone(&identity));
        identity
    }
}

fn identify(mounts: &Mounts, only: &[Dev], padded: &Name) -> Identity {
    let backing = mounts.backing(&name(padded));
    let wanted = only.is_empty()
        || backing
            .as_ref()
            .is_some_and(|backing| backing.disks.iter().any(|disk| only.contains(disk)));
    Identity { backing, wanted }
}

/// Lets the kernel pass over what nobody asked for. If the map is full the agent goes on passing
/// over it by itself.
fn tell(
    wishes: &mut KernelMap<MapData, Name, Wish>,
    only: &[Dev],
    name: &Name,
    identity: &Identity,
) {
    if !only.is_empty() {
        let wish = if identity.wanted { Wish::WANTED } else { Wish::UNWANTED };
        let _ = wishes.insert(name, wish, 0);
    }
}
