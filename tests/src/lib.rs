//! What tests of several crates share.
#![deny(unsafe_code)]

pub mod browser;
pub mod cc;
pub mod forms;
pub mod hostile;
pub mod meter;
pub mod objects;
pub mod programs;
pub mod prototypes;
pub mod shown;
pub mod verifier;
