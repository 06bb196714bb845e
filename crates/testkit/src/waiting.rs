//! Waiting by watching, with what was last seen in the error.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Api;
use kube::runtime::wait::await_condition;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long anything may take. Long, because machines that run tests are busy; what takes this long has failed.
pub const WAIT: Duration = Duration::from_secs(30);

/// Waits until an object (or its absence) is as wished.
pub(crate) async fn until<K>(
    api: &Api<K>,
    name: &str,
    what: &str,
    wished: impl Fn(Option<&K>) -> bool + Send + Sync,
) -> anyhow::Result<Option<K>>
where
    K: kube::Resource + Clone + Debug + Serialize + DeserializeOwned + Send + 'static,
{
    let last = Arc::new(Mutex::new(String::from("never seen")));
    let seen = last.clone();
    let condition = move |object: Option<&K>| {
        let shown = object.map_or_else(|| "gone".to_owned(), |o| serde_json::to_string_pretty(o).unwrap_or_default());
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        wished(object)
    };
    match tokio::time::timeout(WAIT, await_condition(api.clone(), name, condition)).await {
        Ok(object) => object.with_context(|| format!("watch {name}")),
        Err(_) => {
            let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            bail!("{name} is not {what} after {WAIT:?}; last seen: {last}")
        }
    }
}
