//! Printer columns, subresources and selectable fields: the parts of a version that point into objects.

use serde_json::Value;

use super::text;
use crate::cel::resolve_field_path;
use crate::field::{Error, Path};
use crate::model::{Schema, Type};

const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";
/// Most selectable fields of a version.
const MAX_SELECTABLE: usize = 8;

pub(super) fn columns(columns: &Value, at: &Path, errors: &mut Vec<Error>) {
    for (index, column) in columns.as_array().into_iter().flatten().enumerate() {
        let at = at.index(index);
        if text(column, "/name").is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        }
        let type_ = text(column, "/type");
        let must = format!("must be one of {COLUMN_TYPES}");
        if type_.is_empty() {
            errors.push(Error::required(&at.child("type"), must));
        } else if !COLUMN_TYPES.split(',').any(|t| t == type_) {
            errors.push(Error::invalid(&at.child("type"), type_, must));
        }
        let format = text(column, "/format");
        if !format.is_empty() && !COLUMN_FORMATS.split(',').any(|f| f == format) {
            errors.push(Error::invalid(&at.child("format"), format, format!("must be one of {COLUMN_FORMATS}")));
        }
        let path = text(column, "/jsonPath");
        if path.is_empty() {
            errors.push(Error::required(&at.child("JSONPath"), ""));
        } else if let Some(wrong) = json_path_error(path) {
            errors.push(Error::invalid(&at.child("JSONPath"), path, wrong));
        }
    }
}

/// All that is checked of a path is how it begins.
fn json_path_error(path: &str) -> Option<&'static str> {
    (!path.starts_with('.')).then_some("must be a simple json path starting with .")
}

pub(super) fn subresources(subresources: &Value, at: &Path, errors: &mut Vec<Error>) {
    let Some(scale) = subresources.get("scale").filter(|s| s.is_object()) else { return };
    let required = [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")];
    for (name, prefix) in required {
        let path = text(scale, &format!("/{name}"));
        let at = at.child("scale").child(name);
        if path.is_empty() {
            errors.push(Error::required(&at, ""));
        } else if let Some(wrong) = json_path_error(path) {
            errors.push(Error::invalid(&at, path, wrong));
        } else if !path.starts_with(prefix) {
            let detail = format!("should be a json path under {}", prefix.trim_end_matches('.'));
            errors.push(Error::invalid(&at, path, detail));
        }
    }
    let path = text(scale, "/labelSelectorPath");
    let at = at.child("scale").child("labelSelectorPath");
    if path.is_empty() {
        return;
    }
    if let Some(wrong) = json_path_error(path) {
        errors.push(Error::invalid(&at, path, wrong));
    } else if !path.starts_with(".status.") && !path.starts_with(".spec.") {
        errors.push(Error::invalid(&at, path, "should be a json path under either .spec or .status"));
    }
}

pub(super) fn selectable_fields(fields: &Value, schema: Option<&Schema>, at: &Path, errors: &mut Vec<Error>) {
    let Some(fields) = fields.as_array() else { return };
    let mut seen = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let at = at.index(index).child("jsonPath");
        let path = text(field, "/jsonPath");
        if path.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let Some(schema) = schema else { continue };
        let resolved = match resolve_field_path(path, schema) {
            Ok(resolved) => resolved,
            Err(wrong) => {
                errors.push(Error::invalid(&at, path, format!("is an invalid path: {wrong}")));
                continue;
            }
        };
        if resolved == "metadata" || resolved.starts_with("metadata.") {
            errors.push(Error::invalid(&at, path, "must not point to fields in metadata"));
        } else if !is_selectable(&resolved, schema) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Error::invalid(&at, path, detail));
        }
        if seen.contains(&resolved) {
            errors.push(Error::duplicate(&at, path));
        } else {
            seen.push(resolved);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(Error::too_many(at, i64::try_from(seen.len()).unwrap_or(i64::MAX), 8));
    }
}

fn is_selectable(path: &str, schema: &Schema) -> bool {
    let mut here = schema;
    for name in path.split('.') {
        match here.properties.get(name) {
            Some(member) => here = member,
            None => return false,
        }
    }
    matches!(here.type_, Some(Type::String | Type::Boolean | Type::Integer))
}
