//! Prints what the agent's Pod on the other cluster tells of its changes, once the agent has ended.

use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, LogParams};
use kubetask_core::cluster::Spec;
use kubetask_core::task::CHANGES_CONTAINER;
use tokio::signal::unix::Signal;

use super::{Pauses, Trouble, connect};
use crate::commands::changes::LOG_MAX;
use crate::interact::target;

/// Waits until it is asked to end, which is when the agent's end has been told here; then prints the log. Whoever waits
/// for it says for how long.
pub(super) async fn run(spec: &Spec, terminate: &mut Signal) {
    terminate.recv().await;
    let mut pauses = Pauses::default();
    loop {
        match fetch(spec).await {
            Ok(log) => {
                use std::io::Write;
                let mut stdout = std::io::stdout().lock();
                let _ = stdout.write_all(&log).and_then(|()| stdout.flush());
                return;
            }
            Err(Trouble::Refused(_)) => return,
            Err(Trouble::Later(_)) => pauses.pause().await,
        }
    }
}

async fn fetch(spec: &Spec) -> Result<Vec<u8>, Trouble> {
    let client = connect(spec).await?;
    let pods: Api<Pod> = Api::namespaced(client, &spec.job.namespace().unwrap_or_default());
    let Some(pod) = target::pods_of(&pods, &spec.job.name_any()).await?.pop() else { return Ok(Vec::new()) };
    let params = LogParams { container: Some(CHANGES_CONTAINER.to_owned()), ..LogParams::default() };
    let stream = pods.log_stream(&pod.name_any(), &params).await?;
    let mut log = Vec::new();
    let read = std::pin::pin!(stream.take(LOG_MAX)).read_to_end(&mut log).await;
    read.map_err(|error| Trouble::Later(error.to_string()))?;
    Ok(log)
}
