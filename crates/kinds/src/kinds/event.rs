//! Events: one set of stored objects, shown as `v1` and as `events.k8s.io/v1`.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::edit::{has, text};
use crate::kind::{Hooks, Part};
use crate::table::{Column, NAME_DESCRIPTION, Row, column, name, since};

/// Events of the core group, which is also the stored form.
pub(crate) const CORE: Hooks = Hooks {
    validate: validate_core,
    validate_update: |new, _, _, errors| validate_core(new, errors),
    columns: || &COLUMNS,
    row,
    field,
    ..Hooks::NONE
};

/// Events of `events.k8s.io`.
pub(crate) const EVENTS: Hooks = Hooks {
    validate: validate_new,
    validate_update: update_new,
    columns: || &COLUMNS,
    row: |event, now| row(&to_core(event.clone()), now),
    field: |event, name| field(&to_core(event.clone()), name),
    to_storage: to_core,
    from_storage: from_core,
    ..Hooks::NONE
};

pub(crate) const FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// Members under their names in the core group and in `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn to_core(mut event: Value) -> Value {
    if let Value::Object(members) = &mut event {
        for (core, new) in NAMES {
            if let Some(value) = members.remove(new) {
                members.insert(core.to_owned(), value);
            }
        }
        members.insert("apiVersion".to_owned(), Value::from("v1"));
        for name in ["reportingComponent", "reportingInstance"] {
            members.entry(name).or_insert_with(|| Value::from(""));
        }
    }
    event
}

fn from_core(mut event: Value) -> Value {
    if let Value::Object(members) = &mut event {
        for (core, new) in NAMES {
            if let Some(value) = members.remove(core) {
                members.insert(new.to_owned(), value);
            }
        }
        members.insert("apiVersion".to_owned(), Value::from("events.k8s.io/v1"));
        for name in ["reportingController", "reportingInstance"] {
            if members.get(name).and_then(Value::as_str) == Some("") {
                members.remove(name);
            }
        }
    }
    event
}

fn field(event: &Value, name: &str) -> Option<String> {
    if name == "source" {
        let component = text(&event["source"], "component");
        let source = if component.is_empty() { text(event, "reportingComponent") } else { component };
        return Some(source.to_owned());
    }
    Some(match name.split_once('.') {
        Some((outer, inner)) => text(&event[outer], inner).to_owned(),
        None => text(event, name).to_owned(),
    })
}

/// What an event says by other names in its two groups.
struct Names {
    object: &'static str,
    message: &'static str,
    controller: &'static str,
}

const CORE_NAMES: Names = Names { object: "involvedObject", message: "message", controller: "reportingComponent" };
const NEW_NAMES: Names = Names { object: "regarding", message: "note", controller: "reportingController" };

/// What holds for events of both groups. Errors are about the fields of the core group.
fn validate_any(event: &Value, names: &Names, errors: &mut Vec<Error>) {
    const LONGEST_NOTE: usize = 1024;
    const LONGEST: usize = 128;
    let own = text(&event["metadata"], "namespace");
    let about = text(&event[names.object], "namespace");
    let timed = has(event, "eventTime");
    let is_right = match (about, timed) {
        ("", false) => matches!(own, "" | "default"),
        ("", true) => matches!(own, "default" | "kube-system"),
        (about, timed) => timed || own == about,
    };
    if !is_right {
        let field = Path::new("involvedObject").child("namespace");
        errors.push(Error::invalid(&field, about, "does not match event.namespace"));
    }
    if !timed {
        return;
    }
    let (controller, field) = (text(event, names.controller), Path::new(names.controller));
    if controller.is_empty() {
        errors.push(Error::required(&field, ""));
    }
    errors.extend(crate::names::qualified_name(controller).into_iter().map(|m| Error::invalid(&field, controller, m)));
    for name in ["reportingInstance", "action", "reason"] {
        let (value, field) = (text(event, name), Path::new(name));
        if value.is_empty() {
            errors.push(Error::required(&field, ""));
        } else if value.len() > LONGEST {
            errors.push(Error::invalid(&field, "", format!("can have at most {LONGEST} characters")));
        }
    }
    if text(event, names.message).len() > LONGEST_NOTE {
        errors.push(Error::invalid(&Path::new("message"), "", format!("can have at most {LONGEST_NOTE} characters")));
    }
}

fn validate_core(event: &Value, errors: &mut Vec<Error>) {
    validate_any(event, &CORE_NAMES, errors);
}

fn validate_new(event: &Value, errors: &mut Vec<Error>) {
    validate_any(event, &NEW_NAMES, errors);
    series(event, errors);
    if !has(event, "eventTime") {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    if !matches!(text(event, "type"), "Normal" | "Warning") {
        let why = format!("has invalid value: {}", text(event, "type"));
        errors.push(Error::invalid(&Path::new("type"), "", why));
    }
    let unset = |name: &str| match &event[name] {
        Value::Null => true,
        Value::Object(members) => members.values().all(|value| value.as_str() == Some("")),
        value => value == 0,
    };
    for (name, shown) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        if !unset(name) {
            errors.push(Error::invalid(&Path::new(shown), "", "needs to be unset"));
        }
    }
}

fn series(event: &Value, errors: &mut Vec<Error>) {
    let series = &event["series"];
    if series.is_null() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    if !has(series, "lastObservedTime") {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
}

fn update_new(new: &Value, old: &Value, _: Part, errors: &mut Vec<Error>) {
    validate_any(new, &NEW_NAMES, errors);
    if new["series"] != old["series"] {
        series(new, errors);
    }
    for (name, shown) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        if new[name] != old[name] {
            errors.push(Error::invalid(&Path::new(shown), new[name].clone(), crate::meta::IMMUTABLE));
        }
    }
}

static COLUMNS: [Column; 10] = [
    column("Last Seen", "The time at which the most recent occurrence of this event was recorded.", 0),
    column("Type", "Type of this event (Normal, Warning), new types could be added in the future", 0),
    column(
        "Reason",
        "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.",
        0,
    ),
    column("Object", "The object that this event is about.", 0),
    column(
        "Subobject",
        "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement, such as desiredState.manifest.containers[2]. For example, if the object reference is to a container within a pod, this would take on a value like: \"spec.containers{name}\" (where \"name\" refers to the name of the container that triggered the event) or if no container name is specified \"spec.containers[2]\" (container with index 2 in this pod). This syntax is chosen only to have some well-defined way of referencing a part of an object.",
        1,
    ),
    column("Source", "The component reporting this event. Should be a short machine understandable string.", 1),
    column("Message", "A human-readable description of the status of this operation.", 0),
    column("First Seen", "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)", 1),
    column("Count", "The number of times this event has occurred.", 1),
    Column { name: "Name", type_: "string", format: "name", description: NAME_DESCRIPTION, priority: 1 },
];

fn row(event: &Value, now: Timestamp) -> Row {
    let series = &event["series"];
    let first = if has(event, "firstTimestamp") { &event["firstTimestamp"] } else { &event["eventTime"] };
    let last = if has(series, "lastObservedTime") {
        &series["lastObservedTime"]
    } else if has(event, "lastTimestamp") {
        &event["lastTimestamp"]
    } else {
        first
    };
    let count = series["count"].as_i64().or_else(|| event["count"].as_i64()).filter(|n| *n != 0).unwrap_or(1);
    let object = &event["involvedObject"];
    let kind = text(object, "kind").to_lowercase();
    let about = if text(object, "name").is_empty() { kind } else { format!("{kind}/{}", text(object, "name")) };
    Row {
        cells: vec![
            Value::from(since(last, now)),
            Value::from(text(event, "type")),
            Value::from(text(event, "reason")),
            Value::from(about),
            Value::from(text(object, "fieldPath")),
            Value::from(source(event)),
            Value::from(text(event, "message").trim()),
            Value::from(since(first, now)),
            Value::from(count),
            name(event),
        ],
        conditions: Vec::new(),
    }
}

fn source(event: &Value) -> String {
    let (component, host) = match text(&event["source"], "component") {
        "" => (text(event, "reportingComponent"), text(event, "reportingInstance")),
        component => (component, text(&event["source"], "host")),
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn converts_both_ways() {
        let core = json!({
            "apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "x"}, "message": "m", "count": 2,
            "source": {}, "firstTimestamp": null, "lastTimestamp": null, "reportingComponent": "c", "reportingInstance": "i",
        });
        let new = from_core(core.clone());
        assert_eq!(new["regarding"]["name"], "x");
        assert_eq!(new["note"], "m");
        assert_eq!(new["deprecatedCount"], 2);
        assert_eq!(new["reportingController"], "c");
        assert_eq!(to_core(new), core);
    }
}
