//! Tells the service manager how the run goes: `sd_notify(3)`.
//!
//! The socket never blocks, since the thread that reads the ring writes to it. If the manager does not
//! keep up, a message is lost; the next one says the same.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::{Duration, Instant},
};

use super::tracer::Tracer;

/// The variable with the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// How often the status is updated.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// The service manager that started this process, if one did.
pub(super) struct ServiceManager {
    connection: Option<Connection>,
    /// How often it wants to hear that the ring is read.
    watchdog: Option<Periodic>,
    status: Periodic,
}

struct Connection {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// What is due after each interval.
struct Periodic {
    interval: Duration,
    last: Instant,
}

/// Whether a service manager started this process, or one of its parents, and hears it.
pub(super) fn is_present() -> bool {
    std::env::var_os(SOCKET).is_some()
}

impl ServiceManager {
    /// Tells the one that `NOTIFY_SOCKET` names, if any, that the probes are attached.
    pub(super) fn notify_ready(tracer: &Tracer) -> Self {
        let manager = Self::from_environment();
        if manager.connection.is_some() {
            manager.send(&format!("READY=1\nSTATUS={}", status(tracer)));
        }
        manager
    }

    fn from_environment() -> Self {
        let connection = std::env::var_os(SOCKET).and_then(|name| {
            Connection::to(&name)
                .inspect_err(|error| {
                    log::warn!(
                        "the service manager hears nothing: NOTIFY_SOCKET {}: {error}",
                        name.display()
                    );
                })
                .ok()
        });
        let variable = |name| std::env::var_os(name);
        let watchdog = watchdog_interval(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
            std::process::id(),
        );
        Self {
            connection,
            watchdog: watchdog.map(Periodic::every),
            status: Periodic::every(STATUS_INTERVAL),
        }
    }

    /// The ring has just been read.
    pub(super) fn ring_was_read(&mut self, tracer: &Tracer) {
        if self.connection.is_some() {
            self.report(|| status(tracer));
        }
    }

    fn report(&mut self, status: impl FnOnce() -> String) {
        if self.watchdog.as_mut().is_some_and(Periodic::is_due) {
            self.send("WATCHDOG=1");
        }
        if self.status.is_due() {
            self.send(&format!("STATUS={}", status()));
        }
    }

    /// The run ends.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=detaching the probes");
    }

    fn send(&self, message: &str) {
        let Some(Connection { socket, address }) = &self.connection else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            log::debug!("the service manager does not hear {message:?}: {error}");
        }
    }
}

impl Connection {
    fn to(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }
}

impl Periodic {
    fn every(interval: Duration) -> Self {
        Self { interval, last: Instant::now() }
    }

    /// Whether the interval is over; if so, the next one begins.
    fn is_due(&mut self) -> bool {
        let due = self.last.elapsed() >= self.interval;
        if due {
            self.last = Instant::now();
        }
        due
    }
}

/// One line for people.
fn status(tracer: &Tracer) -> String {
    let probes = tracer.probes();
    let attached = probes.iter().filter(|probe| probe.attached).count();
    let lost = tracer.lost().map_or_else(|_| "?".to_owned(), |lost| lost.to_string());
    let (all, received) = (probes.len(), tracer.received);
    format!("{attached} of {all} probes attached, {received} events, {lost} lost")
}

/// Half of what the manager waits, as `sd_watchdog_enabled(3)` asks for; `None` if it does not wait for
/// this process.
fn watchdog_interval(usec: Option<&OsStr>, pid: Option<&OsStr>, own: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    if pid.is_some_and(|pid| number(pid) != Some(own.into())) {
        return None;
    }
    let usec = number(usec?).filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec) / 2)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn interval(usec: &str, pid: Option<&str>) -> Option<Duration> {
        watchdog_interval(Some(usec.as_ref()), pid.map(str::as_ref), 7)
    }

    #[test]
    fn the_watchdog_is_served_twice_as_often_as_it_waits() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval("2000000", None), second);
        assert_eq!(interval("2000000", Some("7")), second);
        assert_eq!(interval("2000000", Some("8")), None, "it waits for another process");
        assert_eq!(interval("0", None), None);
        assert_eq!(interval("soon", None), None);
        assert_eq!(watchdog_interval(None, None, 7), None);
    }

    #[test]
    fn a_manager_that_does_not_read_delays_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let connection = Connection::to(path.as_os_str()).ok();
        let mut service = ServiceManager {
            connection,
            watchdog: Some(Periodic::every(Duration::ZERO)),
            status: Periodic::every(Duration::ZERO),
        };
        service.send("READY=1");
        for _ in 0..10_000 {
            service.report(|| "tracing".to_owned());
        }
        let mut bytes = [0; 64];
        let size = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..size], b"READY=1");
    }

    #[test]
    fn a_socket_may_have_an_abstract_name() {
        let name = OsString::from(format!("@stable-trace-{}", std::process::id()));
        let address = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let connection = Connection::to(&name).ok();
        let status = Periodic::every(STATUS_INTERVAL);
        ServiceManager { connection, watchdog: None, status }.stopping();
        let mut bytes = [0; 64];
        let size = manager.recv(&mut bytes).unwrap();
        assert!(bytes[..size].starts_with(b"STOPPING=1\n"));
    }
}
