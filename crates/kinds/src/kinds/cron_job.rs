//! Cron jobs: stored; nothing here runs them.

use jiff::Timestamp;
use kubetask_schema::field::{Error, Path};
use serde_json::Value;

use super::check::{not_negative, one_of};
use super::edit::{default, ensure, first_generation, has, items, object, set, text};
use super::{finalizers, job, split_status_with_generation};
use crate::kind::{Hooks, Part};
use crate::table::{AGE, Column, NAME, Row, age, column, name, since};

pub(crate) const HOOKS: Hooks = Hooks {
    default: default_cron_job,
    prepare_create: |cron| {
        first_generation(cron);
        set(cron, "status", object());
    },
    prepare_update: split_status_with_generation,
    validate,
    validate_update: |new, _, part, errors| {
        if part == Part::Main {
            validate(new, errors);
        }
    },
    warnings: |_, old, out| {
        if old.is_none() {
            out.push("cron jobs are stored, but nothing here runs them: use a CronTask".to_owned());
        }
    },
    columns: || &COLUMNS,
    row,
    ..Hooks::NONE
};

fn default_cron_job(cron: &mut Value) {
    let Some(spec) = ensure(cron, "spec") else { return };
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    // Only the pods of the template get defaults here; those of a job come when it is created.
    if let Some(template) =
        ensure(spec, "jobTemplate").and_then(|t| ensure(t, "spec")).and_then(|s| ensure(s, "template"))
    {
        super::pod::defaults::template(template);
    }
}

fn validate(cron: &Value, errors: &mut Vec<Error>) {
    finalizers(cron, errors);
    let (spec, path) = (&cron["spec"], Path::new("spec"));
    let name = text(&cron["metadata"], "name");
    if name.len() > 52 {
        errors.push(Error::invalid(&Path::new("metadata").child("name"), name, "must be no more than 52 characters"));
    }
    let schedule = text(spec, "schedule");
    let field = path.child("schedule");
    if schedule.is_empty() {
        errors.push(Error::required(&field, ""));
    } else if !schedule.starts_with('@') && schedule.split_ascii_whitespace().count() != 5 {
        let found = schedule.split_ascii_whitespace().count();
        let text = format!("expected exactly 5 fields, found {found}: [{schedule}]");
        errors.push(Error::invalid(&field, schedule, text));
    } else if schedule.contains("TZ") {
        errors.push(Error::invalid(
            &field,
            schedule,
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ));
    }
    one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &path, errors);
    for name in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(spec, name, &path, errors);
    }
    if spec["timeZone"].as_str() == Some("") {
        errors.push(Error::invalid(&path.child("timeZone"), "", "timeZone must be nil or non-empty string"));
    } else if let Some(zone) = spec["timeZone"].as_str() {
        time_zone(zone, &path.child("timeZone"), errors);
    }
    let template = path.child("jobTemplate").child("spec");
    job::validate_spec(&spec["jobTemplate"]["spec"], &template, false, errors);
    if has(&spec["jobTemplate"]["spec"], "manualSelector") && spec["jobTemplate"]["spec"]["manualSelector"] == true {
        let field = template.child("manualSelector");
        errors.push(Error::not_supported(&field, true, &["nil", "false"]));
    }
}

static COLUMNS: [Column; 10] = [
    NAME,
    column("Schedule", "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron.", 0),
    column(
        "Timezone",
        "The time zone name for the given schedule, see https://en.wikipedia.org/wiki/List_of_tz_database_time_zones. If not specified, this will default to the time zone of the kube-controller-manager process. The set of valid time zone names and the time zone offset is loaded from the system-wide time zone database by the API server during CronJob validation and the controller manager during execution. If no system-wide time zone database can be found a bundled version of the database is used instead. If the time zone name becomes invalid during the lifetime of a CronJob or due to a change in host configuration, the controller will stop creating new new Jobs and will create a system event with the reason UnknownTimeZone. More information can be found in https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#time-zones",
        0,
    ),
    column(
        "Suspend",
        "This flag tells the controller to suspend subsequent executions, it does not apply to already started executions.  Defaults to false.",
        0,
    ),
    column("Active", "A list of pointers to currently running jobs.", 0),
    column("Last Schedule", "Information when was the last time the job was successfully scheduled.", 0),
    AGE,
    column("Containers", "Names of each container in the template.", 1),
    column("Images", "Images referenced by each container in the template.", 1),
    column(
        "Selector",
        "A label query over pods that should match the pod count. Normally, the system sets this field for you. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
        1,
    ),
];

/// A name as the time zone database has it.
fn time_zone(zone: &str, at: &Path, errors: &mut Vec<Error>) {
    const LONGEST: usize = 14;
    let plain = |part: &str| {
        let letters = part.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b));
        (1..=LONGEST).contains(&part.len()) && letters && !matches!(part, "." | "..") && !part.starts_with('-')
    };
    let known = zone.split('/').all(plain) && jiff::tz::TimeZone::get(zone).is_ok();
    if zone.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(Error::invalid(at, zone, why));
    } else if !known {
        errors.push(Error::invalid(at, zone, format!("unknown time zone {zone}")));
    }
}

fn row(cron: &Value, now: Timestamp) -> Row {
    let (spec, status) = (&cron["spec"], &cron["status"]);
    let containers = items(&spec["jobTemplate"]["spec"]["template"]["spec"], "containers");
    let join = |member: &str| containers.iter().map(|c| text(c, member)).collect::<Vec<_>>().join(",");
    let last =
        if has(status, "lastScheduleTime") { since(&status["lastScheduleTime"], now) } else { "<none>".to_owned() };
    let zone = if text(spec, "timeZone").is_empty() { "<none>" } else { text(spec, "timeZone") };
    let suspend = if spec["suspend"] == true { "True" } else { "False" };
    Row {
        cells: vec![
            name(cron),
            Value::from(text(spec, "schedule")),
            Value::from(zone),
            Value::from(suspend),
            Value::from(items(status, "active").len()),
            Value::from(last),
            age(cron, now),
            Value::from(join("name")),
            Value::from(join("image")),
            Value::from(super::check::selector_text(&spec["jobTemplate"]["spec"]["selector"])),
        ],
        conditions: Vec::new(),
    }
}
