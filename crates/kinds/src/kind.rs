//! [`Kind`]: one row of the table of built-in kinds, and the functions that the generic API handler calls on it.

use std::borrow::Cow;
use std::sync::Arc;

use kubetask_schema::field;
use kubetask_schema::model::Schema;
use serde_json::Value;

use crate::decode::{DecodeError, Decoded};
use crate::table::{Column, Row};
use crate::types::{Built, Node};

/// Which part of an object a write is about: the resource itself or one of its subresources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The resource itself.
    Main,
    /// `/status`
    Status,
    /// `/finalize` of a namespace.
    Finalize,
    /// `/ephemeralcontainers` of a pod.
    EphemeralContainers,
    /// `/resize` of a pod.
    Resize,
}

/// One subresource as discovery lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    /// Name after the slash, e.g. `status`.
    pub name: &'static str,
    /// Kind of the body.
    pub kind: &'static str,
    /// Group of the body's kind where it differs from the resource's (discovery's `group`), else `None`.
    pub group: Option<&'static str>,
    /// Version of the body's kind where it differs from the resource's, else `None`.
    pub version: Option<&'static str>,
    /// Verbs in discovery's order.
    pub verbs: &'static [&'static str],
}

/// Where objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Objects are stored; kinds with the same bucket are views of the same objects (`events`).
    Bucket(&'static str),
    /// Create only: the answer is computed, nothing is stored.
    Virtual,
}

/// What an update may do beyond changing an object whose version it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateRules {
    /// Whether `PUT` without `metadata.resourceVersion` overwrites; otherwise it is refused with
    /// `metadata.resourceVersion: Invalid value: 0: must be specified for an update`.
    pub unconditional: bool,
    /// Whether `PUT` to a name that does not exist creates it.
    pub create_on_update: bool,
}

/// How deletion of a kind differs from removing the object and answering with a `Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteRules {
    /// The answer to `DELETE` is the deleted object instead of a `Status`.
    pub returns_object: bool,
    /// Dependents are orphaned unless the request says otherwise, and the answer carries a warning (Jobs).
    pub orphans_by_default: bool,
    /// Deletion is graceful: see [`Kind::grace_period`].
    pub graceful: bool,
    /// The object stays while `spec.finalizers` is not empty (namespaces).
    pub spec_finalizers: bool,
}

/// The three ways in which Kubernetes words the refusal of a field selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SelectorStyle {
    /// Kinds without conversion of field labels.
    MetadataOnly,
    /// `field label not supported: NAME`
    Label,
    /// `field label "NAME" not supported for KIND`
    ForKind,
}

type Hook = fn(&mut Value);
type UpdateHook = fn(&mut Value, &Value, Part);
type Validate = fn(&Value, &mut Vec<field::Error>);
type ValidateUpdate = fn(&Value, &Value, Part, &mut Vec<field::Error>);

/// What is particular about a kind beyond the facts in its row; every hook may be a no-op.
#[derive(Clone, Copy)]
pub(crate) struct Hooks {
    /// Fills in defaults after decoding.
    pub(crate) default: Hook,
    /// What the always-on mutating admission plugins add on create.
    pub(crate) admit: Hook,
    /// Strategy on create: resets what a client may not set.
    pub(crate) prepare_create: Hook,
    /// Strategy on update: keeps what this part may not change.
    pub(crate) prepare_update: UpdateHook,
    /// Rules for a new object beyond metadata.
    pub(crate) validate: Validate,
    /// Rules for an update beyond metadata.
    pub(crate) validate_update: ValidateUpdate,
    /// `Warning` headers for what is accepted but unwise.
    pub(crate) warnings: fn(&Value, Option<&Value>, &mut Vec<String>),
    /// Columns of a table.
    pub(crate) columns: fn() -> &'static [Column],
    /// Cells of a table row; must match the columns.
    pub(crate) row: fn(&Value, jiff::Timestamp) -> Row,
    /// Value of a selectable field other than `metadata.name` and `metadata.namespace`.
    pub(crate) field: fn(&Value, &str) -> Option<String>,
    /// Form for storage, for kinds that are views of another one.
    pub(crate) to_storage: fn(Value) -> Value,
    /// Form for clients, for kinds that are views of another one.
    pub(crate) from_storage: fn(Value) -> Value,
}

/// One built-in kind.
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version within the group.
    pub version: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// Resource name in paths.
    pub plural: &'static str,
    /// Singular name for kubectl.
    pub singular: &'static str,
    /// Short names for kubectl.
    pub short_names: &'static [&'static str],
    /// Categories, e.g. `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs in discovery's order.
    pub verbs: &'static [&'static str],
    /// Subresources in discovery's order.
    pub subresources: &'static [Subresource],
    /// `storageVersionHash` of discovery; empty for virtual kinds.
    pub storage_version_hash: &'static str,
    /// Where objects live.
    pub storage: Storage,
    /// Rules of `PUT`.
    pub update: UpdateRules,
    /// Rules of `DELETE`.
    pub delete: DeleteRules,
    /// What `metadata.name` must look like.
    pub name_rule: crate::names::NameRule,
    /// Selectable fields beyond `metadata.name` and `metadata.namespace`.
    pub field_selectors: &'static [&'static str],
    /// Name of the type in Kubernetes' OpenAPI, e.g. `io.k8s.api.core.v1.Pod`.
    pub type_name: &'static str,
    /// Makes the published schema of the type.
    pub(crate) generate: crate::types::Generate,
    /// How a field selector on an unknown field is refused.
    pub(crate) selector_style: SelectorStyle,
    pub(crate) hooks: Hooks,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind)
    }
}

impl Kind {
    /// `apiVersion` of an object of this kind.
    #[must_use]
    pub fn api_version(&self) -> Cow<'static, str> {
        if self.group.is_empty() {
            Cow::Borrowed(self.version)
        } else {
            Cow::Owned(format!("{}/{}", self.group, self.version))
        }
    }

    /// Kind of a list of these.
    #[must_use]
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// Whether there is a `/status` subresource.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.subresources.iter().any(|s| s.name == "status")
    }

    /// Whether objects are computed, not stored.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.storage == Storage::Virtual
    }

    /// The schema (without descriptions), built on first use.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.built().0)
    }

    pub(crate) fn node(&self) -> &'static Node {
        &self.built().1
    }

    fn built(&self) -> &'static Built {
        crate::registry::built(self).get_or_init(|| crate::types::types().load(self.type_name, self.generate))
    }

    /// An object of this kind with nothing in it, as Kubernetes writes it. Field ownership of a new object is
    /// tracked against this: what an empty object has anyway belongs to nobody.
    #[must_use]
    pub fn empty(&self) -> Value {
        crate::decode::decode(self, Value::Null).map(|d| d.object).unwrap_or_default()
    }

    /// Decodes a client's object as Go's typed decoder would: checks types, finds unknown fields, drops nulls and
    /// empty optional values, brings quantities and times into canonical form. `apiVersion` and `kind` are filled in.
    ///
    /// # Errors
    /// A value of the wrong type: the request is a 400.
    pub fn decode(&self, object: Value) -> Result<Decoded, DecodeError> {
        crate::decode::decode(self, object)
    }

    /// Fills in defaults; idempotent.
    pub fn default(&self, object: &mut Value) {
        (self.hooks.default)(object);
    }

    /// What Kubernetes' default admission plugins set on a new object (tolerations, priority, service account of pods).
    pub fn admit_create(&self, object: &mut Value) {
        (self.hooks.admit)(object);
    }

    /// Strategy on create: resets status, sets the generation, makes Job selectors and the like.
    /// `metadata.name`, `namespace`, `uid` and `creationTimestamp` must be filled in already.
    pub fn prepare_create(&self, object: &mut Value) {
        (self.hooks.prepare_create)(object);
    }

    /// Strategy on update: what `part` may not change is taken from `old`, the generation is bumped when the spec changed.
    pub fn prepare_update(&self, new: &mut Value, old: &Value, part: Part) {
        (self.hooks.prepare_update)(new, old, part);
    }

    /// Everything that is wrong with a new object, `metadata` included.
    #[must_use]
    pub fn validate_create(&self, object: &Value) -> Vec<field::Error> {
        let mut errors = Vec::new();
        if !self.is_virtual() {
            crate::meta::validate(&object["metadata"], self.namespaced, self.name_rule, &mut errors);
        }
        (self.hooks.validate)(object, &mut errors);
        errors
    }

    /// Everything that is wrong with an update, `metadata` included.
    #[must_use]
    pub fn validate_update(&self, new: &Value, old: &Value, part: Part) -> Vec<field::Error> {
        let mut errors = Vec::new();
        crate::meta::validate_update(&new["metadata"], &old["metadata"], &mut errors);
        // Kubernetes checks metadata once for all kinds and once more for each, and says everything twice.
        errors.extend_from_within(..);
        // Kinds whose update is also validated as a new object would be say it twice more.
        if self.group.is_empty() && matches!(self.plural, "configmaps" | "secrets" | "serviceaccounts") {
            crate::meta::validate_lists(&new["metadata"], &mut errors);
            crate::meta::validate_lists(&new["metadata"], &mut errors);
        }
        (self.hooks.validate_update)(new, old, part, &mut errors);
        errors
    }

    /// Texts for `Warning` headers; `old` on update.
    #[must_use]
    pub fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        (self.hooks.warnings)(new, old, &mut out);
        out
    }

    /// Columns of a `Table` of these.
    #[must_use]
    pub fn columns(&self) -> &'static [Column] {
        (self.hooks.columns)()
    }

    /// The row of one object in a `Table`.
    #[must_use]
    pub fn row(&self, object: &Value, now: jiff::Timestamp) -> Row {
        (self.hooks.row)(object, now)
    }

    /// Value of a selectable field (empty when unset), or `None` when the kind does not support selecting by it.
    #[must_use]
    pub fn selectable_field(&self, object: &Value, name: &str) -> Option<String> {
        match name {
            "metadata.name" => Some(text(&object["metadata"]["name"])),
            "metadata.namespace" => Some(text(&object["metadata"]["namespace"])),
            _ if self.field_selectors.contains(&name) => Some((self.hooks.field)(object, name).unwrap_or_default()),
            _ => None,
        }
    }

    /// Why a field selector on `name` is refused: the text of the 400.
    #[must_use]
    pub fn unsupported_field(&self, name: &str) -> String {
        match self.selector_style {
            SelectorStyle::Label => format!("field label not supported: {name}"),
            SelectorStyle::ForKind => format!("field label {name:?} not supported for {}", self.kind),
            SelectorStyle::MetadataOnly => {
                format!("{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
            }
        }
    }

    /// Whether a field selector may name this field.
    #[must_use]
    pub fn supports_field(&self, name: &str) -> bool {
        name == "metadata.name" || name == "metadata.namespace" || self.field_selectors.contains(&name)
    }

    /// The form in which an object is stored.
    #[must_use]
    pub fn to_storage(&self, object: Value) -> Value {
        (self.hooks.to_storage)(object)
    }

    /// The form in which a stored object is shown to clients of this kind.
    #[must_use]
    pub fn from_storage(&self, object: Value) -> Value {
        (self.hooks.from_storage)(object)
    }

    /// Whether [`Kind::from_storage`] changes anything: if not, stored bytes can be sent as they are.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.type_name.starts_with("io.k8s.api.events.")
    }

    /// Seconds of grace which a graceful deletion gives: `None` where deletion is immediate, for pods what was asked
    /// for, else what the spec says; 0 for pods that are not on a node yet or are finished.
    #[must_use]
    pub fn grace_period(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        if !self.delete.graceful {
            return None;
        }
        let spec = &object["spec"];
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        if text(&spec["nodeName"]).is_empty() || phase == "Succeeded" || phase == "Failed" {
            return Some(0);
        }
        let asked = requested.or_else(|| spec["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
        Some(if asked < 0 { 1 } else { asked })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn no_hook(_: &mut Value) {}
pub(crate) fn no_update_hook(_: &mut Value, _: &Value, _: Part) {}
pub(crate) fn no_validate(_: &Value, _: &mut Vec<field::Error>) {}
pub(crate) fn no_validate_update(_: &Value, _: &Value, _: Part, _: &mut Vec<field::Error>) {}
pub(crate) fn no_warnings(_: &Value, _: Option<&Value>, _: &mut Vec<String>) {}
pub(crate) fn no_field(_: &Value, _: &str) -> Option<String> {
    None
}
pub(crate) fn same(value: Value) -> Value {
    value
}

impl Hooks {
    /// Hooks of a kind with nothing particular: name and age as columns.
    pub(crate) const NONE: Self = Self {
        default: no_hook,
        admit: no_hook,
        prepare_create: no_hook,
        prepare_update: no_update_hook,
        validate: no_validate,
        validate_update: no_validate_update,
        warnings: no_warnings,
        columns: crate::table::name_age_columns,
        row: crate::table::name_age_row,
        field: no_field,
        to_storage: same,
        from_storage: same,
    };
}
