//! Chooses the engine of a container by the name of its route.
//!
//! [`EngineRouter`] holds the engines; the caller stores the chosen route (an engine's [`name`](ContainerEngine::name))
//! beside the container's identity before it starts, and comes back with that route after a restart.

use std::sync::Arc;

use crate::spec::ContainerId;
use crate::traits::{ContainerEngine, EngineError, Result};

/// The engines of this process, by name. The first one is the default.
#[derive(Clone)]
pub struct EngineRouter {
    engines: Arc<[Arc<dyn ContainerEngine>]>,
}

impl EngineRouter {
    /// A router over `engines`; the first is the default. Of two with the same name the first is used.
    pub fn new(engines: Vec<Arc<dyn ContainerEngine>>) -> Self {
        Self { engines: engines.into() }
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

impl std::fmt::Debug for EngineRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineRouter").field("engines", &self.names()).finish()
    }
}
