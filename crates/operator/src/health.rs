//! Whether the operator is alive, and whether it does (or could do) its work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::leader::Moment;

/// How often the operator shows that it is alive.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// After how long without a beat it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Whether the watches have taken in what is there. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Synced(Arc<AtomicBool>);

impl Synced {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether they have.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How the operator is. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    beat: Option<Moment>,
    role: Role,
    /// Why the lease cannot be asked for at the moment.
    lease: Option<String>,
}

/// What the operator does.
#[derive(Clone, Debug, Default)]
pub(crate) enum Role {
    /// It starts, or ends.
    #[default]
    None,
    /// Another replica leads.
    Standby,
    /// It works.
    Leading(Synced),
}

impl Health {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn beat(&self) {
        self.change(|state| state.beat = Some(Moment::now()));
    }

    pub(crate) fn role(&self, role: Role) {
        self.change(|state| state.role = role);
    }

    pub(crate) fn lease(&self, error: Option<&kube::Error>) {
        let error = error.map(ToString::to_string);
        self.change(|state| state.lease = error);
    }

    /// Whether it is alive: otherwise only a restart helps.
    ///
    /// # Errors
    /// Why not.
    pub fn alive(&self) -> Result<(), String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.beat.map(Moment::elapsed) {
            Some(since) if since > STUCK => Err(format!("nothing has happened for {} seconds", since.as_secs())),
            // It has only just started.
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it does its work, or stands ready to take it over.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<&'static str, String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &state.lease {
            return Err(format!("the lease cannot be asked for: {error}"));
        }
        match &state.role {
            Role::None => Err("not started".to_owned()),
            Role::Standby => Ok("standby: another replica leads"),
            Role::Leading(synced) if synced.is_set() => Ok("leading"),
            Role::Leading(_) => Err("leading, but the watches have not taken in what is there yet".to_owned()),
        }
    }

    /// Whether this replica leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(state.role, Role::Leading(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_work_is_done_or_could_be() {
        let health = Health::default();
        assert!(health.alive().is_ok() && health.ready().is_err());
        health.role(Role::Standby);
        assert!(health.ready().is_ok() && !health.leads());
        let synced = Synced::default();
        health.role(Role::Leading(synced.clone()));
        assert!(health.ready().unwrap_err().contains("watches"));
        synced.set();
        assert_eq!(health.ready(), Ok("leading"));
        health.lease(Some(&kube::Error::LinesCodecMaxLineLengthExceeded));
        assert!(health.ready().unwrap_err().contains("lease"));
        health.lease(None);
        health.beat();
        assert!(health.ready().is_ok() && health.alive().is_ok());
    }
}
