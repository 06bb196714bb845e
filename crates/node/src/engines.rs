//! Which engine runs a container.

use std::sync::Arc;

use kubetask_engine::{ContainerEngine, EngineRouter, image};

/// The engine that runs processes of this machine.
pub(crate) const LOCAL: &str = "local";

/// The engine of a container: its pod's. Only KubeTask's own image always runs locally, where it is this very program: no
/// registry has to have it, and what such a container prepares lies in volumes, which every engine shows.
///
/// It follows from the pod alone, so that it is the same after any restart.
pub(crate) fn of_container(
    engines: &EngineRouter,
    pod: &Arc<dyn ContainerEngine>,
    image: Option<&str>,
) -> Arc<dyn ContainerEngine> {
    if pod.name() != LOCAL
        && image.is_some_and(image::is_own)
        && let Ok(local) = engines.engine(Some(LOCAL))
    {
        return local;
    }
    Arc::clone(pod)
}
