//! [`Resource`]: one version of one kind, with everything the generic handlers ask of it.

use std::sync::Arc;

use bytes::Bytes;
use kubetask_kinds::{Kind, Storage};
use kubetask_schema::model::Schema;
use kubetask_store::Entry;
use serde_json::Value;

use super::custom::Version;
use crate::object;
use crate::status::GroupResource;

/// A served resource.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    /// `v1` or `group/version`.
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<&'static str>,
    /// Where objects are stored; empty for virtual kinds.
    pub(crate) bucket: Arc<str>,
    /// What stored bytes of this kind begin with, for the version in which objects are *stored*.
    pub(crate) stored_prefix: Vec<u8>,
    /// What bytes sent to clients of this version begin with.
    pub(crate) prefix: Vec<u8>,
    /// Entries older than this revision are defaulted again when read: the schema has changed since.
    pub(crate) schema_since: u64,
    pub(crate) source: Source,
}

/// Where the rules of a kind come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The table of built-in kinds.
    Builtin(&'static Kind),
    /// A version of a CustomResourceDefinition.
    Custom(Arc<Version>),
}

impl Resource {
    pub(crate) fn builtin(kind: &'static Kind) -> Self {
        let api_version = kind.api_version().into_owned();
        let bucket = match kind.storage {
            Storage::Bucket(name) => name,
            Storage::Virtual => "",
        };
        // Views of another kind are stored in that kind's form.
        let stored = if kind.converts() {
            kubetask_kinds::registry().iter().find(|other| other.storage == kind.storage && !other.converts())
        } else {
            None
        };
        let prefix = crate::object::prefix(kind.kind, &api_version);
        let stored_prefix = match stored {
            Some(stored) => crate::object::prefix(stored.kind, &stored.api_version()),
            None => prefix.clone(),
        };
        Self {
            group: kind.group.into(),
            version: kind.version.into(),
            api_version,
            kind: kind.kind.into(),
            list_kind: kind.list_kind(),
            plural: kind.plural.into(),
            singular: kind.singular.into(),
            short_names: kind.short_names.iter().map(|s| (*s).to_owned()).collect(),
            categories: kind.categories.iter().map(|s| (*s).to_owned()).collect(),
            namespaced: kind.namespaced,
            verbs: kind.verbs.to_vec(),
            bucket: bucket.into(),
            stored_prefix,
            prefix,
            schema_since: 0,
            source: Source::Builtin(kind),
        }
    }

    /// The resource in messages: `jobs.batch`.
    pub(crate) fn gr(&self) -> GroupResource<'_> {
        GroupResource { group: &self.group, resource: &self.plural }
    }

    /// The table row, for built-in kinds.
    pub(crate) fn builtin_kind(&self) -> Option<&'static Kind> {
        match &self.source {
            Source::Builtin(kind) => Some(kind),
            Source::Custom(_) => None,
        }
    }

    /// The definition's version, for custom kinds.
    pub(crate) fn custom(&self) -> Option<&Arc<Version>> {
        match &self.source {
            Source::Builtin(_) => None,
            Source::Custom(version) => Some(version),
        }
    }

    pub(crate) fn is_custom(&self) -> bool {
        matches!(self.source, Source::Custom(_))
    }

    /// Whether this is `kind` of the core group.
    pub(crate) fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }

    /// The schema of the whole object.
    pub(crate) fn schema(&self) -> Arc<Schema> {
        match &self.source {
            Source::Builtin(kind) => kind.schema(),
            Source::Custom(version) => version.schema.clone(),
        }
    }

    /// An entry as the bytes that clients of this version are sent, newline included.
    pub(crate) fn bytes(&self, entry: &Entry) -> Bytes {
        if self.is_current(entry) {
            if self.stored_prefix == self.prefix {
                return entry.bytes.clone();
            }
            if self.is_custom() {
                let tail = &entry.bytes[self.stored_prefix.len()..];
                return [&self.prefix, tail].concat().into();
            }
        }
        let value = self.value(entry);
        object::Unsealed::new(&self.prefix, &value).seal(entry.revision)
    }

    /// Whether the bytes of an entry are in the form in which this version stores today.
    fn is_current(&self, entry: &Entry) -> bool {
        let converts = self.builtin_kind().is_some_and(Kind::converts);
        !converts && entry.revision >= self.schema_since && entry.bytes.starts_with(&self.stored_prefix)
    }

    /// An entry as a value in the form of this version.
    pub(crate) fn value(&self, entry: &Entry) -> Value {
        let value = object::decode(entry);
        match &self.source {
            Source::Builtin(kind) if kind.converts() => kind.from_storage(value),
            Source::Builtin(_) => value,
            Source::Custom(version) => self.convert(value, version, entry.revision < self.schema_since),
        }
    }

    fn convert(&self, mut value: Value, version: &Version, old: bool) -> Value {
        value["apiVersion"] = Value::from(self.api_version.as_str());
        if old {
            version.compiled().admit(&mut value);
        }
        value
    }

    /// A value of this version in the form in which it is stored.
    pub(crate) fn to_storage(&self, value: Value) -> Value {
        match &self.source {
            Source::Builtin(kind) => kind.to_storage(value),
            Source::Custom(_) => value,
        }
    }

    /// The version in which objects are stored.
    pub(crate) fn storage_version(&self) -> &str {
        match &self.source {
            Source::Builtin(_) => &self.version,
            Source::Custom(version) => &version.storage_version,
        }
    }

    /// Whether a verb is offered (discovery and 405).
    pub(crate) fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}
