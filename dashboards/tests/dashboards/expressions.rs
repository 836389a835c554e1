//! Every metric and label in an expression is one that the agent serves.

use std::collections::BTreeSet;
use std::convert::Infallible;

use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use stable_trace_dashboards::expressions::{
    DashboardExpression, Durations, interpolated, of_dashboard, panels,
};
use stable_trace_dashboards::json::elements;
use stable_trace_dashboards::metric::{METRICS, Metric, TARGET_LABELS};

use super::files;

/// Parses an expression with Grafana's variables interpolated.
pub(crate) fn parsed(expression: &str, durations: Durations) -> Result<Expr, String> {
    parser::parse(&interpolated(expression, durations))
}

/// Calls `visit` with every subexpression.
pub(crate) fn walk(tree: &Expr, visit: &mut dyn FnMut(&Expr)) {
    struct Visitor<'a>(&'a mut dyn FnMut(&Expr));
    impl ExprVisitor for Visitor<'_> {
        type Error = Infallible;

        fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
            (self.0)(expression);
            // `walk_expr` does not visit the selector of a range.
            if let Expr::MatrixSelector(matrix) = expression {
                (self.0)(&Expr::VectorSelector(matrix.vs.clone()));
            }
            Ok(true)
        }
    }
    let Ok(_) = walk_expr(&mut Visitor(visit), tree);
}

/// The selectors of an expression.
pub(crate) fn selectors(tree: &Expr) -> Vec<VectorSelector> {
    let mut all = Vec::new();
    walk(tree, &mut |expression| {
        if let Expr::VectorSelector(selector) = expression {
            all.push(selector.clone());
        }
    });
    all
}

const DURATIONS: Durations = Durations { rate_interval: 60, range: 3_600 };

fn every_expression() -> Vec<DashboardExpression> {
    files().iter().flat_map(|(_, dashboard)| of_dashboard(dashboard)).collect()
}

#[test]
fn every_selector_names_a_metric_and_its_labels() {
    for DashboardExpression { dashboard, element, expression } in every_expression() {
        let tree = parsed(&expression, DURATIONS)
            .unwrap_or_else(|error| panic!("{dashboard} / {element}: {error}: {expression}"));
        let found = selectors(&tree);
        assert!(!found.is_empty(), "{dashboard} / {element}: no selector: {expression}");
        for selector in found {
            let name = selector.name.as_deref().unwrap_or_default();
            let metric = Metric::of_series(name)
                .unwrap_or_else(|| panic!("{dashboard} / {element}: unknown metric {name}"));
            for matcher in &selector.matchers.matchers {
                assert!(
                    metric.has_label(&matcher.name),
                    "{dashboard} / {element}: {name} has no label {}",
                    matcher.name
                );
            }
        }
    }
}

/// A label in `by (…)` or `on (…)` that a selector below lacks is empty in every series.
#[test]
fn every_grouping_label_exists_on_its_metrics() {
    for DashboardExpression { dashboard, element, expression } in every_expression() {
        let tree = parsed(&expression, DURATIONS).unwrap();
        walk(&tree, &mut |expression| {
            let modifier = match expression {
                Expr::Aggregate(aggregate) => aggregate.modifier.as_ref(),
                Expr::Binary(binary) => {
                    binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref())
                }
                _ => None,
            };
            let Some(LabelModifier::Include(labels)) = modifier else { return };
            for label in &labels.labels {
                for selector in selectors(expression) {
                    let name = selector.name.as_deref().unwrap_or_default();
                    assert!(
                        Metric::of_series(name).is_some_and(|metric| metric.has_label(label)),
                        "{dashboard} / {element}: {name} has no label {label}"
                    );
                }
            }
        });
    }
}

/// A `{{label}}` that the expression drops is empty in the legend.
#[test]
fn every_legend_label_is_kept_by_its_expression() {
    for (name, dashboard) in files() {
        for panel in panels(&dashboard) {
            for target in elements(&panel["targets"]) {
                let legend = target["legendFormat"].as_str().unwrap();
                let expression = target["expr"].as_str().unwrap();
                let kept = kept_labels(&parsed(expression, DURATIONS).unwrap());
                for part in legend.split("{{").skip(1) {
                    let label = part.split("}}").next().unwrap();
                    assert!(
                        kept.contains(label),
                        "{name} / {}: {{{{{label}}}}} of {expression}",
                        panel["title"]
                    );
                }
            }
        }
    }
}

/// The labels of the series that an expression returns.
fn kept_labels(tree: &Expr) -> BTreeSet<String> {
    match tree {
        Expr::Aggregate(aggregate) => match &aggregate.modifier {
            Some(LabelModifier::Include(labels)) => labels.labels.iter().cloned().collect(),
            _ if aggregate.op.to_string().contains("topk") => kept_labels(&aggregate.expr),
            _ => BTreeSet::new(),
        },
        Expr::Call(call) => {
            let mut all: BTreeSet<_> =
                call.args.args.iter().flat_map(|arg| kept_labels(arg)).collect();
            if call.func.name == "histogram_quantile" {
                all.remove("le");
            }
            all
        }
        Expr::Binary(binary) => &kept_labels(&binary.lhs) | &kept_labels(&binary.rhs),
        Expr::Paren(paren) => kept_labels(&paren.expr),
        Expr::MatrixSelector(matrix) => selector_labels(&matrix.vs),
        Expr::VectorSelector(selector) => selector_labels(selector),
        _ => BTreeSet::new(),
    }
}

fn selector_labels(selector: &VectorSelector) -> BTreeSet<String> {
    let metric = Metric::of_series(selector.name.as_deref().unwrap_or_default());
    let labels = metric.map_or(&[][..], |metric| metric.labels).iter().chain(&TARGET_LABELS);
    labels.map(|label| (*label).to_owned()).collect()
}

#[test]
fn every_metric_is_on_a_dashboard() {
    // The limit of open files is useful only in an alert.
    let not_shown = ["process_max_fds"];
    let expressions = every_expression();
    for metric in METRICS {
        let shown = expressions.iter().any(|one| metric.occurs_in(&one.expression));
        assert_eq!(shown, !not_shown.contains(&metric.name), "{}", metric.name);
    }
}
