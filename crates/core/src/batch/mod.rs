//! BatchRuns: one Task for each target, so many at a time, and how they fare in sum.

mod indexes;
mod plan;

pub use indexes::Indexes;
pub use plan::{BatchPlan, plan};
