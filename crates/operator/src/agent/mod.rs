//! The status of Agents: how many Tasks they carry out, how many wait, and what they lack.
//!
//! Told by the [`World`], which the Task controller feeds: nothing is watched here. An Agent of many Tasks changes many
//! times a second; its status is written once a second at most.

use std::time::Duration;

use futures::future;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kubetask_api::{Agent, AgentStatus};
use kubetask_core::agent::status;
use kubetask_core::task::agent_references;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::due::Due;
use crate::status;
use crate::world::{TaskKey, World};

/// How long to wait for what comes together.
const TOGETHER: Duration = Duration::from_millis(50);
/// How often a status is written at most.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// How many statuses are written at a time.
const AT_A_TIME: usize = 16;

/// Writes statuses until it is cancelled.
pub async fn run(client: Client, world: World, cancel: CancellationToken) {
    let mut looks = world.lock().agent_looks.listen();
    if cancel.run_until_cancelled(world.tasks_are_listed()).await.is_none() {
        return;
    }
    // When to look at whom.
    let mut due: Due<Instant> = Due::default();
    // Who may not be written before; cleared as time passes.
    let mut wait: Due<Instant> = Due::default();
    loop {
        let first = due.next();
        tokio::select! {
            () = cancel.cancelled() => return,
            key = looks.recv() => {
                let Some(key) = key else { return };
                let soonest = Instant::now() + TOGETHER;
                if due.get(&key).is_none() {
                    let at = wait.get(&key).map_or(soonest, |at| soonest.max(at));
                    due.set(&key, Some(at));
                }
            }
            () = tokio::time::sleep_until(first.unwrap_or_else(Instant::now)), if first.is_some() => {
                let now = Instant::now();
                let now_due = due.take(now);
                wait.take(now);
                for some in now_due.chunks(AT_A_TIME) {
                    let looked = future::join_all(some.iter().map(|key| look(&client, &world, key))).await;
                    for (key, looked) in some.iter().zip(looked) {
                        let again = Instant::now() + AT_MOST_EVERY;
                        match looked {
                            Looked::Fine => {}
                            Looked::Written => {
                                wait.set(key, Some(again));
                            }
                            Looked::Failed => {
                                due.set(key, Some(again));
                            }
                        }
                    }
                }
            }
        }
    }
}

enum Looked {
    /// There was nothing to write, or somebody was faster and the watch will tell.
    Fine,
    /// A status was written.
    Written,
    /// It must be tried again.
    Failed,
}

async fn look(client: &Client, world: &World, key: &TaskKey) -> Looked {
    let Some((agent, new)) = plan(world, key) else { return Looked::Fine };
    let old = agent.status.clone().unwrap_or_default();
    match status::write(client, &*agent, &old, &new).await {
        Ok(_) => Looked::Written,
        Err(error) => {
            tracing::debug!(namespace = %key.namespace, agent = %key.name, %error, "the Agent's status was not written");
            Looked::Failed
        }
    }
}

/// The Agent, and its new status where that is another one.
fn plan(world: &World, key: &TaskKey) -> Option<(std::sync::Arc<Agent>, AgentStatus)> {
    let mut state = world.lock();
    let agent = state.agent(&key.namespace, &key.name)?;
    if agent.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let references = agent_references(&agent);
    state.agent_looks.refers_to(key, &references);
    let missing: Vec<_> = references.into_iter().filter(|r| !r.optional && !state.exists(&key.namespace, r)).collect();
    let counts = state.queues.counts(&key.namespace, &key.name);
    drop(state);
    let new = status(Timestamp::now(), &agent, counts, &missing)?;
    Some((agent, new))
}
