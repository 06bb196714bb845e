//! `kubetask wait`: until tasks have ended; the exit code is that of the first that failed.

use std::time::Duration;

use clap::Args;
use kube::api::Api;
use kube::runtime::wait::{await_condition, conditions};
use kubetask_api::{Task, TaskPhase};

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult, chain};
use crate::exit_codes;
use crate::follow::summary;
use crate::output::Output;

/// Arguments of `kubetask wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Names of tasks
    #[arg(value_name = "TASK", required = true)]
    pub names: Vec<String>,
    /// What to wait for: end, running, delete, or a condition as condition=TYPE
    #[arg(long = "for", value_name = "WHAT", default_value = "end", value_parser = parse_goal)]
    pub goal: Goal,
    /// Longest time to wait; exit code 124 when it is over
    #[arg(long, value_name = "DURATION", value_parser = crate::duration::parse)]
    pub timeout: Option<Duration>,
}

/// What to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// The Task is Completed or Failed.
    End,
    /// The agent runs, or has ended.
    Running,
    /// The Task is gone.
    Delete,
    /// A condition is True.
    Condition(String),
}

fn parse_goal(text: &str) -> Result<Goal, String> {
    match text {
        "end" => Ok(Goal::End),
        "running" => Ok(Goal::Running),
        "delete" => Ok(Goal::Delete),
        _ => match text.split_once('=') {
            Some(("condition", type_)) if !type_.is_empty() => Ok(Goal::Condition(type_.to_owned())),
            _ => Err("write end, running, delete, or condition=TYPE".to_owned()),
        },
    }
}

/// Runs the command.
///
/// # Errors
/// When a task is not there, or ends without meeting the condition.
pub async fn run(args: WaitArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    let connection = connect::connect(global, Need::Everything).await?;
    let waiting = wait_all(&args, &connection, output);
    let result = match args.timeout {
        None => waiting.await,
        Some(timeout) => match tokio::time::timeout(timeout, waiting).await {
            Ok(result) => result,
            Err(_) => {
                Err(CommandError::timeout("timed out").hint("`kubetask describe task NAME` says what it waits for"))
            }
        },
    };
    connection.close().await;
    result
}

async fn wait_all(args: &WaitArgs, connection: &Connection, output: Output) -> CommandResult {
    let mut code = exit_codes::OK;
    for name in &args.names {
        let tasks: Api<Task> = Api::namespaced(connection.client.clone(), &connection.namespace);
        let first = match tasks.get_opt(name).await? {
            Some(task) => task,
            None if args.goal == Goal::Delete => continue,
            None => {
                return Err(CommandError::failure(format!(
                    "there is no task {name:?} in namespace {:?}",
                    connection.namespace
                )));
            }
        };
        let failed = |e: kube::runtime::wait::Error| CommandError::failure(chain(&e));
        match &args.goal {
            Goal::Delete => {
                let uid = first.metadata.uid.clone().unwrap_or_default();
                await_condition(tasks, name, conditions::is_deleted(&uid)).await.map_err(failed)?;
                output.data(&format!("task.kubetask.io/{name} deleted"));
            }
            goal => {
                let goal = goal.clone();
                let met = move |task: Option<&Task>| {
                    task.is_none_or(|task| is_met(&goal, task) || task.phase().is_finished())
                };
                let Some(task) = await_condition(tasks, name, met).await.map_err(failed)? else {
                    return Err(CommandError::failure(format!("task {name:?} was deleted")));
                };
                if !is_met(&args.goal, &task) {
                    return Err(CommandError::failure(format!("task {name:?} ended ({}) without that", task.phase())));
                }
                output.data(&format!("task.kubetask.io/{name} {}", task.phase().as_str().to_lowercase()));
                if args.goal == Goal::End && code == exit_codes::OK {
                    code = summary::exit_code(&task);
                }
            }
        }
    }
    Ok(code)
}

fn is_met(goal: &Goal, task: &Task) -> bool {
    match goal {
        Goal::End => task.phase().is_finished(),
        Goal::Running => task.phase() != TaskPhase::Pending,
        Goal::Delete => false,
        Goal::Condition(type_) => {
            task.status.as_ref().is_some_and(|status| kubetask_api::conditions::is_true(&status.conditions, type_))
        }
    }
}
