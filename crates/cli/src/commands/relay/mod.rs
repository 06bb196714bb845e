//! `kubetask relay`: what runs at home for an agent on another cluster.
//!
//! [`submit`] (the init container) makes the Job there and waits until its agent starts; [`follow`] (the container
//! `agent`) prints its log and tells how it ended; [`changes`] (a sidecar, where changes are collected) prints what was
//! changed. Each may be started again at any time, anywhere: the Job is found by its name. What to make is a [`Spec`];
//! nothing here decides anything about Tasks.

mod changes;
mod copies;
mod follow;
mod log;
mod submit;
mod words;

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures::FutureExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use kubetask_core::cluster::{CLUSTER_DIR, KUBECONFIG_KEY, SPEC_ENV, Spec};
use kubetask_core::task::WAITS_FILE;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;

/// How long the other cluster may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest pause between two attempts to reach it.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Exit code of a program that was asked to end: 128 + SIGTERM.
const TERMINATED: u8 = 143;

/// Exit code of a relay that is to be started again.
const AGAIN: u8 = 75;
/// How often it is looked whether the agent waits for a person.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `kubetask relay`.
#[derive(Debug, Args)]
pub struct RelayArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the Job on the other cluster, and wait until its agent starts
    Submit,
    /// Print the agent's log, and tell how it ended
    Follow,
    /// Wait until the agent's end has been told, and print what it changed
    Changes,
    /// Return once the agent has ended and its container stays for a person; what a probe runs
    Waits,
}

/// Why something did not work.
enum Trouble {
    /// It may work later: the cluster does not answer, or is busy.
    Later(String),
    /// The cluster says no; somebody has to change something.
    Refused(String),
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match error {
            // A token that was rotated is read again with the next attempt.
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 405 | 409 | 413 | 422) => {
                Self::Refused(status.message.clone())
            }
            error => Self::Later(chain(&error)),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the other cluster refuses what it is asked for; the message ends up in the Task's status.
pub async fn run(args: &RelayArgs) -> CommandResult {
    let mut terminate = signal(SignalKind::terminate())?;
    let spec = std::env::var(SPEC_ENV).map_err(|_| CommandError::usage(format!("{SPEC_ENV} is not set")))?;
    let spec: Spec = serde_json::from_str(&spec).map_err(|e| CommandError::usage(format!("{SPEC_ENV}: {e}")))?;
    let work = match args.what {
        What::Submit => async { submit::run(&spec).await.map(Some) }.boxed(),
        What::Follow => follow::run(&spec).boxed(),
        What::Changes => {
            changes::run(&spec, &mut terminate).await;
            return Ok(exit_codes::OK);
        }
        What::Waits => return waits().await,
    };
    let result = tokio::select! {
        result = work => result,
        // The agent goes on: whoever wants it to end says so to its cluster, and the next relay finds it.
        _ = terminate.recv() => return Ok(TERMINATED),
    };
    match result {
        Ok(Some(last_words)) => {
            tell(&last_words);
            Ok(exit_codes::OK)
        }
        Ok(None) => Ok(AGAIN),
        Err(error) => {
            tell(&error.lines.join("; "));
            Err(error)
        }
    }
}

/// Returns once the relay beside it has left word that the agent waits for a person.
async fn waits() -> CommandResult {
    while !Path::new(WAITS_FILE).exists() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(exit_codes::OK)
}

/// The termination message is how the operator, and so the user, hears of it.
fn tell(words: &str) {
    if let Err(error) = std::fs::write("/dev/termination-log", words) {
        eprintln!("cannot write the termination message: {error}");
    }
}

/// A client of the other cluster, with the kubeconfig as it is now: a Secret may have been renewed.
async fn connect(spec: &Spec) -> Result<Client, Trouble> {
    let path = Path::new(CLUSTER_DIR).join(KUBECONFIG_KEY);
    let unusable = |error: &dyn std::fmt::Display| Trouble::Later(format!("the kubeconfig cannot be used: {error}"));
    let kubeconfig = Kubeconfig::read_from(&path).map_err(|e| unusable(&e))?;
    let options = KubeConfigOptions { context: spec.context.clone(), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| unusable(&e))?;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).map_err(|e| unusable(&e))
}

/// Pauses between attempts: longer and longer, up to [`LONGEST_PAUSE`].
#[derive(Default)]
struct Pauses(u32);

impl Pauses {
    async fn pause(&mut self) {
        let pause = Duration::from_millis(250 << self.0.min(8)).min(LONGEST_PAUSE);
        self.0 += 1;
        tokio::time::sleep(pause).await;
    }

    /// It worked: the next trouble is a new one.
    fn reset(&mut self) {
        self.0 = 0;
    }
}
