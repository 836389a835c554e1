//! Connects a run with the metrics endpoint: where it listens, and the answers to its requests.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use stable_trace_analysis::error_chain::ErrorChain;
use tokio::sync::mpsc;

use super::inherited_socket::{self, InheritedSocketError};
use crate::{
    kernel::{devices, release::System},
    metrics::{
        series::Build,
        server::{ClientLimits, Endpoint, EndpointConfig, SnapshotRequest},
        snapshot::Snapshot,
        web_config::{WebConfig, WebConfigError},
    },
};

/// The default of `--listen`.
pub(crate) const DEFAULT_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9748);

/// `--listen` and `--web-config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenOptions {
    /// `None` where metrics are not served.
    pub(crate) address: Option<SocketAddr>,
    /// Whether the user gave `--listen`.
    pub(crate) explicit: bool,
    pub(crate) web_config: Option<PathBuf>,
}

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error(
        "--listen {address}: cannot listen (give another address, a free port with `--listen 127.0.0.1:0`, or `--listen off`)"
    )]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    InheritedSocket(#[from] InheritedSocketError),
    #[error(transparent)]
    WebConfig(#[from] WebConfigError),
    #[error("cannot start the metrics endpoint (`--listen off` runs without it)")]
    Start(#[source] io::Error),
}

/// The metrics endpoint of a run, if it has one.
pub(super) struct MetricsEndpoint {
    endpoint: Option<Endpoint>,
    requests: mpsc::Receiver<SnapshotRequest>,
    requester: mpsc::Sender<SnapshotRequest>,
    scheme: &'static str,
    web_config: Option<PathBuf>,
}

impl MetricsEndpoint {
    /// Starts to listen. If the default address is taken, perhaps by another run, the run goes on
    /// without metrics and a warning says so.
    pub(super) fn start(options: &ListenOptions) -> Result<Self, EndpointError> {
        // Who asks waits for each answer before it asks again.
        let (snapshots, requests) = mpsc::channel(1);
        let requester = snapshots.clone();
        let none = |requests, requester, scheme| Self {
            endpoint: None,
            requests,
            requester,
            scheme,
            web_config: None,
        };
        // Loaded even with `--listen off`, so that a mistake in the file is always reported.
        let web = match &options.web_config {
            Some(path) => WebConfig::load(path)?,
            None => WebConfig::default(),
        };
        let Some(address) = options.address else {
            return Ok(none(requests, requester, "http"));
        };
        let scheme = if web.tls.is_some() { "https" } else { "http" };
        let inherited = if options.explicit { None } else { inherited_socket::take()? };
        let listener = match inherited.map_or_else(|| TcpListener::bind(address), Ok) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !options.explicit => {
                log::warn!(
                    "no metrics: another process listens on {address}; `--listen 127.0.0.1:0` takes a free port"
                );
                return Ok(none(requests, requester, scheme));
            }
            Err(source) => return Err(EndpointError::Listen { address, source }),
        };
        let address = listener.local_addr().unwrap_or(address);
        if !address.ip().is_loopback() && options.web_config.is_none() {
            log::warn!(
                "everyone who can reach {address} can read the metrics; --web-config adds TLS and passwords"
            );
        }
        let system = System::read();
        let version = system.version();
        let config = EndpointConfig {
            snapshots,
            devices: Box::new(move || {
                devices::list(Path::new("/sys"), version).unwrap_or_else(|error| {
                    log::debug!("{}", ErrorChain(&error));
                    Vec::new()
                })
            }),
            build: Build {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                revision: env!("STABLE_TRACE_REVISION").to_owned(),
                kernel: system.release,
            },
            web,
            limits: ClientLimits::default(),
        };
        let endpoint = Endpoint::start(listener, config).map_err(EndpointError::Start)?;
        let web_config = options.web_config.clone();
        let metrics = Self { endpoint: Some(endpoint), requests, requester, scheme, web_config };
        if options.explicit
            && let Some(url) = metrics.url()
            // Not with `-q`.
            && log::max_level() >= log::LevelFilter::Warn
        {
            eprintln!("stable-trace: metrics at {url}");
        }
        Ok(metrics)
    }

    pub(super) fn url(&self) -> Option<String> {
        Some(format!("{}://{}/metrics", self.scheme, self.endpoint.as_ref()?.address()))
    }

    /// Reads `--web-config` again.
    pub(super) fn reload(&self) {
        if let (Some(endpoint), Some(path)) = (&self.endpoint, &self.web_config) {
            endpoint.reload(path.clone());
        }
    }

    /// Makes `/-/ready` succeed.
    pub(super) fn set_ready(&self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.set_ready();
        }
    }

    /// Where others than the endpoint ask for the kernel's counts.
    pub(super) fn requester(&self) -> mpsc::Sender<SnapshotRequest> {
        self.requester.clone()
    }

    /// Waits for a scrape, or another request of the same kind. Cancel safe.
    pub(super) async fn scrape_request(&mut self) -> SnapshotRequest {
        match self.requests.recv().await {
            Some(request) => request,
            // Cannot be: this has a sender.
            None => std::future::pending().await,
        }
    }
}

/// Answers a request with a snapshot, unless the client has given up.
pub(super) fn answer<E: std::error::Error + 'static>(
    request: SnapshotRequest,
    read: impl FnOnce() -> Result<Snapshot, E>,
) {
    if request.is_closed() {
        return;
    }
    let began = std::time::Instant::now();
    let snapshot = read().map_err(|error| ErrorChain(&error).to_string());
    log::debug!("read the kernel's maps in {:?}", began.elapsed());
    // An error means that the scrape was given up meanwhile.
    let _ = request.send(snapshot);
}
