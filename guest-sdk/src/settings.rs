//! Settings from the manifest's `[settings]`, the same for every run. Needs the grant `settings`.

use crate::bindings::viaduct::policy::settings as host;

/// A setting; `None` where the manifest has none of that name.
pub fn get(name: &str) -> Option<String> {
    host::get(name)
}

/// A setting, or what counts where the manifest has none.
pub fn get_or(name: &str, default: &str) -> String {
    host::get(name).unwrap_or_else(|| default.to_owned())
}

/// A setting that is `true` or `false`; anything else counts as `default` and is logged as an
/// error.
pub fn flag_or(name: &str, default: bool) -> bool {
    match host::get(name).as_deref() {
        None => default,
        Some("true") => true,
        Some("false") => false,
        Some(other) => {
            crate::log::error!("setting {name} = \"{other}\" is neither \"true\" nor \"false\"");
            default
        }
    }
}

/// The parts of a setting that lists several, separated by commas; blanks around them are removed.
pub fn list(name: &str) -> Vec<String> {
    let text = host::get(name).unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}
