//! The kubetask command.

/// Entry point.
pub fn main() {}
