//! `stable-trace top`: traces, and shows a live view.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use anyhow::bail;

use super::{
    options::{Color, TraceArgs},
    tracing::{View, start},
};
use crate::{probes::load::Scope, trace::subject::Subject};

pub(super) fn top(args: &TraceArgs, color: Color) -> anyhow::Result<ExitCode> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!(
            "top needs a terminal on standard input and output; without one, `stable-trace trace` \
             writes lines"
        );
    }
    // Messages would be written across the view.
    log::set_max_level(log::max_level().min(log::LevelFilter::Error));
    start(&args.tracing, Scope::Everybody, color, args.duration, Subject::Machine, View::Live)
}
