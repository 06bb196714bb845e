//! Virtual kinds: questions about users and access. What they must say is checked here, who answers is elsewhere.

use kubetask_schema::field::{Error, Path};
use serde_json::{Map, Value};

use super::edit::{default, ensure, has, items, text};
use crate::kind::Hooks;

pub(crate) const SELF_ACCESS: Hooks = Hooks { validate: |review, errors| attributes(review, errors), ..Hooks::NONE };

pub(crate) const ACCESS: Hooks = Hooks {
    validate: |review, errors| {
        attributes(review, errors);
        user(review, errors);
    },
    ..Hooks::NONE
};

pub(crate) const LOCAL_ACCESS: Hooks = Hooks {
    validate: |review, errors| {
        attributes(review, errors);
        user(review, errors);
        let field = Path::new("spec").child("nonResourceAttributes");
        if has(&review["spec"], "nonResourceAttributes") {
            errors.push(Error::invalid(
                &field,
                go_names(&review["spec"]["nonResourceAttributes"]),
                "disallowed on this kind of request",
            ));
        }
    },
    ..Hooks::NONE
};

pub(crate) const RULES: Hooks = Hooks {
    validate: |review, errors| {
        if text(&review["spec"], "namespace").is_empty() {
            errors.push(Error::required(&Path::new("spec").child("namespace"), ""));
        }
    },
    ..Hooks::NONE
};

pub(crate) const TOKEN_REVIEW: Hooks = Hooks {
    validate: |review, errors| {
        if text(&review["spec"], "token").is_empty() {
            errors.push(Error::required(&Path::new("spec").child("token"), ""));
        }
    },
    ..Hooks::NONE
};

pub(crate) const TOKEN_REQUEST: Hooks = Hooks {
    default: |request| {
        if let Some(spec) = ensure(request, "spec") {
            default(spec, "expirationSeconds", 3600);
        }
    },
    validate: |request, errors| {
        let field = Path::new("spec").child("expirationSeconds");
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        if seconds < 600 {
            errors.push(Error::invalid(&field, seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > 1_i64 << 32 {
            errors.push(Error::invalid(&field, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
    },
    ..Hooks::NONE
};

/// The message shows the internal type, whose fields begin with capitals.
fn go_names(attributes: &Value) -> Value {
    let mut out = Map::new();
    for (name, value) in attributes.as_object().into_iter().flatten() {
        let mut letters = name.chars();
        let capital: String = letters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
        out.insert(capital + letters.as_str(), value.clone());
    }
    Value::Object(out)
}

fn attributes(review: &Value, errors: &mut Vec<Error>) {
    let spec = &review["spec"];
    let path = Path::new("spec");
    match (has(spec, "resourceAttributes"), has(spec, "nonResourceAttributes")) {
        (true, true) => errors.push(Error::invalid(
            &path.child("nonResourceAttributes"),
            go_names(&spec["nonResourceAttributes"]),
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => errors.push(Error::invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
}

fn user(review: &Value, errors: &mut Vec<Error>) {
    let spec = &review["spec"];
    if text(spec, "user").is_empty() && items(spec, "groups").is_empty() {
        errors.push(Error::invalid(
            &Path::new("spec").child("user"),
            text(spec, "user"),
            "at least one of user or group must be specified",
        ));
    }
}
