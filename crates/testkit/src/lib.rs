//! Test fixtures: in-process clusters, scenarios, fault injection
