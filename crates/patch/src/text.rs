//! Values as text: canonical JSON for path elements, and Go's `%v`, `%#v` and `%q` for error messages which clients
//! compare with Kubernetes'.

use std::fmt::Write;

use serde_json::{Number, Value};

/// Appends `value` as JSON in which equal values have equal text: whole numbers are written without a fraction.
pub(crate) fn write_json(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => write_string(out, text),
        Value::Number(number) => write_number(out, number),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => write_keys(out, members.iter().map(|(name, value)| (name.as_str(), value))),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Null => out.push_str("null"),
    }
}

/// Appends a JSON object of members which come sorted.
pub(crate) fn write_keys<'a>(out: &mut String, members: impl Iterator<Item = (&'a str, &'a Value)>) {
    out.push('{');
    for (i, (name, value)) in members.enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        write_json(out, value);
    }
    out.push('}');
}

fn write_string(out: &mut String, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // Display of a JSON string is its JSON text.
        let _ = write!(out, "{}", Value::from(text));
    }
}

fn write_number(out: &mut String, number: &Number) {
    match whole(number) {
        Some(whole) => {
            let _ = write!(out, "{whole}");
        }
        None => {
            let _ = write!(out, "{number}");
        }
    }
}

/// The number as an integer, where it is a whole one that a float holds exactly.
fn whole(number: &Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Some(whole),
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the exact range")]
        (None, Some(float)) if float.fract() == 0.0 && float.abs() < EXACT => Some(float as i64),
        _ => None,
    }
}

/// As structured-merge-diff prints a value inside a path: strings quoted, the rest bare.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => go_quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            format!("{{{}}}", members.iter().map(|(k, v)| format!("{k}={}", plain(v))).collect::<Vec<_>>().join(";"))
        }
        other => go(other),
    }
}

/// Go's `%v`.
pub(crate) fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(number) => go_number(number),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            format!("map[{}]", members.iter().map(|(k, v)| format!("{k}:{}", go(v))).collect::<Vec<_>>().join(" "))
        }
    }
}

/// Go's `%#v`.
pub(crate) fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => go_quoted(text),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(k, v)| format!("{}:{}", go_quoted(k), go_syntax(v))).collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        other => go(other),
    }
}

/// Go's `%T` of a decoded JSON value.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `%q`.
pub(crate) fn go_quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Go's `%v` of a number: the shortest form, with an exponent from 1e21 on and below 1e-4.
fn go_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    if float != 0.0 && !(1e-4..1e21).contains(&float.abs()) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, power) = exponent.strip_prefix('-').map_or(('+', exponent), |power| ('-', power));
        return format!("{digits}e{sign}{power:0>2}");
    }
    format!("{float}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_json() {
        let check = |value: Value, expect: &str| {
            let mut out = String::new();
            write_json(&mut out, &value);
            assert_eq!(out, expect);
        };
        check(json!("a"), r#""a""#);
        check(json!("a\"\n"), r#""a\"\n""#);
        check(json!(80), "80");
        check(json!(80.0), "80");
        check(json!(0.5), "0.5");
        check(json!({"b": [1, null], "a": true}), r#"{"a":true,"b":[1,null]}"#);
    }

    #[test]
    fn go_formats() {
        let check = |value: Value, v: &str, syntax: &str, type_: &str| {
            assert_eq!((go(&value).as_str(), go_syntax(&value).as_str(), go_type(&value)), (v, syntax, type_));
        };
        check(json!(5), "5", "5", "int64");
        check(json!(1.5), "1.5", "1.5", "float64");
        check(json!(1e21), "1e+21", "1e+21", "float64");
        check(json!("x"), "x", "\"x\"", "string");
        check(
            json!({"b": [1, "x"]}),
            "map[b:[1 x]]",
            r#"map[string]interface {}{"b":[]interface {}{1, "x"}}"#,
            "map[string]interface {}",
        );
        check(json!(null), "<nil>", "interface {}(nil)", "<nil>");
    }
}
