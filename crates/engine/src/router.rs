//! Chooses the engine of a container by the name of its route.
//!
//! [`EngineRouter`] holds the engines; the caller stores the chosen route (an engine's [`name`](ContainerEngine::name))
//! beside the container's identity before it starts, and comes back with that route after a restart.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::spec::{ContainerId, ContainerSpec, ContainerState, Exit, PullPolicy};
use crate::traits::{BuildSpec, ContainerEngine, EngineError, EngineInfo, ExecSpec, ImageProgress, Result, Session};

/// The engines of this process, by name. The first one is the default.
#[derive(Clone)]
pub struct EngineRouter {
    engines: Arc<[Arc<dyn ContainerEngine>]>,
    /// Whether everything new goes to the default, whatever it asks for.
    only_default: bool,
}

impl EngineRouter {
    /// A router over `engines`; the first is the default. Of two with the same name the first is used.
    pub fn new(engines: Vec<Arc<dyn ContainerEngine>>) -> Self {
        Self { engines: engines.into(), only_default: false }
    }

    /// The same router, that gives everything new to the default, whatever it asks for: there may be no other place, as in
    /// a Pod of a cluster. What runs already stays where it is.
    #[must_use]
    pub fn all_to_default(self) -> Self {
        Self { only_default: true, ..self }
    }

    /// The engine of something new that asks for `route`.
    ///
    /// # Errors
    /// As [`Self::engine`].
    pub fn choose(&self, route: Option<&str>) -> Result<Arc<dyn ContainerEngine>> {
        self.engine(route.filter(|_| !self.only_default))
    }

    /// The engine of something that was started before, by the route that was stored of it. A container that this engine
    /// does not know is looked for in the others.
    ///
    /// # Errors
    /// As [`Self::engine`].
    pub fn stored(&self, route: &str) -> Result<Arc<dyn ContainerEngine>> {
        let preferred = self.engine(Some(route))?;
        if self.engines.len() == 1 {
            return Ok(preferred);
        }
        Ok(Arc::new(Stored { preferred, engines: Arc::clone(&self.engines) }))
    }

    /// Names of the engines, the default first.
    pub fn names(&self) -> Vec<&'static str> {
        self.engines.iter().map(|engine| engine.name()).collect()
    }

    /// The engine that `route` names; the default where there is no route.
    ///
    /// # Errors
    /// [`EngineError::NoRoute`] where no engine has this name.
    pub fn engine(&self, route: Option<&str>) -> Result<Arc<dyn ContainerEngine>> {
        let found = match route {
            Some(route) => self.engines.iter().find(|engine| engine.name().eq_ignore_ascii_case(route)),
            None => self.engines.first(),
        };
        found.cloned().ok_or_else(|| EngineError::NoRoute {
            route: route.unwrap_or("default").to_owned(),
            known: self.names().join(", "),
        })
    }

    /// The engine that has the container `id`: the one of its stored route, else whichever knows it.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where none knows it; an engine that cannot be asked is an error only if no other has it.
    pub async fn locate(&self, id: &ContainerId, route: Option<&str>) -> Result<Arc<dyn ContainerEngine>> {
        let preferred = route.and_then(|route| self.engine(Some(route)).ok());
        let others = self.engines.iter().filter(|e| preferred.as_ref().is_none_or(|p| p.name() != e.name()));
        let mut trouble = None;
        for engine in preferred.iter().chain(others) {
            match engine.inspect(id).await {
                Ok(_) => return Ok(Arc::clone(engine)),
                Err(EngineError::NotFound(_)) => {}
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        Err(trouble.unwrap_or_else(|| EngineError::NotFound(id.0.clone())))
    }
}

/// The engine of a stored route, and the others for what it does not know.
struct Stored {
    preferred: Arc<dyn ContainerEngine>,
    engines: Arc<[Arc<dyn ContainerEngine>]>,
}

impl Stored {
    /// The engine that has a container; that of the route where none has it.
    async fn of(&self, id: &ContainerId) -> Arc<dyn ContainerEngine> {
        if !matches!(self.preferred.inspect(id).await, Err(EngineError::NotFound(_))) {
            return Arc::clone(&self.preferred);
        }
        for engine in self.engines.iter().filter(|engine| engine.name() != self.preferred.name()) {
            // One that cannot be asked does not have it, as far as anybody knows: the route was stored before the start.
            if engine.inspect(id).await.is_ok() {
                tracing::info!(id = id.0, engine = engine.name(), "a container is not where its route says");
                return Arc::clone(engine);
            }
        }
        Arc::clone(&self.preferred)
    }
}

#[async_trait]
impl ContainerEngine for Stored {
    fn name(&self) -> &'static str {
        self.preferred.name()
    }

    async fn probe(&self) -> Result<EngineInfo> {
        self.preferred.probe().await
    }

    async fn ensure_image(&self, image: &str, policy: PullPolicy) -> Result<()> {
        self.preferred.ensure_image(image, policy).await
    }

    async fn pull_image(&self, image: &str, policy: PullPolicy, progress: mpsc::Sender<ImageProgress>) -> Result<()> {
        self.preferred.pull_image(image, policy, progress).await
    }

    async fn build_image(&self, spec: &BuildSpec, output: mpsc::Sender<String>) -> Result<()> {
        self.preferred.build_image(spec, output).await
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<ContainerState> {
        self.of(&spec.id).await.start(spec).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerState> {
        self.of(id).await.inspect(id).await
    }

    async fn list(&self, label: Option<(&str, &str)>) -> Result<Vec<ContainerState>> {
        self.preferred.list(label).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit> {
        self.of(id).await.wait(id).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit> {
        self.of(id).await.stop(id, grace).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.of(id).await.remove(id).await
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session> {
        self.of(id).await.exec(id, spec).await
    }

    async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<Session> {
        self.of(id).await.attach(id, stdin).await
    }
}

impl std::fmt::Debug for EngineRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineRouter").field("engines", &self.names()).finish()
    }
}
