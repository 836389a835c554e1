//! One look for all who ask at once.

use std::{sync::Arc, time::Duration};

use prometheus::proto::MetricFamily;
use stable_trace_analysis::event::Device;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Question, Snapshot};
use crate::metrics::{own::Own, series::Registry};

/// How long the run may take to say what it has counted.
const PATIENCE: Duration = Duration::from_secs(10);

/// Scrapes that may wait; there are never more than connections.
const QUEUE: usize = 64;

/// What one look found.
#[derive(Debug)]
pub struct Scrape {
    /// As metric families.
    pub families: Vec<MetricFamily>,
    /// As it came.
    pub snapshot: Snapshot,
}

/// Why a look found nothing.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CollectError {
    /// The run is over, or has not begun.
    #[error("the run is not under way")]
    Over,
    /// It is busy.
    #[error("the run did not answer within {} s", PATIENCE.as_secs())]
    Busy,
    /// The kernel's maps cannot be read.
    #[error("the counts cannot be read: {0}")]
    Unreadable(String),
}

/// Where looks are asked for.
pub type Scrapes = mpsc::Sender<oneshot::Sender<Result<Arc<Scrape>, CollectError>>>;

/// Makes looks, one after the other: the registry has to see them in order.
pub struct Collector {
    snapshots: mpsc::Sender<Question>,
    devices: Box<dyn Fn() -> Vec<Device> + Send>,
    registry: Registry,
}

impl Collector {
    /// From where snapshots come, where devices come from, and where they go.
    pub fn new(
        snapshots: mpsc::Sender<Question>,
        devices: Box<dyn Fn() -> Vec<Device> + Send>,
        registry: Registry,
    ) -> Self {
        Self { snapshots, devices, registry }
    }

    async fn look(&mut self) -> Result<Arc<Scrape>, CollectError> {
        let (question, answer) = oneshot::channel();
        let asked = async {
            self.snapshots.send(question).await.map_err(|_| CollectError::Over)?;
            answer.await.map_err(|_| CollectError::Over)
        };
        let mut snapshot = timeout(PATIENCE, asked)
            .await
            .map_err(|_| CollectError::Busy)??
            .map_err(CollectError::Unreadable)?;
        snapshot.devices = (self.devices)();
        snapshot.own = Own::read();
        Ok(Arc::new(Scrape { families: self.registry.families(&snapshot), snapshot }))
    }
}

/// Starts to make looks for whoever asks.
pub fn spawn(mut collector: Collector) -> Scrapes {
    let (looks, mut asked) = mpsc::channel::<oneshot::Sender<_>>(QUEUE);
    tokio::spawn(async move {
        while let Some(first) = asked.recv().await {
            // Whoever asks while a look is being made wants a fresher one.
            let mut waiting = vec![first];
            while let Ok(next) = asked.try_recv() {
                waiting.push(next);
            }
            waiting.retain(|reply| !reply.is_closed());
            if waiting.is_empty() {
                continue;
            }
            let look = collector.look().await;
            for reply in waiting {
                // An error is a client that has gone.
                let _ = reply.send(look.clone());
            }
        }
    });
    looks
}
