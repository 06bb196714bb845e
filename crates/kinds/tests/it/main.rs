//! The built-in kinds as the API server uses them: a body in, the stored object or the errors out.

#![expect(clippy::unwrap_used, reason = "a test that meets something unexpected should stop there")]

mod hostile;
mod pipeline;
mod rows;
mod rules;
mod update;
