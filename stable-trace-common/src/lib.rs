//! What crosses from kernel to user.
#![no_std]
