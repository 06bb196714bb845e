//! `kubetask env cp`: the same as `kubetask cp`, through the engine.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use kubetask_engine::ContainerEngine;
use kubetask_engine::traits::{ExecSpec, Session};
use tokio::io::AsyncReadExt as _;

use super::record::{Environments, Record};
use super::{CpArgs, said};
use crate::commands::cp::{Tar, download, feed, remote, take, upload};
use crate::error::{CommandError, CommandResult};
use crate::exit_codes;
use crate::output::Output;

/// An environment to copy from or to.
struct Place {
    record: Record,
    engine: Arc<dyn ContainerEngine>,
}

impl Place {
    fn find(environments: &Environments, name: &str) -> CommandResult<Self> {
        let record = environments.get(name)?;
        let engine = environments.engine(record.engine, record.settings().kubernetes())?;
        Ok(Self { record, engine })
    }
}

/// Runs the command.
///
/// # Errors
/// When something is not there, or cannot be written.
pub(super) async fn run(args: &CpArgs, environments: &Environments, output: Output) -> CommandResult {
    let what = match (remote(&args.from), remote(&args.to)) {
        (Some(from), None) => download(&Place::find(environments, from.task)?, from.path, Path::new(&args.to)).await?,
        (None, Some(to)) => upload(&Place::find(environments, to.task)?, Path::new(&args.from), to.path).await?,
        _ => {
            let text = "one of FROM and TO must be ENVIRONMENT:PATH, the other a path on this machine";
            return Err(CommandError::usage(text));
        }
    };
    output.say(format!("copied {what} to {}", args.to));
    Ok(exit_codes::OK)
}

impl Tar for Place {
    fn name(&self) -> &str {
        &self.record.name
    }

    async fn tar(&self, command: &[String], input: Option<File>, output: Option<&mut File>) -> CommandResult<()> {
        let spec = ExecSpec { command: command.to_vec(), stdin: input.is_some(), ..ExecSpec::default() };
        let session = self.engine.exec(&self.record.id(), &spec).await;
        let Session { stdin, stdout, stderr, exit, resize: _resize } =
            session.map_err(|error| said(self.name(), &error))?;
        let feed = async {
            if let (Some(file), Some(stdin)) = (input, stdin) {
                feed(file, stdin).await;
            }
        };
        let take = take(stdout, output);
        let complain = async {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                let mut part = stderr.take(4 << 10);
                let _ = part.read_to_end(&mut text).await;
                let _ = tokio::io::copy(&mut part.into_inner(), &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        let ((), taken, complaint) = tokio::join!(feed, take, complain);
        taken?;
        match exit.await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(code)) if complaint.is_empty() => {
                Err(CommandError::failure(format!("{}: exit code {code}", command.join(" "))))
            }
            Ok(Ok(_)) => Err(CommandError::failure(complaint)),
            Ok(Err(error)) => Err(said(self.name(), &error).hint("the environment needs `tar` for this")),
            Err(_) => Err(CommandError::failure("the connection to the environment was lost")),
        }
    }
}
