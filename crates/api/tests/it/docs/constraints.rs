//! What a schema demands of a value, in words.

use serde_json::Value;

/// The type of a field, in words: `string`, `list of integer`, `map to string`.
pub(super) fn type_of(schema: &Value) -> String {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return "integer or string".to_owned();
    }
    match (schema["type"].as_str().unwrap_or("any"), schema["format"].as_str()) {
        ("array", _) => format!("list of {}", type_of(&schema["items"])),
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("map to {}", type_of(&schema["additionalProperties"]))
        }
        ("string", Some("date-time")) => "time".to_owned(),
        (name, _) => name.to_owned(),
    }
}

/// What it demands, each in a few words.
pub(super) fn of(schema: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_str().unwrap_or_default())).collect();
        out.push(format!("one of {}", words.join(", ")));
    }
    range(schema, "minimum", "maximum", "", &mut out);
    range(schema, "minLength", "maxLength", " characters", &mut out);
    range(schema, "minItems", "maxItems", " items", &mut out);
    range(schema, "minProperties", "maxProperties", " entries", &mut out);
    if let Some(pattern) = schema["pattern"].as_str() {
        out.push(format!("matches `{pattern}`"));
    }
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => out.push("no duplicates".to_owned()),
        Some("map") => {
            let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            out.push(format!("one for each {}", keys.join(" and ")));
        }
        _ => {}
    }
    out
}

fn range(schema: &Value, least: &str, most: &str, unit: &str, out: &mut Vec<String>) {
    let number = |key: &str| schema[key].as_f64().map(|n| format!("{n}"));
    match (number(least), number(most)) {
        (Some(least), Some(most)) => out.push(format!("{least} to {most}{unit}")),
        (Some(least), None) => out.push(format!("at least {least}{unit}")),
        (None, Some(most)) => out.push(format!("at most {most}{unit}")),
        (None, None) => {}
    }
}

#[test]
fn demands_in_words() {
    let check = |schema: Value, type_: &str, expect: &[&str]| {
        assert_eq!((type_of(&schema).as_str(), of(&schema)), (type_, expect.iter().map(ToString::to_string).collect()));
    };
    use serde_json::json;
    check(json!({"type": "string", "enum": ["A", "B"]}), "string", &["one of `A`, `B`"]);
    check(json!({"type": "integer", "minimum": 1.0, "format": "int32"}), "integer", &["at least 1"]);
    check(json!({"type": "string", "minLength": 1, "maxLength": 253}), "string", &["1 to 253 characters"]);
    check(json!({"type": "array", "maxItems": 8, "items": {"type": "string"}}), "list of string", &["at most 8 items"]);
    check(json!({"type": "object", "additionalProperties": {"type": "string"}}), "map to string", &[]);
}
