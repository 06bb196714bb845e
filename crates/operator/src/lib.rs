//! The KubeTask operator: kube-rs controllers, a folder a kind.
//!
//! Each controller observes (gathers what concerns an object from watches), asks `kubetask_core` for a plan, and acts
//! (carries the plan out). It knows only the Kubernetes API: the same code runs in a cluster and against the embedded
//! server.
//!
//! * [`world`]: what the watches have seen, indexed by what it concerns.
//! * [`task`]: the Task controller. [`crontask`] and [`batch`]: the controllers of those that make
//!   Tasks. [`agent`]: the status of Agents.
//! * [`clusters`]: how other clusters are reached.
//! * [`events`]: Kubernetes Events, written beside the work.
//! * [`archive`], [`notify`]: Tasks are written to archives, and webhooks told of them, beside the work.
//! * [`install`]: puts our definitions into a cluster.
//! * [`gate`]: what every request to the API passes; [`leader`]: who of several replicas may write.
//! * [`causes`]: errors in words.
//! * [`metrics`], [`health`], [`traces`]: what the operator tells of itself.
//!
//! Entry: [`start`]; where there may be several replicas, [`elected::run`].

pub mod agent;
pub mod archive;
mod backlog;
pub mod batch;
pub mod causes;
mod clock;
pub mod clusters;
pub mod config;
pub mod crontask;
mod drive;
mod due;
pub mod elected;
pub mod events;
pub mod gate;
pub mod health;
mod http;
pub mod install;
pub mod leader;
mod make;
mod maker;
pub mod metrics;
pub mod notify;
mod refusal;
mod status;
pub mod task;
pub mod traces;
pub mod world;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use clock::Clock;
pub use config::OperatorConfig;
pub use health::{Health, Synced};

/// The manager of the fields that the operator writes.
pub const FIELD_MANAGER: &str = "kubetask";

/// A running operator. Dropping it ends it at once, wherever it is; [`Operator::shutdown`] lets it finish.
pub struct Operator {
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    synced: Synced,
    metrics: metrics::Metrics,
}

impl Operator {
    /// Lets reconciliations that run finish, starts none, and returns when all have ended.
    pub async fn shutdown(mut self) {
        self.cancel.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Whether its watches have taken in what is there.
    #[must_use]
    pub fn synced(&self) -> Synced {
        self.synced.clone()
    }

    /// Returns when a controller has ended although nobody asked for it: it does not go on by itself.
    async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.metrics.clear_source();
    }
}

/// Starts the controllers, as the only operator of the cluster.
#[must_use]
pub fn start(client: Client, config: OperatorConfig) -> Operator {
    start_behind(client, config, None)
}

/// Starts the controllers; with a fence they write only while that holds.
fn start_behind(client: Client, config: OperatorConfig, fence: Option<leader::Fence>) -> Operator {
    let metrics = config.metrics.clone();
    let client = gate::Gate::new(metrics.clone(), fence).before(client);
    let cancel = CancellationToken::new();
    let synced = Synced::default();
    let mut tasks = JoinSet::new();
    let (spans, exporter) = traces::exporter(config.traces.clone(), config.metrics.clone());
    if let Some(exporter) = exporter {
        tasks.spawn(exporter);
    }
    let (recorder, writer) = events::recorder(client.clone());
    tasks.spawn(writer);
    let world = world::World::default();
    tasks.spawn(agent::run(client.clone(), world.clone(), cancel.clone()));
    tasks.spawn(batch::run(client.clone(), config.clone(), world.clone(), recorder.clone(), cancel.clone()));
    tasks.spawn(crontask::run(client.clone(), config.clone(), world.clone(), recorder.clone(), cancel.clone()));
    tasks.spawn(task::run(client, config, world, recorder, spans, synced.clone(), cancel.clone()));
    Operator { cancel, tasks, synced, metrics }
}
