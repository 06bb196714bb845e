//! Stand-ins for kube-controller-manager.
//!
//! **Purpose.** What a cluster needs besides an API server so that objects do what Kubernetes says they do:
//! custom resources are established, namespaces are filled and emptied, owned objects disappear with their owner, Jobs
//! run Pods. Everything goes through [`kube::Client`]; each controller would do the same against any API server.
//!
//! **Main function.** [`start`], which returns a [`Handle`].
//!
//! **Data flow.** Each controller: watches → a small in-memory picture → a [`queue`] of keys → decide (pure
//! functions over the picture) → act (requests). What an action returns goes into the picture at once, so that the next
//! decision does not act twice because a watch is late. Nothing polls.

mod crd;
mod error;
mod events;
mod gc;
mod gone;
mod job;
mod kinds;
mod namespace;
mod podgc;
mod pods;
mod queue;
mod requests;
mod serviceaccount;
mod watching;

use std::future::Future;
use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The name under which the controllers own fields, as kube-controller-manager does.
const MANAGER: &str = "kube-controller-manager";

/// What the controllers need to know besides the cluster.
#[derive(Debug, Clone)]
pub struct Options {
    /// The certificate authority of the API server (PEM), published in each namespace as `kube-root-ca.crt`.
    /// Without it that ConfigMap is not written.
    pub root_ca: Option<String>,
    /// Namespaces that are created at the start if they are missing.
    pub namespaces: Vec<String>,
    /// How many keys of one controller are worked on at the same time.
    pub concurrency: usize,
}

impl Default for Options {
    fn default() -> Self {
        let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease", "kubetask-system"];
        Options { root_ca: None, namespaces: namespaces.map(str::to_owned).to_vec(), concurrency: 32 }
    }
}

/// Running controllers. Dropping it leaves them running; [`Handle::shutdown`] ends them.
#[derive(Debug)]
pub struct Handle {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Handle {
    /// Stops watching, finishes what is being done, and returns when all is quiet.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What every controller is given.
#[derive(Clone)]
struct Context {
    client: Client,
    stop: CancellationToken,
    tasks: TaskTracker,
    concurrency: usize,
}

impl Context {
    /// Runs a future until it ends or the controllers are stopped.
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = future => {}
            }
        });
    }
}

/// Starts all controllers on the current runtime. They wait for the API server if it is not there yet.
pub fn start(client: Client, options: Options) -> Handle {
    let context = Context {
        client,
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        concurrency: options.concurrency.max(1),
    };
    let kinds = kinds::Kinds::new(&context);
    crd::start(&context, Arc::clone(&kinds));
    namespace::start(&context, &options);
    serviceaccount::start(&context, options.root_ca.map(Arc::from));
    let pods = pods::Pods::new();
    job::start(&context, &pods);
    podgc::start(&context, &pods);
    pods.watch(&context);
    gc::start(&context, kinds);
    Handle { stop: context.stop, tasks: context.tasks }
}
