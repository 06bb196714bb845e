//! Waiting for objects to go away, with a watch instead of polling.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use kube::Client;
use kube::api::{Api, ListParams, WatchParams};
use kube::core::{ApiResource, DynamicObject, WatchEvent};

use crate::requests::dynamic;

/// The longest wait; then the caller looks again anyway.
const PATIENCE: Duration = Duration::from_secs(30);
/// Others usually go at the same time.
const SETTLE: Duration = Duration::from_millis(20);

/// What is left of a kind.
#[derive(Debug)]
pub(crate) struct Remaining {
    pub(crate) resource: ApiResource,
    pub(crate) namespace: Option<String>,
    /// The version of the list, from which a watch can go on.
    pub(crate) version: String,
}

/// Returns when an object that was left has gone, or after a while.
pub(crate) async fn wait(client: &Client, left: &Remaining) {
    let api: Api<DynamicObject> = dynamic(client, &left.resource, left.namespace.as_deref());
    let _ = tokio::time::timeout(PATIENCE, async {
        let Ok(events) = api.watch_metadata(&WatchParams::default().timeout(60), &left.version).await else {
            // The kind or its history is gone; looking again tells.
            return tokio::time::sleep(Duration::from_millis(200)).await;
        };
        pin_mut!(events);
        while let Some(event) = events.next().await {
            if matches!(event, Ok(WatchEvent::Deleted(_)) | Err(_)) {
                break;
            }
        }
        tokio::time::sleep(SETTLE).await;
    })
    .await;
}

/// Whether there are any objects, and the version to wait from.
pub(crate) async fn any(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
) -> Result<Option<Remaining>, kube::Error> {
    let list = dynamic(client, resource, namespace).list_metadata(&ListParams::default().limit(1)).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let left = Remaining { resource: resource.clone(), namespace: namespace.map(str::to_owned), version };
    Ok((!list.items.is_empty()).then_some(left))
}
