//! Strategic merge patch: a merge patch in which lists can be merged item by item, driven by the patch strategies and
//! merge keys that the schemas of built-in kinds carry.
//!
//! Main function: [`apply`]. Directives are `$patch: replace|delete|merge`, `$retainKeys`,
//! `$setElementOrder/<list>` and `$deleteFromPrimitiveList/<list>`.

mod list;
mod order;

use kubetask_schema::model::{PatchStrategy, Schema};
use serde_json::{Map, Value};

use crate::text;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList";

/// Why a patch cannot be applied. `Display` is the message of the `Status`, but see [`Error::Unprocessable`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A directive is malformed: 400 `BadRequest`.
    #[error("{0}")]
    BadRequest(String),
    /// The patch asks for what cannot be done: 422, with Kubernetes' generic message for that status.
    #[error("{0}")]
    Unprocessable(String),
    /// Everything else, e.g. a list item without its merge key: Kubernetes answers 500.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    fn set_element_order() -> Self {
        Self::BadRequest("invalid patch format of setElementOrder list".to_owned())
    }

    fn retain_keys() -> Self {
        Self::BadRequest("invalid patch format of retainKeys".to_owned())
    }

    fn primitive_list() -> Self {
        Self::BadRequest("invalid patch format of primitive list".to_owned())
    }

    fn no_merge_key(item: &Value, key: &str) -> Self {
        Self::Internal(format!("map: {} does not contain declared merge key: {key}", text::go(item)))
    }

    fn wrong_type(expected: &str, actual: &Value) -> Self {
        Self::Internal(format!("expected a {expected}, but received a {}", text::go_type(actual)))
    }

    fn unknown_directive(directive: &Value, patch: &Map<String, Value>) -> Self {
        let patch = text::go(&Value::Object(patch.clone()));
        Self::Internal(format!("unknown patch type: {} in map: {patch}", text::go(directive)))
    }
}

/// What a schema says of merging one member.
#[derive(Clone, Copy, Default)]
struct Meta<'s> {
    schema: Option<&'s Schema>,
    strategy: PatchStrategy,
    merge_key: Option<&'s str>,
}

impl<'s> Meta<'s> {
    /// The member `name` of an object with this schema.
    fn of_member(schema: Option<&'s Schema>, name: &str) -> Self {
        let field = schema.and_then(|schema| {
            schema.properties.get(name).or(schema.additional_properties.as_ref()).map(AsRef::as_ref)
        });
        Self {
            schema: field,
            strategy: field.map_or_else(PatchStrategy::default, |field| field.patch_strategy),
            merge_key: field.and_then(|field| field.patch_merge_key.as_deref()),
        }
    }

    /// The schema of the items of this list.
    fn items(self) -> Option<&'s Schema> {
        self.schema.and_then(|schema| schema.items.as_deref())
    }
}

/// Applies `patch` to `live`.
///
/// # Errors
/// See [`Error`].
pub fn apply(live: Value, patch: &Value, schema: &Schema) -> Result<Value, Error> {
    let Value::Object(patch) = patch else {
        return Err(Error::BadRequest("invalid JSON document".to_owned()));
    };
    let live = match live {
        Value::Object(live) => live,
        _ => Map::new(),
    };
    merge_map(live, patch.clone(), Some(schema)).map(Value::Object)
}

/// Merges `patch` into `live`.
fn merge_map(
    mut live: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Option<&Schema>,
) -> Result<Map<String, Value>, Error> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(Error::unknown_directive(&directive, &patch)),
        };
    }
    retain_keys(&mut live, &mut patch)?;
    set_element_orders(&mut live, &mut patch, schema)?;
    for (name, wanted) in patch {
        let (name, delete) = match list_name(&name, DELETE_FROM_PRIMITIVE_LIST) {
            None => (name, false),
            Some(list) => (list.ok_or_else(Error::primitive_list)?.to_owned(), true),
        };
        merge_member(&mut live, name, wanted, delete, schema)?;
    }
    Ok(live)
}

/// The list that a directive `prefix/<list>` is for: `None` if this is not the directive, `Some(None)` if it names
/// no list.
fn list_name<'n>(name: &'n str, prefix: &str) -> Option<Option<&'n str>> {
    let rest = name.strip_prefix(prefix)?;
    Some(rest.strip_prefix('/'))
}

fn merge_member(
    live: &mut Map<String, Value>,
    name: String,
    wanted: Value,
    delete: bool,
    schema: Option<&Schema>,
) -> Result<(), Error> {
    if wanted.is_null() {
        live.remove(&name);
        return Ok(());
    }
    let meta = Meta::of_member(schema, &name);
    let merged = match (live.remove(&name), wanted) {
        (Some(Value::Object(old)), Value::Object(new)) => Some(Value::Object(merge_map(old, new, meta.schema)?)),
        (Some(Value::Array(old)), Value::Array(new)) if meta.strategy.merge || delete => {
            Some(Value::Array(list::merge(old, new, meta, delete)?))
        }
        (old, _) if delete => old,
        // A list that is not merged is taken as it is.
        (Some(Value::Array(_)), new @ Value::Array(_)) => Some(new),
        (_, new) => without_directives(new),
    };
    if let Some(merged) = merged {
        live.insert(name, merged);
    }
    Ok(())
}

/// `$retainKeys`: what it does not name goes, and the patch may not set anything else.
fn retain_keys(live: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), Error> {
    let keep = match patch.remove(RETAIN_KEYS) {
        None => return Ok(()),
        Some(Value::Array(keep)) => keep,
        Some(_) => return Err(Error::retain_keys()),
    };
    let kept = |name: &str| keep.iter().any(|key| key.as_str() == Some(name));
    let stray = patch.iter().any(|(name, value)| {
        let directive = name.starts_with(DELETE_FROM_PRIMITIVE_LIST) || name.starts_with(SET_ELEMENT_ORDER);
        !value.is_null() && !directive && !kept(name)
    });
    if stray {
        return Err(Error::retain_keys());
    }
    live.retain(|name, _| kept(name));
    Ok(())
}

/// `$setElementOrder/<list>`: merges the list of that name and puts it in the order given.
fn set_element_orders(
    live: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Option<&Schema>,
) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            Some(other) => return Err(Error::wrong_type("[]interface {}", &other)),
            None => continue,
        };
        let name = list_name(&directive, SET_ELEMENT_ORDER).flatten().ok_or_else(Error::set_element_order)?;
        let meta = Meta::of_member(schema, name);
        let list = |value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(Error::wrong_type("[]interface {}", &other)),
        };
        // A null in the patch deletes the list; that is left to the ordinary course.
        if patch.get(name).is_some_and(Value::is_null) {
            continue;
        }
        let (old, new) = (list(live.get(name).cloned())?, list(patch.remove(name))?);
        if let Some(new) = &new {
            order::check(new, &order, meta.merge_key)?;
        }
        let before = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => match without_directives(Value::Array(new)) {
                Some(Value::Array(new)) => new,
                _ => Vec::new(),
            },
            (Some(old), Some(new)) if meta.strategy.merge => list::merge(old, new, meta, false)?,
            (Some(_), Some(new)) => new,
        };
        let merged = order::arrange(merged, &order, &before, meta.merge_key)?;
        live.insert(name.to_owned(), Value::Array(merged));
    }
    Ok(())
}

/// A value of the patch that meets nothing to merge with: nulls in it mean nothing, objects with a `$patch` directive
/// go, other directives are dropped. `None`: the value itself is such an object.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) => {
            if members.contains_key(PATCH) {
                return None;
            }
            let members = members
                .into_iter()
                .filter(|(name, value)| !value.is_null() && !is_directive(name))
                .filter_map(|(name, value)| without_directives(value).map(|value| (name, value)))
                .collect();
            Some(Value::Object(members))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        scalar => Some(scalar),
    }
}

fn is_directive(name: &str) -> bool {
    name == RETAIN_KEYS
        || list_name(name, SET_ELEMENT_ORDER).flatten().is_some()
        || list_name(name, DELETE_FROM_PRIMITIVE_LIST).flatten().is_some()
}
