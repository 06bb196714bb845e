//! The files of configMap, secret, downwardAPI and projected volumes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume};

use crate::env::downward::{self, NodeFacts};
use crate::objects::Fetched;

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its content.
    pub(crate) data: Vec<u8>,
    /// Its permission bits.
    pub(crate) mode: u32,
}

/// Files by their path within the volume.
pub(crate) type Payload = BTreeMap<String, Entry>;

/// Service account tokens of a projected volume, by the path they are to have.
pub(crate) type Tokens = BTreeMap<String, Vec<u8>>;

/// The files of `volume`; `None` where it is of a kind that is not made of files.
///
/// # Errors
/// The kubelet's words for what is missing.
pub(crate) fn payload(
    pod: &Pod,
    volume: &Volume,
    fetched: &Fetched,
    tokens: &Tokens,
    node: &NodeFacts,
) -> Result<Option<Payload>, String> {
    let mut out = Payload::new();
    if let Some(source) = &volume.config_map {
        let items = Items::new(source.items.as_deref(), source.default_mode, source.optional);
        from_config_map(&mut out, &source.name, &items, fetched)?;
    } else if let Some(source) = &volume.secret {
        let items = Items::new(source.items.as_deref(), source.default_mode, source.optional);
        from_secret(&mut out, source.secret_name.as_deref().unwrap_or_default(), &items, fetched)?;
    } else if let Some(source) = &volume.downward_api {
        from_downward(&mut out, source.items.as_deref(), source.default_mode, pod, node)?;
    } else if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                let items = Items::new(source.items.as_deref(), projected.default_mode, source.optional);
                from_config_map(&mut out, &source.name, &items, fetched)?;
            } else if let Some(source) = &source.secret {
                let items = Items::new(source.items.as_deref(), projected.default_mode, source.optional);
                from_secret(&mut out, &source.name, &items, fetched)?;
            } else if let Some(source) = &source.downward_api {
                from_downward(&mut out, source.items.as_deref(), projected.default_mode, pod, node)?;
            } else if let Some(source) = &source.service_account_token {
                let token = tokens.get(&source.path).ok_or_else(|| "failed to fetch token".to_owned())?;
                add(&mut out, &source.path, token.clone(), None, projected.default_mode)?;
            } else {
                return Err("this kind of projected source is not supported by this node".to_owned());
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(out))
}

/// Whether what `volume` holds is better not written to a disk.
pub(crate) fn is_private(volume: &Volume) -> bool {
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    let mut private = projected.map(|source| source.secret.is_some() || source.service_account_token.is_some());
    volume.secret.is_some() || private.any(|private| private)
}

struct Items<'a> {
    items: &'a [KeyToPath],
    default_mode: Option<i32>,
    optional: bool,
}

impl<'a> Items<'a> {
    fn new(items: Option<&'a [KeyToPath]>, default_mode: Option<i32>, optional: Option<bool>) -> Self {
        Self { items: items.unwrap_or_default(), default_mode, optional: optional == Some(true) }
    }

    /// Adds either every key or the chosen ones.
    fn pick<'d>(
        &self,
        out: &mut Payload,
        all: impl Iterator<Item = &'d String>,
        get: impl Fn(&str) -> Option<Vec<u8>>,
        missing: impl Fn(&str) -> String,
    ) -> Result<(), String> {
        if self.items.is_empty() {
            for key in all {
                add(out, key, get(key).unwrap_or_default(), None, self.default_mode)?;
            }
        }
        for item in self.items {
            match get(&item.key) {
                Some(data) => add(out, &item.path, data, item.mode, self.default_mode)?,
                None if self.optional => {}
                None => return Err(missing(&item.key)),
            }
        }
        Ok(())
    }
}

fn from_config_map(out: &mut Payload, name: &str, items: &Items<'_>, fetched: &Fetched) -> Result<(), String> {
    let map = match fetched.config_map(name) {
        Ok(map) => map,
        Err(_) if items.optional => return Ok(()),
        Err(missing) => return Err(missing),
    };
    let ConfigMap { data, binary_data, .. } = map;
    let keys = data.iter().flat_map(BTreeMap::keys).chain(binary_data.iter().flat_map(BTreeMap::keys));
    let get = |key: &str| {
        let text = data.as_ref().and_then(|data| data.get(key)).map(|text| text.as_bytes().to_vec());
        text.or_else(|| binary_data.as_ref()?.get(key).map(|bytes| bytes.0.clone()))
    };
    items.pick(out, keys, get, |key| format!("configmap references non-existent config key: {key}"))
}

fn from_secret(out: &mut Payload, name: &str, items: &Items<'_>, fetched: &Fetched) -> Result<(), String> {
    let secret: &Secret = match fetched.secret(name) {
        Ok(secret) => secret,
        Err(_) if items.optional => return Ok(()),
        Err(missing) => return Err(missing),
    };
    let empty = BTreeMap::new();
    let data: &BTreeMap<String, ByteString> = secret.data.as_ref().unwrap_or(&empty);
    let get = |key: &str| data.get(key).map(|bytes| bytes.0.clone());
    items.pick(out, data.keys(), get, |key| format!("references non-existent secret key: {key}"))
}

fn from_downward(
    out: &mut Payload,
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
    pod: &Pod,
    node: &NodeFacts,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let text = if let Some(reference) = &item.field_ref {
            downward::field(pod, node, &reference.field_path)?
        } else if let Some(reference) = &item.resource_field_ref {
            downward::resource(pod, node, reference, None)?
        } else {
            return Err(format!("downwardAPI file {} has no source", item.path));
        };
        add(out, &item.path, text.into_bytes(), item.mode, default_mode)?;
    }
    Ok(())
}

fn add(out: &mut Payload, path: &str, data: Vec<u8>, mode: Option<i32>, default: Option<i32>) -> Result<(), String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let hostile = path.starts_with('/') || path.contains('\0') || parts.is_empty() || parts.contains(&"..");
    // Names that begin with two dots belong to the writer of the volume.
    if hostile || parts[0].starts_with("..") {
        return Err(format!("invalid path: {path}"));
    }
    let path = parts.join("/");
    let inside = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    if out.keys().any(|other| inside(other, &path) || inside(&path, other)) {
        return Err(format!("path {path} is a file and a directory"));
    }
    let mode = mode.or(default).and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644) & 0o777;
    out.insert(path, Entry { data, mode });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(volume: Value, expect: Result<Value, &str>) {
        let fetched = Fetched {
            config_maps: [(
                "c".into(),
                Box::new(
                    serde_json::from_value(json!({"data": {"a": "A", "b": "B"}, "binaryData": {"bin": "AAEC"}}))
                        .unwrap(),
                ),
            )]
            .into(),
            secrets: [("s".into(), Box::new(serde_json::from_value(json!({"data": {"k": "c2Vj"}})).unwrap()))].into(),
        };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"app": "x"}},
            "spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "500m"}}}]}}))
        .unwrap();
        let mut volume = volume;
        volume["name"] = json!("v");
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let node = NodeFacts { name: "n".into(), address: "127.0.0.1".into(), allocatable: BTreeMap::new() };
        let tokens = [("token".to_owned(), b"jwt".to_vec())].into();
        let got = payload(&pod, &volume, &fetched, &tokens, &node).map(|payload| {
            payload.map_or(Value::Null, |payload| {
                let files = payload.into_iter().map(|(path, entry)| {
                    (path, json!([String::from_utf8_lossy(&entry.data), format!("{:o}", entry.mode)]))
                });
                Value::Object(files.collect())
            })
        });
        assert_eq!(got, expect.map_err(str::to_owned));
    }

    #[test]
    fn config_maps_and_secrets() {
        check(
            json!({"configMap": {"name": "c"}}),
            Ok(json!({"a": ["A", "644"], "b": ["B", "644"], "bin": ["\0\u{1}\u{2}", "644"]})),
        );
        check(
            json!({"configMap": {"name": "c", "defaultMode": 256, "items": [{"key": "a", "path": "sub/uno"}, {"key": "b", "path": "x", "mode": 511}]}}),
            Ok(json!({"sub/uno": ["A", "400"], "x": ["B", "777"]})),
        );
        check(json!({"configMap": {"name": "ghost", "optional": true}}), Ok(json!({})));
        check(json!({"configMap": {"name": "ghost"}}), Err("configmap \"ghost\" not found"));
        check(
            json!({"configMap": {"name": "c", "items": [{"key": "z", "path": "z"}]}}),
            Err("configmap references non-existent config key: z"),
        );
        check(
            json!({"configMap": {"name": "c", "optional": true, "items": [{"key": "z", "path": "z"}]}}),
            Ok(json!({})),
        );
        check(json!({"secret": {"secretName": "s"}}), Ok(json!({"k": ["sec", "644"]})));
        check(json!({"secret": {"secretName": "ghost"}}), Err("secret \"ghost\" not found"));
        check(
            json!({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}),
            Err("references non-existent secret key: z"),
        );
        check(json!({"emptyDir": {}}), Ok(Value::Null));
    }

    #[test]
    fn projections() {
        check(
            json!({"projected": {"defaultMode": 288, "sources": [
                {"configMap": {"name": "c", "items": [{"key": "a", "path": "cm/k"}]}},
                {"secret": {"name": "s", "items": [{"key": "k", "path": "sec", "mode": 256}]}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "cpu", "resourceFieldRef": {"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}}]}},
                {"serviceAccountToken": {"path": "token"}}]}}),
            Ok(
                json!({"cm/k": ["A", "440"], "sec": ["sec", "400"], "labels": ["app=\"x\"", "440"], "cpu": ["500", "440"], "token": ["jwt", "440"]}),
            ),
        );
        check(
            json!({"projected": {"sources": [{"serviceAccountToken": {"path": "other"}}]}}),
            Err("failed to fetch token"),
        );
        check(
            json!({"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}),
            Err("this kind of projected source is not supported by this node"),
        );
    }

    #[test]
    fn hostile_paths() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "..data", "..", ".", "a\0b"] {
            let expect = format!("invalid path: {path}");
            check(json!({"configMap": {"name": "c", "items": [{"key": "a", "path": path}]}}), Err(&expect));
        }
        check(
            json!({"configMap": {"name": "c", "items": [{"key": "a", "path": "d"}, {"key": "b", "path": "d/e"}]}}),
            Err("path d/e is a file and a directory"),
        );
        check(
            json!({"configMap": {"name": "c", "items": [{"key": "a", "path": "./d//e"}]}}),
            Ok(json!({"d/e": ["A", "644"]})),
        );
    }
}
