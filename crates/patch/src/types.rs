//! A [`Schema`] seen as structured-merge-diff sees it: at each point of a document there is a scalar, a list or an
//! object, and lists and objects are owned item by item or as one value.
//!
//! Main type: [`Ty`], cheap to copy, handed down while walking a value.

use std::sync::LazyLock;

use kubetask_schema::model::{ListType, MapType, Schema, Type};
use serde_json::Value;

use crate::meta;

/// What may stand at one point of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ty<'s> {
    /// As a schema says.
    Declared {
        schema: &'s Schema,
        /// Unknown members are welcome here, because this schema or one above it preserves unknown fields.
        open: bool,
        /// The value is a Kubernetes object: apiVersion, kind and metadata are known without being declared.
        object: bool,
    },
    /// Anything; objects are owned member by member, lists as one value.
    Deduced,
    /// Anything, owned as one value.
    Untyped,
}

/// What a value is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Scalar,
    List,
    Map,
}

/// How a list merges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'s> {
    /// The list is one value.
    pub(crate) atomic: bool,
    /// What identifies an item; empty: its value.
    pub(crate) keys: &'s [String],
    /// The items.
    pub(crate) items: Ty<'s>,
}

static STRING: LazyLock<Schema> = LazyLock::new(|| Schema { type_: Some(Type::String), ..Schema::default() });

impl<'s> Ty<'s> {
    /// The type of a whole object.
    pub(crate) fn root(schema: &'s Schema) -> Self {
        Self::Declared { schema, open: schema.preserve_unknown_fields, object: true }
    }

    fn below(schema: &'s Schema, open: bool) -> Self {
        Self::Declared { schema, open: open || schema.preserve_unknown_fields, object: schema.embedded_resource }
    }

    /// The schema, where there is one.
    pub(crate) fn declared(self) -> Option<&'s Schema> {
        match self {
            Self::Declared { schema, .. } => Some(schema),
            Self::Deduced | Self::Untyped => None,
        }
    }

    /// What `value` is taken for. Where any type may stand, the value decides; a null or missing value reads as an
    /// object there.
    pub(crate) fn shape(self, value: Option<&Value>) -> Shape {
        if let Self::Declared { schema, .. } = self {
            match schema.type_ {
                Some(Type::Object) => return Shape::Map,
                Some(Type::Array) => return Shape::List,
                Some(_) => return Shape::Scalar,
                None if schema.int_or_string => return Shape::Scalar,
                None => {}
            }
        }
        match value {
            None | Some(Value::Null | Value::Object(_)) => Shape::Map,
            Some(Value::Array(_)) => Shape::List,
            Some(_) => Shape::Scalar,
        }
    }

    /// How a list at this point merges.
    pub(crate) fn list(self) -> List<'s> {
        match self {
            Self::Declared { schema, open, .. } => {
                let type_ = schema.list_type.unwrap_or_default();
                List {
                    atomic: type_ == ListType::Atomic,
                    keys: if type_ == ListType::Map { &schema.list_map_keys } else { &[] },
                    items: schema.items.as_deref().map_or(Self::Untyped, |items| Self::below(items, open)),
                }
            }
            Self::Deduced | Self::Untyped => List { atomic: true, keys: &[], items: Self::Untyped },
        }
    }

    /// Whether an object at this point is one value.
    pub(crate) fn atomic_map(self) -> bool {
        match self {
            Self::Declared { schema, .. } => schema.map_type == Some(MapType::Atomic),
            Self::Deduced => false,
            Self::Untyped => true,
        }
    }

    /// The type of the declared member `name`.
    pub(crate) fn declared_field(self, name: &str) -> Option<Self> {
        let Self::Declared { schema, open, object } = self else {
            return None;
        };
        let declared = schema.properties.get(name).map(AsRef::as_ref);
        if !object {
            return declared.map(|field| Self::below(field, open));
        }
        match (name, declared) {
            ("metadata", Some(field)) if field.properties.contains_key("ownerReferences") => {
                Some(Self::below(field, open))
            }
            ("metadata", _) => Some(Self::below(meta::object_meta(), false)),
            ("apiVersion" | "kind", None) => Some(Self::below(&STRING, false)),
            (_, declared) => declared.map(|field| Self::below(field, open)),
        }
    }

    /// The type of members that are not declared; `None`: there may be none.
    pub(crate) fn other_fields(self) -> Option<Self> {
        match self {
            Self::Declared { schema, open, .. } => match &schema.additional_properties {
                Some(additional) => Some(Self::below(additional, open)),
                None if open || schema.properties.is_empty() => Some(Self::Deduced),
                None => None,
            },
            Self::Deduced => Some(Self::Deduced),
            Self::Untyped => Some(Self::Untyped),
        }
    }

    /// The type of the member `name` and whether it is declared. Stored objects may hold members which a schema no
    /// longer knows: they are taken as they come.
    pub(crate) fn field(self, name: &str) -> (Self, bool) {
        match self.declared_field(name) {
            Some(field) => (field, true),
            None => (self.other_fields().unwrap_or(Self::Deduced), false),
        }
    }
}

/// Equality of values as structured-merge-diff sees it: `1` equals `1.0`.
pub(crate) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(l), Value::Number(r)) => l == r || ((l.is_f64() || r.is_f64()) && l.as_f64() == r.as_f64()),
        (Value::Array(l), Value::Array(r)) => l.len() == r.len() && l.iter().zip(r).all(|(l, r)| equal(l, r)),
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|((lk, lv), (rk, rv))| lk == rk && equal(lv, rv))
        }
        _ => left == right,
    }
}
