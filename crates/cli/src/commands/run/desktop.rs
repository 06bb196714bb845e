//! Telling the desktop that Tasks have ended, or wait for a person.

use std::process::{Command, ExitStatus, Stdio};

use kubetask_api::{Task, TaskPhase};

use crate::output::Output;

/// Tells of Tasks that ended, with `notify-send`. Where there is none, that is said, and nothing fails.
pub(super) fn tell(ended: &[Task], output: Output) {
    let (title, text, urgent) = words(ended);
    match send(&title, &text, urgent) {
        Ok(status) if status.success() => {}
        Ok(_) => output.say("notify-send could not tell the desktop"),
        Err(_) => output.say("--notify: there is no notify-send (package libnotify-bin or libnotify)"),
    }
}

/// Tells of a Task whose container stays for a person. What goes wrong is said when Tasks have ended.
pub(super) fn waits(task: &Task) {
    let (title, text) = words_of_waiting(task);
    let _ = send(&title, &text, true);
}

fn send(title: &str, text: &str, urgent: bool) -> std::io::Result<ExitStatus> {
    let urgency = if urgent { "--urgency=critical" } else { "--urgency=normal" };
    Command::new("notify-send")
        .args(["--app-name=KubeTask", urgency, "--", title, text])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
}

fn name(task: &Task) -> String {
    task.metadata.name.clone().unwrap_or_default()
}

fn message(task: &Task) -> String {
    task.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default()
}

fn words_of_waiting(task: &Task) -> (String, String) {
    (format!("Task {} waits for you", name(task)), message(task))
}

/// Title, text, and whether something failed.
fn words(ended: &[Task]) -> (String, String, bool) {
    let failed: Vec<&Task> = ended.iter().filter(|task| task.phase() == TaskPhase::Failed).collect();
    match (ended, failed.as_slice()) {
        ([task], []) => (format!("Task {} completed", name(task)), message(task), false),
        ([task], _) => (format!("Task {} failed", name(task)), message(task), true),
        (all, []) => (format!("{} Tasks completed", all.len()), String::new(), false),
        (all, failed) => {
            let names: Vec<String> = failed.iter().take(5).map(|task| name(task)).collect();
            (format!("{} of {} Tasks failed", failed.len(), all.len()), names.join(", "), true)
        }
    }
}

#[cfg(test)]
mod tests {
    use kubetask_api::{TaskSpec, TaskStatus};

    use super::*;

    #[test]
    fn what_is_told() {
        let task = |name: &str, phase, message: &str| {
            let mut task = Task::new(name, TaskSpec::default());
            task.status =
                Some(TaskStatus { phase: Some(phase), message: Some(message.to_owned()), ..TaskStatus::default() });
            task
        };
        let good = task("a", TaskPhase::Completed, "the agent ended with exit code 0");
        let bad = task("b", TaskPhase::Failed, "exit code 3");
        assert_eq!(words_of_waiting(&good).0, "Task a waits for you");
        assert_eq!(words(std::slice::from_ref(&good)).0, "Task a completed");
        assert_eq!(words(std::slice::from_ref(&bad)), ("Task b failed".to_owned(), "exit code 3".to_owned(), true));
        assert_eq!(words(&[good.clone(), good.clone()]).0, "2 Tasks completed");
        assert_eq!(words(&[good, bad]), ("1 of 2 Tasks failed".to_owned(), "b".to_owned(), true));
    }
}
