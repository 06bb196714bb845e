//! Validation of probes and of hooks.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::container::PORT_RANGE;
use crate::kinds::check::{not_negative, one_of};
use crate::kinds::edit::{has, items, text};
use crate::names::port_name;

/// What is wrong with a probe; `kind` is the name of its field.
pub(super) fn validate(probe: &Value, kind: &str, path: &Path, errors: &mut Vec<Error>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], None, path, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(probe, field, path, errors);
    }
    if probe["terminationGracePeriodSeconds"].as_i64().is_some_and(|n| n <= 0) {
        let field = path.child("terminationGracePeriodSeconds");
        errors.push(Error::invalid(&field, probe["terminationGracePeriodSeconds"].clone(), "must be greater than 0"));
    }
    if kind == "readinessProbe" && has(probe, "terminationGracePeriodSeconds") {
        let field = path.child("terminationGracePeriodSeconds");
        let value = probe["terminationGracePeriodSeconds"].clone();
        errors.push(Error::invalid(&field, value, "must not be set for readinessProbes"));
    }
    if kind != "readinessProbe" && probe["successThreshold"].as_i64().is_some_and(|n| n != 1) {
        errors.push(Error::invalid(&path.child("successThreshold"), probe["successThreshold"].clone(), "must be 1"));
    }
}

/// What is wrong with what is done when a container starts or stops; `grace` is what the pod has to end.
pub(super) fn hook(hook: &Value, grace: Option<i64>, path: &Path, errors: &mut Vec<Error>) {
    handler(hook, &["exec", "httpGet", "tcpSocket", "sleep"], grace, path, errors);
}

fn handler(handler: &Value, kinds: &[&str], grace: Option<i64>, path: &Path, errors: &mut Vec<Error>) {
    let mut found = 0;
    for kind in kinds.iter().copied() {
        if !has(handler, kind) {
            continue;
        }
        found += 1;
        let action = &handler[kind];
        let path = path.child(kind);
        if found > 1 {
            errors.push(Error::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        match kind {
            "exec" if items(action, "command").is_empty() => {
                errors.push(Error::required(&path.child("command"), ""));
            }
            "httpGet" => {
                if text(action, "path").is_empty() {
                    errors.push(Error::required(&path.child("path"), ""));
                }
                port(&action["port"], &path.child("port"), errors);
                one_of(action, "scheme", &["HTTP", "HTTPS"], &path, errors);
                for header in items(action, "httpHeaders") {
                    let name = text(header, "name");
                    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                        let text = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                        errors.push(Error::invalid(&path.child("httpHeaders"), name, text));
                    }
                }
            }
            "tcpSocket" => port(&action["port"], &path.child("port"), errors),
            "grpc" => port(&Value::from(action["port"].as_i64().unwrap_or(0)), &path.child("port"), errors),
            "sleep" => {
                let seconds = action["seconds"].as_i64().unwrap_or(0);
                if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.push(Error::invalid(&path, seconds, why));
                }
            }
            _ => {}
        }
    }
    if found == 0 {
        errors.push(Error::required(path, "must specify a handler type"));
    }
}

fn port(value: &Value, path: &Path, errors: &mut Vec<Error>) {
    match value {
        Value::String(name) => {
            errors.extend(port_name(name).into_iter().map(|m| Error::invalid(path, name.as_str(), m)))
        }
        other => {
            let number = other.as_i64().unwrap_or(0);
            if !(1..=65535).contains(&number) {
                errors.push(Error::invalid(path, number, PORT_RANGE));
            }
        }
    }
}
