//! Group `page_mkwrite`: the end of write faults.

use stable_trace_analysis::event::{Group, Method};
use stable_trace_common::offsets::ABSENT;

use super::{Part, Point, allowed, check_fentry, kprobe_symbol};
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
    let function = PAGE_MKWRITE;
    let methods = [Method::Fentry, Method::Kprobe].into_iter();
    let candidates = methods.filter(|method| allowed(requested, *method)).map(|method| {
        let steps = if method == Method::Fentry {
            check_fentry(facts, function).map(|()| vec![(form.exit, Point::Fexit(function))])
        } else {
            kprobe_symbol(facts, function).map(|symbol| {
                let returns = Point::Kretprobe { function, symbol: symbol.clone() };
                let enter = Point::Kprobe { function, symbol };
                vec![("page_mkwrite_return", returns), (form.enter, enter)]
            })
        };
        (function.to_owned(), method, steps)
    });
    part.first_of(GROUP, candidates);
    part
}

/// The programs for one prototype of the function.
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
