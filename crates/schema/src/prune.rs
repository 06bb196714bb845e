//! Pruning: members which the schema does not know are removed, and named.
//!
//! [`prune`] walks value and schema together. `x-kubernetes-preserve-unknown-fields` keeps unknown members of that
//! object and of everything below that the schema does not describe; apiVersion, kind and metadata of an embedded
//! object (and of the root) are kept and their metadata is held to the members of `ObjectMeta`.

use serde_json::Value;

use crate::metadata;
use crate::model::Schema;

/// What [`prune`] treats specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The value is a Kubernetes object: apiVersion, kind and metadata are kept, and metadata is pruned as `ObjectMeta`.
    pub resource_root: bool,
}

impl Options {
    /// For a whole Kubernetes object.
    #[must_use]
    pub fn object() -> Self {
        Self { resource_root: true }
    }
}

/// Removes unknown members of `value`; returns their paths, e.g. `spec.parts[0].odd`: metadata's first, then the rest,
/// each sorted.
pub fn prune(value: &mut Value, schema: &Schema, options: Options) -> Vec<String> {
    let mut walk = Walk { path: String::new(), unknown: Vec::new() };
    walk.prune(value, schema, options.resource_root);
    walk.unknown.sort();
    let mut unknown = Vec::new();
    if options.resource_root {
        metadata::prune_object(value, "", &mut unknown);
        unknown.sort();
    }
    unknown.append(&mut walk.unknown);
    unknown
}

struct Walk {
    path: String,
    unknown: Vec<String>,
}

impl Walk {
    fn prune(&mut self, value: &mut Value, schema: &Schema, is_root: bool) {
        match value {
            Value::Object(members) => {
                let is_object = is_root || schema.embedded_resource;
                members.retain(|name, member| {
                    if is_object && metadata::is_object_member(name) {
                        return true;
                    }
                    let length = self.path.len();
                    if length > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(name);
                    let known = match schema.member(name) {
                        Some(own) => {
                            self.prune(member, own, false);
                            true
                        }
                        None if schema.preserve_unknown_fields => true,
                        None => {
                            self.unknown.push(self.path.clone());
                            false
                        }
                    };
                    self.path.truncate(length);
                    known
                });
                if schema.embedded_resource && !is_root {
                    metadata::prune_object(value, &self.path, &mut self.unknown);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    match &schema.items {
                        Some(own) => self.prune(item, own, false),
                        None if schema.preserve_unknown_fields => {}
                        None => self.prune(item, &Schema::default(), false),
                    }
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }
}
