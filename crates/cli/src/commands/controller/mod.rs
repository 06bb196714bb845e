//! `kubetask controller`: the operator alone, for a cluster. What a Deployment runs.
//!
//! It talks to the cluster it runs in, or to the one that --kubeconfig or --context name. Of several replicas one leads.
//! Metrics and health are served over HTTP.

mod endpoint;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use kube::Client;
use kubetask_core::deploy;
use kubetask_core::task::Settings;
use kubetask_operator::archive::{ArchivePolicy, Files};
use kubetask_operator::elected::{self, RunOptions};
use kubetask_operator::leader::LeaderConfig;
use kubetask_operator::traces::TraceConfig;
use kubetask_operator::{Health, OperatorConfig, install};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::GlobalArgs;
use crate::connect;
use crate::duration;
use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;

/// Arguments of `kubetask controller`.
#[derive(Debug, Args)]
#[command(after_help = "\
Inside a cluster it uses the Pod's service account; elsewhere name the cluster with --context or --kubeconfig.
SIGTERM ends it: looks that run finish, and the lease is given back.")]
pub struct ControllerArgs {
    /// Look after this namespace only [default: all]
    #[arg(long, value_name = "NAME", env = "KUBETASK_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// How many Tasks are looked at at a time
    #[arg(long, value_name = "N", default_value_t = 32, env = "KUBETASK_CONCURRENCY", value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,
    /// Install or renew the custom resource definitions first (needs the right to)
    #[arg(long, env = "KUBETASK_INSTALL_CRDS")]
    pub install_crds: bool,
    /// Address for /metrics; 0 serves none
    #[arg(long, value_name = "ADDRESS", default_value = ":8080", env = "KUBETASK_METRICS_BIND_ADDRESS", value_parser = listen)]
    pub metrics_bind_address: Listen,
    /// Address for /healthz and /readyz (may be the same); 0 serves none
    #[arg(long, value_name = "ADDRESS", default_value = ":8081", env = "KUBETASK_HEALTH_PROBE_BIND_ADDRESS", value_parser = listen)]
    pub health_probe_bind_address: Listen,
    /// How long what runs may take to finish after SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "20s", env = "KUBETASK_SHUTDOWN_GRACE", value_parser = duration::parse)]
    pub shutdown_grace: Duration,
    /// How to log: json, text, or auto (text on a terminal)
    #[arg(long, value_name = "FORMAT", default_value = "auto", env = "KUBETASK_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// Lead by holding a Lease, so that several replicas may run
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", env = "KUBETASK_LEADER_ELECT", help_heading = "Leader election")]
    pub leader_elect: bool,
    /// Namespace of the Lease [default: the Pod's, else kubetask-system]
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE", help_heading = "Leader election")]
    pub lease_namespace: Option<String>,
    /// Name of the Lease
    #[arg(
        long,
        value_name = "NAME",
        default_value = "kubetask-controller",
        env = "KUBETASK_LEASE_NAME",
        help_heading = "Leader election"
    )]
    pub lease_name: String,
    /// Who this replica is, with a random suffix [default: the Pod's name, else the host's]
    #[arg(long, value_name = "NAME", env = "POD_NAME", help_heading = "Leader election")]
    pub identity: Option<String>,
    /// For how long others wait before they take over
    #[arg(long, value_name = "DURATION", default_value = "15s", env = "KUBETASK_LEASE_DURATION", value_parser = duration::parse, help_heading = "Leader election")]
    pub lease_duration: Duration,
    /// For how long the leader works without having renewed the lease; shorter than the lease duration
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "KUBETASK_RENEW_DEADLINE", value_parser = duration::parse, help_heading = "Leader election")]
    pub renew_deadline: Duration,
    /// How often the lease is renewed and looked at
    #[arg(long, value_name = "DURATION", default_value = "2s", env = "KUBETASK_RETRY_PERIOD", value_parser = duration::parse, help_heading = "Leader election")]
    pub retry_period: Duration,

    /// KubeTask's own image, for init containers that fetch contexts [default: this version's]
    #[arg(long, value_name = "IMAGE", env = "KUBETASK_IMAGE", help_heading = "Pods")]
    pub image: Option<String>,
    /// The image of Tasks without an Agent, and of Agents without an image
    #[arg(long, value_name = "IMAGE", env = "KUBETASK_DEFAULT_AGENT_IMAGE", help_heading = "Pods")]
    pub default_agent_image: Option<String>,
    /// The user id of agents whose Agent sets no podSecurityContext; "image" leaves it to the image
    #[arg(long, value_name = "UID", default_value = "1000", env = "KUBETASK_RUN_AS_USER", value_parser = run_as, help_heading = "Pods")]
    pub run_as_user: RunAs,

    /// The directory under which file:// archives may be [default: none are written]
    #[arg(long, value_name = "DIR", env = "KUBETASK_ARCHIVE_DIR", help_heading = "Archives")]
    pub archive_dir: Option<PathBuf>,
    /// Use the operator's own identity for S3 archives without secretRef
    #[arg(long, env = "KUBETASK_ARCHIVE_OWN_IDENTITY", help_heading = "Archives")]
    pub archive_own_identity: bool,
}

/// Where to listen, if anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Listen(pub Option<SocketAddr>);

/// Who agents run as, unless their Agent says.
#[derive(Debug, Clone, Copy)]
pub struct RunAs(pub Option<i64>);

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// JSON, a line each.
    Json,
    /// Text.
    Text,
}

fn listen(text: &str) -> Result<Listen, String> {
    if text == "0" {
        return Ok(Listen(None));
    }
    let text = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    text.parse().map(|address| Listen(Some(address))).map_err(|_| "write ADDRESS:PORT, :PORT or 0".to_owned())
}

fn run_as(text: &str) -> Result<RunAs, String> {
    match text.parse::<i64>() {
        _ if text == "image" => Ok(RunAs(None)),
        Ok(0) => Err("0 is root; agents of clusters do not run as root by default".to_owned()),
        Ok(uid) if (1..=i64::from(u32::MAX)).contains(&uid) => Ok(RunAs(Some(uid))),
        _ => Err("write a user id, or image".to_owned()),
    }
}

impl ControllerArgs {
    fn settings(&self) -> Settings {
        let usual = Settings::restricted();
        Settings {
            own_image: self.image.clone().unwrap_or_else(|| usual.own_image.clone()),
            default_agent_image: self.default_agent_image.clone().unwrap_or_else(|| usual.default_agent_image.clone()),
            run_as_user: self.run_as_user.0,
            run_as_user_elsewhere: self.run_as_user.0,
            ..usual
        }
    }

    fn leader(&self) -> CommandResult<Option<LeaderConfig>> {
        if !self.leader_elect {
            return Ok(None);
        }
        let namespace = self.lease_namespace.clone().or_else(pod_namespace);
        let name = self.identity.clone().filter(|name| !name.is_empty()).unwrap_or_else(host_name);
        let config = LeaderConfig {
            namespace: namespace.unwrap_or_else(|| "kubetask-system".to_owned()),
            name: self.lease_name.clone(),
            // A container that was started again in the same Pod is another replica.
            identity: format!("{name}_{:08x}", rand::random::<u32>()),
            lease_duration: self.lease_duration,
            renew_deadline: self.renew_deadline,
            retry_period: self.retry_period,
        };
        match config.trouble() {
            Some(trouble) => Err(CommandError::usage(trouble)),
            None => Ok(Some(config)),
        }
    }
}

pub(crate) fn pod_namespace() -> Option<String> {
    let text = std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace").ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "kubetask".to_owned() } else { name }
}

/// Runs the command.
///
/// # Errors
/// When the cluster is not there, the address is taken, or the work cannot go on.
pub async fn run(args: ControllerArgs, global: &GlobalArgs) -> CommandResult {
    let leader = args.leader()?;
    // Installed before anything starts: a signal during the start must not be lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let client = cluster(global).await?;
    let config = OperatorConfig {
        settings: args.settings(),
        namespace: args.watch_namespace.clone(),
        concurrency: args.concurrency,
        archive: ArchivePolicy {
            files: args.archive_dir.clone().map_or(Files::Nowhere, Files::Under),
            own_identity: args.archive_own_identity,
        },
        traces: TraceConfig::from_env(|name| std::env::var(name).ok()),
        ..OperatorConfig::default()
    };
    let health = Health::default();
    let about = endpoint::About { health: health.clone(), metrics: config.metrics.clone(), client: client.clone() };
    let endpoints = endpoints(&args, &about).await?;
    if args.install_crds {
        install::definitions(&client, crate::version::short()).await.map_err(|e| CommandError::failure(chain(&e)))?;
    }
    let identity = leader.as_ref().map_or("the only one", |leader| leader.identity.as_str());
    tracing::info!(version = crate::version::short(), identity, "the controller starts");
    crate::memory::release_after_start();
    tokio::spawn(warn_of_age(client.clone()));
    let cancel = CancellationToken::new();
    let options = RunOptions { leader, health, grace: args.shutdown_grace };
    let work = elected::run(client, config, options, cancel.clone());
    tokio::pin!(work);
    let ended = tokio::select! {
        ended = &mut work => ended,
        signal = async { tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "interrupt" } } => {
            tracing::info!(signal, "shutting down");
            cancel.cancel();
            work.await
        }
    };
    for endpoint in endpoints {
        endpoint.shutdown().await;
    }
    match ended {
        Ok(()) => Ok(exit_codes::OK),
        Err(error) => Err(CommandError::failure(error.to_string())),
    }
}

/// Says so where manifests that were applied by hand run in a cluster that the command would not install into.
async fn warn_of_age(client: Client) {
    if let Ok(version) = client.apiserver_version().await
        && let Some(why) = deploy::too_old(&version.major, &version.minor)
    {
        tracing::warn!("{why}: agents of older ones may run twice, and what is wrong in a Task is not refused");
    }
}

/// Serves metrics and health, on one address or two.
async fn endpoints(args: &ControllerArgs, about: &endpoint::About) -> CommandResult<Vec<endpoint::Endpoint>> {
    use endpoint::Part;
    let (metrics, health) = (args.metrics_bind_address.0, args.health_probe_bind_address.0);
    let wanted = match (metrics, health) {
        (Some(one), Some(other)) if one == other && one.port() != 0 => {
            vec![(one, Part::Both, "--metrics-bind-address")]
        }
        _ => {
            let metrics = metrics.map(|address| (address, Part::Metrics, "--metrics-bind-address"));
            let health = health.map(|address| (address, Part::Health, "--health-probe-bind-address"));
            metrics.into_iter().chain(health).collect()
        }
    };
    let mut served = Vec::new();
    for (address, part, option) in wanted {
        let endpoint = endpoint::serve(address, part, about.clone()).await;
        let endpoint = endpoint.map_err(|error| {
            CommandError::failure(format!("{address}: {error}")).hint(format!("{option} chooses another address"))
        })?;
        tracing::info!(part = ?part, address = %endpoint.address, "serves");
        served.push(endpoint);
    }
    Ok(served)
}

/// The cluster that was named, else the one this Pod runs in.
async fn cluster(global: &GlobalArgs) -> CommandResult<Client> {
    if let Some((client, _)) = connect::cluster(global).await? {
        return Ok(client);
    }
    let config = kube::Config::incluster().map_err(|error| {
        CommandError::usage(format!("this is no Pod of a cluster: {}", chain(&error))).hint(
            "name the cluster with --context NAME or --kubeconfig FILE; on one machine `kubetask up` runs everything",
        )
    })?;
    Ok(Client::try_from(config)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ControllerArgs,
    }

    fn parse(line: &[&str]) -> Result<ControllerArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("controller").chain(line.iter().copied())).map(|line| line.args)
    }

    #[test]
    fn what_is_asked_for() {
        let args = parse(&["--metrics-bind-address", ":9", "--run-as-user", "image", "--leader-elect=false"]).unwrap();
        assert_eq!(args.metrics_bind_address.0, Some(SocketAddr::from(([0, 0, 0, 0], 9))));
        assert_eq!(args.settings().run_as_user, None);
        assert!(args.leader().unwrap().is_none());
        assert!(parse(&["--metrics-bind-address", "0"]).unwrap().metrics_bind_address.0.is_none());
        assert!(parse(&["--run-as-user", "0"]).is_err() && parse(&["--metrics-bind-address", "here"]).is_err());
        let args = parse(&["--identity", "pod-1", "--lease-namespace", "n"]).unwrap();
        let leader = args.leader().unwrap().unwrap();
        assert!(leader.identity.starts_with("pod-1_") && leader.namespace == "n", "{leader:?}");
        assert_eq!(args.settings().run_as_user, Some(1000), "restricted unless asked otherwise");
        let unsafe_times = parse(&["--renew-deadline", "15s"]).unwrap();
        assert!(unsafe_times.leader().unwrap_err().lines[0].contains("shorter"));
    }
}
