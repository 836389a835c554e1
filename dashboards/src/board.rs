//! One dashboard: its variables, its links, and its panels in their places.

use serde_json::{Value, json};

use crate::panel::Panel;
use crate::query::data_source;

/// Grafana's grid is this wide.
const COLUMNS: u64 = 24;
/// The tag that all of them have, by which they link to each other.
pub const TAG: &str = "stable-trace";

/// A dashboard.
#[derive(Clone, Debug)]
pub struct Board {
    /// The end of its `uid` and the name of its file.
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    variables: Vec<Value>,
    annotations: Vec<Value>,
    sections: Vec<(&'static str, Vec<Panel>)>,
}

impl Board {
    /// One with the variables that all have, and no panel.
    #[must_use]
    pub fn new(name: &'static str, title: &'static str, description: &'static str) -> Self {
        let chosen = json!({"text": "All", "value": "$__all"});
        let source = json!({
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
        let board = Self {
            name,
            title,
            description,
            variables: vec![source],
            annotations: Vec::new(),
            sections: Vec::new(),
        };
        let anything = ".+";
        let of_job = r#"label_values(stable_trace_build_info{job=~"$job"}, instance)"#;
        board
            .with("job", "Job", "label_values(stable_trace_build_info, job)", anything, &chosen)
            .with("instance", "Instance", of_job, anything, &chosen)
    }

    fn with(mut self, name: &str, label: &str, query: &str, all: &str, chosen: &Value) -> Self {
        self.variables.push(json!({
            "allValue": all,
            "current": chosen,
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

    /// One more variable: the values of a label of a metric.
    #[must_use]
    pub fn variable(self, label: &str, title: &str, metric: &str) -> Self {
        let query =
            format!(r#"label_values({metric}{{job=~"$job", instance=~"$instance"}}, {label})"#);
        let chosen = json!({"text": "All", "value": "$__all"});
        // What has no such label is part of all, too.
        self.with(label, title, &query, ".*", &chosen)
    }

    /// Marks on every panel over time, where the expression has a value.
    #[must_use]
    pub fn mark(mut self, name: &str, expression: &str, text: &str) -> Self {
        let expression = expression.replace("{%", r#"{job=~"$job", instance=~"$instance""#);
        self.annotations.push(json!({
            "datasource": data_source(),
            "enable": true,
            "expr": expression,
            "hide": false,
            "iconColor": "red",
            "name": name,
            "titleFormat": text,
        }));
        self
    }

    /// Panels under one heading, from left to right as there is room.
    #[must_use]
    pub fn section(mut self, title: &'static str, panels: Vec<Panel>) -> Self {
        self.sections.push((title, panels));
        self
    }

    /// The dashboard as Grafana takes it.
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
                "tooltip": "The other dashboards, with the same variables and time",
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
        let (mut id, mut top) = (0, 0);
        for (title, section) in &self.sections {
            id += 1;
            panels.push(json!({
                "collapsed": false,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
                "id": id,
                "panels": [],
                "title": title,
                "type": "row",
            }));
            top += 1;
            let (mut left, mut tallest) = (0, 0);
            for panel in section {
                let (width, height) = panel.size;
                if left + width > COLUMNS {
                    top += tallest;
                    (left, tallest) = (0, 0);
                }
                id += 1;
                panels.push(panel.json(id, left, top));
                left += width;
                tallest = tallest.max(height);
            }
            top += tallest;
        }
        panels
    }

    /// The text of its file: keys sorted, two spaces, a line end at the end.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.json())
    }
}
