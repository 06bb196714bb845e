//! KubeTask's decisions: pure functions from the world to a plan
