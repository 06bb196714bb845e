//! An operator among replicas: it works while it leads, and waits otherwise.

use std::time::Duration;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::health::{BEAT, Health, Role};
use crate::leader::{Election, Fence, LeaderConfig, Lost};
use crate::{Operator, start_behind};

/// Why an operator does not go on.
#[derive(Debug, thiserror::Error)]
#[error("a controller has ended although nobody asked for it")]
pub struct Ended;

/// How an operator is run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Its part in the election; `None` where it is the only one.
    pub leader: Option<LeaderConfig>,
    /// Where it tells how it is.
    pub health: Health,
    /// How long reconciliations may take to finish when it ends.
    pub grace: Duration,
}

/// Runs the operator until it is cancelled, or alone cannot go on.
///
/// # Errors
/// When a controller has ended by itself: start the process anew.
pub async fn run(
    client: Client,
    config: OperatorConfig,
    options: RunOptions,
    cancel: CancellationToken,
) -> Result<(), Ended> {
    let health = options.health.clone();
    let beats = async {
        loop {
            health.beat();
            tokio::time::sleep(BEAT).await;
        }
    };
    let work = async {
        match options.leader.clone() {
            Some(leader) => among_others(client, config, leader, &options, &cancel).await,
            None => alone(client, config, &options, &cancel).await,
        }
    };
    let ended = tokio::select! {
        ended = work => ended,
        () = beats => Ok(()),
    };
    options.health.role(Role::None);
    ended
}

async fn alone(
    client: Client,
    config: OperatorConfig,
    options: &RunOptions,
    cancel: &CancellationToken,
) -> Result<(), Ended> {
    config.metrics.set_leader(true);
    let mut operator = start_behind(client, config, None);
    options.health.role(Role::Leading(operator.synced()));
    tokio::select! {
        () = cancel.cancelled() => {
            drain(operator, options.grace).await;
            Ok(())
        }
        () = operator.ended() => Err(Ended),
    }
}

/// Why the work is interrupted.
enum Over {
    Cancelled,
    Lost(Lost),
    Ended,
}

async fn among_others(
    client: Client,
    config: OperatorConfig,
    leader: LeaderConfig,
    options: &RunOptions,
    cancel: &CancellationToken,
) -> Result<(), Ended> {
    let (identity, lease) = (leader.identity.clone(), leader.name.clone());
    let fence = Fence::default();
    // The lease itself is asked for outside the fence, but counted like everything else.
    let beside = crate::gate::Gate::new(config.metrics.clone(), None).before(client.clone());
    let mut election = Election::new(beside, leader, fence.clone());
    let told = |error: Option<&kube::Error>| options.health.lease(error);
    loop {
        options.health.role(Role::Standby);
        config.metrics.set_leader(false);
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = election.acquire(told) => {}
        }
        tracing::info!(%identity, %lease, "leads");
        config.metrics.set_leader(true);
        let mut operator = start_behind(client.clone(), config.clone(), Some(fence.clone()));
        options.health.role(Role::Leading(operator.synced()));
        let over = tokio::select! {
            biased;
            lost = election.hold(told) => Over::Lost(lost),
            () = cancel.cancelled() => Over::Cancelled,
            () = operator.ended() => Over::Ended,
        };
        match over {
            Over::Lost(how) => {
                fence.shut();
                tracing::warn!(%identity, %lease, ?how, "leads no more");
                drop(operator);
            }
            Over::Cancelled => {
                // What runs may finish, for as long as it is ours to finish.
                tokio::select! {
                    () = drain(operator, options.grace) => {}
                    _ = election.hold(told) => {}
                }
                election.release().await;
                config.metrics.set_leader(false);
                return Ok(());
            }
            Over::Ended => {
                drop(operator);
                election.release().await;
                return Err(Ended);
            }
        }
    }
}

async fn drain(operator: Operator, grace: Duration) {
    if tokio::time::timeout(grace, operator.shutdown()).await.is_err() {
        tracing::warn!("some reconciliations did not finish in time; they are harmless to repeat");
    }
}
