//! Garbage collection: what is owned goes when its owners have gone.
//!
//! [`graph`] holds all objects and who owns whom, fed by a metadata watch per kind (custom ones as they appear);
//! [`collect`] decides and acts; this file starts and stops the watches.

mod collect;
mod graph;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::api::{Api, DynamicObject};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::kinds::{Kind, Kinds};
use crate::queue::Queue;
use crate::watching::{Change, Listing, each};
use collect::Task;
use graph::{Graph, Node, Uid};

/// An object that was created just before its owner was orphaned may be a moment late in the picture; taken for an
/// orphan's it stays, missed it would be deleted.
const ORPHAN_DELAY: Duration = Duration::from_millis(100);

struct Collector {
    context: Context,
    graph: Mutex<Graph>,
    kinds: Arc<Kinds>,
    queue: Arc<Queue<Task>>,
}

/// A watch of one kind.
struct Watch {
    stop: CancellationToken,
    listed: watch::Receiver<bool>,
}

pub(crate) fn start(context: &Context, kinds: Arc<Kinds>) {
    let collector = Arc::new(Collector {
        context: context.clone(),
        graph: Mutex::new(Graph::default()),
        kinds: kinds.clone(),
        queue: Queue::new(),
    });
    let context = context.clone();
    context.clone().spawn(async move {
        let mut known = kinds.subscribe();
        let mut watches: BTreeMap<String, Watch> = BTreeMap::new();
        let mut working = false;
        // Ends when the controllers are stopped.
        while known.changed().await.is_ok() {
            let wanted = known.borrow_and_update().clone();
            let wanted: Vec<_> = wanted.iter().filter(|kind| is_collected(kind)).cloned().collect();
            collector.adjust(&mut watches, wanted);
            if !working && !watches.is_empty() {
                // Until all objects are known, owners would be looked up one by one.
                for watch in watches.values_mut() {
                    let _ = watch.listed.wait_for(|listed| *listed).await;
                }
                let this = collector.clone();
                let queue = collector.queue.clone();
                context.spawn(queue.run(context.clone(), "gc", move |task| this.clone().work(task)));
                working = true;
            }
        }
    });
}

/// Events own nothing, are owned by nobody, and are many.
fn is_collected(kind: &Kind) -> bool {
    ["list", "watch", "delete"].iter().all(|verb| kind.can(verb)) && kind.resource.plural != "events"
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts and stops watches so that there is one for each kind.
    fn adjust(self: &Arc<Self>, watches: &mut BTreeMap<String, Watch>, wanted: Vec<Kind>) {
        let names: HashSet<String> = wanted.iter().map(name).collect();
        watches.retain(|name, watch| {
            let keep = names.contains(name);
            if !keep {
                watch.stop.cancel();
                // The kind is gone, and its objects with it.
                self.lose(name, &HashSet::new());
            }
            keep
        });
        for kind in wanted {
            watches.entry(name(&kind)).or_insert_with(|| self.watch(kind));
        }
    }

    fn watch(self: &Arc<Self>, kind: Kind) -> Watch {
        let stop = self.context.stop.child_token();
        let (sender, listed) = watch::channel(false);
        let this = self.clone();
        let (name, kind) = (name(&kind), Arc::new(kind));
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.context.client.clone(), &kind.resource);
        let stream = watcher(api, watcher::Config::default());
        let stopped = stop.clone();
        self.context.spawn(async move {
            let mut listing = Listing::new();
            let watching = each("garbage collection", stream, |change| match change {
                Change::Seen(object) => this.see(&name, &kind, object, &mut listing),
                Change::Gone(object) => this.gone(object.metadata),
                Change::Listing => listing.begin(),
                Change::Listed => {
                    this.lose(&name, &listing.end());
                    sender.send_replace(true);
                }
            });
            tokio::select! {
                () = stopped.cancelled() => {}
                () = watching => {}
            }
        });
        Watch { stop, listed }
    }

    fn see(&self, name: &str, kind: &Arc<Kind>, object: PartialObjectMeta<DynamicObject>, listing: &mut Listing<Uid>) {
        let Some(uid) = object.metadata.uid.as_deref().map(Uid::from) else { return };
        listing.see(|| uid.clone());
        let node = Node::of(kind.clone(), name, object.metadata);
        let (deleting, foreground, orphan) = (node.deleting, node.foreground, node.orphan);
        let mut graph = self.graph();
        let change = graph.put(uid.clone(), node);
        let suspicious = change.new_owners && !graph.is_solid(&uid);
        drop(graph);
        for owner in change.lost_owners {
            self.queue.add(Task::Foreground(owner));
        }
        if deleting && foreground {
            self.queue.add(Task::Foreground(uid));
        } else if deleting && orphan {
            self.queue.add_after(Task::Orphan(uid), ORPHAN_DELAY);
        } else if suspicious && !deleting {
            self.queue.add(Task::Check(uid));
        }
    }

    fn gone(&self, object: ObjectMeta) {
        if let Some(uid) = object.uid {
            self.remove(&Uid::from(uid));
        }
    }

    /// Objects of the kind that were not seen in a complete list.
    fn lose(&self, name: &str, seen: &HashSet<Uid>) {
        let lost = self.graph().of_kind(name, |uid| !seen.contains(uid));
        lost.iter().for_each(|uid| self.remove(uid));
    }

    fn remove(&self, uid: &Uid) {
        let (owners, dependents) = self.graph().remove(uid);
        owners.into_iter().for_each(|owner| self.queue.add(Task::Foreground(owner)));
        dependents.into_iter().for_each(|dependent| self.queue.add(Task::Check(dependent)));
    }
}

fn name(kind: &Kind) -> String {
    format!("{}.{}", kind.resource.plural, kind.resource.group)
}
