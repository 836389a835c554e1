//! One run: attach the probes, stream events until something ends it, detach, write the summary.

mod attach_mode;
mod clock;
pub(crate) mod emitter;
mod ending;
pub(crate) mod endpoint;
mod error;
mod event_loop;
mod evidence_files;
pub(crate) mod filter;
mod follow;
mod hangup;
mod inherited_socket;
mod integrity_counts;
mod job;
mod job_end;
mod long_waits;
pub(crate) mod outputs;
mod privileges;
mod reader;
#[cfg(test)]
mod reader_bench;
mod scrape;
mod service_manager;
pub(crate) mod setup;
mod stall_counts;
pub(crate) mod stuck;
pub(crate) mod subject;
mod summary;
pub(crate) mod tracer;
mod waiting;

pub(crate) use attach_mode::AttachMode;
pub(crate) use error::TracerError;
pub(crate) use event_loop::{Options, run};
pub(crate) use evidence_files::EvidenceFiles;
