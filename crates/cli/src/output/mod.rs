//! The one gate for what people see: data goes to stdout, talk to stderr, colour only where it is wanted.

mod style;
mod table;
mod terminal;

use std::io::Write;

pub use style::{Palette, plain_text};
pub use table::print_table;
pub use terminal::TerminalFilter;

use crate::args::ColorChoice;
use crate::error::CommandError;

/// How to talk to this user.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Whether talk is wanted at all.
    pub quiet: bool,
    /// Colours for stderr.
    pub palette: Palette,
    /// Whether stderr is a terminal that a progress line may use.
    pub progress: bool,
    /// Whether stdout is a terminal: what agents print is then made harmless.
    pub stdout_is_terminal: bool,
}

impl Output {
    /// Decides by the flags, `NO_COLOR`, and what the streams are.
    #[must_use]
    pub fn new(quiet: bool, color: ColorChoice) -> Self {
        use std::io::IsTerminal;
        let terminal = std::io::stderr().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !no_color && !dumb,
        };
        Self {
            quiet,
            palette: Palette::new(color),
            progress: terminal && !quiet && !dumb,
            stdout_is_terminal: std::io::stdout().is_terminal(),
        }
    }

    /// Prints a line of data to stdout. A reader that went away ends the program quietly, as for any filter.
    pub fn data(&self, line: &str) {
        let mut stdout = std::io::stdout().lock();
        if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// Prints bytes to stdout as they are.
    pub fn raw(&self, bytes: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// Says something to the user.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            // Nobody to talk to is no reason to fail.
            let _ = writeln!(std::io::stderr().lock(), "{}", line.as_ref());
        }
    }

    /// Says that something is not as it should be.
    pub fn warn(&self, message: impl AsRef<str>) {
        let p = self.palette;
        let _ = writeln!(std::io::stderr().lock(), "{}warning:{} {}", p.yellow, p.reset, message.as_ref());
    }

    /// Prints why a command failed, and what to do.
    pub fn error(&self, error: &CommandError) {
        let p = self.palette;
        let mut stderr = std::io::stderr().lock();
        for line in &error.lines {
            let _ = writeln!(stderr, "{}error:{} {}", p.red, p.reset, plain_text(line));
        }
        if let Some(hint) = &error.hint {
            let _ = writeln!(stderr, "{}hint:{} {hint}", p.cyan, p.reset);
        }
    }
}
