//! An engine that follows a script instead of running anything, for the tests of whoever uses an engine.
//!
//! [`FakeEngine`] is cheap to clone; clones share one world, so "restart the daemon, keep the machine" in a test is: drop
//! everything that used one clone and go on with another. Containers write real CRI log files. Time is tokio's, so
//! tests with a paused clock take no time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use crate::log::{LogWriter, Stream, now_nanos};
use crate::spec::{ContainerId, ContainerSpec, ContainerState, Exit, PullPolicy};
use crate::traits::{ContainerEngine, EngineError, EngineInfo, ExecSpec, Result, Session};

/// What a container does. Made by [`Script::exits`] or [`Script::runs_until_stopped`] and refined by its methods.
#[derive(Debug, Clone)]
pub struct Script {
    start_delay: Duration,
    start_error: Option<String>,
    has_room: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    files: Vec<(std::path::PathBuf, Vec<u8>)>,
    runs_for: Option<Duration>,
    code: i32,
    oom_killed: bool,
    code_on_term: Option<i32>,
}

impl Script {
    /// Ends with `code` as soon as it started.
    pub fn exits(code: i32) -> Self {
        Self {
            start_delay: Duration::ZERO,
            start_error: None,
            has_room: true,
            stdout: Vec::new(),
            stderr: Vec::new(),
            files: Vec::new(),
            runs_for: Some(Duration::ZERO),
            code,
            oom_killed: false,
            code_on_term: Some(143),
        }
    }

    /// Runs until it is stopped, or until [`FakeEngine::finish`].
    pub fn runs_until_stopped() -> Self {
        Self { runs_for: None, ..Self::exits(0) }
    }

    /// Does not start: the program or a mount is wrong.
    pub fn fails_to_start(message: &str) -> Self {
        Self { start_error: Some(message.to_owned()), ..Self::exits(128) }
    }

    /// Waits for room that never comes: its start is only answered once it is stopped.
    pub fn waits_for_room() -> Self {
        Self { has_room: false, ..Self::exits(128) }
    }

    /// Runs this long before it ends.
    pub fn after(mut self, time: Duration) -> Self {
        self.runs_for = Some(time);
        self
    }

    /// Takes this long to start.
    pub fn start_delay(mut self, time: Duration) -> Self {
        self.start_delay = time;
        self
    }

    /// Writes this to its standard output right after it started.
    pub fn stdout(mut self, text: &str) -> Self {
        self.stdout = text.as_bytes().to_vec();
        self
    }

    /// Writes this to its standard error right after it started.
    pub fn stderr(mut self, text: &str) -> Self {
        self.stderr = text.as_bytes().to_vec();
        self
    }

    /// Writes a file at a path of the container, through its mounts, right after it started.
    pub fn writes(mut self, path: impl Into<std::path::PathBuf>, content: &str) -> Self {
        self.files.push((path.into(), content.as_bytes().to_vec()));
        self
    }

    /// Ends for want of memory, with 137.
    pub fn out_of_memory(mut self) -> Self {
        self.oom_killed = true;
        self.code = 137;
        self
    }

    /// Does not react to SIGTERM: a stop takes its whole grace period.
    pub fn ignores_term(mut self) -> Self {
        self.code_on_term = None;
        self
    }

    /// Ends with this code when asked to stop.
    pub fn on_term(mut self, code: i32) -> Self {
        self.code_on_term = Some(code);
        self
    }
}

/// What a program run by exec answers.
#[derive(Debug, Clone, Default)]
pub struct ExecReply {
    /// Its exit code.
    pub code: i32,
    /// Its output. `None`: it repeats its input.
    pub stdout: Option<String>,
    /// Its error output.
    pub stderr: String,
    /// How long it takes.
    pub takes: Duration,
}

type ScriptRule = Box<dyn Fn(&ContainerSpec) -> Option<Script> + Send + Sync>;
type ExecRule = Box<dyn Fn(&ContainerId, &ExecSpec) -> ExecReply + Send + Sync>;

/// The scripted engine.
#[derive(Clone)]
pub struct FakeEngine {
    name: &'static str,
    world: Arc<Mutex<World>>,
}

struct World {
    rules: Vec<ScriptRule>,
    exec: ExecRule,
    execs: Vec<(ContainerId, Vec<String>)>,
    containers: BTreeMap<ContainerId, Container>,
    starts: HashMap<ContainerId, usize>,
    started: Vec<ContainerSpec>,
    missing_images: Vec<String>,
    unavailable: Option<String>,
}

struct Container {
    spec: ContainerSpec,
    script: Script,
    started_at_nanos: i128,
    exit: watch::Sender<Option<Exit>>,
}

impl Container {
    fn state(&self) -> ContainerState {
        ContainerState {
            id: self.spec.id.clone(),
            labels: self.spec.labels.clone(),
            pid: Some(4242),
            started_at_nanos: self.started_at_nanos,
            exit: self.exit.borrow().clone(),
        }
    }

    fn end(&self, code: i32, oom_killed: bool, error: Option<String>) {
        self.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            if first {
                let signal = ((129..160).contains(&code) && error.is_none()).then_some(code - 128);
                *exit = Some(Exit { code, signal, oom_killed, finished_at_nanos: now_nanos(), error });
            }
            first
        });
    }
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// An engine named `fake` whose containers exit with 0 at once.
    pub fn new() -> Self {
        Self::named("fake")
    }

    /// The same under another name, for tests of routes.
    pub fn named(name: &'static str) -> Self {
        let world = World {
            rules: Vec::new(),
            exec: Box::new(|_, _| ExecReply::default()),
            execs: Vec::new(),
            containers: BTreeMap::new(),
            starts: HashMap::new(),
            started: Vec::new(),
            missing_images: Vec::new(),
            unavailable: None,
        };
        Self { name, world: Arc::new(Mutex::new(world)) }
    }

    /// Containers for which `rule` gives a script follow it; the latest rule that gives one counts.
    pub fn on(&self, rule: impl Fn(&ContainerSpec) -> Option<Script> + Send + Sync + 'static) -> &Self {
        self.world().rules.push(Box::new(rule));
        self
    }

    /// All containers started from now on follow this script, unless a later rule says otherwise.
    pub fn always(&self, script: Script) -> &Self {
        self.on(move |_| Some(script.clone()))
    }

    /// What programs run by exec answer.
    pub fn on_exec(&self, rule: impl Fn(&ContainerId, &ExecSpec) -> ExecReply + Send + Sync + 'static) -> &Self {
        self.world().exec = Box::new(rule);
        self
    }

    /// This image cannot be had.
    pub fn missing_image(&self, image: &str) -> &Self {
        self.world().missing_images.push(image.to_owned());
        self
    }

    /// The engine does not work for this reason, or works again.
    pub fn unavailable(&self, reason: Option<&str>) -> &Self {
        self.world().unavailable = reason.map(str::to_owned);
        self
    }

    /// How many times this id really started (a repeated start does not count).
    pub fn starts(&self, id: &ContainerId) -> usize {
        self.world().starts.get(id).copied().unwrap_or(0)
    }

    /// Everything that started, in order.
    pub fn started(&self) -> Vec<ContainerSpec> {
        self.world().started.clone()
    }

    /// Commands that were run by exec, in order.
    pub fn execs(&self) -> Vec<(ContainerId, Vec<String>)> {
        self.world().execs.clone()
    }

    /// Ends a running container.
    pub fn finish(&self, id: &ContainerId, code: i32) {
        if let Some(container) = self.world().containers.get(id) {
            container.end(code, false, None);
        }
    }

    /// Writes to a container's log.
    pub fn print(&self, id: &ContainerId, stdout: &str) {
        if let Some(container) = self.world().containers.get(id) {
            write_log(&container.spec, stdout.as_bytes(), b"");
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_available(&self) -> Result<()> {
        match self.world().unavailable.clone() {
            Some(reason) => Err(EngineError::Unavailable { engine: self.name, reason }),
            None => Ok(()),
        }
    }

    fn watch(&self, id: &ContainerId) -> Result<watch::Receiver<Option<Exit>>> {
        match self.world().containers.get(id) {
            Some(container) => Ok(container.exit.subscribe()),
            None => Err(EngineError::NotFound(id.0.clone())),
        }
    }
}

#[async_trait]
impl ContainerEngine for FakeEngine {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn probe(&self) -> Result<EngineInfo> {
        self.check_available()?;
        Ok(EngineInfo { name: self.name, description: "scripted".to_owned() })
    }

    async fn ensure_image(&self, image: &str, _policy: PullPolicy) -> Result<()> {
        self.check_available()?;
        if self.world().missing_images.iter().any(|missing| missing == image) {
            let reason = "not found".to_owned();
            return Err(EngineError::Image { image: image.to_owned(), reason });
        }
        Ok(())
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<ContainerState> {
        self.check_available()?;
        let (state, script) = {
            let mut world = self.world();
            if let Some(container) = world.containers.get(&spec.id) {
                return Ok(container.state());
            }
            let script = world.rules.iter().rev().find_map(|rule| rule(spec)).unwrap_or_else(|| Script::exits(0));
            let (exit, _) = watch::channel(None);
            let container =
                Container { spec: spec.clone(), script: script.clone(), started_at_nanos: now_nanos(), exit };
            let state = container.state();
            *world.starts.entry(spec.id.clone()).or_default() += 1;
            world.started.push(spec.clone());
            world.containers.insert(spec.id.clone(), container);
            (state, script)
        };
        tokio::time::sleep(script.start_delay).await;
        if !script.has_room {
            let exit = self.wait(&spec.id).await?;
            return Err(EngineError::Start(exit.error.unwrap_or_default()));
        }
        if let Some(message) = script.start_error {
            if let Some(container) = self.world().containers.get(&spec.id) {
                container.end(128, false, Some(message.clone()));
            }
            return Err(EngineError::Start(message));
        }
        write_log(spec, &script.stdout, &script.stderr);
        for (path, content) in &script.files {
            write_through_mounts(spec, path, content);
        }
        if let Some(time) = script.runs_for {
            let (world, id) = (Arc::clone(&self.world), spec.id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                let world = world.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(container) = world.containers.get(&id) {
                    container.end(script.code, script.oom_killed, None);
                }
            });
        }
        Ok(state)
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerState> {
        self.check_available()?;
        let world = self.world();
        world.containers.get(id).map(Container::state).ok_or_else(|| EngineError::NotFound(id.0.clone()))
    }

    async fn list(&self, label: Option<(&str, &str)>) -> Result<Vec<ContainerState>> {
        self.check_available()?;
        let has = |state: &ContainerState| {
            label.is_none_or(|(name, value)| state.labels.get(name).is_some_and(|found| found == value))
        };
        Ok(self.world().containers.values().map(Container::state).filter(has).collect())
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit> {
        let mut exit = self.watch(id)?;
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|exit| exit.clone()).ok_or_else(|| EngineError::NotFound(id.0.clone()))
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit> {
        let mut exit = self.watch(id)?;
        if let Some(waiting) = self.world().containers.get(id).filter(|container| !container.script.has_room) {
            waiting.end(128, false, Some("it was stopped before it started".to_owned()));
        }
        let on_term = self.world().containers.get(id).and_then(|container| container.script.code_on_term);
        let end = |code| {
            if let Some(container) = self.world().containers.get(id) {
                container.end(code, false, None);
            }
        };
        match on_term {
            Some(code) if !grace.is_zero() => end(code),
            // It may still end by itself within the grace period.
            _ => {
                let ended = tokio::time::timeout(grace, exit.wait_for(Option::is_some)).await.is_ok();
                if !ended {
                    end(137);
                }
            }
        }
        self.wait(id).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        let mut world = self.world();
        if world.containers.get(id).is_some_and(|container| container.exit.borrow().is_none()) {
            return Err(EngineError::Invalid(format!("container {:?} is running: stop it first", id.0)));
        }
        world.containers.remove(id);
        Ok(())
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session> {
        let running = self.watch(id)?.borrow().is_none();
        if !running {
            return Err(EngineError::Invalid(format!("container {:?} is not running", id.0)));
        }
        let reply = {
            let mut world = self.world();
            world.execs.push((id.clone(), spec.command.clone()));
            (world.exec)(id, spec)
        };
        let (stdin, mut input) = tokio::io::duplex(64 * 1024);
        let (mut output, stdout) = tokio::io::duplex(64 * 1024);
        let (mut errors, stderr) = tokio::io::duplex(64 * 1024);
        let (exit_sender, exit) = oneshot::channel();
        let has_stdin = spec.stdin;
        tokio::spawn(async move {
            tokio::time::sleep(reply.takes).await;
            match &reply.stdout {
                Some(text) => drop(tokio::io::AsyncWriteExt::write_all(&mut output, text.as_bytes()).await),
                None if has_stdin => drop(tokio::io::copy(&mut input, &mut output).await),
                None => {}
            }
            drop(tokio::io::AsyncWriteExt::write_all(&mut errors, reply.stderr.as_bytes()).await);
            drop((output, errors));
            let _ = exit_sender.send(Ok(reply.code));
        });
        Ok(Session {
            stdin: if spec.stdin { Some(Box::new(stdin)) } else { None },
            stdout: Box::new(stdout),
            stderr: if spec.tty { None } else { Some(Box::new(stderr)) },
            resize: mpsc::channel(1).0,
            exit,
        })
    }

    async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<Session> {
        let mut ended = self.watch(id)?;
        let tty = self.world().containers.get(id).is_some_and(|container| container.spec.tty);
        let (input, mut swallowed) = tokio::io::duplex(64 * 1024);
        let (output, stdout) = tokio::io::duplex(64 * 1024);
        let (errors, stderr) = tokio::io::duplex(64 * 1024);
        let (exit_sender, exit) = oneshot::channel();
        if stdin {
            tokio::spawn(async move { tokio::io::copy(&mut swallowed, &mut tokio::io::sink()).await });
        }
        tokio::spawn(async move {
            let code = ended.wait_for(Option::is_some).await.ok().and_then(|exit| exit.as_ref().map(|e| e.code));
            drop((output, errors));
            let _ = exit_sender.send(Ok(code.unwrap_or(137)));
        });
        Ok(Session {
            stdin: if stdin { Some(Box::new(input)) } else { None },
            stdout: Box::new(stdout),
            stderr: if tty { None } else { Some(Box::new(stderr)) },
            resize: mpsc::channel(1).0,
            exit,
        })
    }
}

fn write_log(spec: &ContainerSpec, stdout: &[u8], stderr: &[u8]) {
    // A script's container has no other place to report to; a test that needs the log sees it missing.
    if let Ok(mut log) = LogWriter::open(spec.log.clone()) {
        log.write(Stream::Stdout, stdout, now_nanos());
        log.write(Stream::Stderr, stderr, now_nanos());
        log.flush_partial(now_nanos());
    }
}

fn write_through_mounts(spec: &ContainerSpec, path: &std::path::Path, content: &[u8]) {
    let inside = |mount: &crate::spec::Mount| {
        let rest = path.strip_prefix(&mount.target).ok()?;
        Some(if rest.as_os_str().is_empty() { mount.source.clone() } else { mount.source.join(rest) })
    };
    if let Some(host) = spec.mounts.iter().rev().find_map(inside) {
        drop(std::fs::write(host, content));
    }
}
