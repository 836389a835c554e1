//! Derives from the names in a kernel stack why a task waits. Pure.

use smol_str::SmolStr;
use stable_trace_analysis::event::Context;

/// Why a task waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitReason {
    /// The context of the wait.
    pub(crate) context: Context,
    /// The function that a file-system developer would name for the wait; `None` if no rule matches.
    pub(crate) function: Option<SmolStr>,
}

/// Matches a function name without suffixes of the compiler (`.isra.0`, `.constprop.0`).
enum Pattern {
    Exact(&'static str),
    Prefix(&'static str),
    Suffix(&'static str),
}

impl Pattern {
    fn matches(&self, function: &str) -> bool {
        match self {
            Self::Exact(name) => function == *name,
            Self::Prefix(prefix) => function.starts_with(prefix),
            Self::Suffix(suffix) => function.ends_with(suffix),
        }
    }
}

/// The innermost frame that matches a rule decides. Within one frame the first matching rule wins.
/// Names of 5.10 to 7.3; see also [`SYNC_CALLERS_OF_WRITE`].
const RULES: &[(Pattern, Context)] = &[
    // Reclaim, migration and compaction. mm/vmscan.c, mm/migrate.c, mm/compaction.c. They can run
    // inside any allocation, so they come first.
    (Pattern::Prefix("shrink_"), Context::Other),
    (Pattern::Exact("evict_folios"), Context::Other),
    (Pattern::Prefix("migrate_"), Context::Other),
    (Pattern::Prefix("compact_zone"), Context::Other),
    (Pattern::Exact("memory_failure"), Context::Other),
    // All waits for data to be on the medium end here. mm/filemap.c.
    (Pattern::Prefix("__filemap_fdatawait"), Context::Sync),
    (Pattern::Prefix("filemap_fdatawait"), Context::Sync),
    (Pattern::Prefix("filemap_write_and_wait"), Context::Sync),
    (Pattern::Prefix("file_write_and_wait"), Context::Sync),
    // WB_SYNC_ALL writeback waits for a folio that is under writeback before it writes it again.
    // mm/page-writeback.c, fs/fs-writeback.c.
    (Pattern::Exact("write_cache_pages"), Context::Sync),
    (Pattern::Exact("writeback_iter"), Context::Sync),
    (Pattern::Prefix("mpage_prepare_extent_to_map"), Context::Sync),
    (Pattern::Prefix("extent_write_cache_pages"), Context::Sync),
    (Pattern::Exact("do_writepages"), Context::Sync),
    (Pattern::Suffix("_writepages"), Context::Sync),
    // Truncation and invalidation. mm/truncate.c.
    (Pattern::Prefix("truncate_"), Context::Sync),
    (Pattern::Prefix("invalidate_inode_pages2"), Context::Sync),
    (Pattern::Prefix("btrfs_wait_ordered"), Context::Sync),
    // Write faults: the handlers, and the function that calls them. mm/memory.c.
    (Pattern::Suffix("page_mkwrite"), Context::PageMkwrite),
    // Buffered writes get their folio here. mm/filemap.c, fs/iomap/buffered-io.c, fs/btrfs/file.c.
    (Pattern::Suffix("write_begin"), Context::WriteBegin),
    (Pattern::Exact("write_begin_get_folio"), Context::WriteBegin),
    (Pattern::Prefix("__filemap_get_folio"), Context::WriteBegin),
    (Pattern::Exact("pagecache_get_page"), Context::WriteBegin),
    (Pattern::Exact("iomap_get_folio"), Context::WriteBegin),
    (Pattern::Exact("prepare_pages"), Context::WriteBegin),
    (Pattern::Exact("prepare_one_folio"), Context::WriteBegin),
    (Pattern::Prefix("btrfs_buffered_write"), Context::WriteBegin),
    (Pattern::Exact("iomap_write_iter"), Context::WriteBegin),
    (Pattern::Exact("iomap_file_buffered_write"), Context::WriteBegin),
    (Pattern::Exact("generic_perform_write"), Context::WriteBegin),
];

/// Below these functions `write_begin` zeroes a folio for a truncation or a hole, not for a
/// `write()`. fs/open.c, fs/attr.c.
const SYNC_CALLERS_OF_WRITE: &[&str] = &["do_truncate", "notify_change", "vfs_fallocate"];

/// Functions by which a buffered write gets its folio, from the innermost to the outermost: each calls
/// those before it. A developer would name the outermost.
/// 5.10: `grab_cache_page_write_begin` calls `pagecache_get_page`; 6.1 puts `__filemap_get_folio`
/// below; from 6.3 on file systems call that themselves. 7.x has `__filemap_get_folio_mpol`.
const FOLIO_GETTERS: &[&str] = &[
    "__filemap_get_folio_mpol",
    "__filemap_get_folio",
    "pagecache_get_page",
    "grab_cache_page_write_begin",
];

/// The outermost function by which a buffered write got its folio.
fn folio_getter<'a>(frames: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let outermost = frames.clone().filter(|name| FOLIO_GETTERS.contains(name)).last()?;
    let caller = frames.skip_while(|name| *name != outermost).nth(1);
    // On 6.1 `grab_cache_page_write_begin` ends in a tail call of `pagecache_get_page`, so only its
    // caller is in the stack (mm/folio-compat.c).
    let tail_called = outermost == "pagecache_get_page"
        && caller.is_some_and(|caller| caller.ends_with("write_begin"));
    Some(if tail_called { "grab_cache_page_write_begin" } else { outermost })
}

/// Functions that handlers tail-call, and the handlers, which are then not in the stack.
/// `xfs_filemap_page_mkwrite` ends in a tail call of `__xfs_filemap_fault` (5.10 to 6.12) or of
/// `xfs_write_fault`, which may be inlined (6.18, 7.3), `fs/xfs/xfs_file.c`.
const TAIL_CALLED_HANDLERS: &[(&str, &str)] = &[
    ("__xfs_filemap_fault", "xfs_filemap_page_mkwrite"),
    ("xfs_write_fault", "xfs_filemap_page_mkwrite"),
    ("__xfs_write_fault", "xfs_filemap_page_mkwrite"),
];

/// The handler in a frame called by `do_page_mkwrite`, or the handler that tail-called this frame.
fn handler(function: &str) -> Option<&str> {
    if function == "do_page_mkwrite" {
        return None;
    }
    let caller = TAIL_CALLED_HANDLERS.iter().find(|(to, _)| *to == function).map(|(_, from)| *from);
    caller.or_else(|| function.ends_with("page_mkwrite").then_some(function))
}

/// A function's name without suffixes of the compiler.
fn without_suffix(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}

/// Buffered writes and their loops, which call `write_begin` for data of the user: what calls them does not
/// matter any more. mm/filemap.c, fs/iomap/buffered-io.c, fs/btrfs/file.c.
const WRITERS: &[&str] = &[
    "generic_perform_write",
    "iomap_write_iter",
    "iomap_file_buffered_write",
    "btrfs_buffered_write",
];

/// The context of the innermost frame that matches a rule, and the frame's number.
fn innermost_match<'a>(mut frames: impl Iterator<Item = &'a str>) -> Option<(usize, Context)> {
    let context =
        |function| RULES.iter().find(|(name, _)| name.matches(function)).map(|rule| rule.1);
    frames.by_ref().enumerate().find_map(|(number, function)| Some((number, context(function)?)))
}

/// How many frames decide why a task waits, whatever the frames after them are: frames from the innermost to
/// the outermost, with an empty name where there is none. `None` if all frames matter.
pub(crate) fn decisive_frames<'a>(frames: impl Iterator<Item = &'a str> + Clone) -> Option<usize> {
    let frames = frames.map(without_suffix);
    let (at, context) = innermost_match(frames.clone())?;
    let after = |decides: &dyn Fn(&str) -> bool| {
        let rest = frames.clone().skip(at).position(decides)?;
        Some(at + rest + 1)
    };
    match context {
        Context::WriteBegin => {
            after(&|name| WRITERS.contains(&name) || SYNC_CALLERS_OF_WRITE.contains(&name))
        }
        // It calls the handler of the file system, the outermost one.
        Context::PageMkwrite => after(&|name| name == "do_page_mkwrite"),
        Context::Sync | Context::Other => Some(at + 1),
    }
}

/// Classifies a stack, given from the innermost frame to the outermost.
pub(crate) fn classify<'a>(frames: impl Iterator<Item = &'a str> + Clone) -> WaitReason {
    let decisive = decisive_frames(frames.clone()).unwrap_or(usize::MAX);
    let frames = frames.take(decisive).map(without_suffix);
    let decided = innermost_match(frames.clone())
        .and_then(|(number, context)| Some((frames.clone().nth(number)?, context)));
    let Some((function, context)) = decided else {
        return WaitReason { context: Context::Other, function: None };
    };
    let named = match context {
        Context::WriteBegin => {
            if let Some(around) = frames.clone().find(|name| SYNC_CALLERS_OF_WRITE.contains(name)) {
                return WaitReason { context: Context::Sync, function: Some(around.into()) };
            }
            folio_getter(frames.clone()).unwrap_or(function)
        }
        // The outermost handler is the file system's own, which do_page_mkwrite() calls.
        Context::PageMkwrite => frames
            .clone()
            .skip_while(|name| *name != function)
            .filter_map(handler)
            .last()
            .unwrap_or(function),
        Context::Sync | Context::Other => function,
    };
    WaitReason { context, function: Some(named.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(frames: &str) -> (Context, Option<String>) {
        let WaitReason { context, function } = classify(frames.split_whitespace());
        (context, function.map(Into::into))
    }

    fn is(context: Context, function: &str) -> (Context, Option<String>) {
        (context, Some(function.to_owned()))
    }

    // Stacks of ext4 on 6.18.
    #[test]
    fn a_buffered_write_is_write_begin() {
        let stack = "folio_wait_writeback __filemap_get_folio ext4_da_write_begin \
             generic_perform_write ext4_buffered_write_iter vfs_write __x64_sys_pwrite64";
        assert_eq!(reason(stack), is(Context::WriteBegin, "__filemap_get_folio"));
    }

    #[test]
    fn a_write_fault_is_named_after_the_handler_of_the_file_system() {
        let stack = "folio_wait_writeback folio_wait_stable block_page_mkwrite ext4_page_mkwrite \
             do_page_mkwrite do_wp_page __handle_mm_fault exc_page_fault";
        assert_eq!(reason(stack), is(Context::PageMkwrite, "ext4_page_mkwrite"));
        let btrfs = "folio_wait_writeback btrfs_page_mkwrite do_page_mkwrite do_fault";
        assert_eq!(reason(btrfs), is(Context::PageMkwrite, "btrfs_page_mkwrite"));
        // On 6.12: the handler ended in a tail call.
        let xfs = "folio_wait_writeback iomap_page_mkwrite __xfs_filemap_fault do_page_mkwrite";
        assert_eq!(reason(xfs), is(Context::PageMkwrite, "xfs_filemap_page_mkwrite"));
    }

    #[test]
    fn sync_calls_are_sync() {
        let fsync = "folio_wait_writeback __filemap_fdatawait_range file_write_and_wait_range \
             ext4_sync_file do_fsync";
        assert_eq!(reason(fsync), is(Context::Sync, "__filemap_fdatawait_range"));
        // O_SYNC: the wait is in write(2), but not in write_begin.
        let o_sync = "folio_wait_writeback __filemap_fdatawait_range file_write_and_wait_range \
             generic_write_sync ext4_buffered_write_iter vfs_write";
        assert_eq!(reason(o_sync).0, Context::Sync);
        let truncate = "folio_wait_writeback truncate_inode_pages_range truncate_pagecache \
             ext4_setattr notify_change do_truncate";
        assert_eq!(reason(truncate).0, Context::Sync);
    }

    #[test]
    fn frames_after_the_decisive_ones_do_not_matter() {
        let decisive = |frames: &str| decisive_frames(frames.split_whitespace());
        let write = "folio_wait_writeback __filemap_get_folio ext4_da_write_begin \
             generic_perform_write";
        assert_eq!(decisive(write), Some(4));
        assert_eq!(decisive(&format!("{write} vfs_write")), Some(4));
        let fault = "folio_wait_writeback block_page_mkwrite ext4_page_mkwrite do_page_mkwrite";
        assert_eq!(decisive(&format!("{fault} do_fault")), Some(4));
        assert_eq!(decisive("folio_wait_writeback __filemap_fdatawait_range ksys_sync"), Some(2));
        assert_eq!(decisive("folio_wait_writeback block_page_mkwrite ext4_page_mkwrite"), None);
        assert_eq!(decisive("folio_wait_writeback ext4_da_write_begin some_caller"), None);
        // Copying a file up for a change of its mode is a write.
        let copy_up = format!("{write} ovl_copy_up_file ovl_setattr notify_change");
        assert_eq!(reason(&copy_up), is(Context::WriteBegin, "__filemap_get_folio"));
    }

    #[test]
    fn zeroing_for_a_truncation_is_sync() {
        let stack = "folio_wait_writeback __filemap_get_folio iomap_get_folio iomap_write_begin \
             iomap_zero_range iomap_truncate_page xfs_setattr_size notify_change do_truncate";
        assert_eq!(reason(stack).0, Context::Sync);
    }

    #[test]
    fn reclaim_inside_a_write_is_other() {
        let stack = "folio_wait_writeback shrink_folio_list shrink_inactive_list try_to_free_pages \
             __alloc_pages __filemap_get_folio ext4_da_write_begin generic_perform_write";
        assert_eq!(reason(stack), is(Context::Other, "shrink_folio_list"));
    }

    #[test]
    fn a_fault_on_the_buffer_of_a_write_is_page_mkwrite() {
        let stack = "folio_wait_writeback folio_wait_stable block_page_mkwrite ext4_page_mkwrite \
             do_page_mkwrite handle_mm_fault exc_page_fault fault_in_readable \
             generic_perform_write vfs_write";
        assert_eq!(reason(stack), is(Context::PageMkwrite, "ext4_page_mkwrite"));
    }

    // Stacks of 5.10 and 6.1, from their sources.
    #[test]
    fn older_kernels_name_the_function_that_got_the_page() {
        let five = "wait_on_page_writeback wait_for_stable_page grab_cache_page_write_begin \
             iomap_write_begin.constprop.0 iomap_write_actor iomap_apply";
        assert_eq!(reason(five), is(Context::WriteBegin, "grab_cache_page_write_begin"));
        let six = "folio_wait_writeback folio_wait_stable __filemap_get_folio pagecache_get_page \
             grab_cache_page_write_begin ext4_da_write_begin generic_perform_write";
        assert_eq!(reason(six), is(Context::WriteBegin, "grab_cache_page_write_begin"));
        // On 6.1: the function ended in a tail call.
        let jumped = "folio_wait_writeback __filemap_get_folio pagecache_get_page \
             ext4_da_write_begin generic_perform_write";
        assert_eq!(reason(jumped), is(Context::WriteBegin, "grab_cache_page_write_begin"));
        // On btrfs of 6.12: no tail call.
        let btrfs = "folio_wait_writeback __filemap_get_folio pagecache_get_page prepare_pages";
        assert_eq!(reason(btrfs), is(Context::WriteBegin, "pagecache_get_page"));
        let btrfs = "wait_on_page_writeback prepare_pages.constprop.0 btrfs_buffered_write";
        assert_eq!(reason(btrfs), is(Context::WriteBegin, "prepare_pages"));
    }

    #[test]
    fn a_stack_without_a_match_is_other_and_unnamed() {
        assert_eq!(reason("folio_wait_writeback some_module_function"), (Context::Other, None));
        assert_eq!(reason(""), (Context::Other, None));
    }
}
