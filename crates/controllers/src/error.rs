//! Why a key could not be brought up to date: the request that failed. The queue tries again.

use kube::core::Status;

/// A failed request.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {object}")]
pub(crate) struct Error {
    /// What was being done.
    pub(crate) step: &'static str,
    /// To what.
    pub(crate) object: String,
    /// Why it failed.
    #[source]
    pub(crate) source: kube::Error,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds the step and the object to a request's error.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str, object: impl Into<String>) -> Result<T>;
}

impl<T> Step<T> for std::result::Result<T, kube::Error> {
    fn step(self, step: &'static str, object: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error { step, object: object.into(), source })
    }
}

/// Reads answers that are not failures for us.
pub(crate) trait Answer<T> {
    /// `None` if the object is not there (any more).
    fn unless_missing(self) -> std::result::Result<Option<T>, kube::Error>;
    /// `None` if the object is there already.
    fn unless_exists(self) -> std::result::Result<Option<T>, kube::Error>;
}

impl<T> Answer<T> for std::result::Result<T, kube::Error> {
    fn unless_missing(self) -> std::result::Result<Option<T>, kube::Error> {
        match self {
            Err(e) if code(&e) == Some(404) => Ok(None),
            other => other.map(Some),
        }
    }

    fn unless_exists(self) -> std::result::Result<Option<T>, kube::Error> {
        match self {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
            other => other.map(Some),
        }
    }
}

/// The HTTP status code, if the server answered.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Whether somebody else changed the object in between.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    code(error) == Some(409)
}

/// Whether the namespace is going away, so that creating in it is pointless.
pub(crate) fn is_terminating(error: &kube::Error) -> bool {
    fn cause(status: &Status) -> bool {
        let causes = status.details.iter().flat_map(|d| &d.causes);
        status.code == 403 && causes.into_iter().any(|c| c.reason == "NamespaceTerminating")
    }
    matches!(error, kube::Error::Api(status) if cause(status))
}

impl Error {
    /// The message with its causes, for logs.
    pub(crate) fn report(&self) -> String {
        format!("{self}: {}", self.source)
    }
}
