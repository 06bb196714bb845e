//! The embedded Kubernetes: store, API server, controllers and node in one process
