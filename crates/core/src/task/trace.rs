//! A Task as a trace: the Task, its wait for a Job, the Job, and each Pod with its agent.
//!
//! Identities follow from UIDs, or from the W3C trace context in the annotation `kubetask.io/traceparent`: nothing has to
//! be remembered, the agent can be told before anything is exported, and exporting twice is exporting the same.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubetask_api::{Task, TaskPhase, TaskStatus, labels};

use super::{ownership, pods};
use crate::names::short_hash;

/// What a Task's spans are part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace's identity: 32 hexadecimal digits.
    pub trace: String,
    /// The span that the Task is part of, where somebody named one.
    pub parent: Option<String>,
}

/// A span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its identity: 16 hexadecimal digits.
    pub id: String,
    /// The span that it is part of.
    pub parent: Option<String>,
    /// What it is: `task`, `queue`, `job`, `pod`, `agent`.
    pub name: &'static str,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What is to be known of it.
    pub attributes: Vec<(&'static str, String)>,
    /// What went wrong, if anything.
    pub error: Option<String>,
}

impl TraceContext {
    /// The context of a Task: what its annotation says, else one of its own.
    pub fn of(task: &Task) -> Self {
        Self::given(task)
            .unwrap_or_else(|| Self { trace: short_hash(&format!("trace {}", uid(task)), 32), parent: None })
    }

    /// What the annotation says, where it is a W3C trace context.
    pub fn given(task: &Task) -> Option<Self> {
        Self::parse(task.metadata.annotations.as_ref()?.get(labels::TRACEPARENT)?)
    }

    /// Reads a `traceparent`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, len: usize| {
            text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let is_null = |text: &str| text.bytes().all(|b| b == b'0');
        let sound =
            is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
        // Version 00 has four parts; later ones may have more.
        let sound = sound && (version != "00" || parts.next().is_none()) && !is_null(trace) && !is_null(parent);
        sound.then(|| Self { trace: trace.to_owned(), parent: Some(parent.to_owned()) })
    }
}

/// The `traceparent` that the agent is given: its spans become part of the Task's.
pub fn for_agent(task: &Task) -> String {
    format!("00-{}-{}-01", TraceContext::of(task).trace, span_id(uid(task), "task"))
}

fn uid(task: &Task) -> &str {
    ownership::uid(task)
}

fn span_id(uid: &str, what: &str) -> String {
    short_hash(&format!("{what} {uid}"), 16)
}

/// The spans of a Task that has ended.
pub fn spans(task: &Task, status: &TaskStatus, job: Option<&Job>, pods: &[Arc<Pod>]) -> Vec<Span> {
    let (Some(created), Some(ended)) =
        (at(task.metadata.creation_timestamp.as_ref()), at(status.completion_time.as_ref()))
    else {
        return Vec::new();
    };
    let whole = span_id(uid(task), "task");
    let failed = status.phase == Some(TaskPhase::Failed);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut attributes = vec![
        ("k8s.namespace.name", ownership::namespace(task).to_owned()),
        ("kubetask.task.name", ownership::name(task).to_owned()),
        ("kubetask.task.uid", uid(task).to_owned()),
        ("kubetask.task.reason", text(&status.reason)),
        ("kubetask.agent", text(&status.agent)),
    ];
    attributes.extend(status.exit_code.map(|code| ("process.exit.code", code.to_string())));
    let mut out = vec![Span {
        id: whole.clone(),
        parent: TraceContext::of(task).parent,
        name: "task",
        start: created,
        end: ended.max(created),
        attributes,
        error: failed.then(|| text(&status.message)),
    }];
    let job_created = job.and_then(|job| at(job.metadata.creation_timestamp.as_ref()));
    out.push(Span {
        id: span_id(uid(task), "queue"),
        parent: Some(whole.clone()),
        name: "queue",
        start: created,
        end: job_created.unwrap_or(ended).max(created),
        attributes: Vec::new(),
        error: None,
    });
    let (Some(job), Some(job_created)) = (job, job_created) else { return out };
    let job_uid = job.metadata.uid.as_deref().unwrap_or_default();
    let job_span = span_id(job_uid, "job");
    out.push(Span {
        id: job_span.clone(),
        parent: Some(whole),
        name: "job",
        start: job_created,
        end: ended.max(job_created),
        attributes: vec![("k8s.job.name", text(&job.metadata.name)), ("k8s.job.uid", job_uid.to_owned())],
        error: None,
    });
    for pod in pods {
        out.extend(of_pod(pod, &job_span, ended));
    }
    out
}

/// A Pod and its agent.
fn of_pod(pod: &Pod, job: &str, ended: Timestamp) -> Vec<Span> {
    let Some(created) = at(pod.metadata.creation_timestamp.as_ref()) else { return Vec::new() };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let id = span_id(uid, "pod");
    let agent = pods::agent_ended(pod);
    let finished = agent.and_then(|agent| at(agent.finished_at.as_ref())).unwrap_or(ended);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let mut attributes =
        vec![("k8s.pod.name", pod.metadata.name.clone().unwrap_or_default()), ("k8s.pod.uid", uid.to_owned())];
    attributes.extend(node.map(|node| ("k8s.node.name", node)));
    let mut out = vec![Span {
        id: id.clone(),
        parent: Some(job.to_owned()),
        name: "pod",
        start: created,
        end: finished.max(created),
        attributes,
        error: None,
    }];
    if let Some(started) = pods::agent_started(pod) {
        let code = agent.map(|agent| agent.exit_code);
        out.push(Span {
            id: span_id(uid, "agent"),
            parent: Some(id),
            name: "agent",
            start: started,
            end: finished.max(started),
            attributes: code.map(|code| ("process.exit.code", code.to_string())).into_iter().collect(),
            error: code.filter(|code| *code != 0).map(|code| format!("exit code {code}")),
        });
    }
    out
}

fn at(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_contexts() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parsed = TraceContext::parse(good).unwrap();
        assert_eq!(parsed.trace, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parsed.parent.as_deref(), Some("b7ad6b7169203331"));
        for wrong in [
            "",
            "00",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-ü-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
        assert!(TraceContext::parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later").is_some());
    }
}
