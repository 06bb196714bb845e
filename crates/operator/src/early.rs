//! The end of a controller that has not begun.

use std::future;

use tokio_util::sync::CancellationToken;

use crate::health::Synced;

/// Returns when the operator is to end before the controller's first list is complete; never otherwise.
///
/// kube-rs holds reconciliations until the store is ready, and a controller that is asked to end stops reading the watch
/// that fills it: asked too early, it would wait for ever. Nothing has been done by then, so it can be dropped.
pub(crate) async fn cancelled_before(listed: &Synced, cancel: &CancellationToken) {
    cancel.cancelled().await;
    if listed.is_set() {
        future::pending::<()>().await;
    }
}
