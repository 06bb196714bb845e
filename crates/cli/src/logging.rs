//! Logs of what happens inside: on stderr, plain on a terminal, JSON for a server whose stderr is not one.
//!
//! `RUST_LOG` overrides the level. User-facing words do not go through here.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sets up logging.
pub(crate) fn init(verbose: u8, server: bool) {
    let level = match (verbose, server) {
        (0, false) => "off",
        (0, true) => "info,hyper=warn,kube=warn,rustls=warn",
        (1, _) => "info,kubetask=debug,hyper=warn,rustls=warn",
        _ => "debug,hyper=info,rustls=info,h2=info",
    };
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    // A second subscriber cannot be; there is none before.
    let _ = if server && !std::io::stderr().is_terminal() {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).try_init()
    };
}
