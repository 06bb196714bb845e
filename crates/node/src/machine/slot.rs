//! One container of a pod: where it is in its life, its restarts, its probes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};

use super::event::{End, ProbeKind};

/// What part a container plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs to its end before the next one begins.
    Init,
    /// An init container with `restartPolicy: Always`: runs beside the others and ends after them.
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// One that came later, to look into the pod: runs once, and is waited for by nobody.
    Ephemeral,
}

impl Kind {
    /// Whether it is one of `spec.initContainers`.
    pub(crate) fn is_init(self) -> bool {
        matches!(self, Self::Init | Self::Sidecar)
    }
}

/// Where a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Not running; `reason` is what the status shows, `None` while its turn has not come.
    Waiting {
        /// Reason and message.
        why: Option<(&'static str, String)>,
    },
    /// A start was asked for; `why` is what it waited for until then.
    Starting {
        /// Reason and message that the status goes on showing.
        why: Option<(&'static str, String)>,
    },
    /// A restart of the node left it unknown; being looked for.
    Adopting,
    /// It runs.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// Its last run is over.
    Ended(End),
}

/// When a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Whenever it ends.
    Always,
    /// When it ends with an error.
    OnFailure,
    /// Not at all.
    Never,
}

impl Policy {
    /// Reads `restartPolicy`; unset is Always.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn wants(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// A container being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopping {
    /// When it is ended by force.
    pub(crate) deadline: Timestamp,
    /// Whether its preStop hook is still running.
    pub(crate) hooking: bool,
    /// Whether the kill was asked for.
    pub(crate) killed: bool,
}

/// One probe of a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProbeState {
    /// When it runs next.
    pub(crate) next: Timestamp,
    /// Whether it is running.
    pub(crate) in_flight: bool,
    /// Equal results in a row: positive for successes, negative for failures.
    pub(crate) streak: i64,
    /// What the streak decided so far.
    pub(crate) passed: Option<bool>,
}

/// One container.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// Its specification, which whoever runs it shares.
    pub(crate) spec: Arc<Container>,
    /// Its part.
    pub(crate) kind: Kind,
    /// When it is started again.
    pub(crate) policy: Policy,
    /// Number of the current run; `None` before the first was asked for.
    pub(crate) attempt: Option<u32>,
    /// Where it is.
    pub(crate) state: State,
    /// How the run before ended.
    pub(crate) last: Option<End>,
    /// Ends in a row that called for a restart, which set the back-off.
    pub(crate) crashes: u32,
    /// Failed attempts to start in a row.
    pub(crate) failures: u32,
    /// Not started before this.
    pub(crate) retry_at: Option<Timestamp>,
    /// Whether its startup probe and postStart hook are through, in this run.
    pub(crate) started: bool,
    /// Whether it ever came that far.
    pub(crate) ever_started: bool,
    /// Whether the postStart hook is over (or there is none).
    pub(crate) hooked: bool,
    /// Set while it is being ended.
    pub(crate) stopping: Option<Stopping>,
    /// Probes of this run, in the order of [`ProbeKind::ALL`].
    pub(crate) probes: [Option<ProbeState>; 3],
}

/// First wait between restarts; doubles.
const BACK_OFF: Duration = Duration::from_secs(10);
/// Longest wait between restarts.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// A run this long means that the container was well: the back-off starts anew.
const WELL: Duration = Duration::from_secs(600);

/// `10 s · 2ⁿ`, bounded.
pub(crate) fn back_off(n: u32) -> Duration {
    BACK_OFF.saturating_mul(1_u32.checked_shl(n.min(16)).unwrap_or(u32::MAX)).min(LONGEST_BACK_OFF)
}

impl Slot {
    /// A container that has not run yet.
    pub(crate) fn new(spec: Container, kind: Kind, pod_policy: Policy) -> Self {
        let policy = match kind {
            Kind::Sidecar => Policy::Always,
            Kind::Ephemeral => Policy::Never,
            Kind::Init if pod_policy == Policy::Always => Policy::OnFailure,
            Kind::Main if spec.restart_policy.is_some() => Policy::parse(spec.restart_policy.as_deref()),
            _ => pod_policy,
        };
        Self {
            spec: Arc::new(spec),
            kind,
            policy,
            attempt: None,
            state: State::Waiting { why: None },
            last: None,
            crashes: 0,
            failures: 0,
            retry_at: None,
            started: false,
            ever_started: false,
            hooked: false,
            stopping: None,
            probes: [None, None, None],
        }
    }

    /// Whether a program of it runs or may run.
    pub(crate) fn active(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::Adopting | State::Running { .. })
    }

    /// Whether it runs for certain.
    pub(crate) fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Whether its last run is over and none follows.
    pub(crate) fn finished(&self) -> bool {
        matches!(&self.state, State::Ended(end) if !self.policy.wants(end.code))
    }

    /// Whether its last run ended well.
    pub(crate) fn succeeded(&self) -> bool {
        matches!(&self.state, State::Ended(end) if end.code == 0)
    }

    /// Whether a start is due.
    pub(crate) fn wants_start(&self, now: Timestamp) -> bool {
        let wants = match &self.state {
            State::Waiting { .. } => true,
            State::Ended(end) => self.policy.wants(end.code),
            _ => false,
        };
        wants && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether it waits for its back-off to pass.
    pub(crate) fn in_back_off(&self) -> bool {
        matches!(self.state, State::Ended(_)) && self.retry_at.is_some()
    }

    /// Whether the status calls it ready.
    pub(crate) fn ready(&self) -> bool {
        match &self.state {
            State::Running { .. } => {
                self.started && self.probes[2].as_ref().is_none_or(|probe| probe.passed == Some(true))
            }
            State::Ended(end) => self.kind == Kind::Init && end.code == 0,
            _ => false,
        }
    }

    /// The specification of a probe.
    pub(crate) fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.spec.startup_probe.as_ref(),
            ProbeKind::Liveness => self.spec.liveness_probe.as_ref(),
            ProbeKind::Readiness => self.spec.readiness_probe.as_ref(),
        }
    }

    /// Notes that the current run is over; returns the wait before the next where there is one to speak of.
    pub(crate) fn end(&mut self, end: End) -> Option<Duration> {
        let ran = end.finished_at.duration_since(end.started_at);
        let well = Duration::try_from(ran).is_ok_and(|ran| ran >= WELL) && end.reason != "StartError";
        let again = self.policy.wants(end.code);
        let finished_at = end.finished_at;
        self.state = State::Ended(end);
        self.started = false;
        self.stopping = None;
        self.probes = [None, None, None];
        self.retry_at = None;
        if !again {
            return None;
        }
        if well {
            self.crashes = 0;
        }
        self.crashes += 1;
        // The first restart is at once; a container that keeps ending waits longer and longer.
        if self.crashes == 1 {
            return None;
        }
        let wait = back_off(self.crashes - 2);
        self.retry_at = finished_at.checked_add(wait).ok();
        Some(wait)
    }

    /// Begins the next run; returns its number.
    pub(crate) fn begin(&mut self) -> u32 {
        let attempt = match (&self.state, self.attempt) {
            (State::Ended(end), Some(attempt)) => {
                self.last = Some(end.clone());
                attempt.saturating_add(1)
            }
            (_, Some(attempt)) => attempt,
            (_, None) => 0,
        };
        self.attempt = Some(attempt);
        let why = match &mut self.state {
            State::Waiting { why } => why.take(),
            _ => None,
        };
        self.state = State::Starting { why };
        self.stopping = None;
        self.retry_at = None;
        self.started = false;
        self.hooked = false;
        attempt
    }
}
