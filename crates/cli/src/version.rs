//! Which KubeTask this is.

/// The version, e.g. `0.1.0`.
#[must_use]
pub fn short() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The version with the commit it was built from; `unknown` where it was built without a repository.
#[must_use]
pub fn long() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("KUBETASK_GIT_HASH"), ")")
}

/// The commit it was built from.
#[must_use]
pub fn commit() -> &'static str {
    env!("KUBETASK_GIT_HASH")
}
