//! Checks that a configuration fits the schema before it is applied: types, declared fields, keys of list items.

use std::collections::BTreeSet;
use std::fmt;

use kubetask_schema::model::Type;
use serde_json::Value;

use crate::element::Element;
use crate::text;
use crate::types::{Shape, Ty};

/// Everything that does not fit; prints as structured-merge-diff prints it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mismatches(Vec<Mismatch>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mismatch {
    path: String,
    message: String,
    undeclared: bool,
}

impl Mismatches {
    /// Whether some of it is a field that the schema does not know.
    pub(crate) fn any_undeclared(&self) -> bool {
        self.0.iter().any(|m| m.undeclared)
    }

    fn add(&mut self, path: &Path<'_>, message: String, undeclared: bool) {
        self.0.push(Mismatch { path: path.to_string(), message, undeclared });
    }
}

impl fmt::Display for Mismatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 1 {
            f.write_str("errors:")?;
        }
        for mismatch in &self.0 {
            if self.0.len() > 1 {
                f.write_str("\n  ")?;
            }
            if !mismatch.path.is_empty() {
                write!(f, "{}: ", mismatch.path)?;
            }
            f.write_str(&mismatch.message)?;
        }
        Ok(())
    }
}

/// A path as a chain on the stack: it becomes text only for an error.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Item(&'p Path<'p>, &'p Element),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, element) => write!(f, "{parent}{element}"),
        }
    }
}

/// Checks `value`; lists with keys may not hold an item twice.
pub(crate) fn validate(ty: Ty<'_>, value: &Value) -> Result<(), Mismatches> {
    let mut out = Mismatches::default();
    walk(ty, value, &Path::Root, &mut out);
    if out.0.is_empty() { Ok(()) } else { Err(out) }
}

fn walk(ty: Ty<'_>, value: &Value, path: &Path<'_>, out: &mut Mismatches) {
    if value.is_null() {
        return;
    }
    match ty.shape(Some(value)) {
        Shape::Scalar => {
            if let Some(message) = scalar_mismatch(ty, value) {
                out.add(path, message, false);
            }
        }
        Shape::List => match value {
            Value::Array(items) => walk_items(ty, items, path, out),
            other => out.add(path, format!("expected list, got {}", unstructured(other)), false),
        },
        Shape::Map => match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let path = Path::Field(path, name);
                    match ty.declared_field(name).or_else(|| ty.other_fields()) {
                        Some(field) => walk(field, member, &path, out),
                        None => out.add(&path, "field not declared in schema".to_owned(), true),
                    }
                }
            }
            other => out.add(path, format!("expected map, got {}", unstructured(other)), false),
        },
    }
}

fn walk_items(ty: Ty<'_>, items: &[Value], path: &Path<'_>, out: &mut Mismatches) {
    let list = ty.list();
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let element = if list.atomic {
            Element::Index(u64::try_from(index).unwrap_or(u64::MAX))
        } else {
            match Element::of_item(&list, item) {
                Ok(element) => element,
                Err(error) => {
                    // Without an element nothing below can be named.
                    out.add(path, format!("element {index}: {error}"), false);
                    return;
                }
            }
        };
        walk(list.items, item, &Path::Item(path, &element), out);
        if !list.atomic && seen.contains(&element) {
            out.add(path, format!("duplicate entries for key {element}"), false);
        }
        seen.insert(element);
    }
}

fn scalar_mismatch(ty: Ty<'_>, value: &Value) -> Option<String> {
    let scalar = matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_));
    let untyped = || (!scalar).then(|| format!("expected any scalar, got {}", unstructured(value)));
    let Some(schema) = ty.declared() else {
        return untyped();
    };
    match schema.type_ {
        Some(Type::Integer | Type::Number) => {
            (!value.is_number()).then(|| format!("expected numeric (int or float), got {}", text::go_type(value)))
        }
        Some(Type::Boolean) => (!value.is_boolean()).then(|| format!("expected boolean, got {}", unstructured(value))),
        // Only plain strings are held to be strings: a quantity may be written as a number.
        Some(Type::String) if matches!(schema.constraints.format.as_deref(), None | Some("" | "byte")) => (!value
            .is_string())
        .then(|| format!("expected string, got &value.valueUnstructured{{Value:{}}}", text::go_syntax(value))),
        _ => untyped(),
    }
}

/// Go's `%v` of the wrapper that holds a value there.
fn unstructured(value: &Value) -> String {
    format!("&{{{}}}", text::go(value))
}
