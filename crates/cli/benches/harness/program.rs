//! Which binary is measured.

use std::path::PathBuf;

/// The binary that is measured: this build's, or the one that `KUBETASK_BENCH_BINARY` names, to hold builds against each
/// other.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("KUBETASK_BENCH_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_kubetask").into(), PathBuf::from)
}
