//! When finished Tasks are deleted: by age, and by count.

use jiff::{SignedDuration, Timestamp};
use kubetask_api::config::KeepLast;
use kubetask_api::{KubeTaskConfig, TaskPhase};

/// For how long finished Tasks are kept unless a KubeTaskConfig says otherwise: seven days.
pub const DEFAULT_TTL_SECONDS: i32 = 604_800;

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

/// A finished Task, as far as retention by count is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its name.
    pub name: String,
    /// Completed or Failed.
    pub phase: TaskPhase,
    /// When.
    pub completed: Timestamp,
}

/// The Tasks that are too many, oldest first.
pub fn surplus(finished: &[Finished], keep: &KeepLast) -> Vec<String> {
    let mut out: Vec<&Finished> = Vec::new();
    for (phase, limit) in [(TaskPhase::Completed, keep.completed), (TaskPhase::Failed, keep.failed)] {
        let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else { continue };
        let mut of_phase: Vec<&Finished> = finished.iter().filter(|f| f.phase == phase).collect();
        of_phase.sort_by(|a, b| b.completed.cmp(&a.completed).then_with(|| a.name.cmp(&b.name)));
        out.extend(of_phase.into_iter().skip(limit));
    }
    out.sort_by(|a, b| a.completed.cmp(&b.completed).then_with(|| a.name.cmp(&b.name)));
    out.into_iter().map(|f| f.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use kubetask_api::KubeTaskConfigSpec;
    use kubetask_api::config::TaskLifecycle;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn config(ttl: Option<i32>) -> KubeTaskConfig {
        let task_lifecycle = Some(TaskLifecycle { ttl_seconds_after_finished: ttl, keep_last: None });
        KubeTaskConfig::new("default", KubeTaskConfigSpec { task_lifecycle, ..KubeTaskConfigSpec::default() })
    }

    #[test]
    fn ttl() {
        assert_eq!(expires(at(0), None), Some(at(604_800)));
        assert_eq!(expires(at(0), Some(&config(None))), Some(at(604_800)));
        assert_eq!(expires(at(5), Some(&config(Some(10)))), Some(at(15)));
        assert_eq!(expires(at(5), Some(&config(Some(0)))), None);
    }

    #[test]
    fn keep_last() {
        let task = |name: &str, phase, second| Finished { name: name.to_owned(), phase, completed: at(second) };
        let all = [
            task("c1", TaskPhase::Completed, 1),
            task("f1", TaskPhase::Failed, 2),
            task("c3", TaskPhase::Completed, 3),
            task("c2", TaskPhase::Completed, 2),
        ];
        let keep = |completed, failed| surplus(&all, &KeepLast { completed, failed });
        assert_eq!(keep(None, None), Vec::<String>::new());
        assert_eq!(keep(Some(1), None), ["c1", "c2"]);
        assert_eq!(keep(Some(0), Some(0)), ["c1", "c2", "f1", "c3"]);
        assert_eq!(keep(Some(9), Some(1)), Vec::<String>::new());
    }
}
