//! Which alerts a Prometheus has, and which it is to have.

use anyhow::{Result, ensure};
use stable_trace_dashboards::json::elements;
use stable_trace_dashboards::prometheus::Prometheus;

/// One alert of one agent, or of one of its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert<'a> {
    /// Its name.
    pub name: &'a str,
    /// The agent's address.
    pub instance: &'a str,
    /// Empty where it is of no device.
    pub device: &'a str,
}

/// What is to become of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is told to somebody.
    Firing,
    /// Its expression holds, but has to for a while longer than a test waits.
    Pending,
    /// Its expression does not hold.
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

/// Each of these is in the state that it is to be in.
pub fn alert_as_expected(server: &Prometheus, expected: &[(Alert<'_>, Expected)]) -> Result<()> {
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
