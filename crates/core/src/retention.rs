//! When finished Tasks are deleted: by age, by count, and not before they are archived.

mod kept;

use jiff::{SignedDuration, Timestamp};
use kubetask_api::{KubeTaskConfig, Task, conditions, labels};

pub use kept::{Finished, Kept, surplus};

/// For how long finished Tasks are kept unless a KubeTaskConfig says otherwise: seven days.
pub const DEFAULT_TTL_SECONDS: i32 = 604_800;
/// For how long a finished Task is kept because its webhook has not been told yet; then nobody is told any more.
pub const NOTIFY_WITHIN: SignedDuration = SignedDuration::from_secs(3600);

/// When a Task that completed then is deleted; `None` for never.
pub fn expires(completed: Timestamp, config: Option<&KubeTaskConfig>) -> Option<Timestamp> {
    let ttl = config
        .and_then(|c| c.spec.task_lifecycle.as_ref())
        .and_then(|l| l.ttl_seconds_after_finished)
        .unwrap_or(DEFAULT_TTL_SECONDS);
    if ttl <= 0 {
        return None;
    }
    completed.checked_add(SignedDuration::from_secs(i64::from(ttl))).ok()
}

/// What shall become of a finished Task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, for ever or until then.
    Stays(Option<Timestamp>),
    /// It goes.
    Goes,
}

/// What shall become of a finished Task. `surplus`: newer ones are as many as are kept.
pub fn fate(now: Timestamp, task: &Task, config: Option<&KubeTaskConfig>, surplus: bool) -> Fate {
    let Some(status) = &task.status else { return Fate::Stays(None) };
    let Some(completed) = status.completion_time.as_ref().map(|at| at.0) else { return Fate::Stays(None) };
    let at = if surplus { Some(completed) } else { expires(completed, config) };
    let Some(at) = at else { return Fate::Stays(None) };
    if at > now {
        return Fate::Stays(Some(at));
    }
    // Whoever takes it out of this state brings another look.
    if wants_archive(task, config) {
        return Fate::Stays(None);
    }
    match completed.checked_add(NOTIFY_WITHIN) {
        Ok(until) if !status.pending_notifications.is_empty() && now < until => Fate::Stays(Some(until)),
        _ => Fate::Goes,
    }
}

/// Whether a finished Task is still to be written to the archive of its namespace.
pub fn wants_archive(task: &Task, config: Option<&KubeTaskConfig>) -> bool {
    let archived = || task.status.as_ref().is_some_and(|s| conditions::is_true(&s.conditions, conditions::ARCHIVED));
    let skipped = || {
        let annotations = task.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(labels::SKIP_ARCHIVE)).is_some_and(|value| value == "true")
    };
    config.is_some_and(|config| config.spec.archive.is_some()) && !archived() && !skipped()
}

#[cfg(test)]
mod tests {
    use kubetask_api::config::{Archive, NotificationEvent, TaskLifecycle};
    use kubetask_api::{KubeTaskConfigSpec, TaskSpec, TaskStatus};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn config(ttl: Option<i32>, archive: bool) -> KubeTaskConfig {
        let task_lifecycle = Some(TaskLifecycle { ttl_seconds_after_finished: ttl, keep_last: None });
        let archive = archive.then(|| Archive { url: "file:///a".to_owned(), secret_ref: None });
        KubeTaskConfig::new("default", KubeTaskConfigSpec { task_lifecycle, archive, notifications: None })
    }

    fn finished(second: i64) -> Task {
        let mut task = Task::new("t", TaskSpec::default());
        let completion_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(second)));
        task.status = Some(TaskStatus { completion_time, ..TaskStatus::default() });
        task
    }

    #[test]
    fn ttl() {
        assert_eq!(expires(at(0), None), Some(at(604_800)));
        assert_eq!(expires(at(0), Some(&config(None, false))), Some(at(604_800)));
        assert_eq!(expires(at(5), Some(&config(Some(10), false))), Some(at(15)));
        assert_eq!(expires(at(5), Some(&config(Some(0), false))), None);
    }

    #[test]
    fn what_becomes_of_a_finished_task() {
        let task = finished(100);
        let short = config(Some(10), false);
        assert_eq!(fate(at(105), &task, Some(&short), false), Fate::Stays(Some(at(110))));
        assert_eq!(fate(at(110), &task, Some(&short), false), Fate::Goes);
        assert_eq!(fate(at(105), &task, Some(&short), true), Fate::Goes);
        assert_eq!(fate(at(105), &task, Some(&config(Some(0), false)), false), Fate::Stays(None));
    }

    #[test]
    fn nothing_is_deleted_unarchived_unless_told_so() {
        let mut task = finished(100);
        let config = config(Some(10), true);
        assert_eq!(fate(at(500), &task, Some(&config), false), Fate::Stays(None));
        assert_eq!(fate(at(500), &task, Some(&config), true), Fate::Stays(None));
        let skip = [(labels::SKIP_ARCHIVE.to_owned(), "true".to_owned())];
        let skipped = Task {
            metadata: kube::api::ObjectMeta { annotations: Some(skip.into()), ..Default::default() },
            ..task.clone()
        };
        assert_eq!(fate(at(500), &skipped, Some(&config), false), Fate::Goes);
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(400));
        let conditions = &mut task.status.as_mut().unwrap().conditions;
        conditions::set(conditions, &now, None, (conditions::ARCHIVED, false, "ArchiveFailed"), "no");
        assert_eq!(fate(at(500), &task, Some(&config), false), Fate::Stays(None));
        let conditions = &mut task.status.as_mut().unwrap().conditions;
        conditions::set(conditions, &now, None, (conditions::ARCHIVED, true, "Archived"), "file:///a/t");
        assert_eq!(fate(at(500), &task, Some(&config), false), Fate::Goes);
    }

    #[test]
    fn what_was_not_told_yet_holds_a_task_for_an_hour() {
        let mut task = finished(100);
        task.status.as_mut().unwrap().pending_notifications = vec![NotificationEvent::Failed];
        let config = config(Some(10), false);
        assert_eq!(fate(at(500), &task, Some(&config), false), Fate::Stays(Some(at(3700))));
        assert_eq!(fate(at(3700), &task, Some(&config), false), Fate::Goes);
    }
}
