//! What is said of a Task that ended, and the exit code it gives.

use kubetask_api::{Task, TaskPhase, reasons};

use crate::commands::changes;
use crate::exit_codes;
use crate::output::{Output, plain_text};

/// The exit code of `run` and `wait` for a finished Task: the agent's own, or why there is none.
#[must_use]
pub fn exit_code(task: &Task) -> u8 {
    let Some(status) = &task.status else { return exit_codes::FAILURE };
    match status.phase {
        Some(TaskPhase::Completed) => exit_codes::OK,
        _ if status.reason.as_deref() == Some(reasons::DEADLINE_EXCEEDED) => exit_codes::TIMEOUT,
        _ => match status.exit_code.map(u8::try_from) {
            Some(Ok(code)) if code != 0 => code,
            _ => exit_codes::FAILURE,
        },
    }
}

/// Prints phase, duration, exit code, message and result.
pub fn print(output: Output, task: &Task) {
    let p = output.palette;
    let name = task.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = &task.status else { return };
    let (mark, color) = match status.phase {
        Some(TaskPhase::Completed) => ("✓", p.green),
        _ => ("✗", p.red),
    };
    let phase = status.phase.unwrap_or_default();
    let mut line =
        format!("{color}{mark} {}{name}{}{color} {}{}", p.bold, p.reset, phase.as_str().to_lowercase(), p.reset);
    if let Some(duration) = duration(task) {
        line.push_str(&format!(" in {duration}"));
    }
    if let Some(code) = status.exit_code {
        line.push_str(&format!(", exit code {code}"));
    }
    output.say(line);
    if phase == TaskPhase::Failed
        && let Some(message) = &status.message
    {
        output.say(format!("  {}", plain_text(message).replace('\n', "\n  ")));
    }
    if let Some(result) = status.result.as_deref().map(str::trim).filter(|r| !r.is_empty()) {
        output.say(format!("  {}result:{} {}", p.dim, p.reset, plain_text(result).replace('\n', "\n          ")));
    }
    for changes in &status.changes {
        output.say(format!("  {}changes:{} {}", p.dim, p.reset, changes::line(changes)));
    }
    if status.changes.iter().any(|changes| changes.files > 0) {
        output.say(format!("  {}kubetask changes {name} shows them, with --apply it applies them{}", p.dim, p.reset));
    }
}

/// How long the agent ran, e.g. `3.2s` or `2m11s`. Kubernetes keeps whole seconds.
#[must_use]
pub fn duration(task: &Task) -> Option<String> {
    let status = task.status.as_ref()?;
    let (start, end) = (status.start_time.as_ref()?, status.completion_time.as_ref()?);
    Some(human(end.0.as_second() - start.0.as_second()))
}

/// Seconds as people write them: `3s`, `2m11s`, `5h07m`.
pub(crate) fn human(seconds: i64) -> String {
    match seconds {
        ..0 => "0s".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubetask_api::TaskStatus;

    fn task(status: TaskStatus) -> Task {
        Task { status: Some(status), ..Task::default() }
    }

    #[test]
    fn exit_codes_of_finished_tasks() {
        let check = |phase, reason: &str, code, expect| {
            let status = TaskStatus {
                phase: Some(phase),
                reason: Some(reason.to_owned()),
                exit_code: code,
                ..TaskStatus::default()
            };
            assert_eq!(exit_code(&task(status)), expect, "{phase} {reason} {code:?}");
        };
        check(TaskPhase::Completed, "Completed", Some(0), 0);
        check(TaskPhase::Failed, "ExitCode", Some(3), 3);
        check(TaskPhase::Failed, "ExitCode", Some(255), 255);
        check(TaskPhase::Failed, "ExitCode", Some(300), 1);
        check(TaskPhase::Failed, "DeadlineExceeded", Some(143), 124);
        check(TaskPhase::Failed, "JobLost", None, 1);
        assert_eq!(exit_code(&Task::default()), 1);
    }

    #[test]
    fn durations() {
        assert_eq!(["0s", "59s", "1m00s", "59m59s", "2h03m"].map(String::from), [-1, 59, 60, 3599, 7380].map(human));
    }
}
