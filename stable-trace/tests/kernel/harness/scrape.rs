//! Scrapes of an agent's metrics.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::agent::Agent;

/// One scrape: the page, and its samples by their name and labels as printed.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) page: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Scrapes an agent that was started with `--listen`.
    pub(crate) fn of(agent: &Agent) -> Result<Self> {
        let url = agent.started().and_then(|start| start.metrics.clone());
        Self::at(&url.context("the agent's `start` line has no URL of its metrics")?)
    }

    /// Scrapes an agent that serves its metrics at this URL.
    pub(crate) fn at(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not HTTP"))?;
        let (address, path) = rest.split_once('/').with_context(|| format!("{url} has no path"))?;
        let mut stream =
            TcpStream::connect(address).with_context(|| format!("cannot connect to {url}"))?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("cannot read the answer")?;
        let (head, page) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut samples = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').context("a line without a value")?;
            let duplicate = samples.insert(name.to_owned(), value.parse()?);
            ensure!(duplicate.is_none(), "{name} is a duplicate");
        }
        Ok(Self { page: page.to_owned(), samples })
    }

    /// The sum of a metric's samples that have all of these labels.
    pub(crate) fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(metric, labels).map(|(_, value)| value).sum()
    }

    /// How many samples a metric has.
    pub(crate) fn series(&self, metric: &str) -> usize {
        self.matching(metric, &[]).count()
    }

    /// Every sample, by name and labels.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, f64)> {
        self.samples.iter().map(|(name, value)| (name.as_str(), *value))
    }

    fn matching(&self, metric: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = (&str, f64)> {
        self.all().filter(move |(name, _)| {
            let rest = name.strip_prefix(metric);
            rest.is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with('{'))
                    && labels
                        .iter()
                        .all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
            })
        })
    }
}
