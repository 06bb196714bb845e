//! Paths into JSON as scenarios write them: `a.b[0].c`, `[*]`, `[?key=value]`, `['key.with/dots']`.

use serde_json::Value;

enum Part {
    Key(String),
    Index(usize),
    All,
    Where(String, String),
}

pub(super) struct Path(Vec<Part>);

impl Path {
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix("['") {
                let (key, after) = quoted.split_once("']").expect("a quoted key ends");
                parts.push(Part::Key(key.to_owned()));
                rest = after;
            } else if let Some(inner) = rest.strip_prefix('[') {
                let (inner, after) = inner.split_once(']').expect("a bracket ends");
                parts.push(match (inner, inner.strip_prefix('?')) {
                    ("*", _) => Part::All,
                    (_, Some(filter)) => {
                        let (key, value) = filter.split_once('=').expect("a filter compares");
                        Part::Where(key.to_owned(), value.to_owned())
                    }
                    (index, None) => Part::Index(index.parse().expect("an index")),
                });
                rest = after;
            } else {
                let start = rest.strip_prefix('.').unwrap_or(rest);
                let end = start.find(['.', '[']).unwrap_or(start.len());
                parts.push(Part::Key(start[..end].to_owned()));
                rest = &start[end..];
            }
        }
        Self(parts)
    }

    /// Everything the path leads to.
    pub(super) fn select<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![root], |at, part| {
            at.into_iter()
                .flat_map(|value| -> Vec<&Value> {
                    match (part, value) {
                        (Part::Key(key), Value::Object(map)) => map.get(key).into_iter().collect(),
                        (Part::All, Value::Object(map)) => map.values().collect(),
                        (Part::All, Value::Array(list)) => list.iter().collect(),
                        (Part::Index(index), Value::Array(list)) => list.get(*index).into_iter().collect(),
                        (Part::Where(key, wanted), Value::Array(list)) => {
                            list.iter().filter(|item| is(item, key, wanted)).collect()
                        }
                        _ => Vec::new(),
                    }
                })
                .collect()
        })
    }

    /// Removes everything the path leads to.
    pub(super) fn remove(&self, root: &mut Value) {
        remove(root, &self.0);
    }
}

fn is(item: &Value, key: &str, wanted: &str) -> bool {
    match &item[key] {
        Value::String(text) => text == wanted,
        other => {
            let text = other.to_string();
            text == wanted
        }
    }
}

fn remove(at: &mut Value, parts: &[Part]) {
    let Some((part, rest)) = parts.split_first() else { return };
    if rest.is_empty() {
        match (part, at) {
            (Part::Key(key), Value::Object(map)) => drop(map.remove(key)),
            (Part::All, Value::Array(list)) => list.clear(),
            (Part::Index(index), Value::Array(list)) if *index < list.len() => drop(list.remove(*index)),
            (Part::Where(key, wanted), Value::Array(list)) => list.retain(|item| !is(item, key, wanted)),
            _ => {}
        }
        return;
    }
    match (part, at) {
        (Part::Key(key), Value::Object(map)) => {
            if let Some(value) = map.get_mut(key) {
                remove(value, rest);
            }
        }
        (Part::All, Value::Object(map)) => map.values_mut().for_each(|value| remove(value, rest)),
        (Part::All, Value::Array(list)) => list.iter_mut().for_each(|value| remove(value, rest)),
        (Part::Index(index), Value::Array(list)) => {
            if let Some(value) = list.get_mut(*index) {
                remove(value, rest);
            }
        }
        (Part::Where(key, wanted), Value::Array(list)) => {
            list.iter_mut().filter(|item| is(item, key, wanted)).for_each(|value| remove(value, rest));
        }
        _ => {}
    }
}

#[test]
fn paths_select_and_remove() {
    let value = serde_json::json!({"a": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "b": {"c.d/e": true}});
    let select = |path: &str| serde_json::json!(Path::parse(path).select(&value)).to_string();
    assert_eq!(select("a[*].v"), "[1,2]");
    assert_eq!(select("a[?n=y].v"), "[2]");
    assert_eq!(select("a[1].n"), "[\"y\"]");
    assert_eq!(select("b['c.d/e']"), "[true]");
    assert_eq!(select("b.none"), "[]");
    let mut less = value.clone();
    Path::parse("a[*].n").remove(&mut less);
    Path::parse("b").remove(&mut less);
    assert_eq!(less.to_string(), r#"{"a":[{"v":1},{"v":2}]}"#);
}
