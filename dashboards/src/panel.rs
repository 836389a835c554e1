//! One panel: what it shows, in which unit, and why somebody would look.

use serde_json::{Map, Value, json};

use crate::query::{Query, data_source};

/// A panel before it has a place.
#[derive(Clone, Debug)]
pub struct Panel {
    kind: &'static str,
    title: String,
    description: String,
    options: Value,
    defaults: Map<String, Value>,
    overrides: Vec<Value>,
    transformations: Vec<Value>,
    queries: Vec<Query>,
    repeat: Option<&'static str>,
    /// Columns of 24, and rows.
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

    /// One number, large.
    #[must_use]
    pub fn number(title: &str, description: &str) -> Self {
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
        panel.steps(&[])
    }

    /// Lines over time.
    #[must_use]
    pub fn lines(title: &str, description: &str) -> Self {
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
        panel.steps(&[]).custom(&json!({
            "drawStyle": "line",
            "fillOpacity": 10,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": false,
        }))
    }

    /// Areas over time, one on the other: for parts of a whole.
    #[must_use]
    pub fn areas(title: &str, description: &str) -> Self {
        Self::lines(title, description)
            .custom(&json!({"fillOpacity": 40, "stacking": {"group": "A", "mode": "normal"}}))
    }

    /// Bars over time, one on the other: for what happens now and then.
    #[must_use]
    pub fn bars(title: &str, description: &str) -> Self {
        let mut panel = Self::areas(title, description).custom(&json!({"drawStyle": "bars"}));
        panel.options["legend"]["calcs"] = json!(["sum"]);
        panel.custom(&json!({"fillOpacity": 80}))
    }

    /// Buckets of a histogram over time, by how many fell into each.
    #[must_use]
    pub fn heat(title: &str, description: &str) -> Self {
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

    /// One bar a series, the longest first as the query sorts them.
    #[must_use]
    pub fn ranking(title: &str, description: &str) -> Self {
        let mut panel = Self::new("bargauge", title, description, (12, 8));
        panel.options = json!({
            "displayMode": "gradient",
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": false,
            },
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
        panel.set("min", json!(0)).set("color", json!({"mode": "continuous-YlRd"})).steps(&[])
    }

    /// One row a series: labels, then values. `hidden` columns are left out, `names` gives the
    /// others a heading, and their order.
    #[must_use]
    pub fn table(title: &str, description: &str, hidden: &[&str], names: &[(&str, &str)]) -> Self {
        let mut panel = Self::new("table", title, description, (12, 8));
        panel.options = json!({"cellHeight": "sm", "frameIndex": 0, "showHeader": true});
        let excluded: Map<_, _> = ["Time", "Time 1", "Time 2", "job"]
            .iter()
            .chain(hidden)
            .map(|name| ((*name).to_owned(), json!(true)))
            .collect();
        let renamed: Map<_, _> =
            names.iter().map(|(from, to)| ((*from).to_owned(), json!(to))).collect();
        let ordered: Map<_, _> = names
            .iter()
            .zip(0..)
            .map(|((from, _), place)| ((*from).to_owned(), json!(place)))
            .collect();
        panel.transformations = vec![
            json!({"id": "merge", "options": {}}),
            json!({
                "id": "organize",
                "options": {"excludeByName": excluded, "indexByName": ordered, "renameByName": renamed},
            }),
        ];
        panel.steps(&[]).custom(&json!({
            "align": "auto",
            "filterable": true,
            "inspect": false,
        }))
    }

    /// One band a series, coloured by its value.
    #[must_use]
    pub fn states(title: &str, description: &str) -> Self {
        let mut panel = Self::new("state-timeline", title, description, (12, 8));
        panel.options = json!({
            "alignValue": "left",
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": false,
            },
            "mergeValues": true,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        });
        panel.steps(&[]).custom(&json!({"fillOpacity": 70, "lineWidth": 0}))
    }

    /// Asks one more question.
    #[must_use]
    pub fn ask(mut self, query: Query) -> Self {
        self.queries.push(query);
        self
    }

    /// The unit of its values, by Grafana's name.
    #[must_use]
    pub fn unit(self, unit: &str) -> Self {
        self.set("unit", json!(unit))
    }

    /// What it shows where there is no data.
    #[must_use]
    pub fn without_data(self, text: &str) -> Self {
        self.set("noValue", json!(text))
    }

    /// How many digits follow the point.
    #[must_use]
    pub fn decimals(self, decimals: u8) -> Self {
        self.set("decimals", json!(decimals))
    }

    /// The end of the scale, and its beginning at zero.
    #[must_use]
    pub fn up_to(self, most: f64) -> Self {
        self.set("min", json!(0)).set("max", json!(most))
    }

    /// Green at first, then each colour from its value on.
    #[must_use]
    pub fn steps(self, steps: &[(f64, &str)]) -> Self {
        let first = json!({"color": "green", "value": null});
        let others = steps.iter().map(|(value, color)| json!({"color": color, "value": value}));
        let steps: Vec<_> = std::iter::once(first).chain(others).collect();
        self.set("thresholds", json!({"mode": "absolute", "steps": steps}))
    }

    /// Words and colours in place of values.
    #[must_use]
    pub fn words(self, words: &[(&str, &str, &str)]) -> Self {
        let options: Map<_, _> = words
            .iter()
            .zip(0..)
            .map(|((value, text, color), index)| {
                ((*value).to_owned(), json!({"color": color, "index": index, "text": text}))
            })
            .collect();
        self.set("mappings", json!([{"type": "value", "options": options}]))
    }

    /// A logarithmic axis, for what spans decades.
    #[must_use]
    pub fn logarithmic(self) -> Self {
        self.custom(&json!({"scaleDistribution": {"log": 10, "type": "log"}}))
    }

    /// Other properties for the series or columns whose name matches.
    #[must_use]
    pub fn except(mut self, pattern: &str, properties: &[(&str, Value)]) -> Self {
        let properties: Vec<_> =
            properties.iter().map(|(id, value)| json!({"id": id, "value": value})).collect();
        self.overrides.push(
            json!({"matcher": {"id": "byRegexp", "options": pattern}, "properties": properties}),
        );
        self
    }

    /// The name of each series as the number's text.
    #[must_use]
    pub fn show_names(mut self) -> Self {
        self.options["textMode"] = json!("name");
        self.options["graphMode"] = json!("none");
        self
    }

    /// The number alone.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.options["graphMode"] = json!("none");
        self
    }

    /// Once for each value of a variable, two beside each other.
    #[must_use]
    pub const fn for_each(mut self, variable: &'static str) -> Self {
        self.repeat = Some(variable);
        self
    }

    /// Its width in columns of 24, and its height.
    #[must_use]
    pub const fn sized(mut self, width: u64, height: u64) -> Self {
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
            self.queries.iter().enumerate().map(|(place, query)| query.json(place)).collect();
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
