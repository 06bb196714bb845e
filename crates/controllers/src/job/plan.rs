//! The decision about a Job: its Pods and the time in, what to do next out. No I/O, no memory.
//!
//! A plan is one step. It either changes Pods, or writes the status, or lets go of Pods that have been counted; the
//! caller does it and asks again with what it got back, until there is nothing left to do. So the order in which things
//! become durable is fixed here: a Pod is released only after the status names it, and counted only after it is released.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobStatus, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::conditions::{self, Outcome, SUSPENDED};
use super::failure_policy::{self, Verdict};
use super::indexes::Indexes;
use crate::pods::{Facts, Phase};

/// At most this many Pods are created, deleted or counted in one step.
pub(super) const STEP: usize = 500;

/// A Pod to create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The index of an Indexed Job.
    pub(super) index: Option<u32>,
    /// How often that index has failed before, if the Job counts it.
    pub(super) failures: Option<u32>,
}

/// A Pod to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) pod: Arc<Facts>,
    /// It is not wanted any more, which is not its failure: let go of it first, so that it is not counted.
    pub(super) uncounted: bool,
}

/// An event about the Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// The next step. Pods are changed first, then the status is written, then Pods are released.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<Slot>,
    pub(super) remove: Vec<Removal>,
    /// The new status, if it differs.
    pub(super) status: Option<JobStatus>,
    /// Pods to take the finalizer off.
    pub(super) release: Vec<Arc<Facts>>,
    /// To be told once the status is written.
    pub(super) notices: Vec<Notice>,
    /// When to look again although nothing has changed.
    pub(super) wake: Option<Duration>,
}

/// Decides the next step. `hands_off`: Pods could not be changed just now, so only keep the books.
pub(super) fn plan(job: &Job, pods: &[Arc<Facts>], now: Timestamp, hands_off: bool) -> Plan {
    let status = job.status.clone().unwrap_or_default();
    if job.metadata.deletion_timestamp.is_some() || conditions::finished(&status).is_some() {
        let release = pods.iter().filter(|p| p.is_tracked()).cloned().collect();
        return Plan { release, ..Plan::default() };
    }
    let mut books = Books::open(job, pods, now, status);
    books.settle();
    books.count();
    books.judge();
    books.suspension();
    let mut plan = Plan::default();
    books.pods(&mut plan);
    // The reason to stop Pods is written down first: once they are stopped it may not be seen any more.
    let undecided = books.outcome.is_some() && Outcome::decided(&books.old).is_none();
    if (!plan.create.is_empty() || !plan.remove.is_empty()) && !hands_off && !undecided {
        return Plan { wake: plan.wake, create: plan.create, remove: plan.remove, ..Plan::default() };
    }
    (plan.create, plan.remove) = (Vec::new(), Vec::new());
    books.close(&mut plan);
    plan
}

/// Everything a decision is made of.
pub(super) struct Books<'a> {
    pub(super) job: &'a Job,
    pub(super) pods: &'a [Arc<Facts>],
    pub(super) now: Timestamp,
    pub(super) old: JobStatus,
    pub(super) status: JobStatus,
    pub(super) completions: Option<u32>,
    pub(super) indexed: bool,
    /// Only Pods that have come to their end are replaced, not those that are on their way.
    pub(super) replace_failed_only: bool,
    /// Counted by uid, but not yet released.
    pub(super) uncounted_succeeded: Vec<String>,
    pub(super) uncounted_failed: Vec<String>,
    pub(super) completed_indexes: Indexes,
    pub(super) failed_indexes: Indexes,
    pub(super) outcome: Option<Outcome>,
    /// The finished Pods that were found in this step.
    pub(super) newly: Vec<Arc<Facts>>,
    pub(super) notices: Vec<Notice>,
}

impl<'a> Books<'a> {
    fn open(job: &'a Job, pods: &'a [Arc<Facts>], now: Timestamp, status: JobStatus) -> Self {
        let spec = job.spec.as_ref();
        let completions = spec.and_then(|s| s.completions).and_then(|c| u32::try_from(c).ok());
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let parse =
            |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions.unwrap_or(0));
        Books {
            job,
            pods,
            now,
            completions,
            indexed: spec.and_then(|s| s.completion_mode.as_deref()) == Some("Indexed"),
            replace_failed_only: spec.and_then(|s| s.pod_replacement_policy.as_deref()) == Some("Failed"),
            uncounted_succeeded: uncounted.succeeded.unwrap_or_default(),
            uncounted_failed: uncounted.failed.unwrap_or_default(),
            completed_indexes: parse(&status.completed_indexes),
            failed_indexes: parse(&status.failed_indexes),
            outcome: Outcome::decided(&status),
            newly: Vec::new(),
            notices: Vec::new(),
            old: status.clone(),
            status,
        }
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.job.spec.as_ref().and_then(|s| s.suspend).unwrap_or(false)
    }

    pub(super) fn per_index(&self) -> Option<u32> {
        let limit = self.job.spec.as_ref().and_then(|s| s.backoff_limit_per_index);
        limit.filter(|_| self.indexed).and_then(|l| u32::try_from(l).ok())
    }

    /// Pods that were named in the status and have been released (or are gone) become numbers.
    fn settle(&mut self) {
        let held: HashSet<&str> = self.pods.iter().filter(|p| p.is_tracked()).map(|p| p.uid.as_str()).collect();
        let settle = |uids: &mut Vec<String>, number: &mut Option<i32>| {
            let before = uids.len();
            uids.retain(|uid| held.contains(uid.as_str()));
            let settled = i32::try_from(before - uids.len()).unwrap_or(i32::MAX);
            if settled > 0 {
                *number = Some(number.unwrap_or(0).saturating_add(settled));
            }
        };
        settle(&mut self.uncounted_succeeded, &mut self.status.succeeded);
        settle(&mut self.uncounted_failed, &mut self.status.failed);
    }

    /// Whether the Pod counts as failed although it may still be stopping.
    pub(super) fn has_failed(&self, pod: &Facts) -> bool {
        match pod.phase {
            Phase::Failed => true,
            Phase::Succeeded => false,
            // Once the outcome is decided, what is being stopped will not succeed any more.
            _ => pod.deleting.is_some() && (!self.replace_failed_only || self.outcome.is_some()),
        }
    }

    pub(super) fn verdict(&self, pod: &Facts) -> Verdict {
        failure_policy::judge(self.job.spec.as_ref().and_then(|s| s.pod_failure_policy.as_ref()), pod)
    }

    /// Enters Pods that have come to their end.
    fn count(&mut self) {
        let known: HashSet<String> = self.uncounted_succeeded.iter().chain(&self.uncounted_failed).cloned().collect();
        for pod in self.pods.iter().filter(|p| p.is_tracked() && !known.contains(&p.uid)) {
            if self.newly.len() == STEP {
                break;
            }
            let index = pod.index.filter(|i| self.completions.is_some_and(|c| *i < c));
            if pod.phase == Phase::Succeeded {
                match index {
                    // An index counts once, whoever did it; its number is that of the completed indexes.
                    _ if !self.indexed => self.uncounted_succeeded.push(pod.uid.clone()),
                    Some(index) => self.completed_indexes.insert(index),
                    None => {}
                }
            } else if self.has_failed(pod) {
                let counts = self.verdict(pod) != Verdict::Ignore;
                if counts && (!self.indexed || index.is_some()) {
                    self.uncounted_failed.push(pod.uid.clone());
                }
            } else {
                continue;
            }
            self.newly.push(pod.clone());
        }
    }

    pub(super) fn succeeded(&self) -> usize {
        if self.indexed {
            self.completed_indexes.len()
        } else {
            number(self.status.succeeded) + self.uncounted_succeeded.len()
        }
    }

    pub(super) fn failed(&self) -> usize {
        number(self.status.failed) + self.uncounted_failed.len()
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Arc<Facts>> + Clone {
        self.pods.iter().filter(|p| p.is_active())
    }

    pub(super) fn terminating(&self) -> usize {
        self.pods.iter().filter(|p| p.is_terminating()).count()
    }

    fn suspension(&mut self) {
        if self.is_suspended() {
            if self.outcome.is_none()
                && conditions::set(&mut self.status, SUSPENDED, true, "JobSuspended", "Job suspended", self.now)
            {
                // Not started, until it is resumed.
                self.status.start_time = None;
                self.notice(false, "Suspended", "Job suspended");
            }
            return;
        }
        // Also if it has ended already: its Pods may have been quicker than the first look at them.
        if conditions::find(&self.status, SUSPENDED).is_some() {
            conditions::set(&mut self.status, SUSPENDED, false, "JobResumed", "Job resumed", self.now);
            self.notice(false, "Resumed", "Job resumed");
            // The deadline does not run while a Job is suspended.
            self.status.start_time = Some(Time(self.now));
        }
        self.status.start_time.get_or_insert(Time(self.now));
    }

    fn notice(&mut self, warning: bool, reason: &str, message: &str) {
        self.notices.push(Notice { warning, reason: reason.to_owned(), message: message.to_owned() });
    }

    /// Writes the new status down, and says which Pods may go.
    fn close(mut self, plan: &mut Plan) {
        let active = self.active().count();
        let ready = self.active().filter(|p| p.ready).count();
        let terminating = self.terminating();
        // Named in the status as it is stored, so they can be let go.
        let stored = self.old.uncounted_terminated_pods.clone().unwrap_or_default();
        let named: HashSet<String> =
            stored.succeeded.into_iter().flatten().chain(stored.failed.into_iter().flatten()).collect();

        if let Some(outcome) = self.outcome.clone() {
            let (announced, end) = outcome.types();
            let (success, reason, message) = (outcome.success, outcome.reason.as_str(), outcome.message.as_str());
            conditions::set(&mut self.status, announced, true, reason, message, self.now);
            let held = self.pods.iter().any(|p| p.is_tracked());
            let counted = self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty() && !held;
            if counted && active == 0 && terminating == 0 {
                conditions::set(&mut self.status, end, true, reason, message, self.now);
                if success {
                    self.status.completion_time = Some(Time(self.now));
                    self.notice(false, "Completed", "Job completed");
                } else {
                    self.notice(true, reason, message);
                }
            }
        }
        if self.indexed {
            let completed = self.completed_indexes.to_string();
            self.status.completed_indexes = Some(completed).filter(|text| !text.is_empty());
            self.status.succeeded = positive(self.completed_indexes.len());
            if self.per_index().is_some() {
                self.status.failed_indexes = Some(self.failed_indexes.to_string());
            }
        }
        self.status.active = positive(active);
        self.status.ready = i32::try_from(ready).ok();
        self.status.terminating = i32::try_from(terminating).ok();
        let list = |uids: &[String]| (!uids.is_empty()).then(|| uids.to_vec());
        self.status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            failed: list(&self.uncounted_failed),
            succeeded: list(&self.uncounted_succeeded),
        });
        if self.status != self.old {
            plan.status = Some(self.status);
            plan.notices = self.notices;
        }
        // What is only counted by its index, or not at all, need not be named first: the written status says all.
        let uncounted: HashSet<&String> = self.uncounted_succeeded.iter().chain(&self.uncounted_failed).collect();
        let releasable = |pod: &Arc<Facts>| {
            named.contains(&pod.uid) || (plan.status.is_none() && !uncounted.contains(&pod.uid) && pod.is_finished())
        };
        plan.release = self.pods.iter().filter(|p| p.is_tracked()).filter(|p| releasable(p)).cloned().collect();
    }
}

fn number(number: Option<i32>) -> usize {
    usize::try_from(number.unwrap_or(0)).unwrap_or(0)
}

/// Counters that are zero are not written.
fn positive(number: usize) -> Option<i32> {
    (number > 0).then(|| i32::try_from(number).unwrap_or(i32::MAX))
}
