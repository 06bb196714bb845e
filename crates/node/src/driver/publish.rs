//! Publishes a pod's status: one write at a time, always the newest, nothing twice.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::time::Instant;

use super::patience::Patience;
use crate::machine::Machine;
use crate::shared::Shared;

/// How long a status that says nothing yet is held back: most containers have started by then.
const HOLD: Duration = Duration::from_millis(50);
/// Waits between attempts to write: the first, and the longest.
const RETRY: Patience = Patience::new(Duration::from_millis(200), Duration::from_secs(10));

type Write = Pin<Box<dyn Future<Output = Result<(), kube::Error>> + Send>>;

/// What was written of a status, and what is being written.
pub(super) struct Publisher {
    /// What the API server has, as JSON: decoded it is several times as large, and it is only compared.
    published: Option<Box<[u8]>>,
    writing: Option<(Box<[u8]>, Write)>,
    held_since: Option<Instant>,
    retry_at: Option<Instant>,
    patience: Patience,
    clean: bool,
}

impl Publisher {
    /// For `pod`, of which `published` is known to the API server.
    pub(super) fn new(pod: &Pod, published: Option<PodStatus>) -> Self {
        Self {
            published: published.map(|status| text(&status)),
            writing: None,
            held_since: pod.status.as_ref().and_then(|status| status.start_time.as_ref()).is_none().then(Instant::now),
            retry_at: None,
            patience: RETRY,
            clean: false,
        }
    }

    /// Begins to write what is new.
    pub(super) fn step(&mut self, shared: &Shared, machine: &Machine) {
        self.clean = false;
        let Some(status) = machine.status() else { return };
        let written = text(&status);
        if self.published.as_ref() == Some(&written) {
            self.clean = self.writing.is_none();
            return;
        }
        let now = Instant::now();
        let waits = self.writing.is_some() || self.retry_at.is_some_and(|at| at > now);
        if waits || (self.held_since.is_some_and(|since| now < since + HOLD) && says_nothing(&status)) {
            return;
        }
        self.held_since = None;
        self.retry_at = None;
        let meta = &machine.pod().metadata;
        let api = shared.pod_api(meta.namespace.as_deref().unwrap_or_default());
        let (name, uid) = (meta.name.clone().unwrap_or_default(), meta.uid.clone());
        let body = json!({"metadata": {"uid": uid}, "status": status});
        let write = async move {
            let params = PatchParams { field_manager: Some("kubelet".to_owned()), ..PatchParams::default() };
            api.patch_status(&name, &params, &Patch::Strategic(body)).await.map(drop)
        };
        self.writing = Some((written, Box::pin(write)));
    }

    /// Waits for the write that is going on; for ever where there is none.
    pub(super) async fn done(&mut self) {
        let Some((_, write)) = &mut self.writing else { return std::future::pending().await };
        let result = write.await;
        let Some((status, _)) = self.writing.take() else { return };
        match result {
            Ok(()) => {
                self.published = Some(status);
                self.patience = RETRY;
            }
            // The object is gone: nobody is left to read this.
            Err(kube::Error::Api(error)) if error.code == 404 => self.published = Some(status),
            Err(error) => {
                tracing::warn!(%error, "pod status not written; trying again");
                self.retry_at = Some(Instant::now() + self.patience.lose());
            }
        }
    }

    /// When to look again although nothing happened.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        if self.writing.is_some() {
            return None;
        }
        self.retry_at.or_else(|| self.held_since.map(|since| since + HOLD))
    }

    /// Time went on.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        if self.held_since.is_some_and(|since| since + HOLD <= now) {
            self.held_since = None;
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
    }

    /// Whether everything there is to say was written.
    pub(super) fn idle(&self) -> bool {
        self.clean
    }

    /// Writes what is still to be said, for a moment.
    pub(super) async fn finish(mut self, shared: &Shared, machine: &Machine) {
        let all = async {
            loop {
                self.step(shared, machine);
                if self.writing.is_none() {
                    return;
                }
                self.done().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), all).await;
    }
}

/// A status as JSON. What the machine makes of a status can be written.
fn text(status: &PodStatus) -> Box<[u8]> {
    serde_json::to_vec(status).unwrap_or_default().into_boxed_slice()
}

/// Whether a status only says that containers are about to be created.
fn says_nothing(status: &PodStatus) -> bool {
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut reasons = all.map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    status.phase.as_deref() == Some("Pending")
        && reasons.all(|reason| matches!(reason, Some("ContainerCreating" | "PodInitializing")))
}

/// Removes a pod's object for good, again and again until it is gone or another.
pub(super) async fn delete(shared: &Arc<Shared>, pod: &Pod) {
    let meta = &pod.metadata;
    let api = shared.pod_api(meta.namespace.as_deref().unwrap_or_default());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    let mut patience = RETRY;
    loop {
        match api.delete(meta.name.as_deref().unwrap_or_default(), &params).await {
            Ok(_) => return,
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => return,
            Err(error) => tracing::warn!(%error, "pod not removed from the API server; trying again"),
        }
        patience.wait().await;
    }
}
