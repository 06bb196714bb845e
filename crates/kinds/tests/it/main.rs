//! The built-in kinds as the API server uses them: a body in, the stored object or the errors out.

mod hostile;
mod pipeline;
mod rows;
mod update;
