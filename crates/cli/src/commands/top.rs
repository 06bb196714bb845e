//! `kubetask top`: a dashboard of tasks on the terminal.
//!
//! [`state`] is what is shown, as plain data that keys and news change; [`draw`] shows it; [`feed`] brings news from the
//! server. One loop here owns all of it. The terminal is restored whatever happens: at the end, on errors, on panics
//! and on signals.

mod draw;
mod feed;
mod screen;
pub mod state;

use std::time::Duration;

use clap::Args;
use kube::api::Api;
use kubetask_api::Task;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::GlobalArgs;
use crate::connect::{self, Connection, Need};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::interact::{self, Session, target};
use crate::output::Output;
use feed::{Feed, News};
use screen::{Keyboard, Screen};
use state::{Command, State, TaskRef};

/// Arguments of `kubetask top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: ↑ ↓ or j k select, Enter or l shows the log, s opens a shell, x stops, r runs again, / filters, 0 all namespaces,
? help, q leaves.")]
pub struct TopArgs {
    /// Tasks of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// How often ages are drawn anew.
const TICK: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// When there is no terminal, or no server.
pub async fn run(args: TopArgs, global: &GlobalArgs, output: Output) -> CommandResult {
    if !output.stdout_is_terminal || !interact::has_terminal() {
        return Err(CommandError::usage("top needs a terminal")
            .hint("`kubetask get tasks --watch` prints changes line by line"));
    }
    let connection = connect::connect(global, Need::Everything).await?;
    let result = dashboard(&args, &connection, output).await;
    connection.close().await;
    result
}

async fn dashboard(args: &TopArgs, connection: &Connection, output: Output) -> CommandResult {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, mut news) = mpsc::channel(256);
    let mut feed = Feed::new(connection.client.clone(), &connection.namespace, sender);
    let mut state = State::new(&connection.namespace, args.all_namespaces);
    feed.tasks(state.all_namespaces);
    let mut screen = Screen::enter()?;
    let mut keyboard = Keyboard::start();
    let mut tick = tokio::time::interval(TICK);
    loop {
        feed.log(state.wanted_log());
        screen.draw(&state, jiff::Timestamp::now())?;
        let command = tokio::select! {
            Some(told) = news.recv() => {
                take_in(&mut state, told);
                // What came meanwhile is drawn together.
                while let Ok(told) = news.try_recv() {
                    take_in(&mut state, told);
                }
                None
            }
            key = keyboard.next() => match key {
                Some(event) => state.event(&event),
                None => Some(Command::Quit),
            },
            _ = tick.tick() => None,
            _ = hangup.recv() => Some(Command::Quit),
            _ = terminate.recv() => return Ok(exit_codes::INTERRUPTED),
            _ = interrupt.recv() => Some(Command::Quit),
        };
        match command {
            None => {}
            Some(Command::Quit) => return Ok(exit_codes::OK),
            Some(Command::Namespaces) => feed.tasks(state.all_namespaces),
            Some(Command::Stop(task)) => {
                let done = super::stop::request(&tasks(connection, &task), &task.name).await;
                state.say(done.map_or_else(said, |()| format!("{} is asked to stop", task.name)));
            }
            Some(Command::Retry(task)) => {
                let done = super::steer::again(&tasks(connection, &task), &task.name, None).await;
                state.say(done.map_or_else(said, |name| format!("{name} runs {} again", task.name)));
            }
            Some(Command::Shell(task)) => {
                keyboard.stop();
                drop(screen);
                let done = shell(connection, &task, output).await;
                screen = Screen::enter()?;
                keyboard = Keyboard::start();
                if let Err(error) = done {
                    state.say(said(error));
                }
            }
        }
    }
}

fn take_in(state: &mut State, news: News) {
    match news {
        News::Tasks(event) => state.tasks(event),
        News::Log { of, lines } => state.log(&of, lines),
        News::Trouble(text) => state.say(text),
    }
}

fn said(error: CommandError) -> String {
    error.lines.join("; ")
}

fn tasks(connection: &Connection, task: &TaskRef) -> Api<Task> {
    Api::namespaced(connection.client.clone(), &task.namespace)
}

/// A shell in the task's container, on the whole terminal.
async fn shell(connection: &Connection, task: &TaskRef, output: Output) -> CommandResult<()> {
    let there = Connection {
        client: connection.client.clone(),
        namespace: task.namespace.clone(),
        local: None,
        cluster: connection.cluster,
    };
    let target = target::find(&there, &task.name, None).await?;
    output.say(format!("shell in {} (exit leaves it)", task.name));
    let session = Session { stdin: true, tty: true, detachable: false };
    let command = ["sh".to_owned(), "-c".to_owned(), "command -v bash >/dev/null && exec bash || exec sh".to_owned()];
    interact::exec(&target, &command, session, output).await?;
    Ok(())
}
