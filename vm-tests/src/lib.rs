//! Tests of bpfkit on real kernels: the runner behind `cargo vm`, and the guest that it boots.
//!
//! The runner (`runner`) fetches or is given kernel images, boots each in QEMU with an initramfs that holds the guest and
//! the shipped `bpfkit` binary, and follows the guest's events. The guest (`guest`) is init and test harness in one binary;
//! its cases are in `guest::cases`, one file an area. Which kernels there are is said in `kernels` alone.

#![deny(unsafe_code)]

pub mod guest;
pub mod kernels;
pub mod protocol;
pub mod runner;
