//! The schema tree: what a JSON Schema of Kubernetes' structural dialect says, in a form that is cheap to walk.
//!
//! One model serves custom resources (parsed from `openAPIV3Schema`) and built-in kinds (made from the published
//! API types). References are resolved: a shared subtree is an `Arc`, never a `$ref`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::Value;

/// `type` of a JSON Schema node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// JSON object.
    Object,
    /// JSON array.
    Array,
    /// JSON string.
    String,
    /// JSON number without a fraction.
    Integer,
    /// JSON number.
    Number,
    /// JSON boolean.
    Boolean,
}

/// `x-kubernetes-list-type` (KEP-2906): how a list merges, and who owns what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ListType {
    /// The list is one value: replaced and owned as a whole.
    #[default]
    Atomic,
    /// Unique scalars, each owned by itself.
    Set,
    /// Objects identified by [`Schema::list_map_keys`], each owned by itself.
    Map,
}

/// `x-kubernetes-map-type`: how an object merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MapType {
    /// Every key is owned by itself.
    #[default]
    Granular,
    /// The object is one value.
    Atomic,
}

/// `x-kubernetes-patch-strategy` of a field (strategic merge patch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PatchStrategy {
    /// `merge`: the list or map is merged rather than replaced.
    pub merge: bool,
    /// `retainKeys`: keys that the patch's `$retainKeys` does not name are removed.
    pub retain_keys: bool,
}

/// One rule of `x-kubernetes-validations`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rule {
    /// The CEL expression; true means valid.
    pub rule: String,
    /// Text of the error; empty: generated from the rule.
    pub message: String,
    /// CEL expression that makes the text of the error.
    pub message_expression: String,
    /// Reason of the error's cause, `FieldValueInvalid` when empty.
    pub reason: String,
    /// Where the error is reported, relative to the node that holds the rule, e.g. `.spec.size`.
    pub field_path: String,
    /// Whether `oldSelf` is an optional, so that the rule runs on create too.
    pub optional_old_self: Option<bool>,
}

/// Value-only constraints that may stand in `allOf`, `anyOf`, `oneOf` and `not`, and on every node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Constraints {
    /// Allowed values.
    pub enum_values: Option<Vec<Value>>,
    /// Name of a string or number format.
    pub format: Option<String>,
    /// Regular expression (RE2 syntax) that a string must match somewhere.
    pub pattern: Option<String>,
    /// [`Constraints::pattern`], compiled on first use and shared by clones.
    pub pattern_cache: PatternCache,
    /// Lower bound of a number.
    pub minimum: Option<f64>,
    /// Whether [`Constraints::minimum`] itself is excluded.
    pub exclusive_minimum: bool,
    /// Upper bound of a number.
    pub maximum: Option<f64>,
    /// Whether [`Constraints::maximum`] itself is excluded.
    pub exclusive_maximum: bool,
    /// The number must be a multiple of this.
    pub multiple_of: Option<f64>,
    /// Least number of characters of a string.
    pub min_length: Option<i64>,
    /// Greatest number of characters of a string.
    pub max_length: Option<i64>,
    /// Least number of items of a list.
    pub min_items: Option<i64>,
    /// Greatest number of items of a list.
    pub max_items: Option<i64>,
    /// Whether the items of a list must differ (Kubernetes refuses `true` in CRDs).
    pub unique_items: bool,
    /// Least number of members of an object.
    pub min_properties: Option<i64>,
    /// Greatest number of members of an object.
    pub max_properties: Option<i64>,
    /// Members which an object must have.
    pub required: Vec<String>,
    /// All of these hold.
    pub all_of: Vec<Schema>,
    /// At least one of these holds.
    pub any_of: Vec<Schema>,
    /// Exactly one of these holds.
    pub one_of: Vec<Schema>,
    /// This does not hold.
    pub not: Option<Arc<Schema>>,
}

/// A pattern compiled at most once; equal to every other, because it follows from the pattern's text.
#[derive(Clone, Default)]
pub struct PatternCache(Arc<OnceLock<Option<Regex>>>);

impl PatternCache {
    /// The compiled form of `pattern`; `None` when it is no valid pattern.
    pub fn get(&self, pattern: &str) -> Option<&Regex> {
        self.0.get_or_init(|| crate::pattern::compile(pattern).ok()).as_ref()
    }
}

impl PartialEq for PatternCache {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl fmt::Debug for PatternCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatternCache")
    }
}

/// One node of a structural schema.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// `type`; `None` where only `x-kubernetes-int-or-string` or `-preserve-unknown-fields` says what is allowed,
    /// and inside junctors.
    pub type_: Option<Type>,
    /// Short human text.
    pub title: Option<String>,
    /// Human text, kept for OpenAPI and `kubectl explain`.
    pub description: Option<String>,
    /// Keywords that decide nothing and are only handed on: `id`, `$schema`, `externalDocs`, `example`.
    pub annotations: BTreeMap<String, Value>,
    /// Members of an object.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// Schema of members that are not named in [`Schema::properties`].
    pub additional_properties: Option<Arc<Schema>>,
    /// Schema of the items of a list.
    pub items: Option<Arc<Schema>>,
    /// Whether `null` is a value of its own.
    pub nullable: bool,
    /// Value that stands in when the member is missing.
    pub default: Option<Value>,
    /// Constraints on the value.
    pub constraints: Constraints,
    /// `x-kubernetes-preserve-unknown-fields`: unknown members are kept, not pruned.
    pub preserve_unknown_fields: bool,
    /// `x-kubernetes-embedded-resource`: the object is a Kubernetes object with apiVersion, kind and metadata.
    pub embedded_resource: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`; `None` where the schema does not say.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-list-map-keys`.
    pub list_map_keys: Vec<String>,
    /// `x-kubernetes-map-type`; `None` where the schema does not say.
    pub map_type: Option<MapType>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
    /// `x-kubernetes-patch-strategy`: only built-in kinds have it.
    pub patch_strategy: PatchStrategy,
    /// `x-kubernetes-patch-merge-key`: only built-in kinds have it.
    pub patch_merge_key: Option<String>,
}

impl Type {
    /// The name of the type in JSON Schema.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

impl Schema {
    /// Schema of the member `name`: its own, else that of additional members.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Arc<Self>> {
        self.properties.get(name).or(self.additional_properties.as_ref())
    }

    /// Whether the list's items are identified by keys, so that old and new ones can be paired.
    #[must_use]
    pub fn is_map_list(&self) -> bool {
        self.list_type == Some(ListType::Map)
    }
}
