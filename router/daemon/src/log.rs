//! Logs on stderr by `tracing`, as text or JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

use crate::config::LogConfig;

/// Overrides the level, `viaduct_engine=debug,info` for instance.
const ENVIRONMENT: &str = "VIADUCT_LOG";

/// Sets the process's logs up; a second call changes nothing.
pub fn init(config: &LogConfig) {
    let level = config.level.to_string().to_lowercase();
    let filter = EnvFilter::try_from_env(ENVIRONMENT).unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr.with_max_level(tracing::Level::TRACE));
    // Fails where a subscriber is set already, as in tests: then that one goes on.
    let _ = if config.json { builder.json().try_init() } else { builder.try_init() };
}
