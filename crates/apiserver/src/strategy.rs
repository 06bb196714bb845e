//! The rules of a kind, built-in or custom, behind one set of functions: decode, default, prepare, validate.
//!
//! Built-in kinds answer with the hooks of their table row, custom resources with their structural schema.

use kubetask_kinds::Part;
use kubetask_kinds::names::NameRule;
use kubetask_schema::cel::Findings;
use kubetask_schema::field::{Error, Path};
use serde_json::{Map, Value};

use crate::object::{self, metadata_mut};
use crate::registry::{Resource, Source};
use crate::request::body::{Document, Media, member_order};
use crate::status::{Failure, Result};
use crate::text::quote;

/// A decoded object and what a strict decoder complains about.
pub(crate) struct Decoded {
    pub(crate) object: Value,
    /// `unknown field "x"`, `duplicate field "y"`, in the order of Go's decoders.
    pub(crate) complaints: Vec<String>,
    /// What is wrong with the object, after the complaints have been told.
    pub(crate) refused: Option<Failure>,
}

/// Decodes a client's object of this resource.
pub(crate) fn decode(resource: &Resource, document: Document, media: Media) -> Result<Decoded> {
    match &resource.source {
        Source::Builtin(_) => builtin(resource, document, media),
        Source::Custom(_) => custom(resource, document),
    }
}

/// Decodes an object that was made from a stored one by a patch.
pub(crate) fn decode_value(resource: &Resource, value: Value) -> std::result::Result<Decoded, Failure> {
    let document = Document { value, ..Document::default() };
    decode(resource, document, Media::Yaml)
}

fn builtin(resource: &Resource, document: Document, media: Media) -> Result<Decoded> {
    let Some(kind) = resource.builtin_kind() else { return Err(Failure::unknown_resource()) };
    let Document { value, duplicates, raw } = document;
    if !value.is_object() && !value.is_null() {
        let go = match &value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            _ => "number",
        };
        return Err(Failure::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {go} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        )));
    }
    let (api_version, given) = (text(&value, "apiVersion"), text(&value, "kind"));
    if (!given.is_empty() && given != resource.kind) || (!api_version.is_empty() && api_version != resource.api_version)
    {
        let version = if api_version.is_empty() { &resource.api_version } else { api_version };
        let given = if given.is_empty() { &resource.kind } else { given };
        return Err(Failure::bad_request(format!(
            "{given} in version \"{version}\" cannot be handled as a {}: no kind \"{given}\" is registered for version \"{version}\" that can be converted",
            resource.kind
        )));
    }
    let decoded = kind.decode(value).map_err(|error| cannot(resource, &error.message))?;
    let mut complaints = decoded.unknown;
    complaints.extend(duplicates.iter().map(|path| format!("duplicate field {}", quote(path))));
    if complaints.len() > 1 && media == Media::Json {
        sort_as_written(&mut complaints, &raw);
    }
    Ok(Decoded { object: decoded.object, complaints, refused: None })
}

/// What cannot be decoded into an object of this resource.
fn cannot(resource: &Resource, why: &str) -> Failure {
    let (kind, version) = (&resource.kind, &resource.version);
    Failure::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}

/// Go's decoder complains in the order of the text.
fn sort_as_written(complaints: &mut [String], raw: &[u8]) {
    let order = member_order(raw);
    complaints.sort_by_key(|complaint| {
        let path = complaint.split_once('"').map_or("", |(_, rest)| rest.trim_end_matches('"'));
        order.iter().position(|known| known == path).unwrap_or(usize::MAX)
    });
}

fn custom(resource: &Resource, document: Document) -> Result<Decoded> {
    let Source::Custom(version) = &resource.source else { return Err(Failure::unknown_resource()) };
    let Document { mut value, duplicates, raw } = document;
    let kind = text(&value, "kind").to_owned();
    if kind.is_empty() {
        let text = if raw.is_empty() { value.to_string() } else { String::from_utf8_lossy(&raw).into_owned() };
        let start: String = text.chars().take(30).collect();
        return Err(Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in '{text}' ({start} ...)",
            resource.kind
        )));
    }
    let api_version = text(&value, "apiVersion");
    if api_version != resource.api_version {
        let refused = Failure::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            resource.api_version
        ));
        // A version that does not exist knows no fields; those of other groups are not looked at.
        let missing = api_version
            .rsplit_once('/')
            .is_some_and(|(group, name)| group == resource.group && !version.siblings.iter().any(|s| s == name));
        let members = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let complaints = members
            .filter(|name| missing && !matches!(*name, "apiVersion" | "kind" | "metadata"))
            .map(|name| format!("unknown field {}", quote(name)))
            .collect();
        return Ok(Decoded { object: value, complaints, refused: Some(refused) });
    }
    if kind != resource.kind {
        // Its fields are not looked at.
        return Ok(Decoded { object: value, complaints: Vec::new(), refused: None });
    }
    check_metadata_types(resource, &value)?;
    drop_metadata_nulls(&mut value);
    let unknown = version.compiled().admit(&mut value);
    let mut complaints: Vec<String> =
        duplicates.iter().map(|path| format!("duplicate field {}", quote(path))).collect();
    complaints.extend(unknown.iter().map(|path| format!("unknown field {}", quote(path))));
    Ok(Decoded { object: value, complaints, refused: None })
}

/// `metadata` of custom resources is decoded into Go's `ObjectMeta`, so its types are checked before any schema.
fn check_metadata_types(resource: &Resource, value: &Value) -> Result<()> {
    let meta = &value["metadata"];
    let wrong = |field: &str, want: &str, got: &Value| {
        let got = match got {
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            _ => "number",
        };
        let field = format!("ObjectMeta.metadata.{field}");
        cannot(resource, &format!("json: cannot unmarshal {got} into Go struct field {field} of type {want}"))
    };
    if meta.is_null() {
        return Ok(());
    }
    let Value::Object(members) = meta else { return Err(wrong("", "v1.ObjectMeta", meta)) };
    for (name, member) in members {
        if member.is_null() {
            continue;
        }
        let ok = match name.as_str() {
            "name" | "generateName" | "namespace" | "uid" | "resourceVersion" | "selfLink" => member.is_string(),
            "creationTimestamp" | "deletionTimestamp" => member.is_string(),
            "generation" | "deletionGracePeriodSeconds" => member.is_i64() || member.is_u64(),
            "labels" | "annotations" => {
                member.as_object().is_some_and(|m| m.values().all(|v| v.is_string() || v.is_null()))
            }
            "finalizers" => member.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
            "ownerReferences" | "managedFields" => {
                member.as_array().is_some_and(|items| items.iter().all(Value::is_object))
            }
            _ => true,
        };
        if !ok {
            let inner = match member {
                Value::Object(map) => map.values().find(|v| !v.is_string()).unwrap_or(member),
                Value::Array(items) => items.iter().find(|v| !v.is_string()).unwrap_or(member),
                other => other,
            };
            return Err(wrong(name, "string", inner));
        }
        if let ("creationTimestamp" | "deletionTimestamp", Value::String(text)) = (name.as_str(), member) {
            kubetask_kinds::time::seconds(text).map_err(|why| cannot(resource, &why))?;
        }
    }
    Ok(())
}

/// A null in `metadata` means that the member is not there; a null label is an empty one.
fn drop_metadata_nulls(value: &mut Value) {
    let Some(Value::Object(meta)) = value.get_mut("metadata") else { return };
    meta.retain(|_, member| !member.is_null());
    for name in ["labels", "annotations"] {
        if let Some(Value::Object(map)) = meta.get_mut(name) {
            for member in map.values_mut().filter(|m| m.is_null()) {
                *member = Value::from("");
            }
        }
    }
    meta.retain(|_, member| match member {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    });
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Fills in defaults; custom resources were defaulted while decoding.
pub(crate) fn default(resource: &Resource, object: &mut Value) {
    if let Source::Builtin(kind) = &resource.source {
        kind.default(object);
    }
}

/// Members that a way of writing resets and therefore never owns.
pub(crate) fn reset(resource: &Resource, part: Part) -> &'static [&'static str] {
    let has_status = match &resource.source {
        Source::Builtin(kind) => kind.has_status(),
        Source::Custom(version) => version.status,
    };
    match (part, resource.is_core("pods")) {
        (Part::Status, _) if resource.is_custom() => &["metadata", "spec"],
        (Part::Main, _) if has_status => &["status"],
        (Part::Status, true) => &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"],
        (Part::Status, false) => &["spec"],
        _ => &[],
    }
}

/// Strategy on create.
pub(crate) fn prepare_create(resource: &Resource, object: &mut Value) {
    match &resource.source {
        Source::Builtin(kind) => {
            kind.prepare_create(object);
        }
        Source::Custom(version) => {
            if version.status
                && let Value::Object(members) = object
            {
                members.remove("status");
            }
            metadata_mut(object).insert("generation".into(), 1.into());
        }
    }
}

/// Everything wrong with a new object.
pub(crate) fn validate_create(resource: &Resource, object: &Value) -> Vec<Error> {
    match &resource.source {
        Source::Builtin(kind) => {
            let mut errors = kind.validate_create(object);
            if resource.bucket.as_ref() == crate::registry::CRDS {
                errors.extend(kubetask_schema::crd::validate_crd(object));
            }
            errors
        }
        Source::Custom(version) => {
            let mut errors = Vec::new();
            check_kind(resource, object, &mut errors);
            if !errors.is_empty() {
                return errors;
            }
            let rule = NameRule::Subdomain;
            kubetask_kinds::meta::validate(&object["metadata"], resource.namespaced, rule, &mut errors);
            version.compiled().validate_create(object, errors)
        }
    }
}

fn check_kind(resource: &Resource, object: &Value, errors: &mut Vec<Error>) {
    let api_version = text(object, "apiVersion");
    if api_version != resource.api_version {
        let why = format!("must be {}", resource.api_version);
        errors.push(Error::invalid(&Path::new("apiVersion"), api_version, why));
    }
    let kind = text(object, "kind");
    if kind != resource.kind {
        errors.push(Error::invalid(&Path::new("kind"), kind, format!("must be {}", resource.kind)));
    }
}

/// Strategy on update: what `part` may not change is taken from `old`.
pub(crate) fn prepare_update(resource: &Resource, new: &mut Value, old: &Value, part: Part) {
    match &resource.source {
        Source::Builtin(kind) => kind.prepare_update(new, old, part),
        Source::Custom(version) => prepare_custom_update(new, old, part, version.status),
    }
}

fn prepare_custom_update(new: &mut Value, old: &Value, part: Part, status: bool) {
    if part == Part::Status {
        // Only the status is taken from the request; of the metadata only who owns what.
        let status = new.get("status").cloned();
        let managed = new["metadata"].get("managedFields").cloned();
        let version = new["metadata"].get("resourceVersion").cloned();
        let mut kept = old.clone();
        set(&mut kept, "status", status);
        let meta = metadata_mut(&mut kept);
        for (name, value) in [("managedFields", managed), ("resourceVersion", version)] {
            match value {
                Some(value) => meta.insert(name.into(), value),
                None => meta.remove(name),
            };
        }
        *new = kept;
        return;
    }
    if status {
        let old_status = old.get("status").cloned();
        set(new, "status", old_status);
    }
    let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
    let changed = !same_spec(new, old);
    metadata_mut(new).insert("generation".into(), (generation + i64::from(changed)).into());
}

fn set(object: &mut Value, name: &str, value: Option<Value>) {
    if let Value::Object(members) = object {
        match value {
            Some(value) => members.insert(name.into(), value),
            None => members.remove(name),
        };
    }
}

/// Equal in everything but metadata and status.
fn same_spec(a: &Value, b: &Value) -> bool {
    let empty = Map::new();
    let members = |v: &'_ Value| -> Vec<(String, Value)> {
        let map = v.as_object().unwrap_or(&empty);
        map.iter()
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    members(a) == members(b)
}

/// Everything wrong with an update.
pub(crate) fn validate_update(resource: &Resource, new: &Value, old: &Value, part: Part) -> Findings {
    match &resource.source {
        Source::Builtin(kind) => {
            let mut errors = kind.validate_update(new, old, part);
            if resource.bucket.as_ref() == crate::registry::CRDS && part == Part::Main {
                errors.extend(kubetask_schema::crd::validate_crd_update(new, old));
            }
            Findings { errors, ..Findings::default() }
        }
        Source::Custom(version) => {
            let mut errors = Vec::new();
            check_kind(resource, new, &mut errors);
            if !errors.is_empty() {
                return Findings { errors, ..Findings::default() };
            }
            kubetask_kinds::meta::validate_custom_update(&new["metadata"], &old["metadata"], &mut errors);
            match part {
                Part::Status => version.compiled().validate_status_update(new, old, errors),
                _ => version.compiled().validate_update(new, old, errors),
            }
        }
    }
}

/// Texts for `Warning` headers.
pub(crate) fn warnings(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    match &resource.source {
        Source::Builtin(kind) => kind.warnings(new, old),
        Source::Custom(_) => kubetask_kinds::meta::warnings(&new["metadata"], old.map(|o| &o["metadata"])),
    }
}

/// The schema that ownership and patches go by.
pub(crate) fn schema(resource: &Resource) -> std::sync::Arc<kubetask_schema::model::Schema> {
    resource.schema()
}

/// Name of the object in messages about invalid fields.
pub(crate) fn invalid(resource: &Resource, object: &Value, errors: &[Error]) -> Failure {
    let kind = text(object, "kind");
    let kind = if resource.is_custom() && !kind.is_empty() { kind } else { &resource.kind };
    let group = match resource.builtin_kind() {
        // Views of another kind are validated as that kind.
        Some(kind) if kind.converts() => "",
        Some(_) => &resource.group,
        // A custom resource is what it calls itself, also where that is what is wrong with it.
        None => text(object, "apiVersion").rsplit_once('/').map_or("", |(group, _)| group),
    };
    let gk = crate::status::GroupResource { group, resource: kind };
    Failure::invalid(gk, object::meta(object, "name"), errors)
}
