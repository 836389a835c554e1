//! The metrics endpoint: answers HTTP on a thread of its own.
//!
//! Limits apply to every client: of connections, of header size, and of time. No client can lock out
//! another: when all connections are in use, the one that has waited longest for its client is closed,
//! or the first one whose response is complete.

mod client_limits;
mod collector;
mod connection_deadline;
mod connections;
mod monitored_stream;
mod pages;
pub(super) mod password;
mod response_body;
mod routes;
pub(super) mod tls;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use stable_trace_analysis::{error_chain::ErrorChain, event::Device};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    series::{Build, Registry},
    web_config::WebConfig,
};
use crate::kernel::least_privilege::{self, Work};
use collector::Collector;

pub use client_limits::ClientLimits;
pub use collector::SnapshotRequest;

/// What the endpoint serves, and to whom.
pub struct EndpointConfig {
    /// Where snapshots are requested, one at a time.
    pub snapshots: mpsc::Sender<SnapshotRequest>,
    /// Lists the block devices. Called on the endpoint's thread.
    pub devices: Box<dyn Fn() -> Vec<Device> + Send>,
    /// The labels of `stable_trace_build_info`.
    pub build: Build,
    /// TLS, passwords and headers.
    pub web: WebConfig,
    /// Limits of clients.
    pub limits: ClientLimits,
}

/// A running endpoint. It stops when dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    /// Web configurations to load.
    reloads: mpsc::Sender<PathBuf>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Starts to answer clients of the listener.
    ///
    /// # Errors
    /// The listener cannot be used, or the thread cannot start or give up its capabilities.
    pub fn start(listener: TcpListener, config: EndpointConfig) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // Passwords are verified there, one at a time.
            .max_blocking_threads(1)
            .build()?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let ready = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = oneshot::channel();
        let (reloads, reload_requests) = mpsc::channel(1);
        let routes_ready = Arc::clone(&ready);
        let (report, outcome) = std::sync::mpsc::sync_channel(1);
        let serve = move || {
            // Before the first client. The thread that verifies passwords inherits the loss.
            let restricted = least_privilege::keep_only_for(Work::Serve);
            let failed = restricted.is_err();
            // The caller waits for it.
            let _ = report.send(restricted);
            if failed {
                return;
            }
            runtime.block_on(async {
                let EndpointConfig { snapshots, devices, build, web, limits } = config;
                let registry = Registry::new(build.clone());
                let scrapes = collector::spawn(Collector::new(snapshots, devices, registry));
                let (web_changes, web) = watch::channel(Arc::new(web));
                let routes = Arc::new(routes::Routes::new(scrapes, routes_ready, build, web));
                tokio::select! {
                    () = connections::serve(listener, routes, limits) => {}
                    () = reload(reload_requests, web_changes) => {}
                    // An error means that the `Endpoint` was dropped.
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(serve)?;
        outcome.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Self { address, ready, reloads, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads a web configuration and uses it from then on. If it is refused, a warning says why, and the present one
    /// stays. The thread that reads it has no capabilities.
    pub fn reload(&self, web_config: PathBuf) {
        // A request that waits has the same effect.
        let _ = self.reloads.try_send(web_config);
    }

    /// Makes `/-/ready` succeed.
    pub fn set_ready(&self) {
        self.ready.store(true, Relaxed);
    }
}

/// Loads web configurations when they are asked for, for ever. A client that has a connection keeps its TLS session.
async fn reload(mut requests: mpsc::Receiver<PathBuf>, web: watch::Sender<Arc<WebConfig>>) {
    while let Some(path) = requests.recv().await {
        let loaded = tokio::task::spawn_blocking(move || WebConfig::load(&path)).await;
        match loaded {
            Ok(Ok(config)) => {
                web.send_replace(Arc::new(config));
                log::info!("the web configuration was read again");
            }
            Ok(Err(error)) => {
                log::warn!("the web configuration stays as it was: {}", ErrorChain(&error));
            }
            // The file was not read: the runtime ends.
            Err(_) => {}
        }
    }
    // The `Endpoint` is being dropped.
    std::future::pending::<()>().await;
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has ended.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
