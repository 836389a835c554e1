//! Group `page_mkwrite`: the end of write faults.

use stable_trace_analysis::event::{Group, Method};
use stable_trace_common::offsets::ABSENT;

use super::{Part, Point, fentry_gap, kprobe_symbol};
use crate::probes::{facts::Facts, offsets::Resolved, table::PAGE_MKWRITE};

const GROUP: Group = Group::PageMkwrite;

/// One function calls the handlers of all file systems, of modules too.
pub(super) fn part(facts: &Facts, resolved: &Resolved, requested: Option<Method>) -> Part {
    let mut part = Part::default();
    let method = requested.unwrap_or(Method::Fentry);
    if method == Method::Tracepoint {
        part.gap(GROUP, PAGE_MKWRITE, method, "there is no tracepoint in a write fault");
        return part;
    }
    let form = match form(facts, resolved) {
        Ok(form) => form,
        Err(reason) => {
            part.gap(GROUP, PAGE_MKWRITE, method, reason);
            return part;
        }
    };
    if requested != Some(Method::Kprobe) {
        match fentry_gap(facts, PAGE_MKWRITE) {
            None => {
                part.step(GROUP, form.exit, Point::Fexit(PAGE_MKWRITE));
                return part;
            }
            Some(reason) => part.gap(GROUP, PAGE_MKWRITE, Method::Fentry, reason),
        }
    }
    if requested != Some(Method::Fentry) {
        match kprobe_symbol(facts, PAGE_MKWRITE) {
            Ok(symbol) => {
                let function = PAGE_MKWRITE;
                let returns = Point::Kretprobe { function, symbol: symbol.clone() };
                part.step(GROUP, "page_mkwrite_return", returns);
                part.step(GROUP, form.enter, Point::Kprobe { function, symbol });
                // The probe attaches, so the earlier method is no gap.
                part.gaps.clear();
            }
            Err(reason) => part.gap(GROUP, PAGE_MKWRITE, Method::Kprobe, reason),
        }
    }
    part
}

/// The programs for one form of the function.
struct Form {
    exit: &'static str,
    enter: &'static str,
}

/// `(struct vm_fault *vmf)` up to 6.7, `(struct vm_fault *vmf, struct folio *folio)` later.
fn form(facts: &Facts, resolved: &Resolved) -> Result<Form, String> {
    resolved.stability.clone()?;
    let Some(found) = facts.functions.get(PAGE_MKWRITE) else {
        return Err(super::absent(PAGE_MKWRITE));
    };
    let parameters: Option<Vec<_>> =
        found.parameters.as_ref().map(|names| names.iter().map(String::as_str).collect());
    match parameters.as_deref() {
        Some(["vmf", "folio"]) => {
            Ok(Form { exit: "page_mkwrite_exit_2", enter: "page_mkwrite_enter_2" })
        }
        Some(["vmf"]) if resolved.offsets.vmf_page != ABSENT => {
            Ok(Form { exit: "page_mkwrite_exit_1", enter: "page_mkwrite_enter_1" })
        }
        Some(["vmf"]) => Err("this kernel's BTF has no member vm_fault.page".to_owned()),
        Some(names) => Err(format!("{PAGE_MKWRITE}({}) has unknown parameters", names.join(", "))),
        None => Err(format!("this kernel's BTF has no function {PAGE_MKWRITE}")),
    }
}
