//! `fieldPath` of a rule: where the error is reported, such as `.spec.size` or `.labels['a.b']`.

use crate::model::{Schema, Type};

/// Resolves `text` against the schema of the rule; what comes back is appended to the path of the rule's node, e.g.
/// `spec.size` or `labels[a.b]`.
///
/// # Errors
/// Why it is no path of the schema.
pub(crate) fn resolve(text: &str, schema: &Schema) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let mut out = String::new();
    let mut here = schema;
    let mut rest = text;
    while !rest.is_empty() {
        let name;
        if let Some(tail) = rest.strip_prefix("['") {
            let Some((quoted, tail)) = tail.split_once("']") else { return Err("unterminated '['".to_owned()) };
            name = quoted;
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            name = &tail[..end];
            rest = &tail[end..];
        } else {
            let token = rest.split(['.', '[', ']']).next().unwrap_or_default();
            return Err(format!("expected [ or . but got: {token}"));
        }
        if name.is_empty() {
            return Err("unexpected end of JSON path".to_owned());
        }
        if here.type_ == Some(Type::Array) {
            return Err("does not support array elements".to_owned());
        }
        if let Some(member) = here.properties.get(name) {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
            here = member;
        } else if let Some(shared) = &here.additional_properties {
            out.push_str(&format!("[{name}]"));
            here = shared;
        } else {
            return Err("does not refer to a valid field".to_owned());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_follow_the_schema() {
        let schema = crate::parse::structural(&json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b-c": {"type": "string"}}},
            "m": {"type": "object", "additionalProperties": {"type": "string"}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}}}}))
        .unwrap();
        let check =
            |text: &str, expect: Option<&str>| assert_eq!(resolve(text, &schema).ok().as_deref(), expect, "{text}");
        check(".a", Some("a"));
        check(".a['b-c']", Some("a.b-c"));
        check(".m['x.y']", Some("m[x.y]"));
        check(".l.x", None);
        check("a", None);
        check(".nope", None);
        check("", None);
        check(".a..b", None);
    }
}
