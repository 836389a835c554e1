//! The dashboards, one in each file.

mod agent;
mod integrity;
mod overview;
mod stalls;
mod wac;

use crate::dashboard::Dashboard;
use crate::panel::Panel;
use crate::query::Query;

/// All dashboards, the most general first.
#[must_use]
pub fn all() -> [Dashboard; 5] {
    [
        overview::dashboard(),
        stalls::dashboard(),
        integrity::dashboard(),
        wac::dashboard(),
        agent::dashboard(),
    ]
}

/// Matches the contexts of stable-page stalls.
const STABLE_PAGES: &str = r#"context=~"write_begin|page_mkwrite""#;

/// The value of a counter without series.
const ZERO: &str = "0";

/// The text of a latency panel without data.
const NO_STALL: &str = "no stall";

/// The text of an integrity panel without data.
const NO_INTEGRITY_ERROR: &str = "no integrity error";

/// Thresholds of a count that is 0 on a healthy system.
const RED_FROM_ONE: [(f64, &str); 1] = [(0.5, "red")];
const YELLOW_FROM_ONE: [(f64, &str); 1] = [(0.5, "yellow")];

/// A stat panel of a counter's increase in the dashboard's time range.
fn total(title: &str, description: &str, selector: &str, legend: &'static str) -> Panel {
    Panel::stat(title, description)
        .unit("short")
        .decimals(0)
        .no_value(ZERO)
        .without_sparkline()
        .query(Query::instant(&format!("sum(increase({selector}[$__range]))"), legend))
}

/// A quantile over time of the histogram whose buckets `selector` selects. `labels` contains `le`.
fn quantile(quantile: &str, labels: &str, selector: &str) -> String {
    format!(
        "histogram_quantile({quantile}, sum by ({labels}) (rate({selector}[$__rate_interval])))"
    )
}
