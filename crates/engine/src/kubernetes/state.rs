//! What a Pod tells of its container. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::pod::{FILES, ID, LABELS, LOG, MAIN, PROBLEM, SCOPE_LABEL, WORDS};
use crate::runtime::words;
use crate::spec::{ContainerId, ContainerState, Exit, LogSpec};
use crate::traits::EngineError;

/// How far a container came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It does not run yet; why not.
    Waiting(String),
    /// It waits for its files.
    WantsFiles,
    /// It will not start by itself.
    Stuck(Trouble),
    /// It runs.
    Running,
    /// It ended, or never will start.
    Ended(Exit),
}

/// Why a container does not start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The image is not to be had.
    Image(String),
    /// Anything else.
    Start(String),
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Where its log goes.
pub(super) fn log(pod: &Pod) -> Option<LogSpec> {
    serde_json::from_str(annotation(pod, LOG)?).ok()
}

/// The file that takes its last words, and these.
pub(super) fn last_words(pod: &Pod) -> Option<(&str, &str)> {
    let message = terminated(main(pod)?)?.message.as_deref()?;
    Some((annotation(pod, WORDS)?, message))
}

/// Whether it has a terminal.
pub(super) fn tty(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| spec.containers.iter().any(|c| c.name == MAIN && c.tty == Some(true)))
}

/// Whether this engine made it for that identity.
pub(super) fn is_of(pod: &Pod, scope: &str, id: &ContainerId) -> bool {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(SCOPE_LABEL));
    label.is_some_and(|label| label == scope) && annotation(pod, ID) == Some(&id.0)
}

fn main(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == MAIN)
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    status.state.as_ref().and_then(|state| state.terminated.as_ref()).or(last)
}

/// How far it came.
pub(super) fn stage(pod: &Pod) -> Stage {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let over = matches!(phase, "Succeeded" | "Failed");
    let status = main(pod);
    if let Some(end) = status.and_then(terminated) {
        return Stage::Ended(exit(end));
    }
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0.as_nanosecond());
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let ran = status.is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    let problem = annotation(pod, PROBLEM);
    // Without a node there is nobody who could still start it.
    if over || (deleted.is_some() && (!placed || problem.is_some())) {
        return Stage::Ended(lost(pod, ran, problem, deleted));
    }
    if ran {
        return Stage::Running;
    }
    if let Some(trouble) = trouble(pod) {
        return Stage::Stuck(trouble);
    }
    if files_wanted(pod) {
        return Stage::WantsFiles;
    }
    Stage::Waiting(why(pod))
}

fn exit(end: &ContainerStateTerminated) -> Exit {
    let finished_at_nanos = end.finished_at.as_ref().map_or(0, |time| time.0.as_nanosecond());
    let reason = end.reason.as_deref().unwrap_or_default();
    if matches!(reason, "StartError" | "ContainerCannotRun" | "ContainerStatusUnknown") {
        let error = end.message.as_deref().map_or_else(|| reason.to_owned(), words);
        let code = if reason == "ContainerStatusUnknown" { 137 } else { 128 };
        return Exit { code, signal: None, oom_killed: false, finished_at_nanos, error: Some(error) };
    }
    Exit {
        code: end.exit_code,
        // The cluster only has the code, in which signals are counted as shells count them.
        signal: end.signal.or_else(|| (129..=159).contains(&end.exit_code).then(|| end.exit_code - 128)),
        oom_killed: reason == "OOMKilled",
        finished_at_nanos,
        error: None,
    }
}

/// The end of a container of which the cluster does not tell how it ended: it never ran, or its node was lost.
fn lost(pod: &Pod, ran: bool, problem: Option<&str>, deleted: Option<i128>) -> Exit {
    let status = pod.status.as_ref();
    let told = [status.and_then(|s| s.reason.as_deref()), status.and_then(|s| s.message.as_deref())];
    let told = told.into_iter().flatten().collect::<Vec<_>>().join(": ");
    let started = status.and_then(|s| s.start_time.as_ref()).map(|time| time.0.as_nanosecond());
    let finished_at_nanos = deleted.or(started).unwrap_or(0);
    let error = match (problem, told.is_empty()) {
        (Some(problem), _) => problem.to_owned(),
        (None, false) => told,
        (None, true) if ran => "it was lost with its node".to_owned(),
        (None, true) => "it was stopped before it started".to_owned(),
    };
    Exit { code: if ran { 137 } else { 128 }, signal: None, oom_killed: false, finished_at_nanos, error: Some(error) }
}

/// Statuses of the containers, those of init containers first.
fn all(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    init.into_iter().chain(status.and_then(|status| status.container_statuses.as_ref())).flatten()
}

fn trouble(pod: &Pod) -> Option<Trouble> {
    for status in all(pod) {
        if let Some(end) = status.state.as_ref().and_then(|state| state.terminated.as_ref())
            && status.name == FILES
            && end.exit_code != 0
        {
            let message = end.message.clone().unwrap_or_else(|| format!("exit code {}", end.exit_code));
            let text = format!("the files could not be sent (the image needs sh and tar for it): {message}");
            return Some(Trouble::Start(text));
        }
        let Some(waiting) = status.state.as_ref().and_then(|state| state.waiting.as_ref()) else { continue };
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| reason.to_owned());
        match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable" => return Some(Trouble::Image(message)),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                return Some(Trouble::Start(words(&message)));
            }
            _ => {}
        }
    }
    None
}

fn files_wanted(pod: &Pod) -> bool {
    let running = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    all(pod).any(|status| status.name == FILES && running(status))
}

/// What a container that does not run yet waits for, in words for a user.
pub(super) fn why(pod: &Pod) -> String {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let unscheduled = conditions.into_iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = unscheduled {
        let reason = condition.reason.as_deref().unwrap_or("Unschedulable");
        return format!("no node takes it ({reason}): {}", condition.message.as_deref().unwrap_or("no reason given"));
    }
    if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
        return "it has no node yet".to_owned();
    }
    for status in all(pod) {
        let Some(waiting) = status.state.as_ref().and_then(|state| state.waiting.as_ref()) else { continue };
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().unwrap_or_default();
        match (reason, message.is_empty()) {
            ("ContainerCreating" | "PodInitializing" | "", true) => {}
            (reason, true) => return reason.to_owned(),
            (reason, false) => return format!("{reason}: {message}"),
        }
    }
    "its node prepares it: volumes, then the image".to_owned()
}

/// The state of a container; `None` where the Pod is none of this engine's.
pub(super) fn state(pod: &Pod) -> Option<ContainerState> {
    let id = ContainerId(annotation(pod, ID)?.to_owned());
    let labels = annotation(pod, LABELS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let exit = match stage(pod) {
        Stage::Ended(exit) => Some(exit),
        _ => None,
    };
    let status = main(pod);
    let running = status.and_then(|s| s.state.as_ref()?.running.as_ref()?.started_at.as_ref());
    let ended = status.and_then(|s| terminated(s)?.started_at.as_ref());
    let created = pod.metadata.creation_timestamp.as_ref();
    let started = running.or(ended).filter(|time| time.0.as_second() > 0).or(created);
    let started_at_nanos = started.map_or(0, |time| time.0.as_nanosecond());
    Some(ContainerState { id, labels, pid: None, started_at_nanos, exit })
}

impl Trouble {
    /// As an error of the engine.
    pub(super) fn into_error(self, image: &str) -> EngineError {
        match self {
            Self::Image(reason) => EngineError::Image { image: image.to_owned(), reason },
            Self::Start(message) => EngineError::Start(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(metadata: Value, spec: Value, status: Value) -> Pod {
        let mut whole = json!({"metadata": {"annotations": {ID: "c0"}}, "spec": {"containers": []}, "status": status});
        for (key, value) in metadata.as_object().unwrap() {
            whole["metadata"][key] = value.clone();
        }
        for (key, value) in spec.as_object().unwrap() {
            whole["spec"][key] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    fn container(name: &str, state: Value) -> Value {
        json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn what_it_waits_for() {
        let check = |spec: Value, status: Value, expect: &str| match stage(&pod(json!({}), spec, status)) {
            Stage::Waiting(why) => assert_eq!(why, expect),
            other => panic!("{other:?}"),
        };
        check(json!({}), json!({}), "it has no node yet");
        let full = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu."}]});
        check(json!({}), full, "no node takes it (Unschedulable): 0/1 nodes are available: 1 Insufficient cpu.");
        let placed = json!({"nodeName": "n"});
        let creating =
            json!({"containerStatuses": [container(MAIN, json!({"waiting": {"reason": "ContainerCreating"}}))]});
        check(placed.clone(), creating, "its node prepares it: volumes, then the image");
    }

    #[test]
    fn what_will_not_start() {
        let check = |reason: &str, expect: Trouble| {
            let state = json!({"waiting": {"reason": reason, "message": "why"}});
            let status = json!({"phase": "Pending", "containerStatuses": [container(MAIN, state)]});
            assert_eq!(stage(&pod(json!({}), json!({"nodeName": "n"}), status)), Stage::Stuck(expect));
        };
        check("ErrImagePull", Trouble::Image("why".to_owned()));
        check("CreateContainerConfigError", Trouble::Start("why".to_owned()));
        let files = container(FILES, json!({"terminated": {"exitCode": 127}}));
        let status = json!({"phase": "Pending", "initContainerStatuses": [files]});
        let Stage::Stuck(Trouble::Start(text)) = stage(&pod(json!({}), json!({"nodeName": "n"}), status)) else {
            panic!()
        };
        assert!(text.contains("sh and tar") && text.contains("127"), "{text}");
    }

    #[test]
    fn how_it_ended() {
        let ended = |end: Value| {
            let status = json!({"phase": "Failed", "containerStatuses": [container(MAIN, json!({"terminated": end}))]});
            match stage(&pod(json!({}), json!({"nodeName": "n"}), status)) {
                Stage::Ended(exit) => exit,
                other => panic!("{other:?}"),
            }
        };
        let exit = ended(json!({"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:00Z"}));
        assert_eq!((exit.code, exit.signal, exit.oom_killed, exit.error), (137, Some(9), true, None));
        assert_eq!(exit.finished_at_nanos, 1_767_225_600_000_000_000);
        let message = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
            failed: unable to start container process: exec: \"x\": executable file not found in $PATH: unknown";
        let exit = ended(json!({"exitCode": 128, "reason": "StartError", "message": message}));
        let expect = "unable to start container process: exec: \"x\": executable file not found in $PATH";
        assert_eq!((exit.code, exit.error.as_deref()), (128, Some(expect)));
    }

    #[test]
    fn lost_ones_have_ended() {
        let running = json!({"phase": "Failed", "reason": "NodeLost",
            "containerStatuses": [container(MAIN, json!({"running": {}}))]});
        let Stage::Ended(exit) = stage(&pod(json!({}), json!({"nodeName": "n"}), running)) else { panic!() };
        assert_eq!((exit.code, exit.error.as_deref()), (137, Some("NodeLost")));
        let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let Stage::Ended(exit) = stage(&pod(gone.clone(), json!({}), json!({}))) else { panic!() };
        assert_eq!((exit.code, exit.error.as_deref()), (128, Some("it was stopped before it started")));
        // Its node may be starting it just now.
        assert!(matches!(stage(&pod(gone, json!({"nodeName": "n"}), json!({}))), Stage::Waiting(_)));
    }
}
