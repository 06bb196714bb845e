//! One line on a terminal that says where a Task is and what it waits for.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kubetask_api::{Task, TaskPhase};

use crate::output::{Output, plain_text};

/// The progress line of one Task; silent where stderr is no terminal.
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    output: Output,
}

impl Progress {
    /// Starts the line.
    #[must_use]
    pub fn new(output: Output, name: &str) -> Self {
        let bar = output.progress.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.set_message(format!("{name}: submitted"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, name: name.to_owned(), output }
    }

    /// Shows where the Task is now.
    pub fn update(&mut self, task: &Task) {
        let Some(bar) = &self.bar else { return };
        if task.phase() == TaskPhase::Running {
            // From here on the log speaks.
            bar.set_message(format!("{}: running", self.name));
            return;
        }
        let message = task.status.as_ref().and_then(|s| s.message.as_deref()).unwrap_or("starting");
        bar.set_message(format!("{}: {} – {}", self.name, task.phase(), plain_text(message).replace('\n', " ")));
    }

    /// Tells of something that happens meanwhile; where there is no line, as a line of its own.
    pub fn note(&mut self, message: &str) {
        let message = plain_text(message).replace('\n', " ");
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {message}", self.name)),
            None => self.output.say(format!("{}: {message}", self.name)),
        }
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
