//! The terminal: entered and left, drawn on, and its keys.

use std::io::Stdout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;

use super::draw;
use super::state::State;

/// The whole terminal, in raw mode on its alternate screen. As it was again when this is dropped, and on panics.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn enter() -> std::io::Result<Self> {
        // Its panic hook restores the terminal before the panic is printed.
        Ok(Self { terminal: ratatui::try_init()? })
    }

    /// Draws the state.
    pub(super) fn draw(&mut self, state: &State, now: jiff::Timestamp) -> std::io::Result<()> {
        self.terminal.draw(|frame| draw::draw(frame, state, now))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        ratatui::restore();
    }
}

/// Keys, read by a thread that can be told to end: a shell wants them for itself.
pub(super) struct Keyboard {
    keys: mpsc::Receiver<Event>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long the thread may go on after it was told to end.
const PATIENCE: Duration = Duration::from_millis(50);

impl Keyboard {
    /// Begins to read.
    pub(super) fn start() -> Self {
        let (sender, keys) = mpsc::channel(64);
        let end = Arc::new(AtomicBool::new(false));
        let told = end.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                match event::poll(PATIENCE) {
                    Ok(false) => {}
                    Ok(true) => {
                        let sent = event::read().ok().map(|event| sender.blocking_send(event));
                        if !matches!(sent, Some(Ok(()))) {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        });
        Self { keys, end, thread: Some(thread) }
    }

    /// The next event; `None` when the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.keys.recv().await
    }

    /// Stops reading, and returns once nothing is read any more.
    pub(super) fn stop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // A full channel must not keep the thread.
        self.keys.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.stop();
    }
}
