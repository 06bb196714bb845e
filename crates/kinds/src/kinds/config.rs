//! ConfigMaps and Secrets.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::{Map, Value};

use super::check::immutable;
use super::edit::{ensure, has, remove, set, text};
use super::finalizers;
use crate::base64_go::decoded_len;
use crate::kind::{Hooks, Part};
use crate::names::config_key;
use crate::table::{AGE, Column, NAME, Row, age, column, name};

const MAX_BYTES: i64 = 1024 * 1024;

pub(crate) const CONFIG_MAP: Hooks = Hooks {
    validate: validate_config_map,
    validate_update: update_config_map,
    columns: || &CONFIG_MAP_COLUMNS,
    row: config_map_row,
    ..Hooks::NONE
};

pub(crate) const SECRET: Hooks = Hooks {
    default: default_secret,
    validate: validate_secret,
    validate_update: update_secret,
    columns: || &SECRET_COLUMNS,
    row: secret_row,
    field: |secret, field| (field == "type").then(|| text(secret, "type").to_owned()),
    ..Hooks::NONE
};

pub(crate) const SECRET_FIELDS: &[&str] = &["type"];

static CONFIG_MAP_COLUMNS: [Column; 3] = [
    NAME,
    column(
        "Data",
        "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.",
        0,
    ),
    AGE,
];

static SECRET_COLUMNS: [Column; 4] = [
    NAME,
    column(
        "Type",
        "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
        0,
    ),
    column(
        "Data",
        "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4",
        0,
    ),
    AGE,
];

fn entries<'a>(object: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object[name].as_object().into_iter().flatten()
}

fn count(object: &Value, name: &str) -> usize {
    object[name].as_object().map_or(0, Map::len)
}

fn config_map_row(object: &Value, now: Timestamp) -> Row {
    let keys = count(object, "data") + count(object, "binaryData");
    Row { cells: vec![name(object), Value::from(keys), age(object, now)], conditions: Vec::new() }
}

fn secret_row(object: &Value, now: Timestamp) -> Row {
    let cells =
        vec![name(object), Value::from(text(object, "type")), Value::from(count(object, "data")), age(object, now)];
    Row { cells, conditions: Vec::new() }
}

fn keys(object: &Value, field: &str, errors: &mut Vec<Error>) {
    for (key, _) in entries(object, field) {
        let wrong = config_key(key);
        errors.extend(wrong.into_iter().map(|m| Error::invalid(&Path::new(field).key(key), key.as_str(), m)));
    }
}

fn too_large(bytes: usize) -> bool {
    i64::try_from(bytes).is_ok_and(|n| n > MAX_BYTES)
}

fn validate_config_map(object: &Value, errors: &mut Vec<Error>) {
    finalizers(object, errors);
    keys(object, "data", errors);
    for (key, _) in entries(object, "data") {
        if object["binaryData"].get(key).is_some() {
            let text = "duplicate of key present in binaryData";
            errors.push(Error::invalid(&Path::new("data").key(key), key.as_str(), text));
        }
    }
    keys(object, "binaryData", errors);
    let text_bytes: usize = entries(object, "data").map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
    let binary: usize = entries(object, "binaryData").map(|(k, v)| k.len() + v.as_str().map_or(0, decoded_len)).sum();
    if too_large(text_bytes + binary) {
        // Kubernetes reports this at the field with the empty name.
        errors.push(Error::too_long(&Path::new("[]"), MAX_BYTES));
    }
}

fn frozen(new: &Value, old: &Value, fields: &[&str], errors: &mut Vec<Error>) {
    if old["immutable"] != true {
        return;
    }
    const WHY: &str = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        errors.push(Error::forbidden(&Path::new("immutable"), WHY));
    }
    for field in fields {
        if new[*field] != old[*field] && (has(new, field) || has(old, field)) {
            errors.push(Error::forbidden(&Path::new(field), WHY));
        }
    }
}

fn update_config_map(new: &Value, old: &Value, _: Part, errors: &mut Vec<Error>) {
    frozen(new, old, &["data", "binaryData"], errors);
    validate_config_map(new, errors);
}

/// `stringData` is a way to write `data`; it is never stored.
fn default_secret(secret: &mut Value) {
    super::edit::default(secret, "type", "Opaque");
    if text(secret, "type").is_empty() {
        set(secret, "type", "Opaque");
    }
    let plain = secret["stringData"].as_object().cloned().unwrap_or_default();
    remove(secret, "stringData");
    if plain.is_empty() {
        return;
    }
    let Some(data) = ensure(secret, "data") else { return };
    for (key, value) in plain {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        set(data, &key, encoded);
    }
}

fn validate_secret(secret: &Value, errors: &mut Vec<Error>) {
    finalizers(secret, errors);
    keys(secret, "data", errors);
    let path = Path::new("data");
    let total: usize = entries(secret, "data").map(|(_, v)| v.as_str().map_or(0, decoded_len)).sum();
    if too_large(total) {
        errors.push(Error::too_long(&path, MAX_BYTES));
    }
    let data = &secret["data"];
    let require = |key: &str, errors: &mut Vec<Error>| {
        if data.get(key).is_none() {
            errors.push(Error::required(&path.key(key), ""));
        }
    };
    match text(secret, "type") {
        "kubernetes.io/service-account-token"
            if text(&secret["metadata"]["annotations"], "kubernetes.io/service-account.name").is_empty() =>
        {
            let field = Path::new("metadata").child("annotations").key("kubernetes.io/service-account.name");
            errors.push(Error::required(&field, ""));
        }
        "kubernetes.io/dockercfg" => docker(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => docker(data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            require("username", errors);
            require("password", errors);
        }
        "kubernetes.io/ssh-auth" if text(data, "ssh-privatekey").is_empty() => {
            errors.push(Error::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            require("tls.crt", errors);
            require("tls.key", errors);
        }
        _ => {}
    }
}

fn docker(data: &Value, key: &str, errors: &mut Vec<Error>) {
    use base64::Engine as _;
    let path = Path::new("data").key(key);
    let Some(encoded) = data[key].as_str() else {
        errors.push(Error::required(&path, ""));
        return;
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    // The content is a credential: no more of it is repeated in a message than the character that is wrong.
    let why = match (crate::go_json::syntax_error(&bytes), serde_json::from_slice::<Value>(&bytes)) {
        (Some(wrong), _) => wrong,
        (None, Ok(Value::Object(_) | Value::Null)) => return,
        (None, other) => {
            let kind = match other {
                Ok(Value::Array(_)) => "array",
                Ok(Value::String(_)) => "string",
                Ok(Value::Bool(_)) => "bool",
                _ => "number",
            };
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        }
    };
    errors.push(Error::invalid(&path, "<secret contents redacted>", why));
}

fn update_secret(new: &Value, old: &Value, _: Part, errors: &mut Vec<Error>) {
    immutable(new, old, "type", &Path::root(), errors);
    frozen(new, old, &["data"], errors);
    validate_secret(new, errors);
}
