//! Coalesces concurrent scrapes into one snapshot.

use std::{sync::Arc, time::Duration};

use prometheus::proto::MetricFamily;
use stable_trace_analysis::event::Device;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::metrics::{process::ProcessMetrics, series::Registry, snapshot::Snapshot};

/// How long the run may take to answer.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most scrapes that wait; there are never more than connections.
const QUEUE: usize = 64;

/// A request for a snapshot: where to send it, or the reason on one line why there is none.
pub type SnapshotRequest = oneshot::Sender<Result<Snapshot, String>>;

/// The result of one scrape.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) families: Vec<MetricFamily>,
    pub(super) snapshot: Snapshot,
}

/// Why a scrape has no result.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum CollectError {
    /// The run has ended, or has not begun.
    #[error("the run is not under way")]
    NoRun,
    #[error("the run did not answer within {} s", SNAPSHOT_TIMEOUT.as_secs())]
    Timeout,
    #[error("cannot read the counters: {0}")]
    Unreadable(String),
}

/// Where to send a scrape's result.
type ScrapeRequest = oneshot::Sender<Result<Arc<Scrape>, CollectError>>;

/// Where to request scrapes.
pub(super) type ScrapeSender = mpsc::Sender<ScrapeRequest>;

/// Collects scrapes one after the other: the registry must see snapshots in order.
pub(super) struct Collector {
    snapshots: mpsc::Sender<SnapshotRequest>,
    devices: Box<dyn Fn() -> Vec<Device> + Send>,
    registry: Registry,
}

impl Collector {
    pub(super) fn new(
        snapshots: mpsc::Sender<SnapshotRequest>,
        devices: Box<dyn Fn() -> Vec<Device> + Send>,
        registry: Registry,
    ) -> Self {
        Self { snapshots, devices, registry }
    }

    async fn collect(&mut self) -> Result<Arc<Scrape>, CollectError> {
        let (request, answer) = oneshot::channel();
        let requested = async {
            self.snapshots.send(request).await.map_err(|_| CollectError::NoRun)?;
            answer.await.map_err(|_| CollectError::NoRun)
        };
        let mut snapshot = timeout(SNAPSHOT_TIMEOUT, requested)
            .await
            .map_err(|_| CollectError::Timeout)??
            .map_err(CollectError::Unreadable)?;
        snapshot.devices = (self.devices)();
        snapshot.process = ProcessMetrics::read();
        Ok(Arc::new(Scrape { families: self.registry.families(&snapshot), snapshot }))
    }
}

/// Starts the task that answers scrape requests.
pub(super) fn spawn(mut collector: Collector) -> ScrapeSender {
    let (sender, mut requests) = mpsc::channel::<ScrapeRequest>(QUEUE);
    tokio::spawn(async move {
        while let Some(first) = requests.recv().await {
            // Requests that arrive during a scrape wait for the next, fresher one.
            let mut waiting = vec![first];
            while let Ok(next) = requests.try_recv() {
                waiting.push(next);
            }
            waiting.retain(|request| !request.is_closed());
            if waiting.is_empty() {
                continue;
            }
            let scrape = collector.collect().await;
            for request in waiting {
                // An error means that the client has disconnected.
                let _ = request.send(scrape.clone());
            }
        }
    });
    sender
}
