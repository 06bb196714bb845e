//! The Lease of a server in a cluster: of several for one volume, one runs.
//!
//! A lock on a file keeps other processes of one machine out, and on many network file systems not even others'. In a Pod
//! the server holds a `coordination.k8s.io` Lease instead: it waits for it before it opens its store, asks before each
//! commit whether it still holds, and ends when it does not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use kube::Client;
use kubetask_embedded::Permit;
use kubetask_operator::leader::{Election, Fence, LeaderConfig, Lost};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::commands::controller::{host_name, pod_namespace};
use crate::connect;
use crate::duration;
use crate::error::{CommandError, CommandResult, chain};

/// Where a Pod's credentials are.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The Lease.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Lease")]
pub struct LeaseArgs {
    /// Run only while holding a Lease of a cluster: auto (in a Pod with a service account), always, never
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "KUBETASK_LEASE")]
    pub lease: When,
    /// The kubeconfig of the Lease's cluster [default: the cluster this Pod runs in]
    #[arg(long, value_name = "FILE", env = "KUBETASK_LEASE_KUBECONFIG")]
    pub lease_kubeconfig: Option<PathBuf>,
    /// Namespace of the Lease [default: the Pod's]
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of the Lease: one for each data directory
    #[arg(long, value_name = "NAME", default_value = "kubetask-daemon", env = "KUBETASK_LEASE_NAME")]
    pub lease_name: String,
    /// Who this server is; POD_UID is added, or a random suffix [default: the Pod's name, else the host's]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// For how long others wait before they take over
    #[arg(long, value_name = "DURATION", default_value = "15s", env = "KUBETASK_LEASE_DURATION", value_parser = duration::parse)]
    pub lease_duration: Duration,
    /// For how long the server works without having renewed the Lease; shorter than the lease duration
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "KUBETASK_RENEW_DEADLINE", value_parser = duration::parse)]
    pub renew_deadline: Duration,
    /// How often the Lease is renewed and looked at
    #[arg(long, value_name = "DURATION", default_value = "2s", env = "KUBETASK_RETRY_PERIOD", value_parser = duration::parse)]
    pub retry_period: Duration,
}

/// When a Lease is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// In a Pod that has a service account, or with --lease-kubeconfig.
    Auto,
    /// Always.
    Always,
    /// Never: the lock on the store's file keeps others out.
    Never,
}

impl LeaseArgs {
    /// Whether a Lease is to be held here.
    fn wanted(&self) -> bool {
        let in_pod = || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists();
        match self.lease {
            When::Never => false,
            When::Always => true,
            When::Auto => self.lease_kubeconfig.is_some() || in_pod(),
        }
    }

    fn config(&self) -> CommandResult<LeaderConfig> {
        let name = self.identity.clone().filter(|name| !name.is_empty()).unwrap_or_else(host_name);
        // A container that was started again in its Pod goes on at once: nothing of the one before is left. A Pod of the
        // same name on another node is somebody else.
        let suffix = std::env::var("POD_UID").ok().filter(|uid| !uid.is_empty());
        let suffix = suffix.unwrap_or_else(|| format!("{:08x}", rand::random::<u32>()));
        let config = LeaderConfig {
            namespace: self.lease_namespace.clone().or_else(pod_namespace).unwrap_or_else(|| "default".to_owned()),
            name: self.lease_name.clone(),
            identity: format!("{name}_{suffix}"),
            lease_duration: self.lease_duration,
            renew_deadline: self.renew_deadline,
            retry_period: self.retry_period,
        };
        match config.trouble() {
            Some(trouble) => Err(CommandError::usage(trouble)),
            None => Ok(config),
        }
    }

    /// Waits for the Lease; `None` where none is to be held.
    ///
    /// # Errors
    /// When there is no cluster, or it does not let this server have a Lease.
    pub(super) async fn acquire(&self) -> CommandResult<Option<Held>> {
        if !self.wanted() {
            return Ok(None);
        }
        let config = self.config()?;
        let client = match &self.lease_kubeconfig {
            Some(path) => connect::from_kubeconfig(path).await?,
            None => {
                let config = kube::Config::incluster().map_err(|error| {
                    CommandError::usage(format!("--lease: this is no Pod of a cluster: {}", chain(&error)))
                        .hint("--lease-kubeconfig names a cluster; --lease=never relies on the store's file lock")
                })?;
                Client::try_from(config)?
            }
        };
        Held::acquire(client, config).await.map(Some)
    }
}

/// A Lease that this server holds.
pub(super) struct Held {
    fence: Fence,
    duration: Duration,
    release: CancellationToken,
    holding: JoinHandle<(Election, Option<Lost>)>,
}

impl Held {
    async fn acquire(client: Client, config: LeaderConfig) -> CommandResult<Self> {
        let (fence, release, duration) = (Fence::default(), CancellationToken::new(), config.lease_duration);
        let lease = format!("{}/{}", config.namespace, config.name);
        tracing::info!(lease, identity = config.identity, "asks for the lease");
        let mut election = Election::new(client, config, fence.clone());
        let (refused, mut refusal) = watch::channel(None);
        let answered = |error: Option<&kube::Error>| {
            if let Some(kube::Error::Api(status)) = error
                && matches!(status.code, 401 | 403)
            {
                refused.send_replace(Some(status.message.clone()));
            }
        };
        let why = tokio::select! {
            () = election.acquire(answered) => None,
            seen = refusal.wait_for(Option::is_some) => seen.ok().and_then(|seen| seen.clone()),
        };
        if let Some(why) = why {
            return Err(CommandError::failure(format!("cannot have the lease {lease}: {why}")).hint(
                "grant get, create and update of leases to the Pod's service account (deploy/daemon has the Role); \
                 --lease=never relies on the store's file lock alone",
            ));
        }
        tracing::info!(lease, "holds the lease");
        let stop = release.clone();
        let holding = tokio::spawn(async move {
            let lost = stop.run_until_cancelled(election.hold(|_| {})).await;
            (election, lost)
        });
        Ok(Self { fence, duration, release, holding })
    }

    /// Says before each commit whether this server may still write.
    pub(super) fn permit(&self) -> Permit {
        let fence = self.fence.clone();
        Permit::new(move || fence.holds())
    }

    /// For how long the one before may still have the store open.
    pub(super) fn patience(&self) -> Duration {
        self.duration * 2
    }

    /// Returns when the Lease is lost, with the reason in words.
    pub(super) async fn lost(&mut self) -> &'static str {
        match (&mut self.holding).await {
            Ok((_, Some(Lost::Taken))) => "somebody else holds the lease",
            _ => "the lease could not be renewed in time",
        }
    }

    /// Gives it back. From here on nothing is written.
    pub(super) async fn release(self) {
        self.fence.shut();
        self.release.cancel();
        if let Ok((mut election, _)) = self.holding.await {
            election.release().await;
        }
    }
}
