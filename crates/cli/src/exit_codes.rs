//! Every exit code of `kubetask`, in one place; `docs/cli.md` lists them.
//!
//! `kubetask run` and `kubetask wait` also pass on an agent's own exit code.

/// All went well.
pub const OK: u8 = 0;
/// Something failed that is not the user's input: the server, the network, the agent without a code of its own.
pub const FAILURE: u8 = 1;
/// The input is wrong: arguments, manifests. Nothing was changed.
pub const USAGE: u8 = 2;
/// The task, or the wait for it, took longer than allowed; as `timeout(1)`. Of `kubetask up`: its end took longer than the
/// grace period, or agents that it was to stop still run.
pub const TIMEOUT: u8 = 124;
/// `kubetask up` lost its lease: another server has the data directory now. To be started again, as `EX_TEMPFAIL` of
/// `sysexits.h`.
pub const LEASE_LOST: u8 = 75;
/// Interrupted by Ctrl-C, after the task was stopped; as shells report SIGINT.
pub const INTERRUPTED: u8 = 130;
