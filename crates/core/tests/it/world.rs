//! A cluster of one Task: carries plans out and counts the writes.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kubetask_api::{Agent, Task, TaskStatus};
use kubetask_core::task::{self, Action, JobSeen, Plan, Seen, Settings};

use crate::fixtures;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) task: Task,
    pub(crate) seen: Seen,
    pub(crate) settings: Settings,
    pub(crate) files: Vec<ConfigMap>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) jobs_created: usize,
    pub(crate) status_writes: usize,
    pub(crate) deleted: bool,
    pub(crate) stopped_pods: Vec<String>,
    pub(crate) events: Vec<String>,
}

impl World {
    pub(crate) fn new(task: Task, agent: Option<Agent>) -> Self {
        Self { task, seen: Seen { agent: agent.map(Arc::new), ..Seen::default() }, ..Self::default() }
    }

    pub(crate) fn with(mut self, config_maps: Vec<ConfigMap>, secrets: Vec<Secret>) -> Self {
        config_maps.into_iter().for_each(|c| self.add_config_map(c));
        for secret in secrets {
            self.seen.secrets.insert(secret.metadata.name.clone().unwrap(), Arc::new(secret));
        }
        self
    }

    pub(crate) fn add_config_map(&mut self, config_map: ConfigMap) {
        self.seen.config_maps.insert(config_map.metadata.name.clone().unwrap(), Arc::new(config_map));
    }

    pub(crate) fn plan(&self, now: i64) -> Plan {
        let first = task::plan(fixtures::at(now), &self.task, &self.seen, &self.settings);
        assert_eq!(
            first,
            task::plan(fixtures::at(now), &self.task, &self.seen, &self.settings),
            "same input, same plan"
        );
        first
    }

    /// Plans and carries it out, until there is nothing left to do.
    pub(crate) fn settle(&mut self, now: i64) -> Plan {
        let first = self.plan(now);
        self.carry_out(&first);
        let second = self.plan(now);
        assert!(second.is_quiet(), "the plan after the plan is not quiet: {second:#?}");
        first
    }

    pub(crate) fn carry_out(&mut self, plan: &Plan) {
        for action in &plan.actions {
            match action {
                Action::PutConfigMap(config_map) => self.files.push((**config_map).clone()),
                Action::PutSecret(secret) => self.secrets.push((**secret).clone()),
                Action::CreateJob(job) => {
                    self.jobs_created += 1;
                    self.seen.job = JobSeen::Found(Arc::new((**job).clone()));
                }
                Action::SuspendJob { suspend, .. } => {
                    let mut job = self.job();
                    job.spec.as_mut().unwrap().suspend = Some(*suspend);
                    self.seen.job = JobSeen::Found(Arc::new(job));
                    if *suspend {
                        // The Job controller deletes what runs.
                        self.seen.pods.retain(|p| {
                            matches!(p.status.as_ref().unwrap().phase.as_deref(), Some("Succeeded" | "Failed"))
                        });
                    }
                }
                Action::StopPod { name, .. } => {
                    self.stopped_pods.push(name.clone());
                    for pod in &mut self.seen.pods {
                        if pod.metadata.name.as_ref() == Some(name) {
                            Arc::make_mut(pod).spec.as_mut().unwrap().active_deadline_seconds = Some(1);
                        }
                    }
                }
                Action::HoldForCluster { record } => {
                    let metadata = &mut self.task.metadata;
                    let annotations = metadata.annotations.get_or_insert_default();
                    annotations.insert(kubetask_api::labels::CLUSTER.to_owned(), record.clone());
                    metadata.finalizers = Some(vec![kubetask_core::cluster::FINALIZER.to_owned()]);
                }
                Action::ReleaseCluster { .. } => self.task.metadata.finalizers = None,
                Action::DeleteTask { .. } => {
                    self.deleted = true;
                    self.task.metadata.deletion_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(fixtures::at(0)));
                }
            }
        }
        if let Some(status) = &plan.status {
            self.status_writes += 1;
            // What a server gives back.
            let text = serde_json::to_string(status).unwrap();
            self.task.status = Some(serde_json::from_str(&text).unwrap());
            assert_eq!(self.task.status.as_ref(), Some(status), "the status survives the wire");
        }
        self.events.extend(
            plan.events
                .iter()
                .map(|e| format!("{} {}: {}", if e.warning { "Warning" } else { "Normal" }, e.reason, e.message)),
        );
    }

    pub(crate) fn job(&self) -> Job {
        self.seen.job.found().unwrap().clone()
    }

    pub(crate) fn set_job(&mut self, job: Job) {
        self.seen.job = JobSeen::Found(Arc::new(job));
    }

    pub(crate) fn set_pods(&mut self, pods: Vec<Pod>) {
        self.seen.pods = pods.into_iter().map(Arc::new).collect();
    }

    pub(crate) fn status(&self) -> TaskStatus {
        self.task.status.clone().unwrap_or_default()
    }

    /// `Phase Reason: message`.
    pub(crate) fn line(&self) -> String {
        let status = self.status();
        format!(
            "{} {}: {}",
            status.phase.unwrap_or_default(),
            status.reason.unwrap_or_default(),
            status.message.unwrap_or_default()
        )
    }

    pub(crate) fn writes(&self) -> usize {
        self.files.len() + self.secrets.len() + self.jobs_created + self.status_writes
    }
}

/// When something was, for messages.
pub(crate) fn second(at: Timestamp) -> i64 {
    at.as_second() - 1_800_000_000
}
