//! What tests of several crates share.
#![forbid(unsafe_code)]

pub mod browser;
pub mod cc;
pub mod forms;
pub mod objects;
pub mod programs;
pub mod prototypes;
pub mod verifier;
