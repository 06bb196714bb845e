//! How long to wait before the next Pod after failures: 10 s, doubled with each failure since the last success, up to
//! ten minutes.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::pods::{Facts, Phase};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// When a Pod came to its end: its containers', or when it was asked to.
fn ended(pod: &Facts) -> Option<Timestamp> {
    pod.finished.or(pod.deleting).or(pod.created)
}

/// The wait that is left; `failed` says which Pods count as failures.
pub(super) fn remaining<'a>(
    pods: impl Iterator<Item = &'a Facts> + Clone,
    failed: impl Fn(&Facts) -> bool,
    now: Timestamp,
) -> Option<Duration> {
    let success = pods.clone().filter(|p| p.phase == Phase::Succeeded).filter_map(ended).max();
    let failures =
        pods.filter(|p| failed(p)).filter_map(ended).filter(|at| success.is_none_or(|success| *at >= success));
    let (count, last) = failures.fold((0, None), |(count, last), at| (count + 1, last.max(Some(at))));
    after(count, last?, now)
}

/// The wait that is left after the n-th failure in a row.
pub(super) fn after(count: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
    if count == 0 {
        return None;
    }
    let wait = FIRST.saturating_mul(1 << (count - 1).min(10)).min(LONGEST);
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    wait.checked_sub(passed).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: Phase, at: i64) -> Facts {
        Facts { phase, finished: Some(Timestamp::from_second(at).unwrap()), ..Facts::default() }
    }

    #[test]
    fn doubles_with_each_failure_since_the_last_success() {
        let check = |pods: &[Facts], now: i64, expected: Option<u64>| {
            let now = Timestamp::from_second(now).unwrap();
            let left = remaining(pods.iter(), |p| p.phase == Phase::Failed, now);
            assert_eq!(left.map(|d| d.as_secs()), expected, "{pods:?}");
        };
        let (failed, succeeded) = (|at| pod(Phase::Failed, at), |at| pod(Phase::Succeeded, at));
        check(&[], 0, None);
        check(&[failed(100)], 100, Some(10));
        check(&[failed(100)], 104, Some(6));
        check(&[failed(100)], 110, None);
        check(&[failed(100), failed(120)], 120, Some(20));
        check(&[failed(100), failed(120), failed(160)], 160, Some(40));
        check(&[failed(100), succeeded(110), failed(120)], 120, Some(10));
        check(&[failed(100), succeeded(110)], 110, None);
        check(&vec![failed(100); 20], 100, Some(600));
    }
}
