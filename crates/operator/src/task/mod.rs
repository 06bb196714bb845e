//! The Task controller: [`observe`] gathers, `kubetask_core::task::plan` decides, [`act`] carries out.
//!
//! The Tasks come from a reflector; everything that concerns them comes from the feeds of the [`World`]. Nothing is
//! decided before every feed has taken in what is there: a Task must not be told that its Agent is missing only
//! because the operator has just started.

mod act;
mod observe;
mod reconcile;
mod remote;
mod tell;

use std::sync::Arc;

use futures::{StreamExt, future, stream};
use kube::Client;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher;
use kubetask_api::{Task, conditions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::drive::{drive, watched};
use crate::events::Recorder;
use crate::health::Synced;
use crate::metrics::Source;
use crate::traces::Spans;
use crate::world::feed::{self, News, TaskIntake};
use crate::world::{TaskKey, World};

pub use reconcile::{Context, reconcile};

/// Runs the controller until it is cancelled.
pub async fn run(
    client: Client,
    config: OperatorConfig,
    world: World,
    recorder: Recorder,
    spans: Spans,
    when_synced: Synced,
    cancel: CancellationToken,
) {
    let (tasks, writer) = reflector::store();
    // The receiver is slower than a list of a large cluster: the feeds wait for it.
    let (sender, from_feeds) = mpsc::channel(1024);
    // What Tasks tell each other is little, and must not wait for itself.
    let (looks, from_tasks) = mpsc::unbounded_channel();
    let mut pumps = JoinSet::new();
    let mut synced = Vec::new();
    for feed in feed::all(&client, &config, &world, &tasks) {
        let (done, when_done) = oneshot::channel();
        pumps.spawn(pump(feed, sender.clone(), done));
        synced.push(when_done);
    }
    drop(sender);
    if cancel.run_until_cancelled(future::join_all(synced)).await.is_none() {
        return;
    }
    let told = told(TaskIntake::new(world.clone()), looks.clone());
    let watch = watched(&client, &config, writer, strip, when_synced.clone(), told);
    config.metrics.set_source(Source { tasks: Some(tasks.clone()), world: world.clone() });
    let http = crate::http::Http::default();
    let metrics = config.metrics.clone();
    let (archives, archiving) = crate::archive::archiver(
        client.clone(),
        world.clone(),
        recorder.clone(),
        metrics.clone(),
        config.archive.clone(),
        http.clone(),
    );
    let usual = config.settings.notifications.clone();
    let (notices, notifying) =
        crate::notify::notifier(client.clone(), world.clone(), recorder.clone(), metrics, http, usual);
    pumps.spawn(archiving);
    pumps.spawn(notifying);
    let beside = reconcile::Beside { looks, archives, notices, spans };
    let context = Arc::new(Context::new(client, config.clone(), world, tasks.clone(), recorder, beside));
    let controller = Controller::for_stream(watch, tasks)
        .with_config(controller::Config::default().concurrency(config.concurrency))
        .reconcile_on(stream::poll_fn({
            let mut receiver = from_feeds;
            move |cx| receiver.poll_recv(cx)
        }))
        .reconcile_on(stream::poll_fn({
            let mut receiver = from_tasks;
            move |cx| receiver.poll_recv(cx).map(|key| key.as_ref().map(object_ref))
        }))
        .graceful_shutdown_on(cancel.clone().cancelled_owned())
        .run(reconcile, reconcile::on_error, context.clone());
    drive(controller, &when_synced, &cancel, |key| context.gone(key)).await;
    pumps.shutdown().await;
}

/// Keeps what is looked at. Of a finished Task that is little, and there may be many of them.
fn strip(task: &mut Task) {
    if task.phase().is_finished() {
        task.spec.contexts = Vec::new();
        task.spec.prompt = None;
        if let Some(status) = &mut task.status {
            status.result = None;
            status.message = None;
            status.conditions.retain(|condition| condition.type_ == conditions::ARCHIVED);
        }
    }
}

/// Takes the watch of Tasks into the world, and has those looked at whom it concerns.
fn told(mut intake: TaskIntake, looks: mpsc::UnboundedSender<TaskKey>) -> impl FnMut(&watcher::Event<Task>) {
    move |event| {
        for key in intake.take_in(event) {
            // Nobody listens only when the operator ends.
            let _ = looks.send(key);
        }
    }
}

/// Polls a feed; sends the Tasks it names once it has taken in what is there. Tasks named before are looked at anyway.
async fn pump(mut feed: feed::Feed, sender: mpsc::Sender<ObjectRef<Task>>, synced: oneshot::Sender<()>) {
    let mut synced = Some(synced);
    while let Some(news) = feed.next().await {
        match news {
            News::Look(key) if synced.is_none() => {
                if sender.send(object_ref(&key)).await.is_err() {
                    return;
                }
            }
            News::Look(_) => {}
            News::Synced => {
                if let Some(synced) = synced.take() {
                    // Nobody waits any more only when the operator ends.
                    let _ = synced.send(());
                }
            }
        }
    }
}

fn object_ref(key: &TaskKey) -> ObjectRef<Task> {
    ObjectRef::new(&key.name).within(&key.namespace)
}
