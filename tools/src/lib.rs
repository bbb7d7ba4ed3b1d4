//! The tools of bpfkit. One module holds one tool: its manual, arguments, event, maps, programs and output.
#![forbid(unsafe_code)]
#![warn(clippy::missing_errors_doc, clippy::missing_panics_doc)]

pub mod asm;
pub mod bpf2bpf;
pub mod btf;
pub mod cli;
mod columns;
mod create;
pub mod disasm;
pub mod dump;
mod error;
mod escape;
mod event;
pub mod execsnoop;
pub mod features;
mod filter;
mod flow;
#[doc(hidden)]
pub mod fuzzing;
pub mod gethostlatency;
pub mod icmpecho;
mod input;
mod libcs;
mod netdb;
mod options;
mod output;
mod pids;
mod read;
mod report;
pub mod roots;
mod session;
mod skb;
pub mod skbrecv;
mod stamp;
mod status;
pub mod syscall;
pub mod tcpconnect;
pub mod tool;
pub mod usdt;
pub mod writehist;

pub use columns::Columns;
pub use error::{Chain, Error};
pub use escape::Escaped;
pub use filter::TaskFilter;
pub use flow::Flow;
pub use options::Options;
pub use output::Output;
pub use session::{Accounts, Session};
