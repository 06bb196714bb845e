//! The KubeTask operator: kube-rs controllers, a folder a kind.
//!
//! Each controller observes (gathers what concerns an object from watches), asks `kubetask_core` for a plan, and acts
//! (carries the plan out). It knows only the Kubernetes API: the same code runs in a cluster and against the embedded
//! server.
//!
//! * [`world`]: what the watches have seen, indexed by what it concerns.
//! * [`task`]: the Task controller.
//! * [`events`]: Kubernetes Events, written beside the work.
//! * [`install`]: puts our definitions into a cluster.
//!
//! Entry: [`start`].

pub mod config;
pub mod events;
pub mod install;
pub mod task;
pub mod world;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::OperatorConfig;

/// The manager of the fields that the operator writes.
pub const FIELD_MANAGER: &str = "kubetask";

/// A running operator. Dropping it ends it at once, wherever it is; [`Operator::shutdown`] lets it finish.
pub struct Operator {
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Operator {
    /// Lets reconciliations that run finish, starts none, and returns when all have ended.
    pub async fn shutdown(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Starts the controllers.
#[must_use]
pub fn start(client: Client, config: OperatorConfig) -> Operator {
    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (recorder, writer) = events::recorder(client.clone());
    tasks.spawn(writer);
    tasks.spawn(task::run(client, config, recorder, cancel.clone()));
    Operator { cancel, tasks }
}
