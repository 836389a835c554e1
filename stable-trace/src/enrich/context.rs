//! Why a task waits, read from its kernel stack. Pure: names in, meaning out.

use stable_trace_analysis::event::Context;

/// What a stack tells about a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// Why the task waited.
    pub context: Context,
    /// The function that a file-system developer would name for it; `None` if no frame is known.
    pub function: Option<String>,
}

/// How a rule knows a function. Suffixes that the compiler adds (`.isra.0`, `.constprop.0`) are
/// taken off before.
enum Name {
    Is(&'static str),
    Starts(&'static str),
    Ends(&'static str),
}

impl Name {
    fn matches(&self, function: &str) -> bool {
        match self {
            Self::Is(name) => function == *name,
            Self::Starts(prefix) => function.starts_with(prefix),
            Self::Ends(suffix) => function.ends_with(suffix),
        }
    }
}

/// The frame nearest to the wait that a rule knows decides. First match in this table wins within
/// one frame. Names as they are in 5.10 to 7.3; see also [`SYNC_AROUND_WRITE`].
const RULES: &[(Name, Context)] = &[
    // Reclaim, migration and compaction take a folio away from whoever uses it. mm/vmscan.c,
    // mm/migrate.c, mm/compaction.c. They can run inside any allocation, so they come first.
    (Name::Starts("shrink_"), Context::Other),
    (Name::Is("evict_folios"), Context::Other),
    (Name::Starts("migrate_"), Context::Other),
    (Name::Starts("compact_zone"), Context::Other),
    (Name::Is("memory_failure"), Context::Other),
    // Everything that asks for data to be on the medium ends here. mm/filemap.c.
    (Name::Starts("__filemap_fdatawait"), Context::Sync),
    (Name::Starts("filemap_fdatawait"), Context::Sync),
    (Name::Starts("filemap_write_and_wait"), Context::Sync),
    (Name::Starts("file_write_and_wait"), Context::Sync),
    // WB_SYNC_ALL writeback waits for a folio that is under writeback before it writes it again.
    // mm/page-writeback.c, fs/fs-writeback.c.
    (Name::Is("write_cache_pages"), Context::Sync),
    (Name::Is("writeback_iter"), Context::Sync),
    (Name::Starts("mpage_prepare_extent_to_map"), Context::Sync),
    (Name::Starts("extent_write_cache_pages"), Context::Sync),
    (Name::Is("do_writepages"), Context::Sync),
    (Name::Ends("_writepages"), Context::Sync),
    // Truncation and invalidation. mm/truncate.c.
    (Name::Starts("truncate_"), Context::Sync),
    (Name::Starts("invalidate_inode_pages2"), Context::Sync),
    (Name::Starts("btrfs_wait_ordered"), Context::Sync),
    // Write faults: the handlers, and the one place that calls them all. mm/memory.c.
    (Name::Ends("page_mkwrite"), Context::PageMkwrite),
    // Buffered writes take their folio here. mm/filemap.c, fs/iomap/buffered-io.c, fs/btrfs/file.c.
    (Name::Ends("write_begin"), Context::WriteBegin),
    (Name::Is("write_begin_get_folio"), Context::WriteBegin),
    (Name::Starts("__filemap_get_folio"), Context::WriteBegin),
    (Name::Is("pagecache_get_page"), Context::WriteBegin),
    (Name::Is("iomap_get_folio"), Context::WriteBegin),
    (Name::Is("prepare_pages"), Context::WriteBegin),
    (Name::Is("prepare_one_folio"), Context::WriteBegin),
    (Name::Starts("btrfs_buffered_write"), Context::WriteBegin),
    (Name::Is("iomap_write_iter"), Context::WriteBegin),
    (Name::Is("iomap_file_buffered_write"), Context::WriteBegin),
    (Name::Is("generic_perform_write"), Context::WriteBegin),
];

/// A folio taken for writing below one of these is zeroed for a truncation or a hole, not written
/// for a `write()`. fs/open.c, fs/attr.c.
const SYNC_AROUND_WRITE: &[&str] = &["do_truncate", "notify_change", "vfs_fallocate"];

/// Functions that a buffered write takes its folio with, from the inner to the outer one: each
/// calls those before it, and the outermost of them is the one that a developer would name.
/// 5.10: `grab_cache_page_write_begin` calls `pagecache_get_page`; 6.1 puts `__filemap_get_folio`
/// below; from 6.3 on file systems call that themselves. 7.x calls it `__filemap_get_folio_mpol`.
const FOLIO_GRABS: &[&str] = &[
    "__filemap_get_folio_mpol",
    "__filemap_get_folio",
    "pagecache_get_page",
    "grab_cache_page_write_begin",
];

/// The function that a buffered write took its folio with.
fn grab<'a>(frames: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let outermost = frames.clone().filter(|name| FOLIO_GRABS.contains(name)).last()?;
    let caller = frames.skip_while(|name| *name != outermost).nth(1);
    // On 6.1 `grab_cache_page_write_begin` ends in a jump to `pagecache_get_page`, so that only its
    // caller is left to tell (mm/folio-compat.c).
    let jumped = outermost == "pagecache_get_page"
        && caller.is_some_and(|caller| caller.ends_with("write_begin"));
    Some(if jumped { "grab_cache_page_write_begin" } else { outermost })
}

/// Handlers that call what stands in their stead as their last act, so that they are not in the stack:
/// `xfs_filemap_page_mkwrite` ends in a jump to `__xfs_filemap_fault` (5.10 to 6.12) or
/// `xfs_write_fault`, or what is in it (6.18, 7.3), `fs/xfs/xfs_file.c`.
const JUMPED_FROM: &[(&str, &str)] = &[
    ("__xfs_filemap_fault", "xfs_filemap_page_mkwrite"),
    ("xfs_write_fault", "xfs_filemap_page_mkwrite"),
    ("__xfs_write_fault", "xfs_filemap_page_mkwrite"),
];

/// The handler that a frame below `do_page_mkwrite` is, or stands for.
fn handler(function: &str) -> Option<&str> {
    if function == "do_page_mkwrite" {
        return None;
    }
    let jumped = JUMPED_FROM.iter().find(|(to, _)| *to == function).map(|(_, from)| *from);
    jumped.or_else(|| function.ends_with("page_mkwrite").then_some(function))
}

/// A function's name without what the compiler hung on it.
fn bare(function: &str) -> &str {
    function.split('.').next().unwrap_or(function)
}

/// Reads a stack, from the innermost frame out.
#[must_use]
pub fn classify<'a>(frames: impl Iterator<Item = &'a str> + Clone) -> Meaning {
    let frames = frames.map(bare);
    let decided = frames.clone().find_map(|function| {
        let (_, context) = RULES.iter().find(|(name, _)| name.matches(function))?;
        Some((function, *context))
    });
    let Some((function, context)) = decided else {
        return Meaning { context: Context::Other, function: None };
    };
    let named = match context {
        Context::WriteBegin => {
            if let Some(around) = frames.clone().find(|name| SYNC_AROUND_WRITE.contains(name)) {
                return Meaning { context: Context::Sync, function: Some(around.to_owned()) };
            }
            grab(frames.clone()).unwrap_or(function)
        }
        // The file system's own handler is the one that do_page_mkwrite() calls: the outermost.
        Context::PageMkwrite => frames
            .clone()
            .skip_while(|name| *name != function)
            .filter_map(handler)
            .last()
            .unwrap_or(function),
        Context::Sync | Context::Other => function,
    };
    Meaning { context, function: Some(named.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(frames: &str) -> (Context, Option<String>) {
        let Meaning { context, function } = classify(frames.split_whitespace());
        (context, function)
    }

    fn is(context: Context, function: &str) -> (Context, Option<String>) {
        (context, Some(function.to_owned()))
    }

    // Stacks as 6.18 shows them on ext4.
    #[test]
    fn a_buffered_write_is_write_begin() {
        let stack = "folio_wait_writeback __filemap_get_folio ext4_da_write_begin \
             generic_perform_write ext4_buffered_write_iter vfs_write __x64_sys_pwrite64";
        assert_eq!(meaning(stack), is(Context::WriteBegin, "__filemap_get_folio"));
    }

    #[test]
    fn a_write_fault_is_named_by_the_file_system() {
        let stack = "folio_wait_writeback folio_wait_stable block_page_mkwrite ext4_page_mkwrite \
             do_page_mkwrite do_wp_page __handle_mm_fault exc_page_fault";
        assert_eq!(meaning(stack), is(Context::PageMkwrite, "ext4_page_mkwrite"));
        let btrfs = "folio_wait_writeback btrfs_page_mkwrite do_page_mkwrite do_fault";
        assert_eq!(meaning(btrfs), is(Context::PageMkwrite, "btrfs_page_mkwrite"));
        // As 6.12 shows it: the handler has jumped away.
        let xfs = "folio_wait_writeback iomap_page_mkwrite __xfs_filemap_fault do_page_mkwrite";
        assert_eq!(meaning(xfs), is(Context::PageMkwrite, "xfs_filemap_page_mkwrite"));
    }

    #[test]
    fn sync_calls_are_sync_whoever_made_them() {
        let fsync = "folio_wait_writeback __filemap_fdatawait_range file_write_and_wait_range \
             ext4_sync_file do_fsync";
        assert_eq!(meaning(fsync), is(Context::Sync, "__filemap_fdatawait_range"));
        // O_SYNC: the wait is the write call's, but not its write_begin's.
        let o_sync = "folio_wait_writeback __filemap_fdatawait_range file_write_and_wait_range \
             generic_write_sync ext4_buffered_write_iter vfs_write";
        assert_eq!(meaning(o_sync).0, Context::Sync);
        let truncate = "folio_wait_writeback truncate_inode_pages_range truncate_pagecache \
             ext4_setattr notify_change do_truncate";
        assert_eq!(meaning(truncate).0, Context::Sync);
    }

    #[test]
    fn zeroing_for_a_truncation_is_no_write() {
        let stack = "folio_wait_writeback __filemap_get_folio iomap_get_folio iomap_write_begin \
             iomap_zero_range iomap_truncate_page xfs_setattr_size notify_change do_truncate";
        assert_eq!(meaning(stack).0, Context::Sync);
    }

    #[test]
    fn reclaim_inside_a_write_is_not_the_write() {
        let stack = "folio_wait_writeback shrink_folio_list shrink_inactive_list try_to_free_pages \
             __alloc_pages __filemap_get_folio ext4_da_write_begin generic_perform_write";
        assert_eq!(meaning(stack), is(Context::Other, "shrink_folio_list"));
    }

    #[test]
    fn a_write_whose_buffer_faults_is_the_fault() {
        let stack = "folio_wait_writeback folio_wait_stable block_page_mkwrite ext4_page_mkwrite \
             do_page_mkwrite handle_mm_fault exc_page_fault fault_in_readable \
             generic_perform_write vfs_write";
        assert_eq!(meaning(stack), is(Context::PageMkwrite, "ext4_page_mkwrite"));
    }

    // Stacks as 5.10 and 6.1 have them by their sources.
    #[test]
    fn older_kernels_name_the_page_grab() {
        let five = "wait_on_page_writeback wait_for_stable_page grab_cache_page_write_begin \
             iomap_write_begin.constprop.0 iomap_write_actor iomap_apply";
        assert_eq!(meaning(five), is(Context::WriteBegin, "grab_cache_page_write_begin"));
        let six = "folio_wait_writeback folio_wait_stable __filemap_get_folio pagecache_get_page \
             grab_cache_page_write_begin ext4_da_write_begin generic_perform_write";
        assert_eq!(meaning(six), is(Context::WriteBegin, "grab_cache_page_write_begin"));
        // As 6.1 has it: the grab has jumped away.
        let jumped = "folio_wait_writeback __filemap_get_folio pagecache_get_page \
             ext4_da_write_begin generic_perform_write";
        assert_eq!(meaning(jumped), is(Context::WriteBegin, "grab_cache_page_write_begin"));
        // As 6.12 has it on btrfs: nothing has.
        let btrfs = "folio_wait_writeback __filemap_get_folio pagecache_get_page prepare_pages";
        assert_eq!(meaning(btrfs), is(Context::WriteBegin, "pagecache_get_page"));
        let btrfs = "wait_on_page_writeback prepare_pages.constprop.0 btrfs_buffered_write";
        assert_eq!(meaning(btrfs), is(Context::WriteBegin, "prepare_pages"));
    }

    #[test]
    fn a_stack_of_strangers_is_other_and_unnamed() {
        assert_eq!(meaning("folio_wait_writeback some_module_function"), (Context::Other, None));
        assert_eq!(meaning(""), (Context::Other, None));
    }
}
