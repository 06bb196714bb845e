//! What a step's result is compared by, and the comparison.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::normal::{Normal, dumps};
use super::paths::Path;
use super::text;

/// A raw result in the form of the recordings.
pub(super) fn shape(step: &Value, raw: &Value, normal: &mut Normal) -> Value {
    if step["compare"] == false {
        return json!({"skipped": true});
    }
    match step["kind"].as_str().unwrap_or_default() {
        "kubectl" => kubectl(step, raw, normal),
        "watch" if raw["events"].is_array() => {
            let mut out = head(raw, normal);
            out.insert("events".into(), events(step, raw, normal));
            out.insert("closed_by".into(), raw["closed_by"].clone());
            Value::Object(out)
        }
        kind => {
            let mut out = head(raw, normal);
            if kind == "wait" {
                out.remove("headers");
            }
            body(step, raw, normal, &mut out);
            Value::Object(out)
        }
    }
}

fn head(raw: &Value, normal: &mut Normal) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("status".into(), raw["status"].clone());
    if raw["timed_out"] == true {
        out.insert("timed_out".into(), true.into());
    }
    let mut headers = Map::new();
    for (name, value) in raw["headers"].as_object().into_iter().flatten() {
        let shown = match value {
            Value::String(text) => normal.text(text).into(),
            Value::Array(list) => list.iter().map(|item| normal.text(item.as_str().unwrap_or_default())).collect(),
            other => other.clone(),
        };
        headers.insert(name.clone(), shown);
    }
    out.insert("headers".into(), Value::Object(headers));
    out
}

fn strings<'a>(step: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    step[name].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn only(step: &Value, value: &Value) -> Value {
    let picked = strings(step, "paths").map(|path| (path.to_owned(), json!(Path::parse(path).select(value))));
    Value::Object(picked.collect())
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a regex of a scenario")
}

fn kubectl(step: &Value, raw: &Value, normal: &mut Normal) -> Value {
    let mut out = json!({"exit": raw["exit"]});
    if step["ignore_output"] == true {
        return out;
    }
    let mut stdout = raw["stdout"].as_str().unwrap_or_default().to_owned();
    if step["drop_events"] == true
        && let Some(at) = stdout.find("\nEvents:")
    {
        stdout.truncate(at);
        stdout.push('\n');
    }
    let parsed: Option<Value> =
        stdout.trim_start().starts_with(['{', '[']).then(|| serde_json::from_str(&stdout).ok()).flatten();
    if let Some(mut value) = parsed {
        strings(step, "ignore").for_each(|path| Path::parse(path).remove(&mut value));
        let value = normal.value(&value);
        out["stdout_json"] = if step["paths"].is_array() { only(step, &value) } else { value };
    } else {
        let bare = step["args"].as_array().is_some_and(|args| args.contains(&json!("--no-headers")));
        let text = normal.kubectl_text(&stdout, bare);
        let mut lines: Vec<&str> = text.split('\n').collect();
        if step["sort_lines"] == true {
            lines.sort_unstable();
        }
        if let Some(pattern) = step["grep"].as_str() {
            let wanted = regex(pattern);
            lines.retain(|line| wanted.is_match(line));
        }
        for pattern in strings(step, "ignore_lines") {
            let ignored = regex(pattern);
            lines.retain(|line| !ignored.is_match(line));
        }
        out["stdout"] = lines.join("\n").into();
    }
    let stderr = text::sort_blocks(&normal.kubectl_text(raw["stderr"].as_str().unwrap_or_default(), false));
    let mut lines: Vec<&str> = stderr.split('\n').collect();
    if step["sort_lines"] == true {
        lines.sort_unstable();
    }
    out["stderr"] = lines.join("\n").into();
    out
}

/// Bookmarks that only tell how far a watch is.
pub(super) fn is_plain_bookmark(event: &Value) -> bool {
    let annotations = event["object"]["metadata"]["annotations"].as_object();
    event["type"] == "BOOKMARK" && annotations.is_none_or(Map::is_empty)
}

fn events(step: &Value, raw: &Value, normal: &mut Normal) -> Value {
    let mut out: Vec<Value> = Vec::new();
    for event in raw["events"].as_array().into_iter().flatten() {
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().or(object["rows"][0]["cells"][0].as_str());
        let noise = name.is_some_and(|name| name.ends_with("-ca.crt"));
        if noise || (step["drop_bookmarks"] == true && is_plain_bookmark(event)) {
            continue;
        }
        let mut event = event.clone();
        for path in strings(step, "ignore") {
            Path::parse(&format!("object.{path}")).remove(&mut event);
        }
        let mut event = normal.value(&event);
        if step["message"] == "loose" {
            event["object"] = loose(&event["object"]);
        }
        if step["paths"].is_array() {
            event = json!({"type": event["type"], "object": only(step, &event["object"])});
        }
        if step["dedupe"] != true || out.last() != Some(&event) {
            out.push(event);
        }
    }
    if step["unordered"] == true {
        out.sort_by_key(dumps);
    }
    Value::Array(out)
}

fn body(step: &Value, raw: &Value, normal: &mut Normal, out: &mut Map<String, Value>) {
    let sorted = step["sort_items"] == true;
    if raw["json"].is_null() {
        if let Some(text) = raw["text"].as_str() {
            let shown = normal.text(text);
            let shown = text::VERSION_IN_YAML.replace_all(&shown, "${1}\"<rv>\"").into_owned();
            let only_there = step["text"] == "shape" && !shown.is_empty();
            out.insert("text".into(), if only_there { "<text>".into() } else { shown.into() });
        }
        return;
    }
    let mut value = raw["json"].clone();
    strings(step, "ignore").for_each(|path| Path::parse(path).remove(&mut value));
    if sorted {
        sort_items(&mut value, |item| normal.raw_key(item));
    }
    let mut value = normal.value(&value);
    if sorted {
        sort_items(&mut value, dumps);
    }
    if step["message"] == "loose" {
        value = loose(&value);
    }
    if step["paths"].is_array() {
        value = only(step, &value);
        for picked in value.as_object_mut().into_iter().flatten().map(|(_, picked)| picked) {
            if let (true, Value::Array(list)) = (sorted, picked) {
                list.sort_by_key(dumps);
            }
        }
    }
    if step["shape"] == true {
        value = types(&value);
    }
    out.insert("body".into(), value);
}

fn sort_items(value: &mut Value, key: impl Fn(&Value) -> String) {
    for name in ["items", "rows"] {
        if let Some(Value::Array(list)) = value.get_mut(name) {
            list.sort_by_cached_key(&key);
        }
    }
}

/// A `Status` without the words of Go's decoders.
fn loose(value: &Value) -> Value {
    if value["kind"] != "Status" {
        return value.clone();
    }
    let causes = value["details"]["causes"].as_array().into_iter().flatten();
    let causes: Vec<Value> = causes
        .map(|cause| {
            let kept =
                ["field", "reason"].into_iter().filter_map(|name| Some((name.to_owned(), cause.get(name)?.clone())));
            Value::Object(kept.collect())
        })
        .collect();
    json!({"kind": "Status", "status": value["status"], "reason": value["reason"], "code": value["code"], "causes": causes})
}

/// The types of everything; of a list, its first item's.
fn types(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.iter().map(|(name, member)| (name.clone(), types(member))).collect()),
        Value::Array(list) => list.first().into_iter().map(types).collect(),
        Value::Null => "NoneType".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(number) => if number.is_f64() { "float" } else { "int" }.into(),
        Value::String(_) => "str".into(),
    }
}

/// Every difference: `PATH: expected X, got Y`.
pub(super) fn differences(expected: &Value, got: &Value, path: &str, out: &mut Vec<String>) {
    let mut tell = |path: &str, expected: Option<&Value>, got: Option<&Value>| {
        let show = |value: Option<&Value>| {
            let text = value.map_or("<absent>".to_owned(), Value::to_string);
            text.chars().take(300).collect::<String>()
        };
        out.push(format!("{path}: expected {}, got {}", show(expected), show(got)));
    };
    match (expected, got) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'));
                let path = if plain { format!("{path}.{name}") } else { format!("{path}['{name}']") };
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => differences(a, b, &path, out),
                    (a, b) => {
                        let show = |v: Option<&Value>| v.map_or("<absent>".to_owned(), Value::to_string);
                        out.push(format!("{path}: expected {}, got {}", show(a), show(b)));
                    }
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for i in 0..a.len().max(b.len()) {
                let path = format!("{path}[{i}]");
                match (a.get(i), b.get(i)) {
                    (Some(a), Some(b)) => differences(a, b, &path, out),
                    (a, b) => out.push(format!("{path}: expected {a:?}, got {b:?}")),
                }
            }
        }
        (Value::String(a), Value::String(b)) if a != b && (a.contains('\n') || b.contains('\n')) => {
            let (a, b): (Vec<&str>, Vec<&str>) = (a.split('\n').collect(), b.split('\n').collect());
            for i in 0..a.len().max(b.len()) {
                let (a, b) = (a.get(i), b.get(i));
                if a != b {
                    let (a, b) = (a.map(|l| json!(l)), b.map(|l| json!(l)));
                    tell(&format!("{path}:line{}", i + 1), a.as_ref(), b.as_ref());
                }
            }
        }
        (a, b) if a != b => tell(path, Some(a), Some(b)),
        _ => {}
    }
}

#[test]
fn differences_have_paths() {
    let mut out = Vec::new();
    differences(&json!({"a": [1, "x\ny"], "b.c": 1}), &json!({"a": [2, "x\nz"]}), "$", &mut out);
    assert_eq!(
        out,
        ["$.a[0]: expected 1, got 2", "$.a[1]:line2: expected \"y\", got \"z\"", "$['b.c']: expected 1, got <absent>"]
    );
}
