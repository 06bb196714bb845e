//! The built-in Kubernetes kinds: schemas, defaults, validation, tables
