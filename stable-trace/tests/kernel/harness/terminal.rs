//! A program in a pseudo-terminal, whose screen a terminal emulator that is not ours (`vt100`) keeps.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::stdio::stdin;
use rustix::termios::{Winsize, tcsetwinsize};

use super::poll::wait_until;

/// The program and its screen. Killed on drop.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts a program on a screen of this size.
    pub(crate) fn start(mut command: Command, columns: u16, rows: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("cannot open a pseudo-terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave =
            open(ptsname(&master, Vec::new())?, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
                .context("cannot open the other end of the pseudo-terminal")?;
        tcsetwinsize(&master, size(columns, rows))?;
        let errors = slave.try_clone()?;
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.stdin(slave.try_clone()?).stdout(slave).stderr(errors);
        // SAFETY: between fork and exec the closure makes two system calls: it takes no lock and allocates nothing.
        unsafe {
            command.pre_exec(|| {
                // The kernel tells the program of a new size only if it is its controlling terminal.
                setsid()?;
                Ok(ioctl_tiocsctty(stdin())?)
            });
        }
        let child = command.spawn().context("cannot start the program")?;
        // The command has ends of its own, which would keep the terminal open.
        drop(command);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (mut output, drawn) = (File::from(master.try_clone()?), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once the program has ended.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                lock(&drawn).process(bytes.get(..count).unwrap_or_default());
            }
        });
        Ok(Self { child, keys: File::from(master), screen })
    }

    pub(crate) fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("cannot press keys")
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        lock(&self.screen).screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.keys, size(columns, rows)).context("cannot resize the terminal")
    }

    /// The text of the screen.
    pub(crate) fn text(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Whether the program shows a screen of its own.
    pub(crate) fn has_own_screen(&self) -> bool {
        lock(&self.screen).screen().alternate_screen()
    }

    /// Waits until the text of the screen is as wanted.
    pub(crate) fn await_text(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        wait_until(|| {
            let text = self.text();
            Ok((!wanted(&text)).then(|| format!("the screen is not {what}:\n{text}")))
        })
    }

    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().context("cannot wait for the program")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(screen: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
