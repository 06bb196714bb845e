//! Results as they were recorded: what differs from run to run has a name instead, and only that.
//!
//! Identity is kept: the same uid is the same `<uid:N>`, the same version of an object the same `<rv:N>`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex::Regex;
use serde_json::{Map, Value, json};

use super::text;

/// Kinds that controllers write at times of their own.
const BUSY: [&str; 7] =
    ["Pod", "Job", "Namespace", "CustomResourceDefinition", "Event", "Node", "PartialObjectMetadata"];
const AGE_COLUMNS: [&str; 4] = ["age", "duration", "last seen", "first seen"];
/// Config maps that controllers put into every namespace.
const ROOT_CA: &str = "-ca.crt";

pub(super) struct Normal {
    /// `(what it is in this run, what the recording calls it)`.
    names_of_run: Vec<(String, String)>,
    uids: HashMap<String, usize>,
    versions: HashMap<String, Vec<String>>,
    generated: BTreeMap<String, String>,
    generated_in_text: Vec<Regex>,
    nodes: BTreeSet<String>,
    loose_versions: bool,
    managed_fields: bool,
    /// Tables of a watch have their columns in the first event only.
    columns: Vec<Value>,
}

impl Normal {
    pub(super) fn new(scenario: &Value, names_of_run: Vec<(String, String)>) -> Self {
        let prefixes = scenario["gen"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let pattern = |prefix: &str| format!(r"\b({})[bcdfghjklmnpqrstvwxz2456789]{{5}}\b", regex::escape(prefix));
        Self {
            names_of_run,
            uids: HashMap::new(),
            versions: HashMap::new(),
            generated: BTreeMap::new(),
            generated_in_text: prefixes.map(|p| Regex::new(&pattern(p)).expect("a regex")).collect(),
            nodes: BTreeSet::new(),
            loose_versions: scenario["rv"] == "loose",
            managed_fields: scenario["managedFields"] != false,
            columns: Vec::new(),
        }
    }

    /// Looks for generated names and for nodes; everything is learnt before anything is rewritten.
    pub(super) fn learn(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
                let (base, name) = (text("generateName"), text("name"));
                if !base.is_empty() && name.starts_with(base) && name.len() == base.len() + 5 {
                    self.generated.insert(name.to_owned(), format!("{base}<gen>"));
                }
                if !text("nodeName").is_empty() {
                    self.nodes.insert(text("nodeName").to_owned());
                }
                map.values().for_each(|member| self.learn(member));
            }
            Value::Array(list) => list.iter().for_each(|item| self.learn(item)),
            _ => {}
        }
    }

    fn known_names(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (literal, name) in self.names_of_run.iter().filter(|(literal, _)| !literal.is_empty()) {
            out = out.replace(literal.as_str(), name);
        }
        let mut generated: Vec<_> = self.generated.iter().collect();
        generated.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (name, shown) in generated {
            out = out.replace(name.as_str(), shown);
        }
        out
    }

    pub(super) fn text(&mut self, text: &str) -> String {
        let mut out = self.known_names(text);
        for pattern in &self.generated_in_text {
            out = pattern.replace_all(&out, "${1}<gen>").into_owned();
        }
        let uids = &mut self.uids;
        let out = text::UUID.replace_all(&out, |found: &regex::Captures<'_>| {
            let next = uids.len() + 1;
            format!("<uid:{}>", uids.entry(found[0].to_owned()).or_insert(next))
        });
        text::numbers(&text::times(&out))
    }

    pub(super) fn kubectl_text(&mut self, text: &str, all_aged: bool) -> String {
        let text = self.text(text);
        text::kubectl(&text, self.nodes.iter(), all_aged)
    }

    pub(super) fn value(&mut self, value: &Value) -> Value {
        self.of_kind(value, "")
    }

    fn of_kind(&mut self, value: &Value, kind: &str) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(list) => list.iter().map(|item| self.of_kind(item, kind)).collect(),
            Value::Object(map) => self.object(map, kind),
            other => other.clone(),
        }
    }

    fn object(&mut self, map: &Map<String, Value>, kind: &str) -> Value {
        let own = map.get("kind").and_then(Value::as_str);
        let kind = match own {
            Some(list) if map.contains_key("items") => list.strip_suffix("List").unwrap_or(list),
            Some(own) => own,
            None => kind,
        };
        if kind == "Table"
            && map.contains_key("rows")
            && let Some(columns) = map.get("columnDefinitions").and_then(Value::as_array)
        {
            self.columns.clone_from(columns);
        }
        let mut out = Map::new();
        for (name, value) in map {
            if let Some(member) = self.member(map, name, value, kind) {
                let name = if text::UUID.is_match(name) { self.text(name) } else { name.clone() };
                out.insert(name, member);
            }
        }
        let mut out = Value::Object(out);
        settle_order(&mut out);
        out
    }

    fn member(&mut self, of: &Map<String, Value>, name: &str, value: &Value, kind: &str) -> Option<Value> {
        let table = of.get("kind").and_then(Value::as_str) == Some("Table");
        let text = value.as_str().unwrap_or_default();
        Some(match name {
            "rows" if table && value.is_array() => self.rows(value),
            "items" if value.is_array() => {
                let items = value.as_array().into_iter().flatten();
                let kept =
                    items.filter(|item| !item["metadata"]["name"].as_str().unwrap_or_default().ends_with(ROOT_CA));
                kept.map(|item| self.of_kind(item, kind)).collect()
            }
            "resourceVersion" if value.is_string() => self.version(of, text, kind),
            "continue" if !text.is_empty() => "<continue>".into(),
            "containerID" if is_set(value) => "<cid>".into(),
            "imageID" if is_set(value) => "<imageid>".into(),
            "hostIP" | "podIP" | "ip" if !text.is_empty() => "<ip>".into(),
            "nodeName" | "host" | "reportingInstance" if self.nodes.contains(text) => "<node>".into(),
            "managedFields" => {
                if !self.managed_fields || !value.is_array() {
                    return None;
                }
                let mut entries: Vec<Value> =
                    value.as_array().into_iter().flatten().map(|entry| self.of_kind(entry, "")).collect();
                entries.sort_by_key(|entry| {
                    let of = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
                    (of("manager"), of("operation"), of("subresource"), of("apiVersion"), dumps(entry))
                });
                Value::Array(entries)
            }
            "name" if kind == "Event" && value.is_string() => {
                let hex = |end: &str| end.len() == 16 && end.bytes().all(|b| b.is_ascii_hexdigit());
                match text.rsplit_once('.') {
                    Some((start, end)) if hex(end) => self.text(&format!("{start}.<hex>")).into(),
                    _ => self.text(text).into(),
                }
            }
            _ => self.of_kind(value, kind),
        })
    }

    fn version(&mut self, of: &Map<String, Value>, text: &str, kind: &str) -> Value {
        let number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !number || text == "0" {
            return text.into();
        }
        let uid = of.get("uid").and_then(Value::as_str).unwrap_or_default();
        if uid.is_empty() || self.loose_versions || BUSY.contains(&kind) {
            return "<rv>".into();
        }
        let seen = self.versions.entry(uid.to_owned()).or_default();
        let index = seen.iter().position(|version| version == text).unwrap_or_else(|| {
            seen.push(text.to_owned());
            seen.len() - 1
        });
        format!("<rv:{}>", index + 1).into()
    }

    fn rows(&mut self, rows: &Value) -> Value {
        let mut out = Vec::new();
        for row in rows.as_array().into_iter().flatten() {
            let Some(cells) = row["cells"].as_array() else {
                out.push(self.value(row));
                continue;
            };
            let columns = self.columns.clone();
            let mut shown = Map::new();
            for (name, member) in row.as_object().into_iter().flatten().filter(|(name, _)| *name != "cells") {
                shown.insert(name.clone(), self.value(member));
            }
            let cells: Vec<Value> = cells
                .iter()
                .enumerate()
                .map(|(i, cell)| self.cell(cell, columns.get(i).unwrap_or(&Value::Null)))
                .collect();
            shown.insert("cells".to_owned(), Value::Array(cells));
            if !row["cells"][0].as_str().unwrap_or_default().ends_with(ROOT_CA) {
                out.push(Value::Object(shown));
            }
        }
        Value::Array(out)
    }

    fn cell(&mut self, cell: &Value, column: &Value) -> Value {
        let name = column["name"].as_str().unwrap_or_default().to_lowercase();
        let Some(text) = cell.as_str() else { return self.value(cell) };
        if (AGE_COLUMNS.contains(&&*name) || column["type"] == "date") && text::DURATION.is_match(text) {
            return "<age>".into();
        }
        match &*name {
            "ip" if text::IPV4.find(text).is_some_and(|found| found.start() == 0) => return "<ip>".into(),
            "node" if !matches!(text, "" | "<none>") => return "<node>".into(),
            _ => {}
        }
        let text = text::AGO.replace_all(text, "(<age> ago)");
        let text = text::SEEN.replace(&text, "<age> (x${1})");
        self.text(&text).into()
    }

    /// A key to sort items by before anything in them is named.
    pub(super) fn raw_key(&self, item: &Value) -> String {
        let text = self.known_names(&dumps(item));
        let text = text::UUID.replace_all(&text, "");
        let text = text::RFC3339.replace_all(&text, "");
        text::VERSION_OF_ITEM.replace_all(&text, "").into_owned()
    }
}

fn is_set(value: &Value) -> bool {
    !value.is_null() && value != ""
}

/// What has no order in Kubernetes gets one.
fn settle_order(object: &mut Value) {
    let by = |list: &mut Value, name: &str| {
        if let Value::Array(items) = list {
            items.sort_by_key(|item| item[name].as_str().unwrap_or_default().to_owned());
        }
    };
    match object["kind"].as_str().unwrap_or_default() {
        "APIResourceList" if object["resources"].is_array() => by(&mut object["resources"], "name"),
        "APIGroupDiscoveryList" => {
            for group in object["items"].as_array_mut().into_iter().flatten() {
                for version in group["versions"].as_array_mut().into_iter().flatten() {
                    if version["resources"].is_array() {
                        by(&mut version["resources"], "resource");
                    }
                }
            }
        }
        "Status" if object["details"]["causes"].is_array() => settle_causes(object),
        _ => {}
    }
}

fn settle_causes(status: &mut Value) {
    let text = |cause: &Value, name: &str| cause[name].as_str().unwrap_or_default().to_owned();
    let Value::Array(causes) = &mut status["details"]["causes"] else { return };
    causes.sort_by_key(|c| ["field", "reason", "message"].map(|n| c[n].as_str().unwrap_or("None").to_owned()));
    let mut listed: Vec<String> = Vec::new();
    for cause in causes.iter() {
        let item = format!("{}: {}", text(cause, "field"), text(cause, "message"));
        if !listed.contains(&item) {
            listed.push(item);
        }
    }
    let Some(message) = status["message"].as_str().map(str::to_owned) else { return };
    let opening = "is invalid: [";
    if let (Some(at), true) = (message.find(opening), message.ends_with(']')) {
        let inner = &message[at + opening.len()..message.len() - 1];
        let sorted = listed.join(", ");
        if inner.len() == sorted.len() && listed.iter().all(|item| inner.contains(item.as_str())) {
            status["message"] = format!("{}{opening}{sorted}]", &message[..at]).into();
        }
    }
    if let Some(found) = text::CONFLICTS.captures(&message) {
        status["message"] = format!("{}{}", &found[1], settle_conflicts(&found[2])).into();
    }
}

fn settle_conflicts(text: &str) -> String {
    let mut cuts: Vec<usize> = text::CONFLICT.find_iter(text).map(|found| found.start()).collect();
    cuts.push(text.len());
    let first = cuts.first().copied().unwrap_or_default();
    let mut groups: Vec<String> = Vec::new();
    let pieces = std::iter::once(&text[..first]).chain(cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]));
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let mut lines: Vec<&str> = piece.trim_matches('\n').split('\n').collect();
        lines[1..].sort_unstable();
        groups.push(lines.join("\n"));
    }
    groups.sort();
    groups.join("\n")
}

/// JSON as the recorder sorts it: blanks after separators, nothing but ASCII.
pub(super) fn dumps(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{}: {}", dumps(&json!(k)), dumps(v))).collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(dumps).collect::<Vec<_>>().join(", ")),
        Value::String(_) => value.to_string().chars().fold(String::new(), |mut out, c| {
            if c.is_ascii() {
                out.push(c);
            } else {
                let mut units = [0; 2];
                out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
            }
            out
        }),
        other => other.to_string(),
    }
}

#[test]
fn identity_is_kept() {
    let mut normal = Normal::new(&json!({}), vec![("ns-1".to_owned(), "${ns}".to_owned())]);
    let uid = |n: u8| format!("00000000-0000-0000-0000-00000000000{n}");
    let object =
        |n: u8, version: &str| json!({"metadata": {"uid": uid(n), "resourceVersion": version, "namespace": "ns-1"}});
    let shown = |normal: &mut Normal, value: &Value| normal.value(value)["metadata"].to_string();
    assert_eq!(
        shown(&mut normal, &object(1, "5")),
        r#"{"namespace":"${ns}","resourceVersion":"<rv:1>","uid":"<uid:1>"}"#
    );
    assert_eq!(
        shown(&mut normal, &object(2, "6")),
        r#"{"namespace":"${ns}","resourceVersion":"<rv:1>","uid":"<uid:2>"}"#
    );
    assert_eq!(
        shown(&mut normal, &object(1, "7")),
        r#"{"namespace":"${ns}","resourceVersion":"<rv:2>","uid":"<uid:1>"}"#
    );
}
