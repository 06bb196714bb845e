//! What a Lease says, and what may be done about it: pure but for the clock of the observer.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::{LeaderConfig, Moment};

/// What may be done about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// It is ours.
    Renew,
    /// It is nobody's, or its holder has not renewed it for as long as it promised.
    Take,
    /// It is somebody else's.
    Wait,
}

/// A Lease, and since when it has been seen like that.
#[derive(Clone, Debug)]
pub struct Observed {
    lease: Lease,
    since: Moment,
}

impl Observed {
    /// What is seen now, given what was seen before: as long as nothing changes, it has been so since then.
    #[must_use]
    pub fn update(before: Option<Self>, lease: Lease) -> Self {
        let same = |before: &Self| before.lease.spec == lease.spec && before.lease.metadata.uid == lease.metadata.uid;
        match before {
            Some(before) if same(&before) => Self { lease, since: before.since },
            _ => Self { lease, since: Moment::now() },
        }
    }

    fn spec(&self) -> LeaseSpec {
        self.lease.spec.clone().unwrap_or_default()
    }

    /// Whether this replica holds it.
    #[must_use]
    pub fn is_held_by(&self, identity: &str) -> bool {
        self.lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(identity)
    }

    /// What a replica may do about it.
    #[must_use]
    pub fn chance(&self, identity: &str, lease_duration: Duration) -> Chance {
        let spec = self.spec();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder == identity {
            return Chance::Renew;
        }
        if holder.is_empty() {
            return Chance::Take;
        }
        // What its holder promised counts, not what we would.
        let promised = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
        let promised = promised.map_or(lease_duration, Duration::from_secs);
        if self.since.elapsed() > promised { Chance::Take } else { Chance::Wait }
    }

    /// The Lease as this replica wants it; the version that was seen is the precondition.
    #[must_use]
    pub fn claimed(&self, config: &LeaderConfig, chance: Chance, now: Timestamp) -> Lease {
        let mut spec = self.spec();
        if chance == Chance::Take {
            spec.acquire_time = Some(MicroTime(now));
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        Lease { metadata: self.metadata(), spec: Some(promise(config, spec, now)) }
    }

    /// The Lease when its holder gives it up.
    #[must_use]
    pub fn released(&self, now: Timestamp) -> Lease {
        let spec = LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(now)),
            ..self.spec()
        };
        Lease { metadata: self.metadata(), spec: Some(spec) }
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta { managed_fields: None, ..self.lease.metadata.clone() }
    }
}

/// The Lease where there was none.
#[must_use]
pub fn fresh(config: &LeaderConfig, now: Timestamp) -> Lease {
    let spec = LeaseSpec { acquire_time: Some(MicroTime(now)), lease_transitions: Some(0), ..LeaseSpec::default() };
    Lease {
        metadata: ObjectMeta {
            name: Some(config.name.clone()),
            namespace: Some(config.namespace.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(promise(config, spec, now)),
    }
}

fn promise(config: &LeaderConfig, spec: LeaseSpec, now: Timestamp) -> LeaseSpec {
    // Whole seconds, rounded up: others must not count less than we do.
    let seconds = config.lease_duration.as_secs() + u64::from(config.lease_duration.subsec_nanos() > 0);
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
        renew_time: Some(MicroTime(now)),
        ..spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(identity: &str) -> LeaderConfig {
        LeaderConfig::new("n", "kubetask", identity)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn whose_it_is() {
        let ours = Observed::update(None, fresh(&config("a"), at(1)));
        assert_eq!(ours.chance("a", Duration::from_secs(15)), Chance::Renew);
        assert_eq!(ours.chance("b", Duration::from_secs(15)), Chance::Wait);
        let released = Observed::update(None, ours.released(at(2)));
        assert_eq!(released.chance("b", Duration::from_secs(15)), Chance::Take);
        assert_eq!(Observed::update(None, Lease::default()).chance("b", Duration::from_secs(15)), Chance::Take);
    }

    #[test]
    fn it_is_taken_when_it_was_seen_unchanged_for_as_long_as_promised() {
        let mut short = config("a");
        short.lease_duration = Duration::from_millis(900);
        let lease = fresh(&short, at(1));
        assert_eq!(lease.spec.as_ref().unwrap().lease_duration_seconds, Some(1), "rounded up");
        let long_ago = Moment::now();
        let seen = Observed { lease: lease.clone(), since: long_ago };
        assert_eq!(seen.chance("b", Duration::from_secs(15)), Chance::Wait);
        std::thread::sleep(Duration::from_millis(1100));
        // Seen again unchanged: it counts from the first time. Renewed: from now.
        let same = Observed::update(Some(seen.clone()), lease.clone());
        assert_eq!(same.chance("b", Duration::from_secs(15)), Chance::Take);
        let renewed = seen.claimed(&short, Chance::Renew, at(9));
        assert_eq!(Observed::update(Some(seen), renewed).chance("b", Duration::from_secs(15)), Chance::Wait);
    }

    #[test]
    fn a_claim_counts_changes_of_the_holder() {
        let seen = Observed::update(None, fresh(&config("a"), at(1)));
        let renewed = seen.claimed(&config("a"), Chance::Renew, at(2)).spec.unwrap();
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(0), Some(MicroTime(at(1)))));
        let taken = seen.claimed(&config("b"), Chance::Take, at(3)).spec.unwrap();
        assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(1), Some(MicroTime(at(3)))));
        assert_eq!(taken.holder_identity.as_deref(), Some("b"));
    }

    #[test]
    fn settings_that_cannot_be_safe_are_refused() {
        assert_eq!(config("a").trouble(), None);
        assert!(LeaderConfig { renew_deadline: Duration::from_secs(15), ..config("a") }.trouble().is_some());
        assert!(LeaderConfig { retry_period: Duration::from_secs(6), ..config("a") }.trouble().is_some());
        assert!(config("").trouble().is_some());
    }
}
