//! The BatchRun controller: `kubetask_core::batch::plan` decides, Batches are templates that are looked up.
//!
//! The Tasks that BatchRuns made come from the [`World`], which the Task controller feeds. Nothing is decided before it
//! has taken in what is there: more Tasks than may run at a time would be created.

mod index;
mod reconcile;

use std::sync::Arc;

use kube::Client;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kubetask_api::{Batch, BatchRun};
use kubetask_core::child::MakerKind;
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::drive::{drive, watched};
use crate::events::Recorder;
use crate::health::Synced;
use crate::make::keys;
use crate::maker::{self, Shared};
use crate::world::{World, names};

/// Runs the controller until it is cancelled.
pub async fn run(client: Client, config: OperatorConfig, world: World, recorder: Recorder, cancel: CancellationToken) {
    let from_tasks = world.lock().children.listen(MakerKind::BatchRun);
    if cancel.run_until_cancelled(world.tasks_are_listed()).await.is_none() {
        return;
    }
    let listed = Synced::default();
    let (runs, writer) = reflector::store();
    let runs_of = index::RunsOfBatches::default();
    let index = runs_of.clone();
    let watch = watched(&client, &config, writer, |_| {}, listed.clone(), move |event| index.take_in(event));
    let (batches, writer) = reflector::store();
    let watch_batches = watched(&client, &config, writer, |_| {}, Synced::default(), |_| {});
    let shared = Shared::new(client, world, recorder, config.metrics.clone(), runs.clone());
    let context = Arc::new(reconcile::Context::new(shared, batches));
    let referring = move |batch: Batch| {
        let (namespace, name) = names(&batch.metadata);
        let runs: Vec<ObjectRef<BatchRun>> =
            runs_of.of(&namespace, &name).iter().map(|run| ObjectRef::new(run).within(&namespace)).collect();
        runs
    };
    let controller = Controller::for_stream(watch, runs)
        .with_config(controller::Config::default().concurrency(config.concurrency))
        .watches_stream(watch_batches, referring)
        .reconcile_on(keys(from_tasks))
        .graceful_shutdown_on(cancel.clone().cancelled_owned())
        .run(maker::reconcile, maker::on_error, context.clone());
    drive(controller, &listed, &cancel, |key| maker::gone(&*context, key)).await;
}
