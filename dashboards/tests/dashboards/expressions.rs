//! Every name in every expression is one that the agent serves.

use std::collections::BTreeSet;
use std::convert::Infallible;

use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use stable_trace_dashboards::asked::{self, Asked, Times, filled_in};
use stable_trace_dashboards::metric::{METRICS, Metric, TARGET_LABELS};

use super::files;

/// The tree of an expression as Grafana would send it.
pub fn parsed(expression: &str, times: Times) -> Result<Expr, String> {
    parser::parse(&filled_in(expression, times))
}

/// Looks at every part of an expression.
pub fn walk(tree: &Expr, look: &mut dyn FnMut(&Expr)) {
    struct Look<'a>(&'a mut dyn FnMut(&Expr));
    impl ExprVisitor for Look<'_> {
        type Error = Infallible;

        fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
            (self.0)(expression);
            // The walk does not go into a range.
            if let Expr::MatrixSelector(matrix) = expression {
                (self.0)(&Expr::VectorSelector(matrix.vs.clone()));
            }
            Ok(true)
        }
    }
    let Ok(_) = walk_expr(&mut Look(look), tree);
}

/// Every selector in an expression.
pub fn selectors(tree: &Expr) -> Vec<VectorSelector> {
    let mut all = Vec::new();
    walk(tree, &mut |expression| {
        if let Expr::VectorSelector(selector) = expression {
            all.push(selector.clone());
        }
    });
    all
}

const TIMES: Times = Times { rate_interval: 60, range: 3_600 };

fn every_expression() -> Vec<Asked> {
    files().iter().flat_map(|(_, board)| asked::of_board(board)).collect()
}

#[test]
fn every_selector_names_a_metric_and_its_labels() {
    for asked in every_expression() {
        let Asked { board, place, expression } = &asked;
        let tree = parsed(expression, TIMES)
            .unwrap_or_else(|error| panic!("{board} / {place}: {error}: {expression}"));
        let found = selectors(&tree);
        assert!(!found.is_empty(), "{board} / {place}: asks for nothing: {expression}");
        for selector in found {
            let name = selector.name.as_deref().unwrap_or_default();
            let metric = Metric::of_series(name)
                .unwrap_or_else(|| panic!("{board} / {place}: there is no metric {name}"));
            for matcher in &selector.matchers.matchers {
                assert!(
                    metric.has_label(&matcher.name),
                    "{board} / {place}: {name} has no label {}",
                    matcher.name
                );
            }
        }
    }
}

/// A label in `by (…)` or `on (…)` that no selector below has would be empty everywhere.
#[test]
fn every_grouping_is_by_labels_that_are_there() {
    for asked in every_expression() {
        let tree = parsed(&asked.expression, TIMES).unwrap();
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
                        "{} / {}: {name} has no label {label}",
                        asked.board,
                        asked.place
                    );
                }
            }
        });
    }
}

/// `{{label}}` of a legend that the expression does not keep would show as nothing.
#[test]
fn every_legend_is_of_labels_that_are_kept() {
    for (name, board) in files() {
        for panel in asked::panels(&board) {
            for target in asked::list(&panel["targets"]) {
                let legend = target["legendFormat"].as_str().unwrap();
                let expression = target["expr"].as_str().unwrap();
                let kept = kept(&parsed(expression, TIMES).unwrap());
                for piece in legend.split("{{").skip(1) {
                    let label = piece.split("}}").next().unwrap();
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

/// The labels that the series of an expression have.
fn kept(tree: &Expr) -> BTreeSet<String> {
    match tree {
        Expr::Aggregate(aggregate) => match &aggregate.modifier {
            Some(LabelModifier::Include(labels)) => labels.labels.iter().cloned().collect(),
            _ if aggregate.op.to_string().contains("topk") => kept(&aggregate.expr),
            _ => BTreeSet::new(),
        },
        Expr::Call(call) => {
            let mut all: BTreeSet<_> = call.args.args.iter().flat_map(|arg| kept(arg)).collect();
            if call.func.name == "histogram_quantile" {
                all.remove("le");
            }
            all
        }
        Expr::Binary(binary) => &kept(&binary.lhs) | &kept(&binary.rhs),
        Expr::Paren(paren) => kept(&paren.expr),
        Expr::MatrixSelector(matrix) => of_selector(&matrix.vs),
        Expr::VectorSelector(selector) => of_selector(selector),
        _ => BTreeSet::new(),
    }
}

fn of_selector(selector: &VectorSelector) -> BTreeSet<String> {
    let metric = Metric::of_series(selector.name.as_deref().unwrap_or_default());
    let labels = metric.map_or(&[][..], |metric| metric.labels).iter().chain(&TARGET_LABELS);
    labels.map(|label| (*label).to_owned()).collect()
}

/// What is served and never shown is either not worth serving or forgotten.
#[test]
fn every_metric_is_on_a_dashboard() {
    // It says how many files may be open: of use beside an alert only.
    let elsewhere = ["process_max_fds"];
    let expressions: Vec<_> = every_expression();
    for metric in METRICS {
        let shown = expressions.iter().any(|asked| metric.is_in(&asked.expression));
        assert_eq!(shown, !elsewhere.contains(&metric.name), "{}", metric.name);
    }
}
