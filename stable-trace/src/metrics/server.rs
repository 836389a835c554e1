//! The endpoint: a thread of its own that answers HTTP.
//!
//! It listens in a process that may do anything, so whoever connects is held to limits: of
//! connections, of a request's header, and of time. No client can keep another one out: where all
//! connections are taken, the one that has been waiting for its client longest makes room, or the first
//! whose answer is given.

mod collector;
mod connection_deadline;
mod connections;
mod pages;
pub mod password;
mod routes;
pub mod tls;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use stable_trace_analysis::event::Device;
use tokio::sync::{mpsc, oneshot};

use super::{
    series::{Build, Registry},
    snapshot::Snapshot,
    web_config::WebConfig,
};
use collector::Collector;

/// A question for a snapshot, and where its answer goes: why there is none, on one line.
pub type Question = oneshot::Sender<Result<Snapshot, String>>;

/// What a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// From the first byte of a request, or of a connection's encryption, to the end of its header.
    pub header: Duration,
    /// From the end of a request's header to its answer, and how long a client may take none of it.
    pub answer: Duration,
    /// How long a connection may be open with no request.
    pub idle: Duration,
    /// How long a connection may wait for its client before it makes room for another one, while
    /// others are being answered.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            header_bytes: 16 << 10,
            header: Duration::from_secs(10),
            answer: Duration::from_secs(15),
            // Longer than the usual intervals of scrapes, which keep their connection.
            idle: Duration::from_mins(3),
            grace: Duration::from_millis(100),
        }
    }
}

/// What is served.
pub struct Served {
    /// Where snapshots are asked for; one question at a time.
    pub snapshots: mpsc::Sender<Question>,
    /// Lists the block devices, on the endpoint's own thread.
    pub devices: Box<dyn Fn() -> Vec<Device> + Send>,
    /// What runs here.
    pub build: Build,
    /// What is asked of clients.
    pub web: WebConfig,
    /// What a client may take.
    pub limits: Limits,
}

/// An endpoint that answers. Dropped, it stops.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Starts to answer those who connect to the listener.
    ///
    /// # Errors
    /// The listener cannot be used, or the thread cannot start.
    pub fn start(listener: TcpListener, served: Served) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // Passwords are checked there, one at a time.
            .max_blocking_threads(1)
            .build()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let ready = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = oneshot::channel();
        let site = Arc::clone(&ready);
        let serve = move || {
            runtime.block_on(async {
                let Served { snapshots, devices, build, web, limits } = served;
                let registry = Registry::new(build.clone());
                let pages = collector::spawn(Collector::new(snapshots, devices, registry));
                let site = Arc::new(routes::Site::new(pages, site, build, web));
                tokio::select! {
                    () = connections::serve(listener, site, limits) => {}
                    // An error is an `Endpoint` that was dropped.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(serve)?;
        Ok(Self { address, ready, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says that what it reports on is under way.
    pub fn ready(&self) {
        self.ready.store(true, Relaxed);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error is a thread that has ended.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
