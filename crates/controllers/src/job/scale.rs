//! Which Pods a Job should have now: the part of a [plan](super::plan) that creates and deletes.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::backoff;
use super::failure_policy::Verdict;
use super::plan::{Books, Plan, Removal, STEP, Slot};
use crate::pods::{Facts, Phase};

impl Books<'_> {
    /// Which Pods to create or delete.
    pub(super) fn pods(&self, plan: &mut Plan) {
        let mut active: Vec<_> = self.active().cloned().collect();
        if self.outcome.is_some() {
            plan.remove.extend(active.into_iter().take(STEP).map(|pod| Removal { pod, uncounted: false }));
            return;
        }
        plan.wake = self.deadline();
        let wanted = self.wanted(active.len());
        let mut remove = self.misfits(&mut active);
        if active.len() > wanted {
            active.sort_by_key(|pod| importance(pod));
            remove.extend(active.drain(..active.len() - wanted));
        }
        plan.remove.extend(remove.into_iter().take(STEP).map(|pod| Removal { pod, uncounted: true }));
        let terminating = if self.replace_failed_only { self.terminating() } else { 0 };
        let missing = wanted.saturating_sub(active.len() + terminating).min(STEP);
        if missing == 0 {
            return;
        }
        if let Some(wait) = backoff::remaining(self.pods.iter().map(|p| &**p), |p| self.delays(p), self.now) {
            plan.wake = Some(plan.wake.map_or(wait, |wake| wake.min(wait)));
            return;
        }
        if self.indexed {
            self.create_indexes(&active, missing, plan);
        } else {
            plan.create = vec![Slot { index: None, failures: None }; missing];
        }
    }

    /// Whether a Pod's failure delays the next ones of the whole Job.
    fn delays(&self, pod: &Facts) -> bool {
        self.per_index().is_none() && self.has_failed(pod) && self.verdict(pod) != Verdict::Ignore
    }

    /// How many Pods should be active.
    fn wanted(&self, active: usize) -> usize {
        if self.is_suspended() {
            return 0;
        }
        let parallelism = self.job.spec.as_ref().and_then(|s| s.parallelism).unwrap_or(1);
        let parallelism = usize::try_from(parallelism).unwrap_or(0);
        match self.completions {
            // A work queue: when one has succeeded the others finish, and none are added.
            None if self.succeeded() > 0 => active.min(parallelism),
            None => parallelism,
            Some(completions) => {
                let over = self.succeeded() + self.failed_indexes.len();
                (completions as usize).saturating_sub(over).min(parallelism)
            }
        }
    }

    /// Takes out of the active Pods those of an Indexed Job that nobody needs: a second one for an index, or one whose
    /// index is done or beyond the completions.
    fn misfits(&self, active: &mut Vec<Arc<Facts>>) -> Vec<Arc<Facts>> {
        if !self.indexed {
            return Vec::new();
        }
        let mut held = HashSet::new();
        let (keep, misfits) = std::mem::take(active).into_iter().partition(|pod| {
            let open = |i: &u32| self.completions.is_some_and(|c| *i < c) && !self.completed_indexes.contains(*i);
            pod.index.filter(open).is_some_and(|index| held.insert(index))
        });
        *active = keep;
        misfits
    }

    /// Creates the lowest indexes that nobody works on.
    fn create_indexes(&self, active: &[Arc<Facts>], missing: usize, plan: &mut Plan) {
        let mut busy: HashSet<u32> = active.iter().filter_map(|p| p.index).collect();
        if self.replace_failed_only {
            busy.extend(self.pods.iter().filter(|p| p.is_terminating()).filter_map(|p| p.index));
        }
        for index in 0..self.completions.unwrap_or(0) {
            if plan.create.len() == missing {
                break;
            }
            if busy.contains(&index) || self.completed_indexes.contains(index) || self.failed_indexes.contains(index) {
                continue;
            }
            let mut failures = None;
            if self.per_index().is_some() {
                let (count, last) = self.index_failures(index);
                failures = Some(count);
                if let Some(wait) = last.and_then(|last| backoff::after(count, last, self.now)) {
                    plan.wake = Some(plan.wake.map_or(wait, |wake| wake.min(wait)));
                    continue;
                }
            }
            plan.create.push(Slot { index: Some(index), failures });
        }
    }

    /// How often an index has failed, and when last.
    fn index_failures(&self, index: u32) -> (u32, Option<Timestamp>) {
        let failed = self.pods.iter().filter(|p| p.index == Some(index) && self.has_failed(p));
        failed.fold((0, None), |(count, last), pod| {
            let ignored = self.verdict(pod) == Verdict::Ignore;
            let this = pod.index_failures + u32::from(!ignored);
            (count.max(this), last.max(pod.finished.or(pod.deleting)))
        })
    }
}

/// The least important first: what has not begun, then what is not ready, then what is youngest.
fn importance(pod: &Facts) -> (bool, bool, bool, std::cmp::Reverse<Option<Timestamp>>) {
    (pod.node.is_some(), pod.phase == Phase::Running, pod.ready, std::cmp::Reverse(pod.created))
}
