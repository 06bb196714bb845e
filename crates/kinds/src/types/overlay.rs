//! The overlay table: facts that the published Rust types lack. The format is described in `overlay.txt` itself.

use std::collections::HashMap;
use std::sync::OnceLock;

use kubetask_schema::model::{ListType, MapType, PatchStrategy, Schema};
use serde_json::Value;

const TEXT: &str = include_str!("overlay.txt");

/// What one line says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    list: Option<(ListType, Vec<&'static str>)>,
    map: Option<MapType>,
    patch: PatchStrategy,
    key: Option<&'static str>,
    default: Option<Value>,
    pub(crate) keep: bool,
    pub(crate) emit: bool,
    pub(crate) null: bool,
}

impl Facts {
    fn parse(words: std::str::SplitAsciiWhitespace<'static>) -> Self {
        let mut facts = Self::default();
        for word in words {
            let (head, rest) = word.split_once(':').unwrap_or((word, ""));
            match (head, rest) {
                ("list", "atomic") => facts.list = Some((ListType::Atomic, Vec::new())),
                ("list", "set") => facts.list = Some((ListType::Set, Vec::new())),
                ("list", keys) => {
                    let keys = keys.strip_prefix("map:").unwrap_or_default();
                    facts.list = Some((ListType::Map, keys.split(',').collect()));
                }
                ("map", "granular") => facts.map = Some(MapType::Granular),
                ("map" | "atomic-map", _) => facts.map = Some(MapType::Atomic),
                ("patch", strategies) => {
                    facts.patch.merge = strategies.contains("merge");
                    facts.patch.retain_keys = strategies.contains("retainKeys");
                }
                ("key", key) => facts.key = Some(key),
                ("default", json) => facts.default = serde_json::from_str(json).ok(),
                ("keep", _) => facts.keep = true,
                ("emit", _) => facts.emit = true,
                ("null", _) => facts.null = true,
                _ => {}
            }
        }
        facts
    }

    pub(crate) fn says_nothing_about_schemas(&self) -> bool {
        self.list.is_none() && self.map.is_none() && self.default.is_none() && !self.patch.merge && self.key.is_none()
    }

    /// Writes the facts into a schema node.
    pub(crate) fn apply(&self, schema: &mut Schema) {
        if let Some((list, keys)) = &self.list {
            schema.list_type = Some(*list);
            schema.list_map_keys = keys.iter().map(|k| (*k).to_owned()).collect();
        }
        if self.map.is_some() {
            schema.map_type = self.map;
        }
        if self.patch.merge {
            schema.patch_strategy = self.patch;
        }
        if let Some(key) = self.key {
            schema.patch_merge_key = Some(key.to_owned());
        }
        if self.default.is_some() {
            schema.default.clone_from(&self.default);
        }
    }

    /// The facts as OpenAPI extensions.
    pub(crate) fn extensions(&self) -> Vec<(&'static str, Value)> {
        let mut out = Vec::new();
        if let Some((list, keys)) = &self.list {
            let name = match list {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            out.push(("x-kubernetes-list-type", Value::from(name)));
            if !keys.is_empty() {
                out.push(("x-kubernetes-list-map-keys", Value::from(keys.clone())));
            }
        }
        if let Some(map) = self.map {
            let name = if map == MapType::Atomic { "atomic" } else { "granular" };
            out.push(("x-kubernetes-map-type", Value::from(name)));
        }
        if self.patch.merge {
            let text = if self.patch.retain_keys { "merge,retainKeys" } else { "merge" };
            out.push(("x-kubernetes-patch-strategy", Value::from(text)));
        }
        if let Some(key) = self.key {
            out.push(("x-kubernetes-patch-merge-key", Value::from(key)));
        }
        if let Some(default) = &self.default {
            out.push(("default", default.clone()));
        }
        out
    }
}

type Table = HashMap<&'static str, Facts>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        TEXT.lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                words.next().map(|name| (name, Facts::parse(words)))
            })
            .collect()
    })
}

/// Facts about a type.
pub(crate) fn type_(name: &str) -> Facts {
    lookup(name.strip_prefix("io.k8s.").unwrap_or(name))
}

/// Facts about a field of a type; the empty type name has none.
pub(crate) fn field(type_name: &str, field: &str) -> Facts {
    let Some(short) = type_name.strip_prefix("io.k8s.") else { return Facts::default() };
    lookup(&format!("{short}.{field}"))
}

fn lookup(name: &str) -> Facts {
    table().get(name).cloned().unwrap_or_default()
}

/// Every line of the table.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static Facts)> {
    table().iter().map(|(k, v)| (*k, v))
}
