//! `PartialObjectMetadata`: an object's metadata, cut out of its stored bytes.

use bytes::BufMut;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// The metadata form of an object that has this metadata.
pub(crate) fn document(metadata: Value, meta_version: &str) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": meta_version, "metadata": metadata})
}

/// Appends the metadata form of a stored object, without a newline.
pub(crate) fn write(out: &mut Vec<u8>, stored: &[u8], meta_version: &str) {
    out.put_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
    out.put_slice(meta_version.as_bytes());
    out.put_slice(b"\",\"metadata\":");
    match serde_json::from_slice::<OnlyMetadata<'_>>(stored) {
        Ok(only) => out.put_slice(only.metadata.get().as_bytes()),
        Err(_) => out.put_slice(b"{}"),
    }
    out.put_u8(b'}');
}
