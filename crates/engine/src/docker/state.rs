//! What the daemon tells of a container. Pure.

use serde_json::Value;

use super::create::{ID_LABEL, LOG_LABEL, SCOPE_LABEL};
use crate::runtime::{nanos, words};
use crate::spec::{ContainerId, ContainerState, Exit, LogSpec};

/// A container as the daemon describes it.
pub(super) struct Inspected(pub(super) Value);

impl Inspected {
    fn status(&self) -> &str {
        self.0["State"]["Status"].as_str().unwrap_or_default()
    }

    /// Whether it was made and not started, and nothing went wrong: starting it was interrupted.
    pub(super) fn never_started(&self) -> bool {
        matches!(self.status(), "created" | "configured" | "initialized") && self.error().is_none()
    }

    /// Whether it runs.
    pub(super) fn running(&self) -> bool {
        matches!(self.status(), "running" | "paused" | "restarting" | "stopping")
    }

    /// Why it did not start.
    fn error(&self) -> Option<&str> {
        self.0["State"]["Error"].as_str().filter(|error| !error.is_empty())
    }

    /// Whether it has a terminal.
    pub(super) fn tty(&self) -> bool {
        self.0["Config"]["Tty"] == true
    }

    /// Where its log goes.
    pub(super) fn log(&self) -> Option<LogSpec> {
        serde_json::from_str(self.0["Config"]["Labels"][LOG_LABEL].as_str()?).ok()
    }

    /// The state; `None` where it is not one of this engine.
    pub(super) fn state(&self, scope: &str) -> Option<ContainerState> {
        let labels = self.0["Config"]["Labels"].as_object()?;
        let text = |name: &str| labels.get(name).and_then(Value::as_str);
        if text(SCOPE_LABEL) != Some(scope) {
            return None;
        }
        let id = ContainerId(text(ID_LABEL)?.to_owned());
        let own = [SCOPE_LABEL, LOG_LABEL, ID_LABEL];
        let labels = labels.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        let labels =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        let state = &self.0["State"];
        let pid = state["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let time = |name: &str| state[name].as_str().and_then(nanos);
        let started = time("StartedAt").filter(|time| *time > 0);
        Some(ContainerState {
            id,
            labels,
            pid,
            started_at_nanos: started.or_else(|| self.0["Created"].as_str().and_then(nanos)).unwrap_or(0),
            exit: (!self.running()).then(|| self.exit(time("FinishedAt"))),
        })
    }

    fn exit(&self, finished: Option<i128>) -> Exit {
        let state = &self.0["State"];
        let finished_at_nanos =
            finished.filter(|time| *time > 0).or_else(|| self.0["Created"].as_str().and_then(nanos)).unwrap_or(0);
        let began = state["StartedAt"].as_str().and_then(nanos).is_some_and(|time| time > 0);
        if let Some(error) = self.error().filter(|_| !began) {
            let error = Some(words(error));
            return Exit { code: 128, signal: None, oom_killed: false, finished_at_nanos, error };
        }
        let code = state["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(255);
        Exit {
            code,
            // The daemon only has the code, in which signals are counted as shells count them.
            signal: (129..=159).contains(&code).then(|| code - 128),
            oom_killed: state["OOMKilled"] == true,
            finished_at_nanos,
            error: None,
        }
    }
}
