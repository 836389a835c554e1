//! The states of alerts.

use anyhow::{Result, ensure};
use stable_trace_dashboards::json::elements;
use stable_trace_dashboards::prometheus::Prometheus;

/// An alert of an agent or of one of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alert<'a> {
    pub(crate) name: &'a str,
    /// The agent's address.
    pub(crate) instance: &'a str,
    /// Empty for an alert without a device.
    pub(crate) device: &'a str,
}

/// The expected state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Firing,
    /// The expression holds, but not yet for the rule's `for` time, which is longer than the test.
    Pending,
    Inactive,
}

impl Expected {
    fn of(state: &str) -> Self {
        match state {
            "firing" => Self::Firing,
            "pending" => Self::Pending,
            _ => Self::Inactive,
        }
    }
}

pub(crate) fn alerts_are_as_expected(
    server: &Prometheus,
    expected: &[(Alert<'_>, Expected)],
) -> Result<()> {
    let data = server.data("/api/v1/alerts")?;
    let alerts = elements(&data["alerts"]);
    for alert in alerts {
        eprintln!("dashboards: {} {}", alert["state"], alert["labels"]);
    }
    for (alert, state) in expected {
        let found = alerts.iter().find(|one| {
            let label = |name: &str| one["labels"][name].as_str().unwrap_or_default();
            let labels = [label("alertname"), label("instance"), label("device")];
            labels == [alert.name, alert.instance, alert.device]
        });
        let found = found.map_or("inactive", |one| one["state"].as_str().unwrap_or_default());
        ensure!(Expected::of(found) == *state, "{alert:?} is {found}, not {state:?}: {alerts:#?}");
    }
    Ok(())
}
