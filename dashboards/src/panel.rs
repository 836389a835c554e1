//! One panel of a dashboard.

use serde_json::{Map, Value, json};

use crate::query::{Query, data_source};

/// A panel without its position in the grid.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    kind: &'static str,
    title: String,
    description: String,
    options: Value,
    defaults: Map<String, Value>,
    overrides: Vec<Value>,
    transformations: Vec<Value>,
    queries: Vec<Query>,
    repeat: Option<&'static str>,
    /// Width and height in grid units.
    pub(crate) size: (u64, u64),
}

impl Panel {
    fn new(kind: &'static str, title: &str, description: &str, size: (u64, u64)) -> Self {
        Self {
            kind,
            title: title.to_owned(),
            description: description.to_owned(),
            options: json!({}),
            defaults: Map::new(),
            overrides: Vec::new(),
            transformations: Vec::new(),
            queries: Vec::new(),
            repeat: None,
            size,
        }
    }

    /// The last value as a large number, with a sparkline.
    pub(crate) fn stat(title: &str, description: &str) -> Self {
        let mut panel = Self::new("stat", title, description, (4, 4));
        panel.options = json!({
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            "showPercentChange": false,
            "textMode": "auto",
            "wideLayout": true,
        });
        panel.thresholds(&[])
    }

    /// Lines over time.
    pub(crate) fn time_series(title: &str, description: &str) -> Self {
        let mut panel = Self::new("timeseries", title, description, (12, 8));
        panel.options = json!({
            "legend": {
                "calcs": ["mean", "max", "lastNotNull"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": true,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        });
        panel.thresholds(&[]).custom(&json!({
            "drawStyle": "line",
            "fillOpacity": 10,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": false,
        }))
    }

    /// Stacked areas over time: parts of a whole.
    pub(crate) fn stacked_areas(title: &str, description: &str) -> Self {
        Self::time_series(title, description)
            .custom(&json!({"fillOpacity": 40, "stacking": {"group": "A", "mode": "normal"}}))
    }

    /// Stacked bars over time: rare events.
    pub(crate) fn stacked_bars(title: &str, description: &str) -> Self {
        let mut panel =
            Self::stacked_areas(title, description).custom(&json!({"drawStyle": "bars"}));
        panel.options["legend"]["calcs"] = json!(["sum"]);
        panel.custom(&json!({"fillOpacity": 80}))
    }

    /// The buckets of a histogram over time, coloured by count.
    pub(crate) fn heatmap(title: &str, description: &str) -> Self {
        let mut panel = Self::new("heatmap", title, description, (12, 9));
        panel.options = json!({
            "calculate": false,
            "cellGap": 1,
            "cellValues": {"unit": "short"},
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "reverse": false,
                "scale": "exponential",
                "scheme": "Oranges",
                "steps": 64,
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": true},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": true, "yHistogram": true},
            "yAxis": {"axisPlacement": "left", "reverse": false, "unit": "s"},
        });
        panel.custom(&json!({"scaleDistribution": {"type": "linear"}}))
    }

    /// One horizontal bar for each series, in the order of the query.
    pub(crate) fn bar_gauge(title: &str, description: &str) -> Self {
        let mut panel = Self::new("bargauge", title, description, (12, 8));
        panel.options = json!({
            "displayMode": "gradient",
            "legend": hidden_legend(),
            "maxVizHeight": 300,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "left",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            "showUnfilled": true,
            "sizing": "auto",
            "valueMode": "color",
        });
        panel.set("min", json!(0)).set("color", json!({"mode": "continuous-YlRd"})).thresholds(&[])
    }

    /// One table row for each series. `hidden` columns are excluded; `columns` maps the others to
    /// their headings, in display order.
    pub(crate) fn table(
        title: &str,
        description: &str,
        hidden: &[&str],
        columns: &[(&str, &str)],
    ) -> Self {
        let mut panel = Self::new("table", title, description, (12, 8));
        panel.options = json!({"cellHeight": "sm", "frameIndex": 0, "showHeader": true});
        let excluded: Map<_, _> = ["Time", "Time 1", "Time 2", "job"]
            .iter()
            .chain(hidden)
            .map(|name| ((*name).to_owned(), json!(true)))
            .collect();
        let renamed: Map<_, _> =
            columns.iter().map(|(from, to)| ((*from).to_owned(), json!(to))).collect();
        let ordered: Map<_, _> = columns
            .iter()
            .zip(0..)
            .map(|((from, _), index)| ((*from).to_owned(), json!(index)))
            .collect();
        panel.transformations = vec![
            json!({"id": "merge", "options": {}}),
            json!({
                "id": "organize",
                "options": {"excludeByName": excluded, "indexByName": ordered, "renameByName": renamed},
            }),
        ];
        panel.thresholds(&[]).custom(&json!({
            "align": "auto",
            "filterable": true,
            "inspect": false,
        }))
    }

    /// One band for each series, coloured by its value.
    pub(crate) fn state_timeline(title: &str, description: &str) -> Self {
        let mut panel = Self::new("state-timeline", title, description, (12, 8));
        panel.options = json!({
            "alignValue": "left",
            "legend": hidden_legend(),
            "mergeValues": true,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        });
        panel.thresholds(&[]).custom(&json!({"fillOpacity": 70, "lineWidth": 0}))
    }

    /// Adds a query.
    pub(crate) fn query(mut self, query: Query) -> Self {
        self.queries.push(query);
        self
    }

    /// Sets the unit, as an identifier of Grafana.
    pub(crate) fn unit(self, unit: &str) -> Self {
        self.set("unit", json!(unit))
    }

    /// Sets the text shown without data.
    pub(crate) fn no_value(self, text: &str) -> Self {
        self.set("noValue", json!(text))
    }

    pub(crate) fn decimals(self, decimals: u8) -> Self {
        self.set("decimals", json!(decimals))
    }

    /// Scales the axis from zero to `max`.
    pub(crate) fn max(self, max: f64) -> Self {
        self.set("min", json!(0)).set("max", json!(max))
    }

    /// Colours values below the first threshold green, others by the last threshold reached.
    pub(crate) fn thresholds(self, thresholds: &[(f64, &str)]) -> Self {
        let base = json!({"color": "green", "value": null});
        let others =
            thresholds.iter().map(|(value, color)| json!({"color": color, "value": value}));
        let steps: Vec<_> = std::iter::once(base).chain(others).collect();
        self.set("thresholds", json!({"mode": "absolute", "steps": steps}))
    }

    /// Shows texts and colours in place of values: `(value, text, color)`.
    pub(crate) fn value_mappings(self, mappings: &[(&str, &str, &str)]) -> Self {
        self.set("mappings", value_mappings(mappings))
    }

    pub(crate) fn log_scale(self) -> Self {
        self.custom(&json!({"scaleDistribution": {"log": 10, "type": "log"}}))
    }

    /// Overrides properties of the series or columns whose name matches `pattern`.
    pub(crate) fn override_fields(mut self, pattern: &str, properties: &[(&str, Value)]) -> Self {
        let properties: Vec<_> =
            properties.iter().map(|(id, value)| json!({"id": id, "value": value})).collect();
        self.overrides.push(
            json!({"matcher": {"id": "byRegexp", "options": pattern}, "properties": properties}),
        );
        self
    }

    /// Shows the name of each series instead of its value.
    pub(crate) fn show_names(mut self) -> Self {
        self.options["textMode"] = json!("name");
        self.options["graphMode"] = json!("none");
        self
    }

    pub(crate) fn without_sparkline(mut self) -> Self {
        self.options["graphMode"] = json!("none");
        self
    }

    /// Repeats the panel for each value of a variable, two in a row.
    pub(crate) const fn repeat_for(mut self, variable: &'static str) -> Self {
        self.repeat = Some(variable);
        self
    }

    /// Sets width and height in grid units.
    pub(crate) const fn size(mut self, width: u64, height: u64) -> Self {
        self.size = (width, height);
        self
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.defaults.insert(key.to_owned(), value);
        self
    }

    fn custom(mut self, more: &Value) -> Self {
        let custom = self.defaults.entry("custom").or_insert_with(|| json!({}));
        if let (Some(custom), Some(more)) = (custom.as_object_mut(), more.as_object()) {
            custom.extend(more.clone());
        }
        self
    }

    pub(crate) fn json(&self, id: u64, x: u64, y: u64) -> Value {
        let (w, h) = self.size;
        let targets: Vec<_> =
            self.queries.iter().enumerate().map(|(index, query)| query.json(index)).collect();
        let mut panel = json!({
            "datasource": data_source(),
            "description": self.description,
            "fieldConfig": {"defaults": self.defaults, "overrides": self.overrides},
            "gridPos": {"h": h, "w": w, "x": x, "y": y},
            "id": id,
            "options": self.options,
            "targets": targets,
            "title": self.title,
            "type": self.kind,
        });
        if !self.transformations.is_empty() {
            panel["transformations"] = json!(self.transformations);
        }
        if let Some(variable) = self.repeat {
            panel["repeat"] = json!(variable);
            panel["repeatDirection"] = json!("h");
            panel["maxPerRow"] = json!(2);
        }
        panel
    }
}

fn hidden_legend() -> Value {
    json!({"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false})
}

/// Grafana's value mappings: `(value, text, color)`.
pub(crate) fn value_mappings(mappings: &[(&str, &str, &str)]) -> Value {
    let options: Map<_, _> = mappings
        .iter()
        .zip(0..)
        .map(|((value, text, color), index)| {
            ((*value).to_owned(), json!({"color": color, "index": index, "text": text}))
        })
        .collect();
    json!([{"type": "value", "options": options}])
}
