//! The KubeTask controllers
