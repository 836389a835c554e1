//! One dashboard: its variables, annotations, links and panel layout.

use serde_json::{Value, json};

use crate::panel::Panel;
use crate::query::{data_source, with_target_matchers};

/// The width of Grafana's grid.
const COLUMNS: u64 = 24;
/// The tag of every dashboard. The links between them select by it.
const TAG: &str = "stable-trace";

/// A Grafana dashboard.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// The file name without its extension, and the last part of the `uid`.
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    variables: Vec<Value>,
    annotations: Vec<Value>,
    rows: Vec<(&'static str, Vec<Panel>)>,
}

impl Dashboard {
    /// A dashboard without panels, with the variables that every dashboard has: data source, job
    /// and instance.
    pub(crate) fn new(name: &'static str, title: &'static str, description: &'static str) -> Self {
        let data_source_variable = json!({
            "description": "The Prometheus that scrapes the agents.",
            "hide": 0,
            "includeAll": false,
            "label": "Data source",
            "multi": false,
            "name": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "regex": "",
            "type": "datasource",
        });
        let dashboard = Self {
            name,
            title,
            description,
            variables: vec![data_source_variable],
            annotations: Vec::new(),
            rows: Vec::new(),
        };
        let non_empty = ".+";
        let instances = r#"label_values(stable_trace_build_info{job=~"$job"}, instance)"#;
        dashboard
            .query_variable("job", "Job", "label_values(stable_trace_build_info, job)", non_empty)
            .query_variable("instance", "Instance", instances, non_empty)
    }

    fn query_variable(mut self, name: &str, label: &str, query: &str, all_value: &str) -> Self {
        self.variables.push(json!({
            "allValue": all_value,
            "current": {"text": "All", "value": "$__all"},
            "datasource": data_source(),
            "definition": query,
            "hide": 0,
            "includeAll": true,
            "label": label,
            "multi": true,
            "name": name,
            "query": query,
            "refresh": 2,
            "regex": "",
            "sort": 1,
            "type": "query",
        }));
        self
    }

    /// Adds a variable with the values of a metric's label. "All" includes series without the label.
    pub(crate) fn variable(self, label: &str, title: &str, metric: &str) -> Self {
        let selector = with_target_matchers(&format!("{metric}{{%}}"));
        self.query_variable(label, title, &format!("label_values({selector}, {label})"), ".*")
    }

    /// Adds an annotation to every time series panel at each time where the expression has a value.
    pub(crate) fn annotation(mut self, name: &str, expression: &str, text: &str) -> Self {
        self.annotations.push(json!({
            "datasource": data_source(),
            "enable": true,
            "expr": with_target_matchers(expression),
            "hide": false,
            "iconColor": "red",
            "name": name,
            "titleFormat": text,
        }));
        self
    }

    /// Adds a titled row. Its panels are placed from left to right and wrap at the grid's width.
    pub(crate) fn row(mut self, title: &'static str, panels: Vec<Panel>) -> Self {
        self.rows.push((title, panels));
        self
    }

    /// The dashboard in Grafana's JSON model.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "annotations": {"list": self.annotations},
            "description": self.description,
            "editable": false,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": null,
            "links": [{
                "asDropdown": true,
                "icon": "external link",
                "includeVars": true,
                "keepTime": true,
                "tags": [TAG],
                "targetBlank": false,
                "title": "stable-trace dashboards",
                "tooltip": "Other dashboards, with the same variables and time range",
                "type": "dashboards",
                "url": "",
            }],
            "panels": self.panels(),
            "refresh": "30s",
            "schemaVersion": 41,
            "tags": [TAG],
            "templating": {"list": self.variables},
            "time": {"from": "now-1h", "to": "now"},
            "timepicker": {},
            "timezone": "browser",
            "title": format!("stable-trace / {}", self.title),
            "uid": format!("stable-trace-{}", self.name),
            "version": 1,
        })
    }

    fn panels(&self) -> Vec<Value> {
        let mut panels = Vec::new();
        let (mut id, mut y) = (0, 0);
        for (title, row) in &self.rows {
            id += 1;
            panels.push(json!({
                "collapsed": false,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
                "id": id,
                "panels": [],
                "title": title,
                "type": "row",
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in row {
                let (width, height) = panel.size;
                if x + width > COLUMNS {
                    y += tallest;
                    (x, tallest) = (0, 0);
                }
                id += 1;
                panels.push(panel.json(id, x, y));
                x += width;
                tallest = tallest.max(height);
            }
            y += tallest;
        }
        panels
    }

    /// The file content: sorted keys, indented by two spaces, with a final newline.
    #[must_use]
    pub fn file_content(&self) -> String {
        format!("{:#}\n", self.json())
    }
}
