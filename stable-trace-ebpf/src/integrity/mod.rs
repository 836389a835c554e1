//! Group `integrity`: failed checks of protection information.
//!
//! A failure is seen at one of four places: a request that its device failed ([`request`]), data that
//! was read well and that the host then found wrong ([`verify`]), a bio that a stacked device
//! without requests failed ([`stacked`]), and data that does not match the checksum that its file system keeps
//! ([`file_system`]). Which check failed is read from the driver's part of the
//! request ([`driver_pdu`]), or was reported just before by the driver or in the log
//! ([`check_report`]). A failure that a stacked device reports again is recognised by its pages
//! ([`repeated`]).
//!
//! The modules depend on each other in one direction. From the bottom up:
//!
//! 1. [`volatile`], [`bio`], [`check_report`], [`submit`], [`btrfs_inode`]
//! 2. [`failure`], [`driver_pdu`]
//! 3. [`walk`]
//! 4. [`page_loop`]
//! 5. [`pages`], [`runs`], [`repeated`], [`submitters`]
//! 6. [`evidence`]
//! 7. [`report`]
//! 8. [`request`], [`stacked`], [`verify`], [`file_system`]

mod bio;
mod btrfs_inode;
mod check_report;
mod driver_pdu;
mod evidence;
mod failure;
mod file_system;
mod page_loop;
mod pages;
mod repeated;
mod report;
mod request;
mod runs;
mod stacked;
mod submit;
mod submitters;
mod verify;
mod volatile;
mod walk;
