//! A job in `kubectl get jobs`.

use jiff::Timestamp;
use serde_json::Value;

use crate::duration;
use crate::kinds::check::selector_text;
use crate::kinds::edit::{has, items, text};
use crate::table::{AGE, Column, NAME, Row, age, column, name, since};

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

pub(super) fn columns() -> &'static [Column] {
    &COLUMNS
}

pub(super) fn row(job: &Value, now: Timestamp) -> Row {
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
