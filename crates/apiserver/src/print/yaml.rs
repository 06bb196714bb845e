//! YAML as Kubernetes writes it: sorted keys, two blanks, lists not indented, and strings quoted only where another
//! reading of the text is possible.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The document, ended by a newline.
pub(crate) fn to_string(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, map, 0, false),
        Value::Array(items) if !items.is_empty() => write_list(&mut out, items, 0),
        scalar => {
            write_scalar(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// `inline`: the first key continues a line that `- ` has begun.
fn write_map(out: &mut String, map: &Map<String, Value>, depth: usize, inline: bool) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 || !inline {
            indent(out, depth);
        }
        write_string(out, key, depth, true);
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                write_map(out, map, depth + 1, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                write_list(out, items, depth);
            }
            scalar => {
                out.push(' ');
                write_scalar(out, scalar, depth);
                out.push('\n');
            }
        }
    }
}

fn write_list(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(out, map, depth + 1, true),
            Value::Array(items) if !items.is_empty() => {
                // A list in a list: its first item stands on the same line.
                let mut nested = String::new();
                write_list(&mut nested, items, depth + 1);
                out.push_str(nested.trim_start_matches(' '));
            }
            scalar => {
                write_scalar(out, scalar, depth);
                out.push('\n');
            }
        }
    }
}

fn write_scalar(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            // Writing to a string cannot fail.
            let _ = write!(out, "{number}");
        }
        Value::String(text) => write_string(out, text, depth, false),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

fn write_string(out: &mut String, text: &str, depth: usize, key: bool) {
    if means_something_else(text) || text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()) {
        write_quoted(out, text);
    } else if text.contains('\n') {
        if key || text.contains(" \n") || text.contains('\t') || text.trim_matches('\n').is_empty() {
            write_quoted(out, text);
        } else {
            write_literal(out, text, depth);
        }
    } else if text.contains('\t') {
        write_quoted(out, text);
    } else if plain_allowed(text) {
        out.push_str(text);
    } else {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    }
}

fn write_literal(out: &mut String, text: &str, depth: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text.ends_with("\n\n") {
        out.push('+');
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(out, depth + 1);
            out.push_str(line);
        }
    }
}

fn write_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0' => out.push_str("\\0"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Whether plain text would be read as null, a boolean, a number or a time.
fn means_something_else(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    if matches!(
        lower.as_str(),
        "~" | "null"
            | "true"
            | "false"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "y"
            | "n"
            | ".nan"
            | ".inf"
            | "+.inf"
            | "-.inf"
            | "<<"
    ) {
        return true;
    }
    let bytes = text.as_bytes();
    if !(bytes[0].is_ascii_digit() || matches!(bytes[0], b'+' | b'-' | b'.')) {
        return false;
    }
    looks_like_number(&lower) || looks_like_time(bytes) || looks_like_base60(text)
}

fn looks_like_number(lower: &str) -> bool {
    let digits = lower.replace('_', "");
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(&digits);
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = unsigned.strip_prefix(prefix) {
            return !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix));
        }
    }
    let has_digit = unsigned.chars().any(|c| c.is_ascii_digit());
    has_digit
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | '+' | '-'))
        && unsigned.parse::<f64>().is_ok()
}

fn looks_like_time(bytes: &[u8]) -> bool {
    let digits = |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|b| b.iter().all(u8::is_ascii_digit));
    digits(0..4) && bytes.get(4) == Some(&b'-') && bytes.get(5).is_some_and(u8::is_ascii_digit) && {
        bytes
            .iter()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.' | b'T' | b't' | b'Z' | b'z' | b' ' | b'+'))
            && bytes.iter().filter(|b| **b == b'-').count() >= 2
    }
}

/// `1:30` and the like, which old YAML reads as a number of base 60.
fn looks_like_base60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    parts.next().is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit() || b == b'_'))
        && unsigned.contains(':')
        && parts.all(|p| !p.is_empty() && p.len() <= 2 && p.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

fn plain_allowed(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if *first == b' ' || *last == b' ' || *last == b':' || text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    if b"#,[]{}&*!|>'\"%@`".contains(first) {
        return false;
    }
    if matches!(first, b'-' | b'?' | b':') && bytes.get(1).is_none_or(|b| *b == b' ') {
        return false;
    }
    !text.contains(": ") && !text.contains(" #")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(value: Value, want: &str) {
        let text = to_string(&value);
        assert_eq!(text, want);
        let read = kubetask_yaml::read_one(&text, kubetask_yaml::Limits::default()).map(|d| d.value);
        assert_eq!(read, Ok(value));
    }

    #[test]
    fn as_kubernetes_writes_it() {
        check(
            json!({"data": {"k": "line1\nline2\n", "l": "a\nb", "n": "1", "t": "true"}, "metadata": {"labels": {"a": "1"}, "x": {}}}),
            "data:\n  k: |\n    line1\n    line2\n  l: |-\n    a\n    b\n  \"n\": \"1\"\n  t: \"true\"\nmetadata:\n  labels:\n    a: \"1\"\n  x: {}\n",
        );
        check(
            json!({"f:k": {".": {}}, "list": [{"a": 1, "b": [1, 2]}, "x: y", "", [1, [2]]], "time": "2026-11-21T05:51:15Z"}),
            "f:k:\n  .: {}\nlist:\n- a: 1\n  b:\n  - 1\n  - 2\n- 'x: y'\n- \"\"\n- - 1\n  - - 2\ntime: \"2026-11-21T05:51:15Z\"\n",
        );
        check(json!({"message": "configmaps \"none\" not found"}), "message: configmaps \"none\" not found\n");
    }

    proptest::proptest! {
        #[test]
        fn strings_survive(text in "[ -~\n\t]{0,12}") {
            let value = json!({"k": text});
            let written = to_string(&value);
            let read = kubetask_yaml::read_one(&written, kubetask_yaml::Limits::default()).map(|d| d.value);
            proptest::prop_assert_eq!(read, Ok(value), "{}", written);
        }
    }
}
