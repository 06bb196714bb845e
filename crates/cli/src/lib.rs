//! The `kubetask` command.
//!
//! [`args`] describes the command line; [`commands`] has a file per command; [`connect`] finds the API server and
//! [`server`] runs one; [`manifest`] reads manifests; [`follow`] follows a Task; [`interact`] talks to a
//! process in its pod; [`settings`] is what the machine's configuration says of engines; [`output`] is the one gate to the user;
//! [`exit_codes`] lists how commands end.

pub mod args;
pub mod commands;
pub mod connect;
pub mod duration;
pub mod error;
pub mod exit_codes;
pub mod fetch;
pub mod follow;
mod git;
pub mod interact;
mod logging;
pub mod manifest;
mod memory;
mod misplaced;
pub mod output;
pub mod paths;
mod plugin;
pub mod resources;
pub mod server;
pub mod settings;
pub mod version;

use std::io::Write;
use std::process::ExitCode;

use args::{Cli, Command};
use clap::error::ErrorKind;
use error::{CommandError, CommandResult};
use output::Output;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    // A container's keeper is this program too; it must be nothing else: no threads, no runtime, no signal handlers.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == kubetask_engine::SHIM_ARGUMENT) {
        return kubetask_engine::shim_main(std::env::args_os());
    }
    // `git` asks for credentials by running this program with its question alone.
    if std::env::var_os("KUBETASK_ASKPASS").is_some() {
        commands::context::answer();
        return ExitCode::SUCCESS;
    }
    memory::share_heaps();
    let plugin = plugin::is_called_by_kubectl(std::env::args_os().next().as_deref());
    let cli = match plugin::parse(plugin) {
        Ok(cli) => cli,
        Err(error) => {
            let help = !error.use_stderr();
            // Nobody to print to is no reason to fail.
            let _ = error.print();
            if error.kind() == ErrorKind::UnknownArgument {
                let words: Vec<_> =
                    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
                if let Some(tip) = misplaced::tip(&words) {
                    let _ = writeln!(std::io::stderr(), "\nhint: {tip}");
                }
            }
            return ExitCode::from(if help { exit_codes::OK } else { exit_codes::USAGE });
        }
    };
    let output = Output::new(cli.global.quiet, cli.global.color);
    let writer = if matches!(cli.command, Command::Up(_)) { logging::Writer::Stdout } else { logging::Writer::Stderr };
    logging::init(cli.global.verbose, log_style(&cli.command), writer);
    match run(cli, output) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.code)
        }
    }
}

fn run(cli: Cli, output: Output) -> CommandResult {
    let Cli { global, command } = cli;
    match command {
        Command::Down(args) => commands::down::run(&args, &global, output),
        Command::Status(args) => commands::status::run(&args, &global, output),
        Command::Kubeconfig(args) => commands::kubeconfig::run(&args, &global, output),
        Command::Crds(_) => commands::crds::run(output),
        Command::Convert(args) => commands::convert::run(&args, output),
        Command::Install(args) => block_on(commands::install::run(args, &global, output)),
        Command::Uninstall(args) => block_on(commands::uninstall::run(args, &global, output)),
        Command::Completion(args) => commands::completion::run(&args, output),
        Command::Version(args) => commands::version::run(&args, output),
        Command::Context(args) => commands::context::run(&args),
        Command::Relay(args) => block_on(commands::relay::run(&args)),
        Command::Run(args) => block_on(commands::run::run(args, &global, output)),
        Command::Controller(args) => block_on(commands::controller::run(*args, &global)),
        Command::Up(args) => block_on(commands::up::run(*args, &global, output)),
        Command::Agent(args) => block_on(commands::agent::run(args, &global, output)),
        Command::Apply(args) => block_on(commands::apply::run(args, &global, output)),
        Command::Get(args) => block_on(commands::get::run(args, &global, output)),
        Command::Describe(args) => block_on(commands::describe::run(args, &global, output)),
        Command::Logs(args) => block_on(commands::logs::run(args, &global, output)),
        Command::Changes(args) => block_on(commands::changes::run(args, &global, output)),
        Command::Wait(args) => block_on(commands::wait::run(args, &global, output)),
        Command::Stop(args) => block_on(commands::stop::run(args, &global, output)),
        Command::Cron(args) => block_on(commands::cron::run(args, &global, output)),
        Command::Batch(args) => block_on(commands::batch::run(args, &global, output)),
        Command::Suspend(args) => block_on(commands::steer::suspend(args, true, &global, output)),
        Command::Resume(args) => block_on(commands::steer::suspend(args, false, &global, output)),
        Command::Retry(args) => block_on(commands::steer::retry(args, &global, output)),
        Command::Env(args) => block_on(commands::env::run(args, &global, output)),
        Command::Exec(args) => block_on(commands::exec::run(args, &global, output)),
        Command::Attach(args) => block_on(commands::attach::run(args, &global, output)),
        Command::Cp(args) => block_on(commands::cp::run(args, &global, output)),
        Command::Top(args) => block_on(commands::top::run(args, &global, output)),
        Command::Delete(args) => block_on(commands::delete::run(args, &global, output)),
    }
}

/// How the command logs.
fn log_style(command: &Command) -> logging::Style {
    use commands::controller::LogFormat;
    let style = |format: LogFormat| match format {
        LogFormat::Auto => logging::Style::Server,
        LogFormat::Json => logging::Style::Json,
        LogFormat::Text => logging::Style::Text,
    };
    match command {
        Command::Up(args) => style(args.log_format),
        Command::Controller(args) => style(args.log_format),
        _ => logging::Style::Command,
    }
}

fn block_on(future: impl Future<Output = CommandResult>) -> CommandResult {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::failure(format!("cannot start: {e}")))?;
    let result = runtime.block_on(future);
    // Nothing that is still running (a log stream, a watch) is worth waiting for.
    runtime.shutdown_background();
    result
}
