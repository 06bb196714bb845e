//! The node as a whole: what is started, in which order, and how it ends.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{NodeConfig, NodeError};
use crate::env::downward::NodeFacts;
use crate::events::Recorder;
use crate::logs::notify::Notifier;
use crate::machine::Event;
use crate::manager::Manager;
use crate::names::Layout;
use crate::objects::ApiObjects;
use crate::shared::Shared;
use crate::sources::Sources;
use crate::{claims, registration, server};

/// What the end of a container that is killed by force may take.
const KILL: Duration = Duration::from_secs(3);
/// How long a shutdown waits for what is being written.
const DRAIN: Duration = Duration::from_secs(5);

/// The kubelet's stand-in.
pub struct Node;

/// A running node.
pub struct NodeHandle {
    shared: Arc<Shared>,
    router: Router,
}

impl Node {
    /// Starts a node: it registers itself, finds what runs of its pods, and goes on from there. Needs a tokio runtime.
    ///
    /// # Errors
    /// Where the name is impossible or its directory cannot be made. An API server that is not there yet is waited for.
    pub async fn start(config: NodeConfig) -> Result<NodeHandle, NodeError> {
        check_name(&config.name)?;
        let layout = Layout::new(&config.root_dir, config.memory_dir.as_deref());
        for path in [&config.root_dir, &layout.pods(), &layout.logs(), &layout.claims(), &layout.private_root()] {
            make_directory(path)?;
        }
        let stop = CancellationToken::new();
        let (recorder, writer) = Recorder::new(config.client.clone(), config.name.clone(), stop.clone());
        let facts = NodeFacts {
            name: config.name.clone(),
            address: config.address.to_string(),
            allocatable: registration::allocatable(&config),
        };
        let shared = Arc::new(Shared {
            layout,
            facts,
            recorder,
            objects: Box::new(ApiObjects(config.client.clone())),
            sources: Arc::new(Sources::default()),
            claims_changed: Notify::new(),
            notifier: Notifier::default(),
            stop,
            full: CancellationToken::new(),
            tasks: TaskTracker::new(),
            pods: Mutex::default(),
            config,
        });
        let (current, node) = watch::channel(None);
        let background = |task: futures::future::BoxFuture<'static, ()>| {
            let stop = shared.stop.clone();
            shared.tasks.spawn(async move { stop.run_until_cancelled(task).await });
        };
        shared.tasks.spawn(writer);
        background(Box::pin(registration::run(Arc::clone(&shared), current)));
        background(Box::pin(registration::renew(shared.client(), shared.config.name.clone(), node.clone())));
        background(Box::pin(claims::run(Arc::clone(&shared))));
        background(Box::pin(Manager::new(Arc::clone(&shared), node).run()));
        Ok(NodeHandle { router: server::router(Arc::clone(&shared)), shared })
    }
}

impl NodeHandle {
    /// The kubelet's HTTP interface: `/containerLogs`, `/exec`, `/attach`, `/portForward`. It asks for no credentials: it
    /// is for the API server in the same process.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Takes no further pod and ends those that run, as a kubelet whose node goes down: they are `Failed` with reason
    /// `Terminated`. Each has its own grace period, at most `grace`. Returns how many were still running at the end.
    pub async fn stop_pods(&self, grace: Duration) -> usize {
        self.shared.full.cancel();
        let pods = self.shared.all();
        for pod in &pods {
            // A driver that has just ended has nothing left to end.
            pod.events.tell(Event::Shutdown(grace));
        }
        let all = pods.into_iter().map(|mut pod| async move {
            let ended = async { pod.view.wait_for(|view| !view.active).await.is_ok() };
            // The driver's own end drops the view: nothing runs then either.
            tokio::time::timeout(grace.saturating_add(KILL), ended).await.is_ok()
        });
        futures::future::join_all(all).await.into_iter().filter(|ended| !ended).count()
    }

    /// How many pods have containers that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.all().iter().filter(|pod| pod.view.borrow().active).count()
    }

    /// Ends the node. Containers go on running; the next start finds them.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(DRAIN, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("not everything of the node came to its end in time");
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

fn check_name(name: &str) -> Result<(), NodeError> {
    let label = |label: &str| {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        label.starts_with(word) && label.ends_with(word) && label.chars().all(|c| word(c) || c == '-')
    };
    if name.len() <= 253 && name.split('.').all(label) { Ok(()) } else { Err(NodeError::Name(name.to_owned())) }
}

fn make_directory(path: &Path) -> Result<(), NodeError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| NodeError::Io {
        step: "creating the directory",
        path: path.display().to_string(),
        source,
    })
}
