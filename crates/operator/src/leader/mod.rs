//! Who of several replicas leads: whoever holds a `coordination.k8s.io` Lease.
//!
//! Clocks of different machines need not agree. A replica that does not lead counts, on its own clock, for how long it
//! has seen the Lease unchanged; only when that is longer than the holder promised does it take it. The holder may write
//! until its [`Fence`] ends, which is counted from *before* it asked for the renewal and is shorter than the promise: it
//! has stopped before anybody can take its place, even if it is paused, or its machine sleeps, at the worst moment.
//!
//! [`Election::acquire`] waits for the Lease, [`Election::hold`] renews it until it is lost, [`Election::release`] gives
//! it back so that nobody has to wait for its end.

mod fence;
pub mod record;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

pub use fence::{Fence, Moment};
use record::{Chance, Observed};

/// How the election is carried out.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who this replica is; no other may be called the same.
    pub identity: String,
    /// For how long the Lease is promised: others wait this long before they take it.
    pub lease_duration: Duration,
    /// For how long this replica writes without having renewed. Shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// How often the Lease is renewed, and looked at by those that wait.
    pub retry_period: Duration,
}

impl LeaderConfig {
    /// The usual times: fifteen seconds, ten, and two.
    #[must_use]
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// What is wrong with it, if anything.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        if self.identity.is_empty() || self.name.is_empty() || self.namespace.is_empty() {
            Some("identity, name and namespace of the lease must not be empty")
        } else if self.lease_duration < Duration::from_secs(1) {
            Some("the lease duration must be at least one second")
        } else if self.renew_deadline >= self.lease_duration {
            Some("the renew deadline must be shorter than the lease duration")
        } else if self.retry_period.is_zero() || self.retry_period * 2 > self.renew_deadline {
            Some("the retry period must be at most half the renew deadline")
        } else {
            None
        }
    }
}

/// How long giving the Lease back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(3);

/// How a replica ceased to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Somebody else has the Lease.
    Taken,
    /// It could not be renewed in time.
    Expired,
}

/// This replica's part in the election.
pub struct Election {
    api: Api<Lease>,
    config: LeaderConfig,
    fence: Fence,
    observed: Option<Observed>,
}

impl Election {
    /// The client must not be behind the fence: whoever does not lead must be able to ask for the Lease.
    #[must_use]
    pub fn new(client: Client, config: LeaderConfig, fence: Fence) -> Self {
        Self { api: Api::namespaced(client, &config.namespace), config, fence, observed: None }
    }

    /// Returns when this replica leads. `alive` is called at every look.
    pub async fn acquire(&mut self, mut alive: impl FnMut(Option<&kube::Error>)) {
        loop {
            match self.attempt().await {
                Ok(true) => {
                    alive(None);
                    return;
                }
                Ok(false) => alive(None),
                Err(error) => {
                    tracing::warn!(lease = self.config.name, %error, "cannot ask for the lease");
                    alive(Some(&error));
                }
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Renews the Lease for as long as that succeeds in time.
    pub async fn hold(&mut self, mut alive: impl FnMut(Option<&kube::Error>)) -> Lost {
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            // Once its time is over nothing is renewed: what this replica knows may be long out of date.
            if !self.fence.holds() {
                return Lost::Expired;
            }
            match self.attempt().await {
                Ok(true) => alive(None),
                Ok(false) if self.observed.as_ref().is_some_and(|seen| !seen.is_held_by(&self.config.identity)) => {
                    self.fence.shut();
                    return Lost::Taken;
                }
                Ok(false) => alive(None),
                Err(error) => {
                    tracing::warn!(lease = self.config.name, %error, "cannot renew the lease");
                    alive(Some(&error));
                }
            }
        }
    }

    /// Gives the Lease back. From here on nothing is written.
    pub async fn release(&mut self) {
        self.fence.shut();
        if self.observed.take().is_none_or(|seen| !seen.is_held_by(&self.config.identity)) {
            return;
        }
        match tokio::time::timeout(RELEASE_WITHIN, self.give_up()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%error, "the lease was not given back; it ends by itself"),
            Err(_) => tracing::info!("the lease was not given back in time; it ends by itself"),
        }
    }

    /// Looks again first: a renewal whose answer nobody waited for may have changed the Lease.
    async fn give_up(&self) -> Result<(), kube::Error> {
        loop {
            let Some(lease) = self.api.get_opt(&self.config.name).await? else { return Ok(()) };
            let seen = Observed::update(None, lease);
            if !seen.is_held_by(&self.config.identity) {
                return Ok(());
            }
            let given_up = seen.released(Timestamp::now());
            match self.api.replace(&self.config.name, &PostParams::default(), &given_up).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks at the Lease, and takes or renews it if it may. Whether it is this replica's now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        // Longer than the period: where answers are slow, one that is given up is asked for again from the beginning, with a
        // connection of its own. Two fit into the time for which the fence holds.
        let limit = (self.config.renew_deadline / 2).max(Duration::from_millis(500));
        match tokio::time::timeout(limit, self.try_once()).await {
            Ok(result) => result,
            Err(_) => Err(kube::Error::Service("no answer in time".into())),
        }
    }

    async fn try_once(&mut self) -> Result<bool, kube::Error> {
        // The time that counts is from before the request: nobody can have seen it earlier.
        let started = Moment::now();
        let now = Timestamp::now();
        let config = &self.config;
        let Some(lease) = self.api.get_opt(&config.name).await? else {
            let lease = record::fresh(config, now);
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(created) => Ok(self.won(created, started)),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(error) => Err(error),
            };
        };
        let observed = Observed::update(self.observed.take(), lease);
        let chance = observed.chance(&config.identity, config.lease_duration);
        let wanted = match chance {
            Chance::Wait => None,
            Chance::Renew | Chance::Take => Some(observed.claimed(config, chance, now)),
        };
        self.observed = Some(observed);
        let Some(wanted) = wanted else { return Ok(false) };
        match self.api.replace(&self.config.name, &PostParams::default(), &wanted).await {
            Ok(replaced) => Ok(self.won(replaced, started)),
            // Somebody was faster, or it is gone: the next look tells.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn won(&mut self, lease: Lease, started: Moment) -> bool {
        self.observed = Some(Observed::update(None, lease));
        self.fence.hold_until(started.plus(self.config.renew_deadline));
        self.fence.holds()
    }

    /// A little more or less than the period, so that replicas do not ask in step.
    fn pause(&self) -> Duration {
        self.config.retry_period * (90 + Moment::now().spread(20)) / 100
    }
}
