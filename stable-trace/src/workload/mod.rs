//! The paired workload.
