//! The KubeTask API types and their CRDs
