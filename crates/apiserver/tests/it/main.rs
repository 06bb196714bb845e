//! The API server in-process: raw requests and `kube::Client` against the same service, no sockets but in `tls`.

mod auth;
mod crd;
mod crud;
mod delete;
mod discovery;
mod fuzz;
mod histories;
mod hostile;
mod list;
mod patch;
mod pods;
mod server;
mod tls;
mod watch;
