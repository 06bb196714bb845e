//! `kubetask cron`: run scheduled tasks now, suspend and resume schedules, show what comes.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kubetask_api::{CronTask, Task, labels};
use kubetask_core::cron::{Schedule, trigger_name};
use serde_json::{Value, json};

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;
use crate::output::{Output, print_table};

/// Arguments of `kubetask cron`.
#[derive(Debug, Args)]
pub struct CronArgs {
    /// What to do
    #[command(subcommand)]
    pub command: CronCommand,
}

/// The commands of `kubetask cron`.
#[derive(Debug, Subcommand)]
pub enum CronCommand {
    /// Run a scheduled task now, whatever its schedule says
    Trigger(TriggerArgs),
    /// Stop scheduling; tasks that run go on
    Suspend(NamesArgs),
    /// Go on scheduling
    Resume(NamesArgs),
    /// Show when the next runs are due
    Next(NextArgs),
}

/// Names of crontasks.
#[derive(Debug, Args)]
pub struct NamesArgs {
    /// Names of crontasks
    #[arg(value_name = "CRONTASK", required = true)]
    pub names: Vec<String>,
}

/// Arguments of `kubetask cron trigger`.
#[derive(Debug, Args)]
pub struct TriggerArgs {
    /// Name of a crontask
    #[arg(value_name = "CRONTASK")]
    pub name: String,
}

/// Arguments of `kubetask cron next`.
#[derive(Debug, Args)]
pub struct NextArgs {
    /// Name of a crontask
    #[arg(value_name = "CRONTASK")]
    pub name: String,
    /// How many runs
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
}

/// Runs the command.
///
/// # Errors
/// When a crontask is not there.
pub async fn run(args: CronArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let need = match args.command {
        CronCommand::Next(_) => Need::Store,
        // Somebody must create the Task, or look after what was missed.
        _ => Need::Everything,
    };
    let connection = connect::connect(global, need).await?;
    let result = match &args.command {
        CronCommand::Trigger(args) => trigger(args, &connection, output).await,
        CronCommand::Suspend(args) => suspend(args, &connection, output, true).await,
        CronCommand::Resume(args) => suspend(args, &connection, output, false).await,
        CronCommand::Next(args) => next(args, &connection, output).await,
    };
    connection.close().await;
    result
}

fn crons(connection: &Connection) -> Api<CronTask> {
    Api::namespaced(connection.client.clone(), &connection.namespace)
}

async fn patch(api: &Api<CronTask>, name: &str, patch: &Value) -> CommandResult<CronTask> {
    let params = PatchParams { field_manager: Some(super::apply::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    Ok(api.patch(name, &params, &Patch::Merge(patch)).await?)
}

async fn trigger(args: &TriggerArgs, connection: &Connection, output: Output) -> CommandResult {
    // A value that was never used before.
    let value = Timestamp::now().to_string();
    let annotation = json!({"metadata": {"annotations": {labels::TRIGGER: value}}});
    patch(&crons(connection), &args.name, &annotation).await?;
    let task = trigger_name(&args.name, &value);
    output.data(&format!("task.kubetask.io/{task} triggered"));
    if connection.local.is_some() {
        output.say("no server runs on this machine: running the task until it ends");
        let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
        let ended = |task: Option<&Task>| task.is_some_and(|task| task.phase().is_finished());
        let ended = await_condition(tasks, &task, ended).await.map_err(|e| CommandError::failure(chain(&e)))?;
        let phase = ended.map(|task| task.phase()).unwrap_or_default();
        output.say(format!("{task}: {phase}"));
    }
    Ok(exit_codes::OK)
}

async fn suspend(args: &NamesArgs, connection: &Connection, output: Output, suspend: bool) -> CommandResult {
    for name in &args.names {
        patch(&crons(connection), name, &json!({"spec": {"suspend": suspend}})).await?;
        output.data(&format!("crontask.kubetask.io/{name} {}", if suspend { "suspended" } else { "resumed" }));
    }
    Ok(exit_codes::OK)
}

async fn next(args: &NextArgs, connection: &Connection, output: Output) -> CommandResult {
    let cron = crons(connection).get(&args.name).await?;
    let zone = cron.spec.time_zone.as_deref();
    let schedule = Schedule::parse(&cron.spec.schedule, zone).map_err(|e| CommandError::usage(e.to_string()))?;
    if cron.spec.suspend == Some(true) {
        output.warn(format!("suspended: nothing runs until: kubetask cron resume {}", args.name));
    }
    let now = Timestamp::now();
    let runs = schedule.upcoming(now, usize::from(args.count));
    if runs.is_empty() {
        output.say("no run is due in the years to come");
        return Ok(exit_codes::OK);
    }
    let row = |at: &Timestamp| {
        let local = at
            .in_tz(zone.unwrap_or("UTC"))
            .map_or_else(|_| at.to_string(), |at| at.strftime("%a %F %H:%M %Z").to_string());
        vec![at.to_string(), local, crate::follow::summary::human(at.as_second() - now.as_second())]
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    print_table(&["TIME", "LOCAL", "IN"].map(str::to_owned), &rows).iter().for_each(|line| output.data(line));
    Ok(exit_codes::OK)
}
