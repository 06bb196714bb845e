//! Containers that were started: waiting for their end, ending them, finding them again.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubetask_engine::spec::{ContainerId, Exit};
use kubetask_engine::{ContainerEngine, EngineError};

use super::Driver;
use super::patience::Patience;
use crate::logs;
use crate::machine::{End, Event, NotStarted, State};
use crate::names;
use crate::shared::{Mailbox, Shared};

/// Longest termination message.
const LONGEST_MESSAGE: u64 = 4096;
/// Waits between attempts to ask an engine that does not answer: the first, and the longest.
const RETRY: Patience = Patience::new(Duration::from_millis(500), Duration::from_secs(30));

/// One run of a container: what it takes to wait for it, to end it and to tell of it. Whoever waits does so for hours, and
/// keeps no more than this alive.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Arc<dyn ContainerEngine>,
    pub(super) events: Mailbox,
    pub(super) namespace: String,
    /// The pod's name.
    pub(super) pod: String,
    /// The pod's uid.
    pub(super) uid: String,
    /// The container's name.
    pub(super) container: String,
    /// Whether the end of its log stands for the last words of one that fails without any.
    pub(super) words_from_log: bool,
    pub(super) slot: usize,
    pub(super) attempt: u32,
}

impl Driver {
    /// Looks for a container that may have been started before this process began.
    pub(super) fn adopt(&mut self, slot: usize, attempt: u32, ran: bool) {
        let run = match self.container_run(slot, attempt) {
            Ok(run) => run,
            // It may well be running: it stays as it was last seen until its engine is back or the pod is deleted.
            Err(error) => {
                let message = format!("Error: the container cannot be looked for: {error}");
                self.emit(Some(slot), true, "Failed", &message);
                return;
            }
        };
        let stop = self.shared.stop.clone();
        self.shared.tasks.spawn(async move { stop.run_until_cancelled(run.adopt(ran)).await });
    }

    /// The pod is being deleted and its engine is not there: what cannot be found cannot be waited for.
    pub(super) fn give_up_lost(&mut self) {
        let slots = self.machine.slots().iter().enumerate();
        let lost_ones = slots.filter(|(_, slot)| slot.state == State::Adopting);
        let lost_ones: Vec<(usize, Option<u32>)> = lost_ones.map(|(index, slot)| (index, slot.attempt)).collect();
        for (slot, attempt) in lost_ones {
            let Some(attempt) = attempt else { continue };
            let end = lost(Timestamp::now());
            self.events.tell(Event::Ended { slot, attempt, end });
        }
    }

    pub(super) fn kill(&mut self, slot: usize, attempt: u32, grace: Duration) {
        let Ok(run) = self.container_run(slot, attempt) else { return };
        let stop = self.shared.stop.clone();
        self.shared.tasks.spawn(async move { stop.run_until_cancelled(run.kill(grace)).await });
    }
}

impl Run {
    /// What its engine calls it.
    pub(super) fn id(&self) -> ContainerId {
        names::container_id(&self.uid, &self.container, self.attempt)
    }

    pub(super) fn tell(&self, event: Event) {
        self.events.tell(event);
    }

    /// Where the log of a run of this container is.
    pub(super) fn log(&self, attempt: u32) -> PathBuf {
        self.shared.layout.log(&self.namespace, &self.pod, &self.uid, &self.container, attempt)
    }

    /// Where its last words are.
    pub(super) fn termination(&self, attempt: u32) -> PathBuf {
        self.shared.layout.termination(&self.uid, &self.container, attempt)
    }

    /// Lets its engine forget it.
    pub(super) async fn remove(&self) {
        remove(self.engine.as_ref(), &self.uid, &self.container, self.attempt).await;
    }

    async fn adopt(&self, ran: bool) {
        let id = self.id();
        let (slot, attempt) = (self.slot, self.attempt);
        let mut patience = RETRY;
        let state = loop {
            match self.engine.inspect(&id).await {
                Ok(state) => break state,
                Err(EngineError::NotFound(_)) if ran => {
                    return self.tell(Event::Ended { slot, attempt, end: lost(Timestamp::now()) });
                }
                Err(EngineError::NotFound(_)) => {
                    return self.tell(Event::NotStarted { slot, attempt, why: NotStarted::Never });
                }
                Err(error) => tracing::warn!(%error, "cannot ask for a container; trying again"),
            }
            patience.wait().await;
        };
        let started_at = time(state.started_at_nanos);
        match state.exit {
            Some(exit) => {
                let end = self.end(exit, started_at).await;
                self.tell(Event::Ended { slot, attempt, end });
            }
            None => {
                self.tell(Event::Started { slot, attempt, at: started_at, adopted: true });
                self.wait(started_at).await;
            }
        }
    }

    /// Ends the container; that it ended is heard from whoever waits for it.
    async fn kill(&self, grace: Duration) {
        let id = self.id();
        let mut patience = RETRY;
        loop {
            match self.engine.stop(&id, grace).await {
                Ok(_) | Err(EngineError::NotFound(_)) => return,
                Err(error) => tracing::warn!(%error, "cannot stop a container; trying again"),
            }
            patience.wait().await;
        }
    }

    async fn end(&self, exit: Exit, started_at: Timestamp) -> End {
        let message = match &exit.error {
            Some(error) => Some(error.clone()),
            None => self.last_words(exit.code).await,
        };
        let reason = match (&exit.error, exit.oom_killed, exit.code) {
            (Some(_), _, _) => "StartError",
            (None, true, _) => "OOMKilled",
            (None, false, 0) => "Completed",
            (None, false, _) => "Error",
        };
        End {
            code: exit.code,
            signal: exit.signal,
            reason: reason.to_owned(),
            message,
            started_at,
            finished_at: time(exit.finished_at_nanos),
        }
    }

    /// What the container left in its termination message file, or the end of its log where it asks for that.
    async fn last_words(&self, code: i32) -> Option<String> {
        let (path, log) = (self.termination(self.attempt), self.log(self.attempt));
        let from_log = code != 0 && self.words_from_log;
        let read = move || {
            let words = read_words(&path).filter(|words| !words.is_empty());
            words.or_else(|| if from_log { logs::tail(&log).filter(|text| !text.is_empty()) } else { None })
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    /// The run before this one is over and written down: its engine state and the log before it can go.
    pub(super) async fn forget_before(&self) {
        let Some(before) = self.attempt.checked_sub(1) else { return };
        remove(self.engine.as_ref(), &self.uid, &self.container, before).await;
        let Some(oldest) = before.checked_sub(1) else { return };
        let log = self.log(oldest);
        for index in 0..=self.shared.config.log_max_files {
            let mut path = log.clone().into_os_string();
            if index > 0 {
                path.push(format!(".{index}"));
            }
            let _ = tokio::fs::remove_file(path).await;
        }
        let _ = tokio::fs::remove_file(self.termination(before)).await;
    }

    /// Waits for its end, and tells of it.
    pub(super) async fn wait(&self, started_at: Timestamp) {
        let end = self.wait_for_end(started_at).await;
        self.tell(Event::Ended { slot: self.slot, attempt: self.attempt, end });
    }

    async fn wait_for_end(&self, started_at: Timestamp) -> End {
        let id = self.id();
        let mut patience = RETRY;
        loop {
            match self.engine.wait(&id).await {
                Ok(exit) => return self.end(exit, started_at).await,
                Err(EngineError::NotFound(_)) => return End { started_at, ..lost(Timestamp::now()) },
                Err(error) => tracing::warn!(%error, "cannot wait for a container; trying again"),
            }
            patience.wait().await;
        }
    }
}

/// The program may have put anything at that path: no link is followed, nothing blocks, and little is read.
fn read_words(path: &Path) -> Option<String> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).ok()?;
    let file: File = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_MESSAGE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of a container that nobody knows any more.
fn lost(now: Timestamp) -> End {
    End {
        code: 137,
        signal: None,
        reason: "ContainerStatusUnknown".to_owned(),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: now,
    }
}

/// Lets the engine forget a container; one that still runs, against all expectation, is ended first.
pub(crate) async fn remove(engine: &dyn ContainerEngine, uid: &str, container: &str, attempt: u32) {
    let id = names::container_id(uid, container, attempt);
    if engine.remove(&id).await.is_ok() {
        return;
    }
    match engine.stop(&id, Duration::from_secs(1)).await {
        Ok(_) | Err(EngineError::NotFound(_)) => {}
        Err(error) => tracing::warn!(id = id.0, %error, "container not stopped"),
    }
    if let Err(error) = engine.remove(&id).await {
        tracing::warn!(id = id.0, %error, "container not removed");
    }
}

/// A time as engines tell it.
pub(super) fn time(nanos: i128) -> Timestamp {
    Timestamp::from_nanosecond(nanos).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Ends and removes a container that belongs to no pod.
pub(crate) async fn remove_orphan(engine: Arc<dyn ContainerEngine>, id: kubetask_engine::spec::ContainerId) {
    match engine.stop(&id, Duration::from_secs(2)).await {
        Ok(_) | Err(EngineError::NotFound(_)) => {}
        Err(error) => tracing::warn!(id = id.0, %error, "orphan not stopped"),
    }
    if let Err(error) = engine.remove(&id).await {
        tracing::warn!(id = id.0, %error, "orphan not removed");
    }
}
