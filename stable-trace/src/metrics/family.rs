//! Builds metric families.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use stable_trace_common::histogram::{self, upper_bound_ns};

use super::number::{count, seconds};

/// Names and values of labels.
pub(super) type Labels<'a> = [(&'a str, &'a str)];

/// A metric family under construction.
pub(super) struct Family(MetricFamily);

impl Family {
    /// A family of counters; the name must end in `_total`.
    pub(super) fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    pub(super) fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    pub(super) fn histogram(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::HISTOGRAM)
    }

    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self(family)
    }

    /// Adds a series of a counter or gauge.
    pub(super) fn value(&mut self, labels: &Labels<'_>, value: f64) {
        let mut metric = metric(labels);
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    /// Adds a histogram series, with cumulative buckets in seconds.
    pub(super) fn buckets(&mut self, labels: &Labels<'_>, of: &histogram::Histogram) {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(of.buckets.len());
        for (index, in_bucket) in of.buckets.iter().enumerate() {
            cumulative += in_bucket;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(upper_bound_ns(index).map_or(f64::INFINITY, seconds));
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative);
        histogram.set_sample_sum(seconds(of.sum_ns));
        let mut metric = metric(labels);
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }

    /// Returns the family, or `None` if it has no series.
    pub(super) fn done(self) -> Option<MetricFamily> {
        (!self.0.get_metric().is_empty()).then_some(self.0)
    }
}

/// A counter without labels.
pub(super) fn single_counter(name: &str, help: &str, value: u64) -> Option<MetricFamily> {
    let mut family = Family::counter(name, help);
    family.value(&[], count(value));
    family.done()
}

fn metric(labels: &Labels<'_>) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}
