//! Forms of an answer other than the object's own JSON: Tables, metadata only, YAML, indented JSON.

pub(crate) mod jsonpath;
pub(crate) mod partial;
pub(crate) mod protobuf;
pub(crate) mod table;
pub(crate) mod yaml;
