//! Runs one pod: feeds its [`Machine`] with what happens, does what the machine asks for, publishes its status.
//!
//! One task a pod, which is the only one to touch the machine. Work that takes time is done in tasks of its own that
//! answer with an [`Event`]. Between events the driver sleeps.

pub(crate) mod container;
mod hook;
mod launch;
mod patience;
pub(crate) mod prepare;
mod publish;
mod security;
mod usage;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kubetask_engine::ContainerEngine;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::ENGINE_ANNOTATION;
use crate::engines;
use crate::events::From;
use crate::machine::{Command, Event, Host, Kind, Machine};
use crate::objects::{Fetched, Refs};
use crate::record::Record;
use crate::shared::{Mailbox, PodHandle, Shared};
use crate::sources::Interest;
use crate::view::PodView;
use crate::volumes::Places;
use container::Run;
pub(crate) use container::remove_orphan;
use launch::RecordWriter;
pub(crate) use prepare::remove_files;
use publish::Publisher;

/// A pod of which nothing is heard for so long is put to rest.
const REST_AFTER: Duration = Duration::from_secs(2);

/// How a pod comes to its driver.
pub(crate) enum Origin {
    /// It was just given to this node, or is about to be.
    Fresh {
        /// Whether it is this node's for certain.
        bound: bool,
    },
    /// It may have run here before this process began.
    Found {
        /// What is on disk of it.
        record: Option<Record>,
    },
}

/// The driver of one pod.
struct Driver {
    shared: Arc<Shared>,
    machine: Machine,
    uid: String,
    namespace: String,
    refs: Refs,
    engine: Result<Arc<dyn ContainerEngine>, String>,
    events: Mailbox,
    view: watch::Sender<PodView>,
    poke: Arc<Notify>,
    records: Arc<RecordWriter>,
    publisher: Publisher,
    places: Arc<Places>,
    fetched: Option<Arc<Fetched>>,
    prepared: mpsc::UnboundedSender<Box<Prepared>>,
    cancels: HashMap<usize, CancellationToken>,
    refresh_at: Option<tokio::time::Instant>,
    refreshing: bool,
    finalizing: bool,
    discarded: bool,
}

/// What preparing the volumes brought.
struct Prepared {
    result: Result<Places, Vec<String>>,
    fetched: Option<Arc<Fetched>>,
    refresh_in: Option<Duration>,
    again: bool,
}

/// Where a driver hears of things.
struct Inbox {
    events: mpsc::UnboundedReceiver<Box<Event>>,
    prepared: mpsc::UnboundedReceiver<Box<Prepared>>,
}

/// What a driver hears of.
enum News {
    /// The node ends.
    End,
    Event(Box<Event>),
    Prepared(Box<Prepared>),
    /// A status was written, or was not.
    Published,
    /// Something that the pod refers to changed.
    Poke,
    /// It is as late as it was to become.
    Time,
}

/// Starts the driver of `pod`.
pub(crate) fn spawn(shared: &Arc<Shared>, pod: Arc<Pod>, origin: Origin) -> PodHandle {
    let (events, receiver) = Mailbox::new();
    let (prepared, prepared_receiver) = mpsc::unbounded_channel();
    let engines = &shared.config.engines;
    let (route, engine) = match &origin {
        // Once started somewhere, always there.
        Origin::Found { record: Some(record) } => (Some(record.engine.clone()), engines.stored(&record.engine)),
        _ => {
            let route = route(&pod);
            let engine = engines.choose(route.as_deref());
            (route, engine)
        }
    };
    let engine = engine.map_err(|error| error.to_string());
    let name = engine.as_ref().map_or_else(|_| route.unwrap_or_default(), |engine| engine.name().to_owned());
    let host = Host { address: shared.facts.address.clone(), engine: name.clone() };
    let now = Timestamp::now();
    let fresh = matches!(origin, Origin::Fresh { .. });
    let (machine, commands, records) = match origin {
        Origin::Fresh { bound } => {
            let mut machine = Machine::new(Arc::clone(&pod), host, now);
            let commands = if bound { machine.handle(now, Event::Bound) } else { Vec::new() };
            (machine, commands, RecordWriter::new(None))
        }
        Origin::Found { record } => {
            let (machine, commands) = Machine::restore(Arc::clone(&pod), host, record.clone(), now);
            (machine, commands, RecordWriter::new(record))
        }
    };
    let (view, view_receiver) = watch::channel(PodView::of(&machine, &name));
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let refs = Refs::of_pod(&pod);
    let poke = Arc::new(Notify::new());
    let claims = prepare::claims(&pod);
    if !refs.is_empty() || !claims.is_empty() {
        let claims = claims.into_iter().map(|(_, claim)| claim).collect();
        let interest = Interest { namespace: namespace.clone(), refs: refs.clone(), claims, notify: Arc::clone(&poke) };
        shared.sources.subscribe(&shared.config.client, &shared.stop, &uid, interest);
    }
    let handle = PodHandle { events: events.clone(), view: view_receiver };
    shared.set(&uid, Some(handle.clone()));
    let driver = Box::new(Driver {
        // What was final when it was found is not written again: less may be known of it now.
        publisher: Publisher::new(&pod, machine.settled().and_then(|_| machine.status())),
        shared: Arc::clone(shared),
        machine,
        uid,
        namespace,
        refs,
        engine,
        events,
        view,
        poke,
        records: Arc::new(records),
        places: Arc::default(),
        fetched: None,
        prepared,
        cancels: HashMap::new(),
        refresh_at: None,
        refreshing: false,
        finalizing: false,
        discarded: false,
    });
    if fresh {
        driver.record_ahead();
    }
    shared.tasks.spawn(driver.run(Inbox { events: receiver, prepared: prepared_receiver }, commands));
    handle
}

/// The engine that a pod asks for.
fn route(pod: &Pod) -> Option<String> {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(ENGINE_ANNOTATION));
    let class = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_ref());
    annotation.or(class).filter(|name| !name.is_empty()).cloned()
}

impl Driver {
    async fn run(mut self: Box<Self>, mut inbox: Inbox, first: Vec<Command>) {
        self.execute(first);
        self.handle(Event::Tick);
        loop {
            self.publish_view();
            if self.machine.cleaned() {
                break;
            }
            if !self.discarded && !self.refreshing && self.machine.settled().is_some() && !self.machine.active() {
                self.discarded = true;
                let (shared, uid) = (Arc::clone(&self.shared), self.uid.clone());
                self.shared.tasks.spawn(async move { prepare::discard(&shared, uid).await });
            }
            self.publisher.step(&self.shared, &self.machine);
            if self.finalizing && self.publisher.idle() {
                self.finalizing = false;
                self.delete_object();
            }
            match self.wait(&mut inbox).await {
                News::End => return Box::pin(self.publisher.finish(&self.shared, &self.machine)).await,
                News::Event(event) => {
                    self.hear(*event);
                    // What is already there is dealt with before anything is published.
                    while let Ok(event) = inbox.events.try_recv() {
                        self.hear(*event);
                    }
                }
                News::Prepared(done) => self.set_prepared(*done),
                News::Published => {}
                News::Poke => {
                    self.fetched = None;
                    self.handle(Event::Poke);
                    self.refresh();
                }
                News::Time => {
                    self.publisher.wake();
                    if self.refresh_at.is_some_and(|at| at <= tokio::time::Instant::now()) {
                        self.refresh_at = None;
                        self.refresh();
                    }
                    self.handle(Event::Tick);
                }
            }
        }
        // Boxed, as what happens once at the end should not make every driver larger all its life.
        Box::pin(self.clean_up()).await;
    }

    /// Waits until there is something to do. Where nothing is heard for a while, and nothing is to be expected, what is not
    /// needed to wait is put away.
    async fn wait(&mut self, inbox: &mut Inbox) -> News {
        let wake = self.sleep_until();
        let may_rest = self.machine.may_rest() && self.publisher.idle() && !self.refreshing;
        let rest_at = may_rest.then(|| tokio::time::Instant::now() + REST_AFTER);
        tokio::select! {
            biased;
            news = self.news(inbox, wake) => return news,
            () = sleep(rest_at) => {}
        }
        self.machine.rest();
        self.fetched = None;
        let news = self.news(inbox, wake).await;
        self.machine.rouse();
        news
    }

    /// Cancel safe.
    async fn news(&mut self, inbox: &mut Inbox, wake: Option<tokio::time::Instant>) -> News {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => News::End,
            Some(event) = inbox.events.recv() => News::Event(event),
            Some(done) = inbox.prepared.recv() => News::Prepared(done),
            () = self.publisher.done() => News::Published,
            () = self.poke.notified() => News::Poke,
            () = sleep(wake) => News::Time,
        }
    }

    /// An event from outside.
    fn hear(&mut self, event: Event) {
        if let Event::Pod(pod) = &event {
            let refs = Refs::of_pod(pod);
            if refs != self.refs {
                // A container that came to look into the pod refers to more.
                (self.refs, self.fetched) = (refs, None);
            }
            let old = &self.machine.pod().metadata;
            let new = &pod.metadata;
            if old.labels != new.labels || old.annotations != new.annotations {
                self.handle(event);
                return self.refresh();
            }
        }
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        let gone = matches!(event, Event::Gone);
        let commands = self.machine.handle(Timestamp::now(), event);
        self.execute(commands);
        if self.engine.is_err() && (gone || self.machine.pod().metadata.deletion_timestamp.is_some()) {
            self.give_up_lost();
        }
    }

    fn execute(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Prepare => self.prepare(false),
                Command::Start { slot, attempt } => self.start(slot, attempt),
                Command::Adopt { slot, attempt, ran } => self.adopt(slot, attempt, ran),
                Command::CancelStart { slot, .. } => {
                    if let Some(cancel) = self.cancels.get(&slot) {
                        cancel.cancel();
                    }
                }
                Command::Hook { slot, attempt, hook, timeout } => self.hook(slot, attempt, hook, timeout),
                Command::Kill { slot, attempt, grace } => self.kill(slot, attempt, grace),
                Command::Probe { slot, attempt, kind } => self.probe(slot, attempt, kind),
                Command::Emit { warning, reason, message, slot } => self.emit(slot, warning, reason, &message),
                Command::Finalize => self.finalizing = true,
                // Done once the loop ends.
                Command::CleanUp => {}
            }
        }
    }

    fn emit(&self, slot: Option<usize>, warning: bool, reason: &'static str, message: &str) {
        let field = slot.and_then(|slot| field(&self.machine, slot));
        self.shared.recorder.emit(From::Kubelet, self.machine.pod(), field, warning, reason, message);
    }

    fn publish_view(&self) {
        let fresh = PodView::of(&self.machine, self.engine.as_ref().map_or("", |engine| engine.name()));
        self.view.send_if_modified(|view| {
            let changed = *view != fresh;
            if changed {
                *view = fresh;
            }
            changed
        });
    }

    fn sleep_until(&self) -> Option<tokio::time::Instant> {
        let machine = self.machine.wake_at().map(|at| {
            let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
            // A hair later, so that the clock that the machine is shown has passed the mark.
            tokio::time::Instant::now() + wait + Duration::from_micros(500)
        });
        [machine, self.refresh_at, self.publisher.wake_at()].into_iter().flatten().min()
    }

    /// What a task for one run of a container needs.
    fn container_run(&self, slot: usize, attempt: u32) -> Result<Run, String> {
        let container = &self.machine.slots()[slot].spec;
        Ok(Run {
            shared: Arc::clone(&self.shared),
            engine: self.engine_of(container)?,
            events: self.events.clone(),
            namespace: self.namespace.clone(),
            pod: self.machine.pod().metadata.name.clone().unwrap_or_default(),
            uid: self.uid.clone(),
            container: container.name.clone(),
            words_from_log: container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
            slot,
            attempt,
        })
    }

    fn engine_of(&self, container: &Container) -> Result<Arc<dyn ContainerEngine>, String> {
        let pod = self.engine.as_ref().map_err(Clone::clone)?;
        Ok(engines::of_container(&self.shared.config.engines, pod, container.image.as_deref()))
    }

    /// The object goes away once nothing of the pod runs.
    fn delete_object(&self) {
        let (shared, pod, stop) = (Arc::clone(&self.shared), Arc::clone(self.machine.pod()), self.shared.stop.clone());
        let delete = async move { publish::delete(&shared, &pod).await };
        self.shared.tasks.spawn(async move { stop.run_until_cancelled(delete).await });
    }

    /// Removes everything that was kept for the pod.
    async fn clean_up(self: Box<Self>) {
        self.shared.sources.forget(&self.uid);
        for slot in self.machine.slots() {
            if let Ok(engine) = self.engine_of(&slot.spec) {
                for attempt in slot.attempt.into_iter().flat_map(|last| last.saturating_sub(1)..=last) {
                    container::remove(engine.as_ref(), &self.uid, &slot.spec.name, attempt).await;
                }
            }
        }
        let pod = self.machine.pod().metadata.name.clone().unwrap_or_default();
        prepare::remove_files(&self.shared, self.namespace.clone(), pod, self.uid.clone()).await;
        self.shared.set(&self.uid, None);
    }
}

/// The part of the pod that an event of a container is about.
fn field(machine: &Machine, slot: usize) -> Option<String> {
    let slot = machine.slots().get(slot)?;
    let list = match slot.kind {
        Kind::Main => "containers",
        Kind::Ephemeral => "ephemeralContainers",
        Kind::Init | Kind::Sidecar => "initContainers",
    };
    Some(format!("spec.{list}{{{}}}", slot.spec.name))
}

async fn sleep(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
