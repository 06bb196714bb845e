//! The seam to whatever answers for containers: a tower service with the kubelet's paths.

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response};
use tower::util::BoxCloneSyncService;

/// Answers `/containerLogs/…`, `/exec/…`, `/attach/…` and `/portForward/…` as a kubelet does. An upgradable connection
/// travels inside the request's extensions.
pub type KubeletService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;
