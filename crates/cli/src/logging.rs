//! Logs of what happens inside: plain on a terminal, JSON for a server that has none. Commands and the operator write to
//! stderr; `kubetask up` writes JSON to stdout, where nothing else of it goes, and text to stderr.
//!
//! `RUST_LOG` overrides the level. User-facing words do not go through here.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

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

/// Where JSON goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// To stdout.
    Stdout,
    /// To stderr, where text goes.
    Stderr,
}

/// Sets up logging.
pub(crate) fn init(verbose: u8, style: Style, writer: Writer) {
    let server = style != Style::Command;
    let json = match style {
        Style::Json => true,
        Style::Server if writer == Writer::Stdout => !std::io::stdout().is_terminal(),
        Style::Server => !std::io::stderr().is_terminal(),
        Style::Text | Style::Command => false,
    };
    let level = match (verbose, server) {
        (0, false) => "off",
        // Targets are compared by how they begin: "kube" would be us, too. The client warns with the whole of what it
        // cannot read, and that may be anything.
        (0, true) => "info,hyper=warn,kube_client=warn,kube_client::client=error,kube_runtime=warn,rustls=warn",
        (1, _) => "info,kubetask=debug,hyper=warn,kube_client::client=error,rustls=warn",
        _ => "debug,hyper=info,rustls=info,h2=info",
    };
    let filter = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(true);
    // A second subscriber cannot be; there is none before.
    let _ = if json {
        // The span of a Task carries its identity; those around it say nothing more.
        let writer = match writer {
            Writer::Stdout => BoxMakeWriter::new(std::io::stdout),
            Writer::Stderr => BoxMakeWriter::new(std::io::stderr),
        };
        let builder = builder.with_writer(writer).json();
        builder.flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        let builder = builder.with_writer(std::io::stderr);
        builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).try_init()
    };
}
