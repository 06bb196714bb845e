//! The CronTask controller: `kubetask_core::cron::plan` decides; one [`timer`] wakes whoever is due.
//!
//! The Tasks that CronTasks made come from the [`World`], which the Task controller feeds. Nothing is decided before it
//! has taken in what is there: a run must not start beside one that is not seen yet.

mod reconcile;
mod timer;

use std::sync::Arc;

use kube::Client;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector;
use kubetask_core::child::MakerKind;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::OperatorConfig;
use crate::drive::{drive, watched};
use crate::events::Recorder;
use crate::health::Synced;
use crate::make::keys;
use crate::maker::{self, Shared};
use crate::world::World;

/// How many more CronTasks than Tasks are looked at at a time. Many are due in the same minute, and none of them must wait
/// for what becomes of the runs of the others.
const AT_THE_SAME_MINUTE: u16 = 4;

/// Runs the controller until it is cancelled.
pub async fn run(client: Client, config: OperatorConfig, world: World, recorder: Recorder, cancel: CancellationToken) {
    let from_tasks = world.lock().children.listen(MakerKind::CronTask);
    if cancel.run_until_cancelled(world.tasks_are_listed()).await.is_none() {
        return;
    }
    let listed = Synced::default();
    let (crons, writer) = reflector::store();
    let watch = watched(&client, &config, writer, |_| {}, listed.clone(), |_| {});
    let timer = timer::Timer::new(config.clock.clone());
    let (wake, from_timer) = mpsc::unbounded_channel();
    let shared = Shared::new(client, world, recorder, config.metrics.clone(), crons.clone());
    let context = Arc::new(reconcile::Context::new(shared, timer.clone()));
    let controller = Controller::for_stream(watch, crons)
        .with_config(controller::Config::default().concurrency(config.concurrency.saturating_mul(AT_THE_SAME_MINUTE)))
        .reconcile_on(keys(from_timer))
        .reconcile_on(keys(from_tasks))
        .graceful_shutdown_on(cancel.clone().cancelled_owned())
        .run(maker::reconcile, maker::on_error, context.clone());
    tokio::select! {
        () = drive(controller, &listed, &cancel, |key| maker::gone(&*context, key)) => {}
        () = timer.run(wake) => {}
    }
}
