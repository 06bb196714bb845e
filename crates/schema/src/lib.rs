//! The type system of the embedded API: structural schemas and everything that is decided by reading one.
//!
//! * [`model`]: the [`Schema`](model::Schema) tree, for built-in kinds and custom resources alike.
//! * [`field`]: field paths and field errors, with the wording of Kubernetes' `field.Error`.
//!
//! Pure: JSON in, JSON or errors out. Knows nothing of HTTP, storage or particular kinds.

pub mod field;
pub mod model;
