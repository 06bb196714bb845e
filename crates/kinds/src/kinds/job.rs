//! Jobs (and the templates of cron jobs): defaults, generated selectors, validation, what may change.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::{Value, json};

use super::check::{immutable, label_selector, not_negative, one_of, selector_text, selects};
use super::edit::{bump_generation, copy, default, ensure, first_generation, has, items, object, remove, set, text};
use super::pod;
use crate::duration;
use crate::kind::{Hooks, Part};
use crate::table::{AGE, Column, NAME, Row, age, column, name, since};

pub(crate) const HOOKS: Hooks = Hooks {
    default: default_job,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    warnings,
    columns,
    row,
    field,
    ..Hooks::NONE
};

pub(crate) const FIELDS: &[&str] = &["status.successful"];

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

fn field(job: &Value, name: &str) -> Option<String> {
    (name == "status.successful").then(|| job["status"]["succeeded"].as_i64().unwrap_or(0).to_string())
}

fn default_job(job: &mut Value) {
    if let Some(spec) = ensure(job, "spec") {
        default_spec(spec);
    }
}

/// A job without labels takes its template's, the generated ones included.
fn labels_from_template(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    if let Some(meta) = ensure(job, "metadata")
        && !labels.is_null()
        && meta["labels"].as_object().is_none_or(serde_json::Map::is_empty)
    {
        set(meta, "labels", labels);
    }
}

/// Defaults of a job spec.
pub(crate) fn default_spec(spec: &mut Value) {
    if !has(spec, "completions") && !has(spec, "parallelism") {
        set(spec, "completions", 1);
        set(spec, "parallelism", 1);
    }
    default(spec, "parallelism", 1);
    // With a limit per index the limit for the whole job is out of the way.
    default(spec, "backoffLimit", if has(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let replacement = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    default(spec, "podReplacementPolicy", replacement);
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in super::edit::items_mut(policy, "rules") {
            for pattern in super::edit::items_mut(rule, "onPodConditions") {
                default(pattern, "status", "True");
            }
        }
    }
    if let Some(template) = ensure(spec, "template") {
        pod::defaults::template(template);
    }
}

fn prepare_create(job: &mut Value) {
    set(job, "status", object());
    first_generation(job);
    if job["spec"]["manualSelector"] != true {
        generate_selector(job);
    }
    labels_from_template(job);
}

/// The selector is the job's own UID, unless the user takes care of it.
fn generate_selector(job: &mut Value) {
    let uid = job["metadata"]["uid"].clone();
    let name = job["metadata"]["name"].clone();
    let labels = [(UID_LABEL, &uid), (NAME_LABEL, &name), (OLD_UID_LABEL, &uid), (OLD_NAME_LABEL, &name)];
    let Some(spec) = job.get_mut("spec") else { return };
    if let Some(meta) = ensure(spec, "template").and_then(|t| ensure(t, "metadata")) {
        add_labels(meta, &labels);
    }
    if let Some(matched) = ensure(spec, "selector").and_then(|s| ensure(s, "matchLabels")) {
        default(matched, UID_LABEL, uid);
    }
}

fn add_labels(meta: &mut Value, labels: &[(&str, &Value)]) {
    if let Some(holder) = ensure(meta, "labels") {
        for (key, value) in labels {
            default(holder, key, (*value).clone());
        }
    }
}

fn prepare_update(new: &mut Value, old: &Value, part: Part) {
    let changed = part == Part::Main && new["spec"] != old["spec"];
    copy(new, old, if part == Part::Status { "spec" } else { "status" });
    bump_generation(new, old, changed);
    labels_from_template(new);
}

fn validate(job: &Value, errors: &mut Vec<Error>) {
    let path = Path::new("spec");
    generated_selector(job, errors);
    validate_spec(&job["spec"], &path, true, errors);
    if text(&job["spec"], "completionMode") == "Indexed" && job["spec"]["completions"].as_i64().unwrap_or(0) > 0 {
        let last = job["spec"]["completions"].as_i64().unwrap_or(1) - 1;
        let host = format!("{}-{last}", text(&job["metadata"], "name"));
        for message in crate::names::dns1123_label(&host) {
            let field = Path::new("metadata").child("name");
            let text = format!("will not able to create pod with invalid DNS label: {host}: {message}");
            errors.push(Error::invalid(&field, job["metadata"]["name"].clone(), text));
        }
    }
}

/// The selector must be the generated one, unless it is declared to be manual.
fn generated_selector(job: &Value, errors: &mut Vec<Error>) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let uid = text(&job["metadata"], "uid");
    let selector = &job["spec"]["selector"];
    let own = json!({"matchLabels": {UID_LABEL: uid}});
    let older = json!({"matchLabels": {OLD_UID_LABEL: uid}});
    if *selector != own && *selector != older {
        errors.push(Error::invalid(
            &Path::new("spec").child("selector"),
            selector.clone(),
            "`selector` not auto-generated",
        ));
    }
}

/// Everything that is wrong with a job spec; `selected` unless it is a template of a cron job.
pub(crate) fn validate_spec(spec: &Value, path: &Path, selected: bool, errors: &mut Vec<Error>) {
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, name, path, errors);
    }
    if selected {
        if has(spec, "selector") {
            label_selector(&spec["selector"], &path.child("selector"), errors);
        } else {
            errors.push(Error::required(&path.child("selector"), ""));
        }
        let labels = &spec["template"]["metadata"]["labels"];
        if has(spec, "selector") && !selects(&spec["selector"], labels) {
            let field = path.child("template").child("metadata").child("labels");
            errors.push(Error::invalid(&field, labels.clone(), "`selector` does not match template `labels`"));
        }
    }
    let template = &spec["template"];
    let template_path = path.child("template");
    crate::meta::labels(&template["metadata"]["labels"], &template_path.child("metadata").child("labels"), errors);
    crate::meta::annotations(
        &template["metadata"]["annotations"],
        &template_path.child("metadata").child("annotations"),
        errors,
    );
    pod::spec::validate(&template["spec"], &template_path.child("spec"), errors);
    let restart = text(&template["spec"], "restartPolicy");
    if restart == "Always" || restart.is_empty() {
        let field = template_path.child("spec").child("restartPolicy");
        errors.push(Error::required(&field, "valid values: \"OnFailure\", \"Never\""));
    } else if !matches!(restart, "OnFailure" | "Never") {
        let field = template_path.child("spec").child("restartPolicy");
        errors.push(Error::not_supported(&field, restart, &["OnFailure", "Never"]));
    }
    completion_mode(spec, path, errors);
    if has(spec, "podFailurePolicy") {
        failure_policy(spec, &path.child("podFailurePolicy"), errors);
    }
    let known: &[&str] = if has(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(spec, "podReplacementPolicy", known, path, errors);
    if has(spec, "successPolicy") {
        success_policy(spec, path, errors);
    }
}

fn completion_mode(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    one_of(spec, "completionMode", &["Indexed", "NonIndexed"], path, errors);
    let indexed = text(spec, "completionMode") == "Indexed";
    if indexed {
        match spec["completions"].as_i64() {
            None => {
                let text = "when completion mode is Indexed";
                errors.push(Error::required(&path.child("completions"), text));
            }
            Some(n) if n > 100_000 => {
                let parallelism = spec["parallelism"].as_i64().unwrap_or(0);
                if parallelism > 10_000 {
                    let text =
                        "must be less than or equal to 10000 when completions are unlimited or greater than 100000";
                    errors.push(Error::invalid(&path.child("parallelism"), parallelism, text));
                }
            }
            Some(_) => {}
        }
    } else {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if has(spec, name) {
                let text = "requires indexed completion mode";
                errors.push(Error::invalid(&path.child(name), spec[name].clone(), text));
            }
        }
    }
    if has(spec, "maxFailedIndexes") && !has(spec, "backoffLimitPerIndex") {
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
}

fn failure_policy(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    if text(&spec["template"]["spec"], "restartPolicy") != "Never" {
        // The field named is the one the policy depends on.
        errors.push(Error::invalid(path, spec["podFailurePolicy"].clone(), "only \"Never\" is supported"));
    }
    let template = &spec["template"]["spec"];
    let names: BTreeSet<&str> = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| items(template, list))
        .map(|c| text(c, "name"))
        .collect();
    let rules = items(&spec["podFailurePolicy"], "rules");
    if rules.len() > 20 {
        errors.push(Error::too_many(&path.child("rules"), i64::try_from(rules.len()).unwrap_or(i64::MAX), 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(rule, &names, has(spec, "backoffLimitPerIndex"), &path.child("rules").index(i), errors);
    }
}

fn failure_rule(rule: &Value, names: &BTreeSet<&str>, per_index: bool, path: &Path, errors: &mut Vec<Error>) {
    let actions: &[&str] =
        if per_index { &["Count", "FailIndex", "FailJob", "Ignore"] } else { &["Count", "FailJob", "Ignore"] };
    let action = text(rule, "action");
    if action.is_empty() {
        let list = actions.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(", ");
        errors.push(Error::required(&path.child("action"), format!("valid values: [{list}]")));
    } else {
        one_of(rule, "action", actions, path, errors);
    }
    let codes = &rule["onExitCodes"];
    let conditions = items(rule, "onPodConditions");
    match (codes.is_null(), conditions.is_empty()) {
        (true, true) => errors.push(Error::invalid(
            path,
            rule.clone(),
            "specifying one of OnExitCodes and OnPodConditions is required",
        )),
        (false, false) => errors.push(Error::invalid(
            path,
            rule.clone(),
            "specifying both OnExitCodes and OnPodConditions is not supported",
        )),
        _ => {}
    }
    if !codes.is_null() {
        exit_codes(codes, names, &path.child("onExitCodes"), errors);
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let path = path.child("onPodConditions").index(i);
        let type_ = text(pattern, "type");
        errors.extend(
            crate::names::qualified_name(type_).into_iter().map(|m| Error::invalid(&path.child("type"), type_, m)),
        );
        one_of(pattern, "status", &["False", "True", "Unknown"], &path, errors);
    }
}

fn exit_codes(codes: &Value, names: &BTreeSet<&str>, path: &Path, errors: &mut Vec<Error>) {
    let operator = text(codes, "operator");
    if operator.is_empty() {
        errors.push(Error::required(&path.child("operator"), "valid values: [\"In\" \"NotIn\"]"));
    } else {
        one_of(codes, "operator", &["In", "NotIn"], path, errors);
    }
    if let Some(name) = codes["containerName"].as_str()
        && !names.contains(name)
    {
        let text = "must be one of the container or initContainer names in the pod template";
        errors.push(Error::invalid(&path.child("containerName"), name, text));
    }
    let values = items(codes, "values");
    let field = path.child("values");
    if values.is_empty() {
        errors.push(Error::invalid(&field, codes["values"].clone(), "at least one value is required"));
    } else if values.len() > 255 {
        errors.push(Error::too_many(&field, i64::try_from(values.len()).unwrap_or(i64::MAX), 255));
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    for (i, number) in numbers.iter().enumerate() {
        if operator == "In" && *number == 0 {
            errors.push(Error::invalid(&field.index(i), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(*number) {
            errors.push(Error::duplicate(&field.index(i), *number));
        }
    }
    if !numbers.is_sorted() {
        errors.push(Error::invalid(&field, codes["values"].clone(), "must be ordered"));
    }
}

fn success_policy(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    let field = path.child("successPolicy");
    if text(spec, "completionMode") != "Indexed" {
        errors.push(Error::invalid(&field, spec["successPolicy"].clone(), "requires indexed completion mode"));
        return;
    }
    let rules = items(&spec["successPolicy"], "rules");
    if rules.is_empty() {
        let text = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(&field.child("rules"), text));
    }
    for (i, rule) in rules.iter().enumerate() {
        if !has(rule, "succeededCount") && !has(rule, "succeededIndexes") {
            let text = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(Error::required(&field.child("rules").index(i), text));
        }
    }
}

fn validate_update(new: &Value, old: &Value, part: Part, errors: &mut Vec<Error>) {
    crate::meta::validate_builtin_finalizers(
        &new["metadata"]["finalizers"],
        &Path::new("metadata").child("finalizers"),
        errors,
    );
    if part != Part::Main {
        return;
    }
    let path = Path::new("spec");
    generated_selector(new, errors);
    // Kubernetes checks the spec twice here, and says everything twice.
    validate_spec(&new["spec"], &path, true, errors);
    validate_spec(&new["spec"], &path, true, errors);
    let (new, old) = (&new["spec"], &old["spec"]);
    completions(new, old, &path, errors);
    for name in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        immutable(new, old, name, &path, errors);
    }
    template(new, old, &path, errors);
}

/// Completions are fixed, except that an indexed job scales when both numbers change together.
fn completions(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    let elastic = text(new, "completionMode") == "Indexed" && has(new, "completions") && has(old, "completions");
    if !elastic {
        immutable(new, old, "completions", path, errors);
        return;
    }
    if new["completions"] != old["completions"] && new["completions"] != new["parallelism"] {
        let text = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(&path.child("completions"), new["completions"].clone(), text));
    }
}

/// The template is fixed, except where a job that was suspended when it changed may be rescheduled.
fn template(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    let mut template = new["template"].clone();
    if old["suspend"] == true {
        if let Some(spec) = template.get_mut("spec") {
            let before = &old["template"]["spec"];
            for name in ["nodeSelector", "tolerations", "schedulingGates"] {
                copy(spec, before, name);
            }
            if before["affinity"]["nodeAffinity"] != spec["affinity"]["nodeAffinity"] {
                copy(spec, before, "affinity");
            }
            for list in ["containers", "initContainers"] {
                for (i, container) in super::edit::items_mut(spec, list).enumerate() {
                    if let Some(before) = items(before, list).get(i) {
                        copy(container, before, "resources");
                    }
                }
            }
        }
        let before = &old["template"]["metadata"];
        match (template.get_mut("metadata"), before.is_null()) {
            (Some(meta), false) => {
                copy(meta, before, "annotations");
                copy(meta, before, "labels");
            }
            (Some(_), true) => remove(&mut template, "metadata"),
            (None, _) => copy(&mut template, &old["template"], "metadata"),
        }
    }
    if template["spec"] != old["template"]["spec"] || template["metadata"] != old["template"]["metadata"] {
        errors.push(Error::invalid(&path.child("template"), new["template"].clone(), crate::meta::IMMUTABLE));
    }
}

fn warnings(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    if old.is_some() {
        return;
    }
    let name = text(&new["metadata"], "name");
    for message in crate::names::dns1123_label(name) {
        out.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{message}]"
        ));
    }
    pod::spec_warnings(&new["spec"]["template"]["spec"], "spec.template.spec", out);
}

static COLUMNS: [Column; 8] = [
    NAME,
    column("Status", "Status of the job.", 0),
    column(
        "Completions",
        "The number of pods which reached phase Succeeded. The value increases monotonically for a given spec. However, it may decrease in reaction to scale down of elastic indexed jobs.",
        0,
    ),
    column("Duration", "Time required to complete the job.", 0),
    AGE,
    column("Containers", "Names of each container in the template.", 1),
    column("Images", "Images referenced by each container in the template.", 1),
    column(
        "Selector",
        "A label query over pods that should match the pod count. Normally, the system sets this field for you. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
        1,
    ),
];

fn columns() -> &'static [Column] {
    &COLUMNS
}

fn row(job: &Value, now: Timestamp) -> Row {
    let (spec, status) = (&job["spec"], &job["status"]);
    let succeeded = status["succeeded"].as_i64().unwrap_or(0);
    let completions = match (spec["completions"].as_i64(), spec["parallelism"].as_i64().unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |name: &str| status[name].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let duration = match (time("startTime"), time("completionTime")) {
        (None, _) => String::new(),
        (Some(_), None) => since(&status["startTime"], now),
        (Some(start), Some(end)) => duration::human(end.as_second() - start.as_second()),
    };
    let containers = items(&spec["template"]["spec"], "containers");
    let join = |member: &str| containers.iter().map(|c| text(c, member)).collect::<Vec<_>>().join(",");
    Row {
        cells: vec![
            name(job),
            Value::from(state(job)),
            Value::from(completions),
            Value::from(duration),
            age(job, now),
            Value::from(join("name")),
            Value::from(join("image")),
            Value::from(selector_text(&spec["selector"])),
        ],
        conditions: Vec::new(),
    }
}

fn state(job: &Value) -> &'static str {
    let is = |type_: &str| {
        items(&job["status"], "conditions").iter().any(|c| text(c, "type") == type_ && text(c, "status") == "True")
    };
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if has(&job["metadata"], "deletionTimestamp") {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}
