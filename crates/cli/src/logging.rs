//! Logs of what happens inside: on stderr, plain on a terminal, JSON for a server whose stderr is not one.
//!
//! `RUST_LOG` overrides the level. User-facing words do not go through here.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Who logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A command: only when asked to.
    Command,
    /// A server: JSON, but text on a terminal.
    Server,
    /// A server that always writes JSON.
    Json,
    /// A server that always writes text.
    Text,
}

/// Sets up logging.
pub(crate) fn init(verbose: u8, style: Style) {
    let server = style != Style::Command;
    let json = match style {
        Style::Json => true,
        Style::Server => !std::io::stderr().is_terminal(),
        Style::Text | Style::Command => false,
    };
    let level = match (verbose, server) {
        (0, false) => "off",
        // Targets are compared by how they begin: "kube" would be us, too.
        (0, true) => "info,hyper=warn,kube_client=warn,kube_runtime=warn,rustls=warn",
        (1, _) => "info,kubetask=debug,hyper=warn,rustls=warn",
        _ => "debug,hyper=info,rustls=info,h2=info",
    };
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    // A second subscriber cannot be; there is none before.
    let _ = if json {
        // The span of a Task carries its identity; those around it say nothing more.
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).try_init()
    };
}
