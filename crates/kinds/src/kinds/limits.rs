//! Resource quotas and limit ranges.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::edit::{default, ensure, items, items_mut, object, set, text};
use super::{finalizers, resources, split_status};
use crate::kind::{Hooks, Part};
use crate::quantity::Quantity;
use crate::table::{AGE, Column, NAME, Row, age, column, name};

pub(crate) const QUOTA: Hooks = Hooks {
    prepare_create: |quota| set(quota, "status", object()),
    prepare_update: split_status,
    validate: validate_quota,
    validate_update: update_quota,
    columns: || &QUOTA_COLUMNS,
    row: quota_row,
    ..Hooks::NONE
};

pub(crate) const RANGE: Hooks = Hooks {
    default: default_range,
    validate: validate_range,
    validate_update: update_range,
    columns: || &RANGE_COLUMNS,
    row: |range, _| {
        let created = Value::from(text(&range["metadata"], "creationTimestamp"));
        Row { cells: vec![name(range), created], conditions: Vec::new() }
    },
    ..Hooks::NONE
};

static RANGE_COLUMNS: [Column; 2] = [
    NAME,
    Column { name: "Created At", type_: "date", format: "", description: crate::table::AGE_DESCRIPTION, priority: 0 },
];

static QUOTA_COLUMNS: [Column; 4] = [
    NAME,
    column("Request", "Request represents a minimum amount of cpu/memory that a container may consume.", 0),
    column(
        "Limit",
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
        0,
    ),
    AGE,
];

fn quota_row(quota: &Value, now: Timestamp) -> Row {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
        let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
        let line = format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default());
        if resource.starts_with("limits") { limits.push(line) } else { requests.push(line) }
    }
    let cells = vec![name(quota), Value::from(requests.join(", ")), Value::from(limits.join(", ")), age(quota, now)];
    Row { cells, conditions: Vec::new() }
}

fn validate_quota(quota: &Value, errors: &mut Vec<Error>) {
    finalizers(quota, errors);
    let path = Path::new("spec");
    amounts(&quota["spec"]["hard"], &path.child("hard"), errors);
    let spec = &quota["spec"];
    let hard: Vec<&str> = spec["hard"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let scopes: Vec<&str> = super::edit::texts(spec, "scopes").collect();
    let at = path.child("scopes");
    let mut wrong = |why: &str| errors.push(Error::invalid(&at, spec["scopes"].clone(), why));
    for scope in &scopes {
        scope_fits(scope, &hard).into_iter().for_each(&mut wrong);
    }
    if conflicting(&scopes) {
        wrong("conflicting scopes");
    }
    scope_selector(&spec["scopeSelector"], &hard, &path.child("scopeSelector").child("matchExpressions"), errors);
}

fn amounts(list: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (name, value) in list.as_object().into_iter().flatten() {
        let at = path.key(name);
        resources::quota_name(name, &at, errors);
        resources::amount(name, value, &at, errors);
    }
}

/// What a scope, and all that is limited within it, has to complain of.
fn scope_fits(scope: &str, hard: &[&str]) -> Vec<&'static str> {
    const COMPUTE: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    let mut out = Vec::new();
    let fits = |name: &str| match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => name == "persistentvolumeclaims" || name == "requests.storage",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            name == "pods" || COMPUTE.contains(&name)
        }
        _ => true,
    };
    let known = [
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        "PriorityClass",
        "CrossNamespacePodAffinity",
        "VolumeAttributesClass",
    ];
    if !known.contains(&scope) {
        out.push("unsupported scope");
    }
    let unfit = hard.iter().filter(|name| resources::is_standard_for_quota(name) && !fits(name));
    out.extend(unfit.map(|_| "unsupported scope applied to resource"));
    out
}

fn conflicting(scopes: &[&str]) -> bool {
    let pairs = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
    pairs.iter().any(|(one, other)| scopes.contains(one) && scopes.contains(other))
}

fn scope_selector(selector: &Value, hard: &[&str], at: &Path, errors: &mut Vec<Error>) {
    let shown = || {
        let one = |e: &Value| {
            let (scope, operator) = (&e["scopeName"], &e["operator"]);
            format!(r#"{{"ScopeName":{scope},"Operator":{operator},"Values":{}}}"#, e["values"])
        };
        let all: Vec<String> = items(selector, "matchExpressions").iter().map(one).collect();
        format!(r#"{{"MatchExpressions":[{}]}}"#, all.join(","))
    };
    let mut scopes = Vec::new();
    for expression in items(selector, "matchExpressions") {
        let (scope, operator) = (text(expression, "scopeName"), text(expression, "operator"));
        scopes.push(scope);
        for why in scope_fits(scope, hard) {
            errors.push(match why {
                "unsupported scope" => Error::invalid(&at.child("scopeName"), scope, why),
                why => Error::invalid(at, selector.clone(), why).show_value(shown()),
            });
        }
        let by_name = ["BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"];
        if by_name.contains(&scope) && operator != "Exists" {
            let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Error::invalid(&at.child("operator"), operator, why));
        }
        let values = items(expression, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Error::required(&at.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Error::invalid(&at.child("values"), expression["values"].clone(), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(Error::invalid(&at.child("operator"), other, "not a valid selector operator")),
        }
    }
    if conflicting(&scopes) {
        errors.push(Error::invalid(at, selector.clone(), "conflicting scopes").show_value(shown()));
    }
}

fn update_quota(new: &Value, old: &Value, part: Part, errors: &mut Vec<Error>) {
    if part == Part::Status {
        let path = Path::new("status");
        for list in ["hard", "used"] {
            amounts(&new["status"][list], &path.child(list), errors);
        }
        return finalizers(new, errors);
    }
    validate_quota(new, errors);
    let set = |quota: &Value| -> std::collections::BTreeSet<String> {
        super::edit::texts(&quota["spec"], "scopes").map(str::to_owned).collect()
    };
    if set(new) != set(old) {
        let at = Path::new("spec").child("scopes");
        errors.push(Error::invalid(&at, new["spec"]["scopes"].clone(), crate::meta::IMMUTABLE));
    }
}

fn default_range(range: &mut Value) {
    let Some(spec) = ensure(range, "spec") else { return };
    for item in items_mut(spec, "limits") {
        if text(item, "type") != "Container" {
            continue;
        }
        let (max, min) = (item["max"].clone(), item["min"].clone());
        let limits: Vec<(String, Value)> =
            max.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        if let (Some(defaults), false) = (ensure(item, "default"), limits.is_empty()) {
            for (name, value) in limits {
                default(defaults, &name, value);
            }
        }
        let mut requests = item["default"].clone();
        for (name, value) in min.as_object().into_iter().flatten() {
            if !requests.is_object() {
                requests = object();
            }
            if item["default"].get(name).is_none() {
                set(&mut requests, name, value.clone());
            }
        }
        if let Some(target) = ensure(item, "defaultRequest") {
            for (name, value) in requests.as_object().into_iter().flatten() {
                default(target, name, value.clone());
            }
        }
        for empty in ["default", "defaultRequest"] {
            if item[empty].as_object().is_some_and(serde_json::Map::is_empty) {
                super::edit::remove(item, empty);
            }
        }
    }
}

fn validate_range(range: &Value, errors: &mut Vec<Error>) {
    finalizers(range, errors);
    let path = Path::new("spec").child("limits");
    let mut seen: Vec<&str> = Vec::new();
    for (i, item) in items(&range["spec"], "limits").iter().enumerate() {
        let path = path.index(i);
        let type_ = text(item, "type");
        let at = path.child("type");
        let wrong = crate::names::qualified_name(type_);
        if wrong.is_empty() && !type_.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&type_) {
            errors.push(Error::invalid(&at, type_, "must be a standard limit type or fully qualified"));
        }
        errors.extend(wrong.into_iter().map(|m| Error::invalid(&at, type_, m)));
        if seen.contains(&type_) {
            errors.push(Error::duplicate(&at, type_));
        }
        seen.push(type_);
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if type_ == "Pod" && list.starts_with("default") {
                if item[list].as_object().is_some_and(|members| !members.is_empty()) {
                    errors.push(Error::forbidden(&path.child(list), "may not be specified when `type` is 'Pod'"));
                }
                continue;
            }
            for (name, _) in item[list].as_object().into_iter().flatten() {
                resources::limited_name(type_, name, &path.child(list).key(name), errors);
            }
        }
        let bounded = ["min", "max"].iter().any(|list| super::edit::has(&item[*list], "storage"));
        if type_ == "PersistentVolumeClaim" && !bounded {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(Error::required(&path.child("limits"), why));
        }
        in_order(item, &path, errors);
    }
}

/// The bounds of one resource must leave something between them, and the defaults must be there.
fn in_order(item: &Value, path: &Path, errors: &mut Vec<Error>) {
    let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let members = lists.iter().flat_map(|list| item[*list].as_object().into_iter().flatten());
    let names: std::collections::BTreeSet<&String> = members.map(|(name, _)| name).collect();
    for name in names {
        let get = |list: &str| text(&item[list], name).parse::<Quantity>().ok();
        let pod = text(item, "type") == "Pod";
        let (min, max, ratio) = (get("min"), get("max"), get("maxLimitRequestRatio"));
        let (default, request) = if pod { (None, None) } else { (get("default"), get("defaultRequest")) };
        let mut above =
            |low: Option<Quantity>, high: Option<Quantity>, list: &str, shown: Option<Quantity>, what: [&str; 2]| {
                if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
                    && low > high
                {
                    let why = format!("{} value {low} is greater than {} value {high}", what[0], what[1]);
                    errors.push(Error::invalid(&path.child(list).key(name), shown.to_string(), why));
                }
            };
        above(min, max, "min", min, ["min", "max"]);
        above(min, request, "defaultRequest", request, ["min", "default request"]);
        above(request, max, "defaultRequest", request, ["default request", "max"]);
        above(request, default, "defaultRequest", request, ["default request", "default limit"]);
        above(min, default, "default", min, ["min", "default"]);
        above(default, max, "default", max, ["default", "max"]);
        if let Some(ratio) = ratio {
            let at = path.child("maxLimitRequestRatio").key(name);
            if ratio.nano() < 1_000_000_000 {
                errors.push(Error::invalid(&at, ratio.to_string(), format!("ratio {ratio} is less than 1")));
            }
            if let (Some(min), Some(max)) = (min, max)
                && min.nano() > 0
            {
                #[expect(clippy::cast_precision_loss, reason = "a ratio is shown with six digits")]
                let most = max.nano() as f64 / min.nano() as f64;
                #[expect(clippy::cast_precision_loss, reason = "as above")]
                if ratio.nano() as f64 / 1e9 > most {
                    let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
                    errors.push(Error::invalid(&at, ratio.to_string(), why));
                }
            }
        }
        if let (false, Some(default), Some(request)) = (resources::may_be_overcommitted(name), default, request)
            && default != request
        {
            let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
            errors.push(Error::invalid(&path.child("defaultRequest").key(name), request.to_string(), why));
        }
    }
}

fn update_range(new: &Value, _: &Value, _: Part, errors: &mut Vec<Error>) {
    validate_range(new, errors);
}
