//! One watch event as bytes, in the form that the client asked for.

use std::sync::Arc;

use kubetask_store::Entry;
use serde_json::{Value, json};

use crate::object;
use crate::print::table::{self, IncludeObject};
use crate::print::{partial, yaml};
use crate::registry::Resource;
use crate::request::{Format, Output, Shape};

/// Writes events in the negotiated form.
pub(super) struct Encoder {
    pub(super) resource: Arc<Resource>,
    pub(super) output: Output,
    pub(super) include: IncludeObject,
    /// Only the first Table has column definitions.
    pub(super) columns_sent: bool,
}

impl Encoder {
    pub(super) fn entry(&mut self, out: &mut Vec<u8>, type_: &str, entry: &Entry) {
        match (self.output.shape, self.output.format) {
            (Shape::Object, Format::Json) => {
                let bytes = self.resource.bytes(entry);
                frame(out, type_, bytes.strip_suffix(b"\n").unwrap_or(&bytes));
            }
            (Shape::Partial | Shape::PartialList, Format::Json) => {
                let mut object = Vec::with_capacity(512);
                partial::write(&mut object, &entry.bytes, self.output.meta_version);
                frame(out, type_, &object);
            }
            (Shape::Table, _) => {
                let (value, now) = (self.resource.value(entry), jiff::Timestamp::now());
                let row = table::row(&self.resource, value, self.include, self.output.meta_version, now);
                let version = entry.revision;
                let document = self.table(row, version);
                self.value(out, type_, &document);
            }
            (_, Format::Yaml) => {
                let value = self.resource.value(entry);
                self.value(out, type_, &value);
            }
        }
    }

    /// An object that is no longer selected: the old state with the new revision.
    pub(super) fn left(&mut self, out: &mut Vec<u8>, prev: &Entry, revision: u64) {
        let mut value = self.resource.value(prev);
        object::metadata_mut(&mut value).insert("resourceVersion".into(), revision.to_string().into());
        match self.output.shape {
            Shape::Object => self.value(out, "DELETED", &value),
            Shape::Partial | Shape::PartialList => {
                let document = partial::document(value["metadata"].take(), self.output.meta_version);
                self.value(out, "DELETED", &document);
            }
            Shape::Table => {
                let (value, now) = (self.resource.value(prev), jiff::Timestamp::now());
                let row = table::row(&self.resource, value, self.include, self.output.meta_version, now);
                let document = self.table(row, revision);
                self.value(out, "DELETED", &document);
            }
        }
    }

    fn table(&mut self, row: Value, revision: u64) -> Value {
        let columns = if self.columns_sent { Value::Null } else { table::columns(&self.resource) };
        self.columns_sent = true;
        let metadata = json!({"resourceVersion": revision.to_string()});
        table::document(columns, vec![row], metadata, self.output.meta_version)
    }

    pub(super) fn bookmark(&mut self, out: &mut Vec<u8>, revision: u64, initial_end: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version});
        // Go's zero value of the kind is what the real server sends.
        if let Some(Value::Object(zero)) = kubetask_patch::zero::of(&object)
            && let Value::Object(members) = &mut object
        {
            members.extend(zero.clone());
        }
        object["metadata"] = metadata;
        match self.output.shape {
            Shape::Object => self.value(out, "BOOKMARK", &object),
            Shape::Partial | Shape::PartialList => {
                let document = partial::document(object["metadata"].take(), self.output.meta_version);
                self.value(out, "BOOKMARK", &document);
            }
            Shape::Table => {
                let partial = partial::document(object["metadata"].take(), self.output.meta_version);
                let count = table::columns(&self.resource).as_array().map_or(0, Vec::len);
                let cells = vec![json!(""); count];
                let document = self.table(json!({"cells": cells, "object": partial}), revision);
                self.value(out, "BOOKMARK", &document);
            }
        }
    }

    pub(super) fn error(&mut self, out: &mut Vec<u8>, status: &Value) {
        self.value(out, "ERROR", status);
    }

    fn value(&self, out: &mut Vec<u8>, type_: &str, object: &Value) {
        match self.output.format {
            Format::Json => frame(out, type_, object.to_string().as_bytes()),
            Format::Yaml => {
                out.extend_from_slice(yaml::to_string(&json!({"type": type_, "object": object})).as_bytes());
                out.extend_from_slice(b"---\n");
            }
        }
    }
}

fn frame(out: &mut Vec<u8>, type_: &str, object: &[u8]) {
    out.reserve(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(type_.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}
