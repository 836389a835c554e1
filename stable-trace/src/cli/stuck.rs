//! `stable-trace stuck`: shows the tasks that wait for writeback at this moment.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use stable_trace_analysis::{
    event::{Event, Line},
    sink::reader_is_open,
    units::Timestamp,
};

use super::{
    options::{Color, Format, StuckArgs},
    output::open_stdout,
};
use crate::{
    kernel::{privileges::Privileges, release::System},
    trace::stuck::waiting_tasks,
};

pub(super) fn stuck(args: &StuckArgs, color: Color) -> anyhow::Result<ExitCode> {
    Privileges::read()?.require(System::read().version())?;
    let tasks = waiting_tasks(args.btf.as_deref(), args.stacks)?;
    let count = tasks.len();
    let mut sink = open_stdout(args.format, color);
    let written = (1..).zip(tasks).try_for_each(|(seq, task)| {
        let (time, event) = (Timestamp::now(), Event::Waiting(task));
        sink.line(&Line { seq, time, monotonic_ns: None, event })
    });
    let written = written.and_then(|()| sink.flush()).and_then(|()| match args.format {
        Format::Json => Ok(()),
        Format::Text => writeln!(io::stdout(), "{}", closing(count)),
    });
    // A closed pipe does not change the exit status.
    reader_is_open(written).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn closing(tasks: usize) -> String {
    match tasks {
        0 => "no task waits for writeback".to_owned(),
        1 => "1 task waits for writeback".to_owned(),
        tasks => format!("{tasks} tasks wait for writeback"),
    }
}
