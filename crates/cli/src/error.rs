//! What a command ends with when it does not succeed.

use crate::exit_codes;

pub use kubetask_operator::causes::chain;

/// Result of a command: the exit code, or an error to print.
pub type CommandResult<T = u8> = Result<T, CommandError>;

/// An error to show to the user: one line (or one line a problem), perhaps a hint, and the exit code.
#[derive(Debug)]
pub struct CommandError {
    /// Lines to print after `error: `.
    pub lines: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Exit code.
    pub code: u8,
    /// Whether the server went away, or is about to: the next one may do what was asked for.
    pub lost: bool,
}

impl CommandError {
    /// Something that ends the command with this code; one message a line.
    pub fn of(code: u8, lines: Vec<String>) -> Self {
        Self { lines, hint: None, code, lost: false }
    }

    /// The input is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::of(exit_codes::USAGE, vec![message.into()])
    }

    /// Something failed.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::of(exit_codes::FAILURE, vec![message.into()])
    }

    /// It was not over within the time that it was given.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::of(exit_codes::TIMEOUT, vec![message.into()])
    }

    /// Somebody pressed Ctrl-C.
    pub fn interrupted() -> Self {
        Self::of(exit_codes::INTERRUPTED, vec!["interrupted".to_owned()])
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether a server that ends, or may not write any more, said so: nothing was done then.
#[must_use]
pub fn ends(status: &kube::core::Status) -> bool {
    matches!(status.code, 429 | 503)
}

/// Whether a request got no answer: it may have been carried out.
fn interrupted(error: &kube::Error) -> bool {
    matches!(error, kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_))
}

impl From<kube::Error> for CommandError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let code = if matches!(status.code, 400 | 422) { exit_codes::USAGE } else { exit_codes::FAILURE };
                Self { lines: vec![status.message.clone()], hint: None, code, lost: ends(&status) }
            }
            other => Self { lost: interrupted(&other), ..Self::failure(chain(&other)) },
        }
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        Self::failure(error.to_string())
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::failure(format!("{error:#}"))
    }
}

impl From<serde_json::Error> for CommandError {
    fn from(error: serde_json::Error) -> Self {
        Self::failure(format!("unexpected answer: {error}"))
    }
}
