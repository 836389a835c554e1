//! What this kernel is.
