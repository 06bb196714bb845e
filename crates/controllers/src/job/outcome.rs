//! Whether a Job ends, and how: the part of a [plan](super::plan) that looks at limits, policies and completions.

use std::time::Duration;

use super::conditions::{self, Outcome, SUSPENDED};
use super::failure_policy::Verdict;
use super::plan::Books;
use super::success_policy;

impl Books<'_> {
    /// Decides whether the Job ends, and how; once decided it stays so.
    pub(super) fn judge(&mut self) {
        self.judge_indexes();
        if self.outcome.is_none() {
            self.outcome = self.failure().or_else(|| self.success());
        }
    }

    fn failure(&self) -> Option<Outcome> {
        let spec = self.job.spec.as_ref()?;
        let message = self.newly.iter().find_map(|pod| match self.verdict(pod) {
            Verdict::FailJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = message {
            return Some(Outcome::pod_failure_policy(&message));
        }
        let limit = spec.backoff_limit.and_then(|l| usize::try_from(l).ok());
        if limit.is_some_and(|limit| self.failed() > limit || self.restarts_exceed(limit)) {
            return Some(Outcome::backoff_limit());
        }
        if self.deadline().is_some_and(|left| left.is_zero()) {
            return Some(Outcome::deadline());
        }
        if self.per_index().is_some() {
            let failed = self.failed_indexes.len();
            let most = spec.max_failed_indexes.and_then(|m| usize::try_from(m).ok());
            if most.is_some_and(|most| failed > most) {
                return Some(Outcome::max_failed_indexes());
            }
            let all = self.completions.map_or(0, |c| c as usize);
            if failed > 0 && failed + self.completed_indexes.len() >= all {
                return Some(Outcome::failed_indexes());
            }
        }
        None
    }

    fn success(&self) -> Option<Outcome> {
        let spec = self.job.spec.as_ref()?;
        if self.indexed {
            let completions = self.completions.unwrap_or(0);
            if let Some(message) =
                success_policy::met(spec.success_policy.as_ref(), &self.completed_indexes, completions)
            {
                return Some(Outcome::success_policy(message));
            }
        }
        // What is active beyond the completions is removed first, as not wanted rather than failed.
        let idle = self.active().next().is_none();
        let done = match self.completions {
            Some(completions) => self.succeeded() >= completions as usize,
            None => self.succeeded() > 0,
        };
        (done && idle).then(Outcome::completions)
    }

    /// Containers that are restarted in place count against the limit as well.
    fn restarts_exceed(&self, limit: usize) -> bool {
        let template = self.job.spec.as_ref().and_then(|s| s.template.spec.as_ref());
        if template.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let restarts: i64 = self.active().map(|p| p.restarts).sum();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    /// What is left of `activeDeadlineSeconds`.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let seconds = self.job.spec.as_ref()?.active_deadline_seconds?;
        if self.is_suspended() {
            return None;
        }
        let allowed = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        // A Job that is being resumed starts anew.
        let resumed = conditions::find(&self.old, SUSPENDED).is_some();
        let Some(start) = self.old.start_time.as_ref().filter(|_| !resumed) else { return Some(allowed) };
        let passed = Duration::try_from(self.now.duration_since(start.0)).unwrap_or_default();
        Some(allowed.saturating_sub(passed))
    }

    /// Finds indexes that have failed for good.
    fn judge_indexes(&mut self) {
        let Some(limit) = self.per_index() else { return };
        let failed: Vec<_> = self.pods.iter().filter(|p| self.has_failed(p)).collect();
        for pod in failed {
            let Some(index) = pod.index.filter(|i| self.completions.is_some_and(|c| *i < c)) else { continue };
            let verdict = self.verdict(pod);
            let over = verdict != Verdict::Ignore && pod.index_failures >= limit;
            if (over || verdict == Verdict::FailIndex) && !self.completed_indexes.contains(index) {
                self.failed_indexes.insert(index);
            }
        }
    }
}
