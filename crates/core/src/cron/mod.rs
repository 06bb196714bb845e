//! CronTasks: which runs are due, and the Tasks they make.

mod plan;
mod schedule;
#[cfg(test)]
mod tests;

pub use plan::{CronPlan, ON_TIME, plan, trigger_name};
pub use schedule::{Schedule, ScheduleError};
