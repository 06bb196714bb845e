//! Every way to change a stored object: JSON patch, merge patch, strategic merge patch, server-side apply; and the
//! book-keeping of who owns which field.
//!
//! * [`json`], [`merge`]: RFC 6902 and RFC 7386.
//! * [`strategic`]: strategic merge patch, driven by the patch strategies of a [`Schema`](kubetask_schema::model::Schema).
//! * [`apply`]: server-side apply.
//! * [`managed`]: `metadata.managedFields` for everything that is not an apply.
//! * [`set`]: sets of field paths and their `FieldsV1` form.
//! * [`meta`]: the schema of `metadata`, which a CRD's schema does not spell out.
//!
//! Pure: JSON values and a schema in, JSON or an error out. Time and names are arguments. **Knows nothing of HTTP,
//! storage or particular kinds**, but for [`zero`], the shape of an empty object of the built-in kinds.

pub mod apply;
mod compare;
mod conflict;
mod element;
mod field_set;
pub mod json;
mod last_applied;
pub mod managed;
mod manager;
pub mod merge;
pub mod meta;
mod prune;
mod reconcile;
mod remove;
pub mod set;
pub mod strategic;
mod text;
mod typed_merge;
mod types;
mod validate;
pub mod zero;

pub use conflict::Conflict;
