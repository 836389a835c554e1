//! The run's end of the metrics endpoint: where it listens, and how the loop answers it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use crate::{
    kernel::{devices, release::System},
    metrics::{
        series::Build,
        server::{Endpoint, Limits, Question, Served},
        snapshot::Snapshot,
        web_config::{WebConfig, WebConfigError},
    },
};

/// Where metrics are served unless something else is asked for.
pub const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9748);

/// `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where; nothing for nowhere.
    pub address: Option<SocketAddr>,
    /// Whether the user said so.
    pub asked_for: bool,
    /// `--web-config`.
    pub web_config: Option<PathBuf>,
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be had.
    #[error(
        "--listen {address}: {source}; give another address, a free port with `--listen 127.0.0.1:0`, or `--listen off`"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// `--web-config` is no good.
    #[error(transparent)]
    WebConfig(#[from] WebConfigError),
    /// The endpoint's thread cannot start.
    #[error("metrics cannot be served: {0}; `--listen off` goes without")]
    Start(#[source] io::Error),
}

/// The endpoint, if there is one, and what it asks.
pub struct Scrapes {
    endpoint: Option<Endpoint>,
    questions: mpsc::Receiver<Question>,
    scheme: &'static str,
}

impl Scrapes {
    /// Starts to listen. Where nobody chose the address and another process has it, which may be
    /// another run of ours, the run goes on without metrics, and says so.
    ///
    /// # Errors
    /// [`EndpointError`], in one line with what to do.
    pub fn listen(listen: &Listen) -> Result<Self, EndpointError> {
        // One question at a time: the endpoint waits for its answer before it asks again.
        let (snapshots, questions) = mpsc::channel(1);
        // A file that is no good is a mistake, even if it is not needed.
        let web = match &listen.web_config {
            Some(path) => WebConfig::load(path)?,
            None => WebConfig::default(),
        };
        let Some(address) = listen.address else {
            return Ok(Self { endpoint: None, questions, scheme: "http" });
        };
        let scheme = if web.tls.is_some() { "https" } else { "http" };
        let listener = match TcpListener::bind(address) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && !listen.asked_for => {
                log::warn!(
                    "no metrics: another process listens on {address}; `--listen 127.0.0.1:0` takes a free port"
                );
                return Ok(Self { endpoint: None, questions, scheme });
            }
            Err(source) => return Err(EndpointError::Listen { address, source }),
        };
        if !address.ip().is_loopback() && listen.web_config.is_none() {
            log::warn!(
                "whoever reaches {address} can read the metrics; --web-config has TLS and passwords"
            );
        }
        let system = System::read();
        let version = system.version();
        let served = Served {
            snapshots,
            devices: Box::new(move || {
                devices::list(Path::new("/sys"), version).unwrap_or_else(|error| {
                    log::debug!("{error}");
                    Vec::new()
                })
            }),
            build: Build {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                revision: env!("STABLE_TRACE_REVISION").to_owned(),
                kernel: system.release,
            },
            web,
            limits: Limits::default(),
        };
        let endpoint = Endpoint::start(listener, served).map_err(EndpointError::Start)?;
        let scrapes = Self { endpoint: Some(endpoint), questions, scheme };
        if listen.asked_for
            && let Some(url) = scrapes.url()
            // Not with `-q`.
            && log::max_level() >= log::LevelFilter::Warn
        {
            eprintln!("stable-trace: metrics at {url}");
        }
        Ok(scrapes)
    }

    /// Where the metrics are.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        Some(format!("{}://{}/metrics", self.scheme, self.endpoint.as_ref()?.address()))
    }

    /// Says that the run is under way.
    pub fn ready(&self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.ready();
        }
    }

    /// Waits for a question; never returns where there is no endpoint. Nothing is lost if the future
    /// is dropped.
    pub async fn asked(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }
}

/// Answers a question with what `look` finds, unless nobody waits for it any more.
pub fn answer<E: std::fmt::Display>(
    question: Question,
    look: impl FnOnce() -> Result<Snapshot, E>,
) {
    if question.is_closed() {
        return;
    }
    let began = std::time::Instant::now();
    let snapshot = look().map_err(|error| error.to_string());
    log::debug!("a look at the kernel's maps took {:?}", began.elapsed());
    // An error is a scrape that has given up.
    let _ = question.send(snapshot);
}
