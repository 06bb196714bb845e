//! How an operator is set up.

use std::sync::Arc;

use kubetask_core::task::Settings;

use crate::archive::ArchivePolicy;
use crate::clock::Clock;
use crate::clusters::Clusters;
use crate::metrics::Metrics;
use crate::traces::TraceConfig;

/// How an operator is set up.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    /// What is the same for every Task.
    pub settings: Settings,
    /// Only this namespace; all when unset.
    pub namespace: Option<String>,
    /// How many objects are reconciled at a time.
    pub concurrency: u16,
    /// Which archives it writes to.
    pub archive: ArchivePolicy,
    /// Where traces are exported, if anywhere.
    pub traces: Option<TraceConfig>,
    /// What the operator tells of itself.
    pub metrics: Metrics,
    /// What schedules go by.
    pub clock: Clock,
    /// Other clusters that Agents may name.
    pub clusters: Arc<Clusters>,
}

impl Default for OperatorConfig {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            namespace: None,
            concurrency: 32,
            clock: Clock::default(),
            archive: ArchivePolicy::default(),
            traces: None,
            metrics: Metrics::default(),
            clusters: Arc::default(),
        }
    }
}

impl OperatorConfig {
    /// The API for the kind in the namespaces that the operator looks after.
    pub(crate) fn api<K>(&self, client: &kube::Client) -> kube::Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match &self.namespace {
            Some(namespace) => kube::Api::namespaced(client.clone(), namespace),
            None => kube::Api::all(client.clone()),
        }
    }
}
