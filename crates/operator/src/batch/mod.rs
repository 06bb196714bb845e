//! The BatchRun controller: `kubetask_core::batch::plan` decides, Batches are templates that are looked up.
//!
//! The Tasks that BatchRuns made come from the [`World`], which the Task controller feeds. Nothing is decided before it
//! has taken in what is there: more Tasks than may run at a time would be created.

mod reconcile;

use std::sync::Arc;

use futures::{StreamExt, future};
use kube::Client;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use kubetask_api::{Batch, BatchRun};
use kubetask_core::child::MakerKind;
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::early::cancelled_before;
use crate::events::Recorder;
use crate::health::Synced;
use crate::make::keys;
use crate::world::{World, feed};

/// Runs the controller until it is cancelled.
pub async fn run(client: Client, config: OperatorConfig, world: World, recorder: Recorder, cancel: CancellationToken) {
    let from_tasks = world.lock().children.listen(MakerKind::BatchRun);
    tokio::select! {
        () = world.tasks_are_listed() => {}
        () = cancel.cancelled() => return,
    }
    let (runs, writer) = reflector::store();
    let listed = Synced::default();
    let watch = watcher::watcher(config.api::<BatchRun>(&client), watcher::Config::default())
        .default_backoff()
        .modify(|run| run.metadata.managed_fields = None)
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
    let (batches, writer) = reflector::store();
    let watch_batches = watcher::watcher(config.api::<Batch>(&client), watcher::Config::default())
        .default_backoff()
        .modify(|batch| batch.metadata.managed_fields = None)
        .reflect(writer)
        .touched_objects();
    let context =
        Arc::new(reconcile::Context::new(client, world, recorder, config.metrics.clone(), runs.clone(), batches));
    let all_runs = runs.clone();
    let referring = move |batch: Batch| {
        let refers = |run: &Arc<BatchRun>| {
            run.spec.batch_ref == batch.metadata.name && run.metadata.namespace == batch.metadata.namespace
        };
        let runs: Vec<ObjectRef<BatchRun>> =
            all_runs.state().iter().filter(|run| refers(run)).map(|run| ObjectRef::from_obj(&**run)).collect();
        runs
    };
    let controller = Controller::for_stream(watch, runs)
        .with_config(controller::Config::default().concurrency(config.concurrency))
        .watches_stream(watch_batches, referring)
        .reconcile_on(keys(from_tasks))
        .graceful_shutdown_on(cancel.clone().cancelled_owned())
        .run(reconcile::reconcile, reconcile::on_error, context)
        .for_each(|result| {
            if let Err(controller::Error::QueueError(error)) = result {
                feed::interrupted("BatchRun", &error);
            }
            future::ready(())
        });
    tokio::select! {
        () = controller => {}
        () = cancelled_before(&listed, &cancel) => {}
    }
}
