//! Histories: what any sequence of calls, alone or at once, must look like to everybody who reads or watches.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod concurrent;
mod fanout;
mod model;
mod sequential;
mod stream;
