//! Tests of whole decisions: Jobs as people see them, and what holds for every plan.

mod fixtures;
mod jobs;
mod lifecycle;
mod simulation;
mod waiting;
mod world;
