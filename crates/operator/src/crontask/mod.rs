//! The CronTask controller: `kubetask_core::cron::plan` decides; one [`timer`] wakes whoever is due.
//!
//! The Tasks that CronTasks made come from the [`World`], which the Task controller feeds. Nothing is decided before it
//! has taken in what is there: a run must not start beside one that is not seen yet.

mod reconcile;
mod timer;

use std::sync::Arc;

use futures::{StreamExt, future};
use kube::Client;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector;
use kube::runtime::{WatchStreamExt, watcher};
use kubetask_api::CronTask;
use kubetask_core::child::MakerKind;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::early::cancelled_before;
use crate::events::Recorder;
use crate::health::Synced;
use crate::make::keys;
use crate::world::{World, feed};

/// Runs the controller until it is cancelled.
pub async fn run(client: Client, config: OperatorConfig, world: World, recorder: Recorder, cancel: CancellationToken) {
    let from_tasks = world.lock().children.listen(MakerKind::CronTask);
    tokio::select! {
        () = world.tasks_are_listed() => {}
        () = cancel.cancelled() => return,
    }
    let (crons, writer) = reflector::store();
    let listed = Synced::default();
    let watch = watcher::watcher(config.api::<CronTask>(&client), watcher::Config::default())
        .default_backoff()
        .modify(|cron| cron.metadata.managed_fields = None)
        .reflect(writer)
        .inspect({
            let listed = listed.clone();
            move |event| {
                if matches!(event, Ok(watcher::Event::InitDone)) {
                    listed.set();
                }
            }
        })
        .touched_objects();
    let timer = timer::Timer::new(config.clock.clone());
    let (wake, from_timer) = mpsc::unbounded_channel();
    let context = Arc::new(reconcile::Context::new(
        client,
        world,
        recorder,
        config.metrics.clone(),
        timer.clone(),
        crons.clone(),
    ));
    let controller = Controller::for_stream(watch, crons)
        .with_config(controller::Config::default().concurrency(config.concurrency))
        .reconcile_on(keys(from_timer))
        .reconcile_on(keys(from_tasks))
        .graceful_shutdown_on(cancel.clone().cancelled_owned())
        .run(reconcile::reconcile, reconcile::on_error, context)
        .for_each(|result| {
            if let Err(controller::Error::QueueError(error)) = result {
                feed::interrupted("CronTask", &error);
            }
            future::ready(())
        });
    tokio::select! {
        () = controller => {}
        () = cancelled_before(&listed, &cancel) => {}
        () = timer.run(wake) => {}
    }
}
