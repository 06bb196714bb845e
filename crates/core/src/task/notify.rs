//! What a namespace's webhook is to be told of.
//!
//! It is written down in the status together with what happened, in one write: whoever tells it may be another process,
//! after a restart, and nothing is forgotten between.

use kubetask_api::config::{NotificationEvent, Notifications};
use kubetask_api::{KubeTaskConfig, Task, TaskPhase, TaskStatus, reasons};

/// Notes in a new status what is to be told of it.
pub(super) fn note(task: &Task, notifications: Option<&Notifications>, status: &mut TaskStatus) {
    let Some(notifications) = notifications else { return };
    let (was, is) = (task.phase(), status.phase.unwrap_or_default());
    let phase = (was != is).then_some(match is {
        TaskPhase::Pending => None,
        TaskPhase::Running => Some(NotificationEvent::Started),
        TaskPhase::Completed => Some(NotificationEvent::Completed),
        TaskPhase::Failed => Some(NotificationEvent::Failed),
    });
    let waited = task.status.as_ref().is_some_and(waits_for_human);
    // An agent that is quick may wait for a person before anybody saw it at work.
    let human = (!waited && waits_for_human(status)).then_some(NotificationEvent::WaitingForHuman);
    for event in phase.flatten().into_iter().chain(human) {
        if is_wanted(notifications, event) && !status.pending_notifications.contains(&event) {
            status.pending_notifications.push(event);
        }
    }
}

/// What is wanted in a namespace: what its configuration says, else what holds for all.
pub fn wanted<'a>(config: Option<&'a KubeTaskConfig>, usual: Option<&'a Notifications>) -> Option<&'a Notifications> {
    config.and_then(|config| config.spec.notifications.as_ref()).or(usual)
}

/// Whether the agent has ended and its container stays for a person.
fn waits_for_human(status: &TaskStatus) -> bool {
    status.reason.as_deref() == Some(reasons::WAITING_FOR_HUMAN)
}

/// Whether somebody wants to be told.
pub fn is_wanted(notifications: &Notifications, event: NotificationEvent) -> bool {
    if notifications.events.is_empty() {
        return matches!(event, NotificationEvent::Completed | NotificationEvent::Failed);
    }
    notifications.events.contains(&event)
}

#[cfg(test)]
mod tests {
    use kubetask_api::{KubeTaskConfigSpec, TaskSpec};

    use super::*;

    #[test]
    fn what_is_wanted_is_noted_once() {
        let config = |events: &[NotificationEvent]| {
            let notifications = Some(Notifications { events: events.to_vec(), ..Notifications::default() });
            KubeTaskConfig::new("default", KubeTaskConfigSpec { notifications, ..KubeTaskConfigSpec::default() })
        };
        let check =
            |was: TaskPhase, is: TaskPhase, events: Option<&[NotificationEvent]>, expect: &[NotificationEvent]| {
                let mut task = Task::new("t", TaskSpec::default());
                task.status = Some(TaskStatus { phase: Some(was), ..TaskStatus::default() });
                let mut status = TaskStatus { phase: Some(is), ..TaskStatus::default() };
                let config = events.map(config);
                note(&task, wanted(config.as_ref(), None), &mut status);
                assert_eq!(status.pending_notifications, expect, "{was} to {is}");
            };
        use NotificationEvent::{Completed, Failed, Started};
        let usual = Notifications { webhook_url: Some("http://all".into()), ..Notifications::default() };
        assert_eq!(wanted(None, Some(&usual)), Some(&usual));
        assert_eq!(wanted(Some(&config(&[Started])), Some(&usual)).map(|wanted| &*wanted.events), Some(&[Started][..]));
        check(TaskPhase::Running, TaskPhase::Failed, None, &[]);
        check(TaskPhase::Running, TaskPhase::Failed, Some(&[]), &[Failed]);
        check(TaskPhase::Pending, TaskPhase::Completed, Some(&[]), &[Completed]);
        check(TaskPhase::Pending, TaskPhase::Running, Some(&[]), &[]);
        check(TaskPhase::Pending, TaskPhase::Running, Some(&[Started]), &[Started]);
        check(TaskPhase::Running, TaskPhase::Running, Some(&[Started]), &[]);
        check(TaskPhase::Running, TaskPhase::Completed, Some(&[Failed]), &[]);
    }

    #[test]
    fn waiting_for_a_human_is_noted_when_it_begins() {
        use NotificationEvent::{Started, WaitingForHuman};
        let notifications = Some(Notifications { events: vec![Started, WaitingForHuman], ..Notifications::default() });
        let config = KubeTaskConfig::new("default", KubeTaskConfigSpec { notifications, ..Default::default() });
        let status = |phase, reason: &str| TaskStatus {
            phase: Some(phase),
            reason: Some(reason.to_owned()),
            ..TaskStatus::default()
        };
        let waits = status(TaskPhase::Running, reasons::WAITING_FOR_HUMAN);
        let noted = |was: TaskStatus| {
            let mut task = Task::new("t", TaskSpec::default());
            task.status = Some(was);
            let mut new = waits.clone();
            note(&task, config.spec.notifications.as_ref(), &mut new);
            new.pending_notifications
        };
        assert_eq!(noted(status(TaskPhase::Running, reasons::RUNNING)), [WaitingForHuman]);
        assert_eq!(noted(status(TaskPhase::Pending, reasons::JOB_CREATED)), [Started, WaitingForHuman]);
        assert_eq!(noted(waits.clone()), []);
    }
}
