//! What may become of a job's status. Whoever takes care of a job, this cluster's controller or another, a status that
//! says it has ended must stay that way, and must fit together.
//!
//! A rule is about what changes: a status that broke it before may still be written, so that it can be repaired.

use std::collections::BTreeSet;

use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::policy::{Intervals, number_of_indexes};
use crate::kinds::check::not_negative;
use crate::kinds::edit::{has, items, text};

/// What is wrong with a status update.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Vec<Error>) {
    let path = Path::new("status");
    let change = Change { spec: &new["spec"], new: &new["status"], old: &old["status"], path: &path };
    numbers(&new["status"], &path, errors);
    change.end(errors);
    change.indexes(errors);
    change.pods(errors);
    change.success(errors);
    change.transition(errors);
}

fn is(status: &Value, condition: &str) -> bool {
    items(status, "conditions").iter().any(|c| text(c, "type") == condition && text(c, "status") == "True")
}

/// Whether a job is suspended and has nothing left that runs.
pub(super) fn at_rest(spec: &Value, status: &Value) -> bool {
    let stopped = is(status, "Suspended") && number(status, "active") == 0;
    spec["suspend"] == true && (!has(status, "startTime") || stopped)
}

fn finished(status: &Value) -> bool {
    is(status, "Complete") || is(status, "Failed")
}

fn number(status: &Value, name: &str) -> i64 {
    status[name].as_i64().unwrap_or_default()
}

fn numbers(status: &Value, path: &Path, errors: &mut Vec<Error>) {
    for name in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(status, name, path, errors);
    }
    let path = path.child("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        for (i, uid) in items(&status["uncountedTerminatedPods"], list).iter().enumerate() {
            let field = path.child(list).index(i);
            match uid.as_str().unwrap_or_default() {
                "" => errors.push(Error::invalid(&field, "", "must not be empty")),
                uid if !seen.insert(uid) => errors.push(Error::duplicate(&field, uid)),
                _ => {}
            }
        }
    }
}

struct Change<'a> {
    spec: &'a Value,
    new: &'a Value,
    old: &'a Value,
    path: &'a Path,
}

impl Change<'_> {
    /// Whether any of these members is not what it was.
    fn changed(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.new[*name] != self.old[*name])
    }

    /// Whether any of these conditions came or went.
    fn turned(&self, conditions: &[&str]) -> bool {
        conditions.iter().any(|condition| is(self.new, condition) != is(self.old, condition))
    }

    fn ended(&self) -> bool {
        finished(self.new) != finished(self.old)
    }

    fn conditions(&self, why: impl Into<String>) -> Error {
        Error::invalid(&self.path.child("conditions"), Value::Null, why).omit_value()
    }

    fn invalid(&self, name: &str, why: impl Into<String>) -> Error {
        Error::invalid(&self.path.child(name), self.new[name].clone(), why)
    }

    /// The conditions of the end and its times.
    fn end(&self, errors: &mut Vec<Error>) {
        let (complete, failed) = (is(self.new, "Complete"), is(self.new, "Failed"));
        if self.turned(&["Complete", "Failed"]) && complete && failed {
            errors.push(self.conditions("cannot set Complete=True and Failed=true conditions"));
        }
        if self.turned(&["Complete", "FailureTarget"]) && complete && is(self.new, "FailureTarget") {
            errors.push(self.conditions("cannot set Complete=True and FailureTarget=true conditions"));
        }
        let timed = has(self.new, "completionTime");
        if self.turned(&["Complete"]) || self.changed(&["completionTime"]) {
            if timed && !complete {
                let why = "cannot set completionTime when there is no Complete=True condition";
                errors.push(self.invalid("completionTime", why));
            }
            if !timed && complete {
                let why = "completionTime is required for Complete jobs";
                errors.push(Error::required(&self.path.child("completionTime"), why));
            }
        }
        // Times are in canonical form, so their texts are in order.
        let reversed = text(self.new, "completionTime") < text(self.new, "startTime");
        if self.changed(&["startTime", "completionTime"]) && timed && has(self.new, "startTime") && reversed {
            errors.push(self.invalid("completionTime", "completionTime cannot be set before startTime"));
        }
        if (self.turned(&["Failed"]) || self.changed(&["failedIndexes"])) && failed && !is(self.new, "FailureTarget") {
            errors.push(self.conditions("cannot set Failed=True condition without the FailureTarget=true condition"));
        }
        let criteria = is(self.new, "SuccessCriteriaMet");
        if self.turned(&["Complete", "SuccessCriteriaMet"]) && complete && !criteria {
            let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            errors.push(self.conditions(why));
        }
        if !finished(self.new) {
            return;
        }
        if (self.ended() || self.changed(&["active"])) && number(self.new, "active") > 0 {
            errors.push(self.invalid("active", "active>0 is invalid for finished job"));
        }
        // A job that wants nothing and is suspended ends without ever having started.
        let idle = self.spec["suspend"] == true && self.spec["completions"] == 0;
        if (self.ended() || self.changed(&["startTime"])) && !idle && !has(self.new, "startTime") {
            let why = "startTime is required for finished job";
            errors.push(Error::required(&self.path.child("startTime"), why));
        }
        let uncounted = &self.new["uncountedTerminatedPods"];
        let any = ["succeeded", "failed"].iter().any(|list| !items(uncounted, list).is_empty());
        if (self.ended() || self.changed(&["uncountedTerminatedPods"])) && any {
            let why = "uncountedTerminatedPods needs to be empty for finished job";
            let shown = format!(r#"{{"Succeeded":{},"Failed":{}}}"#, uncounted["succeeded"], uncounted["failed"]);
            errors.push(self.invalid("uncountedTerminatedPods", why).show_value(shown));
        }
    }

    fn indexes(&self, errors: &mut Vec<Error>) {
        let completions = self.spec["completions"].as_i64();
        let (completed, failed) = (text(self.new, "completedIndexes"), self.new["failedIndexes"].as_str());
        let per_index = has(self.spec, "backoffLimitPerIndex");
        let parse = |name: &str, indexes: &str| {
            let why = number_of_indexes(indexes, completions?).err()?;
            Some(Error::invalid(&self.path.child(name), indexes, format!("error parsing {name}: {why}")))
        };
        if self.changed(&["completedIndexes"]) {
            errors.extend(parse("completedIndexes", completed));
        }
        if let Some(failed) = failed.filter(|_| per_index && self.changed(&["failedIndexes"])) {
            errors.extend(parse("failedIndexes", failed));
        }
        let indexed = text(self.spec, "completionMode") == "Indexed";
        if self.changed(&["completedIndexes"]) && !completed.is_empty() && !indexed {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            errors.push(self.invalid("completedIndexes", why));
        }
        if self.changed(&["failedIndexes"]) && failed.is_some() && !per_index {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            errors.push(self.invalid("failedIndexes", why));
        }
        if self.changed(&["completedIndexes", "failedIndexes"])
            && let (Some(completions), Some(failed)) = (completions, failed)
            && let Some(index) = overlap(completed, failed, completions)
        {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.push(self.invalid("failedIndexes", why));
        }
    }

    fn pods(&self, errors: &mut Vec<Error>) {
        let terminating = self.ended() || self.changed(&["terminating"]);
        if terminating && number(self.new, "terminating") > 0 && finished(self.new) {
            errors.push(self.invalid("terminating", "terminating>0 is invalid for finished job"));
        }
        let ready = self.new["ready"].as_i64().is_some_and(|ready| ready > number(self.new, "active"));
        if self.changed(&["ready", "active"]) && ready {
            errors.push(self.invalid("ready", "cannot set more ready pods than active"));
        }
    }

    fn success(&self, errors: &mut Vec<Error>) {
        let criteria = is(self.new, "SuccessCriteriaMet");
        if criteria && is(self.new, "Failed") {
            errors.push(self.conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions"));
        }
        if criteria && is(self.new, "FailureTarget") {
            errors.push(self.conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"));
        }
        if has(self.spec, "successPolicy") && !criteria && is(self.new, "Complete") {
            let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
            errors.push(self.conditions(why));
        }
    }

    /// What does not go back.
    fn transition(&self, errors: &mut Vec<Error>) {
        for condition in ["Failed", "Complete", "FailureTarget"] {
            if is(self.old, condition) && !is(self.new, condition) {
                errors.push(self.conditions(format!("cannot disable the terminal {condition}=True condition")));
            }
        }
        if number(self.new, "failed") < number(self.old, "failed") {
            let (field, now) = (self.path.child("failed"), number(self.new, "failed"));
            errors.push(Error::invalid(&field, now, "cannot decrease the failed counter"));
        }
        // An indexed job whose two numbers are equal can be made smaller.
        let elastic =
            text(self.spec, "completionMode") == "Indexed" && self.spec["completions"] == self.spec["parallelism"];
        if !elastic && number(self.new, "succeeded") < number(self.old, "succeeded") {
            let (field, now) = (self.path.child("succeeded"), number(self.new, "succeeded"));
            errors.push(Error::invalid(&field, now, "cannot decrease the succeeded counter"));
        }
        let kept = |name: &str| !has(self.old, name) || self.new[name] == self.old[name];
        if has(self.new, "completionTime") && !kept("completionTime") {
            errors.push(self.invalid("completionTime", "completionTime cannot be mutated"));
        }
        let resumed = is(self.old, "Suspended") && !is(self.new, "Suspended");
        if !kept("startTime") && self.spec["suspend"] != true && !resumed {
            let why = "startTime cannot be removed for unsuspended job";
            errors.push(Error::required(&self.path.child("startTime"), why));
        }
        if is(self.old, "SuccessCriteriaMet") && !is(self.new, "SuccessCriteriaMet") {
            errors.push(self.conditions("cannot disable the SuccessCriteriaMet=True condition"));
        }
        let late = is(self.old, "Complete") && !is(self.old, "SuccessCriteriaMet");
        if late && is(self.new, "SuccessCriteriaMet") {
            let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            errors.push(self.conditions(why));
        }
    }
}

/// The first index that both have; intervals that cannot be read are left out.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Intervals {
        text.split(',').filter_map(|interval| super::policy::interval(interval, completions).ok()).collect()
    };
    let (completed, failed) = (intervals(completed), intervals(failed));
    let (mut c, mut f) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some((c_from, c_to)), Some((f_from, f_to))) = (c.peek(), f.peek()) {
        if c_from <= f_to && f_from <= c_to {
            return Some(*c_from.max(f_from));
        }
        if c_from <= f_from {
            c.next()
        } else {
            f.next()
        };
    }
    None
}
