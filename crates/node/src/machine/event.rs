//! What the machine hears and what it asks for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

/// Something that happened to a pod. `slot` counts init containers first, then containers, in the order of the
/// specification; `attempt` is the number of the run, so that news of an earlier run is recognised.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A newer version of the object was seen.
    Pod(Arc<Pod>),
    /// The pod is this node's for certain: containers may start.
    Bound,
    /// Volumes are in place, or the kubelet's words for each that is not.
    Prepared(Result<(), Vec<String>>),
    /// It used more than it may: the kubelet's words for what.
    Evict(String),
    /// The node ends and takes its pods along: what runs gets at most this long, nothing is started any more.
    Shutdown(Duration),
    /// Something the pod refers to changed: try again now what failed.
    Poke,
    /// A container runs. `adopted`: it did already before this process began.
    Started {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// Since when.
        at: Timestamp,
        /// Whether it was found running rather than started.
        adopted: bool,
    },
    /// A container was not started.
    NotStarted {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// Why.
        why: NotStarted,
    },
    /// A container's program ended.
    Ended {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// How.
        end: End,
    },
    /// A lifecycle hook is over.
    HookDone {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// Which hook.
        hook: Hook,
        /// How it went.
        result: Result<(), String>,
    },
    /// A probe is over.
    Probed {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// Which probe.
        kind: ProbeKind,
        /// How it went: the text of a failure.
        result: Result<(), String>,
    },
    /// Time went on, to where [`Machine::wake_at`](super::Machine::wake_at) said.
    Tick,
    /// The object is gone from the API server.
    Gone,
}

/// Why a container was not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotStarted {
    /// Nothing was tried: the run is as if never asked for.
    Never,
    /// Something its specification refers to is missing or wrong.
    Config(String),
    /// The image reference is malformed.
    InvalidImage(String),
    /// The image is not here and may not be fetched.
    NeverPull(String),
    /// The image could not be fetched.
    Pull(String),
    /// The engine could not create it; worth trying again.
    Create(String),
    /// The engine could not run the program: this counts as a run that ended.
    Start(String),
}

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct End {
    /// Exit code.
    pub(crate) code: i32,
    /// Signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`…
    pub(crate) reason: String,
    /// The termination message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// When it began.
    pub(crate) started_at: Timestamp,
    /// When it was over.
    pub(crate) finished_at: Timestamp,
}

/// A lifecycle hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// After the start.
    PostStart,
    /// Before the end.
    PreStop,
}

/// A kind of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// Whether the program has come up.
    Startup,
    /// Whether it is still well.
    Liveness,
    /// Whether it can serve.
    Readiness,
}

impl ProbeKind {
    /// All kinds, in the order of the machine's table.
    pub(crate) const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// Its name in events: `Startup probe failed: …`.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What the machine asks its driver to do. None of these may block the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Put volumes in place, then tell [`Event::Prepared`].
    Prepare,
    /// Start a container, then tell [`Event::Started`] or [`Event::NotStarted`], and [`Event::Ended`] in the end.
    Start {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
    },
    /// Find a container that may have been started before this process began, and tell of it as for a start.
    Adopt {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// Whether it is known to have run: then its absence is a loss.
        ran: bool,
    },
    /// Give up a start that is still being prepared.
    CancelStart {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
    },
    /// Run a hook, for at most `timeout`.
    Hook {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// Which hook.
        hook: Hook,
        /// Longest time it may take.
        timeout: Duration,
    },
    /// End a container: politely, and by force after `grace`.
    Kill {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// Time to end by itself.
        grace: Duration,
    },
    /// Run a probe once.
    Probe {
        /// Which container.
        slot: usize,
        /// Which run.
        attempt: u32,
        /// Which probe.
        kind: ProbeKind,
    },
    /// Record an event of the pod, or of one of its containers.
    Emit {
        /// Whether it is a warning.
        warning: bool,
        /// Reason, a stable word.
        reason: &'static str,
        /// Text.
        message: String,
        /// The container it is about.
        slot: Option<usize>,
    },
    /// Nothing of the pod runs: publish the final status, then remove the object.
    Finalize,
    /// The object is gone and nothing of it runs: remove everything kept for it.
    CleanUp,
}
