//! The commands, a file each. Each has its arguments and one `run` function.

pub mod apply;
pub mod batch;
pub mod completion;
pub mod context;
pub mod controller;
pub mod convert;
pub mod crds;
pub mod cron;
pub mod delete;
pub mod describe;
pub mod down;
pub mod get;
pub mod install;
pub mod kubeconfig;
pub mod logs;
pub mod run;
pub mod status;
pub mod stop;
pub mod uninstall;
pub mod up;
pub mod version;
pub mod wait;
