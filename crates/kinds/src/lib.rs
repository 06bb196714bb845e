//! The built-in kinds of the embedded Kubernetes: one table row each, and everything that is particular about a kind.
//!
//! Main type: [`Kind`], a row of [`registry`](fn@registry). A request's object flows through it in this order:
//!
//! ```text
//! create: decode → default → admit_create → (track managed fields) → fill metadata → prepare_create → validate_create → warnings → to_storage
//! update: decode → default → (track managed fields) → prepare_update(old) → validate_update(old) → warnings → to_storage
//! read:   from_storage → row / selectable_field
//! ```
//!
//! * [`kind`]: the row and its functions; [`registry`](mod@registry): the table and its lookups.
//! * [`decode`]: strict, schema-driven decoding as Go's typed decoders do it; [`json`]: parsing that sees duplicate fields.
//! * [`meta`]: validation of `metadata`, for custom resources too; [`names`]: the name formats.
//! * [`quantity`], [`duration`]: amounts and human durations.
//! * [`table`]: columns and rows of `kubectl get`.
//! * [`openapi`]: OpenAPI v3 documents for built-in groups and for custom resources.
//!
//! Pure: no I/O, no clock, no randomness. Knows nothing of HTTP or storage.

mod base64_go;
pub mod decode;
pub mod duration;
pub mod go_json;
mod internal;
pub mod json;
pub mod kind;
mod kinds;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod quantity;
pub mod registry;
pub mod standards;
pub mod table;
pub mod time;
mod types;

pub use decode::{DecodeError, Decoded};
pub use kind::{DeleteRules, Kind, Part, Storage, Subresource, UpdateRules};
pub use kinds::pod::defaults::admit_service_account;
pub use kinds::pod::qos_class;
pub use registry::{body, lookup, lookup_kind, registry};
pub use table::{Column, Row};
