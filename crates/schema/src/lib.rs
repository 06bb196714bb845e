//! The type system of the embedded API: structural schemas and everything that is decided by reading one.
//!
//! * [`model`]: the [`Schema`](model::Schema) tree, for built-in kinds and custom resources alike.
//! * [`field`]: field paths and field errors, with the wording of Kubernetes' `field.Error`.
//! * [`parse`], [`structural`], [`json`]: `openAPIV3Schema` to [`Schema`](model::Schema), its rules, and back.
//! * [`default`], [`prune`], [`validate`], [`cel`]: what happens to an object on its way in.
//! * [`compiled`]: all of that for one schema, ready to use: [`CompiledSchema`].
//! * [`crd`]: CustomResourceDefinition objects.
//!
//! Pure: JSON in, JSON or errors out. Knows nothing of HTTP, storage or particular kinds.

pub mod cel;
pub mod compiled;
pub mod crd;
pub mod default;
pub mod field;
pub mod format;
pub mod json;
pub mod metadata;
pub mod model;
pub mod names;
pub mod parse;
pub mod pattern;
pub mod prune;
pub mod structural;
pub mod validate;

pub use compiled::CompiledSchema;
pub use json::to_json;
