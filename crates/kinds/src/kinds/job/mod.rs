//! Jobs (and the templates of cron jobs): defaults, generated selectors, validation, what may change.

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::check::{immutable, label_selector, not_negative, one_of, selects};
use super::edit::{bump_generation, copy, default, ensure, first_generation, has, items, object, remove, set, text};
use super::{pod, pod_template};
use crate::kind::{Hooks, Part};

mod policy;
mod row;
mod status;

pub(crate) const HOOKS: Hooks = Hooks {
    default: default_job,
    prepare_create,
    prepare_update,
    validate,
    validate_update,
    warnings,
    columns: row::columns,
    row: row::row,
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
        for rule in crate::kinds::edit::items_mut(policy, "rules") {
            for pattern in crate::kinds::edit::items_mut(rule, "onPodConditions") {
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
    // Kubernetes copies the labels that it made itself only after it has checked them at the template.
    if only_generated(&job["spec"]["template"]["metadata"]["labels"]) {
        let copied = Path::new("metadata").child("labels");
        errors.retain(|error| error.field != copied);
    }
    generated_selector(job, errors);
    validate_spec(&job["spec"], &path, true, errors);
    if text(&job["spec"], "completionMode") == "Indexed" && job["spec"]["completions"].as_i64().unwrap_or(0) > 0 {
        let last = job["spec"]["completions"].as_i64().unwrap_or(1) - 1;
        let host = format!("{}-{last}", text(&job["metadata"], "name"));
        if !crate::names::dns1123_label(&host).is_empty() {
            let field = Path::new("metadata").child("name");
            let text = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(Error::invalid(&field, job["metadata"]["name"].clone(), text));
        }
    }
}

fn only_generated(labels: &Value) -> bool {
    const GENERATED: [&str; 4] = [UID_LABEL, NAME_LABEL, OLD_UID_LABEL, OLD_NAME_LABEL];
    labels.as_object().is_some_and(|labels| labels.keys().all(|label| GENERATED.contains(&label.as_str())))
}

/// The generated labels must be there, and the selector must select them, unless it is declared to be manual.
fn generated_selector(job: &Value, errors: &mut Vec<Error>) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (text(&job["metadata"], "uid"), text(&job["metadata"], "name"));
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let at = Path::new("spec").child("template").child("metadata").child("labels");
    let expected = [(OLD_UID_LABEL, uid), (OLD_NAME_LABEL, name), (UID_LABEL, uid), (NAME_LABEL, name)];
    for (label, value) in expected {
        let must = format!("must be '{value}'");
        match labels.get(label).and_then(Value::as_str) {
            Some(have) if have == value => {}
            Some(_) => errors.push(Error::invalid(&at.key(label), labels.clone(), must)),
            None => errors.push(Error::required(&at.key(label), must)),
        }
    }
    let selector = &job["spec"]["selector"];
    let generated = Value::Object(expected.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect());
    if selector.is_null() || !selects(selector, &generated) {
        let field = Path::new("spec").child("selector");
        errors.push(Error::invalid(&field, selector.clone(), "`selector` not auto-generated"));
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
    pod_template::validate_template(template, &template_path, errors);
    let restart = text(&template["spec"], "restartPolicy");
    if restart == "Always" || restart.is_empty() {
        let field = template_path.child("spec").child("restartPolicy");
        errors.push(Error::required(&field, "valid values: \"OnFailure\", \"Never\""));
    } else if !matches!(restart, "OnFailure" | "Never") {
        let field = template_path.child("spec").child("restartPolicy");
        errors.push(Error::not_supported_in_order(&field, restart, ["OnFailure", "Never"]));
    } else if has(spec, "podFailurePolicy") && restart != "Never" {
        let field = template_path.child("spec").child("restartPolicy");
        let text = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(Error::invalid(&field, restart, text));
    }
    managed_by(spec, path, errors);
    completion_mode(spec, path, errors);
    if has(spec, "podFailurePolicy") {
        policy::failure(spec, &path.child("podFailurePolicy"), errors);
    }
    let known: &[&str] = if has(spec, "podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    one_of(spec, "podReplacementPolicy", known, path, errors);
    if has(spec, "successPolicy") {
        policy::success(spec, path, errors);
    }
}

/// Who takes care of the job, if not this cluster's controller: `domain.example/name`.
fn managed_by(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    const LONGEST: usize = 63;
    let Some(name) = spec["managedBy"].as_str() else { return };
    let field = path.child("managedBy");
    crate::names::domain_prefixed_path(name, &field, errors);
    if name.len() > LONGEST {
        errors.push(Error::too_long(&field, i64::try_from(LONGEST).unwrap_or(i64::MAX)));
    }
}

/// Most Pods, failed indexes and completions of an Indexed job.
const MOST: i64 = 100_000;
/// The same for jobs with more completions than [`MOST`] that limit failures per index.
const MOST_OF_MANY: i64 = 10_000;

fn completion_mode(spec: &Value, path: &Path, errors: &mut Vec<Error>) {
    one_of(spec, "completionMode", &["NonIndexed", "Indexed"], path, errors);
    let number = |name: &str| spec[name].as_i64();
    let (completions, parallelism, failed) = (number("completions"), number("parallelism"), number("maxFailedIndexes"));
    if failed.is_some() && !has(spec, "backoffLimitPerIndex") {
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if text(spec, "completionMode") != "Indexed" {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if text(spec, "completionMode") == "NonIndexed" && has(spec, name) {
                let text = "requires indexed completion mode";
                errors.push(Error::invalid(&path.child(name), spec[name].clone(), text));
            }
        }
        return;
    }
    if completions.is_none() {
        errors.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    let mut at_most = |name: &str, value: Option<i64>, most: i64, more: &str| {
        if let Some(value) = value.filter(|value| *value > most) {
            let text = format!("must be less than or equal to {most}{more}");
            errors.push(Error::invalid(&path.child(name), value, text));
        }
    };
    at_most("parallelism", parallelism, MOST, " when completion mode is Indexed");
    at_most("maxFailedIndexes", failed, MOST, "");
    let many = completions.is_some_and(|n| n > MOST) && has(spec, "backoffLimitPerIndex");
    if many {
        let more = format!(" when completions are above {MOST} and used with backoff limit per index");
        at_most("parallelism", parallelism, MOST_OF_MANY, &more);
        at_most("maxFailedIndexes", failed, MOST_OF_MANY, &more);
    }
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        let text = "must be less than or equal to completions";
        errors.push(Error::invalid(&path.child("maxFailedIndexes"), failed, text));
    }
    if many && failed.is_none() {
        let text = format!("must be specified when completions is above {MOST}");
        errors.push(Error::required(&path.child("maxFailedIndexes"), text));
    }
}

fn validate_update(new: &Value, old: &Value, part: Part, errors: &mut Vec<Error>) {
    crate::meta::validate_builtin_finalizers(
        &new["metadata"]["finalizers"],
        &Path::new("metadata").child("finalizers"),
        errors,
    );
    if part == Part::Status {
        status::validate_update(new, old, errors);
    }
    if part != Part::Main {
        return;
    }
    let path = Path::new("spec");
    generated_selector(new, errors);
    // Kubernetes checks the spec twice here, and says everything twice.
    validate_spec(&new["spec"], &path, true, errors);
    validate_spec(&new["spec"], &path, true, errors);
    let (old_job, new, old) = (old, &new["spec"], &old["spec"]);
    completions(new, old, &path, errors);
    for name in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        let before = errors.len();
        immutable(new, old, name, &path, errors);
        let type_ = match name {
            "podFailurePolicy" => "PodFailurePolicy",
            "successPolicy" => "SuccessPolicy",
            _ => continue,
        };
        if let Some(error) = errors.get_mut(before) {
            *error = error.clone().show_value(crate::internal::text(type_, &new[name]));
        }
    }
    template(new, old, status::at_rest(&old_job["spec"], &old_job["status"]), &path, errors);
}

/// Completions are fixed, except that an indexed job scales when both numbers change together.
fn completions(new: &Value, old: &Value, path: &Path, errors: &mut Vec<Error>) {
    let elastic = text(new, "completionMode") == "Indexed";
    if elastic && !has(new, "completions") {
        return;
    }
    if !elastic {
        immutable(new, old, "completions", path, errors);
        return;
    }
    if new["completions"] != old["completions"] && new["completions"] != new["parallelism"] {
        let text = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(&path.child("completions"), new["completions"].clone(), text));
    }
}

/// The template is fixed, except where a job that was suspended and at rest when it changed may be rescheduled.
fn template(new: &Value, old: &Value, at_rest: bool, path: &Path, errors: &mut Vec<Error>) {
    let mut template = new["template"].clone();
    if at_rest {
        if let Some(spec) = template.get_mut("spec") {
            let before = &old["template"]["spec"];
            for name in ["nodeSelector", "tolerations", "schedulingGates"] {
                copy(spec, before, name);
            }
            if before["affinity"]["nodeAffinity"] != spec["affinity"]["nodeAffinity"] {
                copy(spec, before, "affinity");
            }
            for list in ["containers", "initContainers"] {
                for (i, container) in crate::kinds::edit::items_mut(spec, list).enumerate() {
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
    let path_of_spec = path.child("template").child("spec");
    if at_rest && template["spec"] != old["template"]["spec"] {
        let shown = crate::internal::text("PodSpec", &new["template"]["spec"]);
        let value = new["template"]["spec"].clone();
        errors.push(Error::invalid(&path_of_spec, value, crate::meta::IMMUTABLE).show_value(shown));
    } else if template["spec"] != old["template"]["spec"] || template["metadata"] != old["template"]["metadata"] {
        let shown = crate::internal::text("PodTemplateSpec", &new["template"]);
        let value = new["template"].clone();
        errors.push(Error::invalid(&path.child("template"), value, crate::meta::IMMUTABLE).show_value(shown));
    }
}

fn warnings(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    if old.is_some() {
        return;
    }
    let name = text(&new["metadata"], "name");
    let wrong = crate::names::dns1123_label(name);
    if !wrong.is_empty() {
        out.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
    let number = |name: &str| new["spec"][name].as_i64().unwrap_or_default();
    let indexed = text(&new["spec"], "completionMode") == "Indexed";
    if indexed && number("completions") > MOST && number("parallelism") > MOST_OF_MANY {
        out.push("In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".to_owned());
    }
    pod::warnings::of_spec(&new["spec"]["template"]["spec"], "spec.template.spec", out);
}
