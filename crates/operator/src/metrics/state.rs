//! What is: counted from the watches' data when somebody asks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::Store;
use kubetask_api::Task;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};

use super::{Number, words};
use crate::world::World;

/// Where Tasks and queues are counted.
#[derive(Clone, Default)]
pub struct Source {
    /// The Tasks, where they are watched.
    pub tasks: Option<Store<Task>>,
    /// The queues.
    pub world: World,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// A place for the source of the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Source>>>);

impl Slot {
    pub(super) fn set(&self, source: Option<Source>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = source;
    }

    fn get(&self) -> Option<Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells of the source.
#[derive(Debug)]
pub(super) struct Collector(pub(super) Slot);

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(source) = self.0.get() else { return Ok(()) };
        let mut tasks: BTreeMap<(&'static str, String), u32> = BTreeMap::new();
        for task in source.tasks.iter().flat_map(Store::state) {
            let reason = task.status.as_ref().and_then(|status| status.reason.clone()).unwrap_or_default();
            *tasks.entry((task.phase().as_str(), reason)).or_default() += 1;
        }
        let tasks = tasks.into_iter();
        let tasks = tasks.map(|((phase, reason), n)| (vec![("phase", phase.to_owned()), ("reason", reason)], n.into()));
        gauges(&mut encoder, words::TASKS, tasks)?;

        let agents = source.world.lock().queues.all_counts();
        let labels =
            |namespace: &String, agent: &String| vec![("namespace", namespace.clone()), ("agent", agent.clone())];
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let active = agents.iter().map(|((namespace, agent), (n, _))| (labels(namespace, agent), count(*n)));
        gauges(&mut encoder, words::AGENT_ACTIVE, active)?;
        let queued = agents.iter().map(|((namespace, agent), (_, n))| (labels(namespace, agent), count(*n)));
        gauges(&mut encoder, words::AGENT_QUEUED, queued)
    }
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    word: words::Word,
    values: impl Iterator<Item = (Vec<(&'static str, String)>, f64)>,
) -> Result<(), fmt::Error> {
    let kind = prometheus_client::metrics::MetricType::Gauge;
    let mut metric = encoder.encode_descriptor(word.name, word.help, None, kind)?;
    for (labels, value) in values {
        Number::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::super::Metrics;
    use super::*;

    #[test]
    fn tasks_are_counted_by_phase_and_reason() {
        let (tasks, mut writer) = kube::runtime::reflector::store::<Task>();
        for (name, phase, reason) in
            [("a", "Failed", "ExitCode"), ("b", "Failed", "ExitCode"), ("c", "Running", "Running")]
        {
            let task = json!({
                "apiVersion": "kubetask.io/v1alpha1", "kind": "Task", "metadata": {"name": name, "namespace": "n"},
                "spec": {"contexts": []}, "status": {"phase": phase, "reason": reason},
            });
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(task).unwrap()));
        }
        let metrics = Metrics::default();
        assert!(!metrics.text().contains("kubetask_tasks{"));
        metrics.set_source(Source { tasks: Some(tasks), world: World::default() });
        let text = metrics.text();
        assert!(text.contains("kubetask_tasks{phase=\"Failed\",reason=\"ExitCode\"} 2"), "{text}");
        assert!(text.contains("kubetask_tasks{phase=\"Running\",reason=\"Running\"} 1"), "{text}");
    }
}
