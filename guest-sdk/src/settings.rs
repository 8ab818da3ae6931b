//! Settings from the manifest's `[settings]`, the same for every run. Needs the grant `settings`.

use core::cell::RefCell;

use crate::bindings::viaduct::policy::settings as host;

/// Names remembered; a policy has a handful.
const REMEMBERED: usize = 32;

thread_local! {
    /// What the host has said. A setting is the same for every run of an instance, so each is asked
    /// for once: the call would cost more than most of what is done with the answer.
    static KNOWN: RefCell<Vec<(String, Option<String>)>> = const { RefCell::new(Vec::new()) };
}

/// A setting; `None` where the manifest has none of that name.
pub fn get(name: &str) -> Option<String> {
    with(name, |value| value.map(str::to_owned))
}

fn with<T>(name: &str, read: impl FnOnce(Option<&str>) -> T) -> T {
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, value)) = known.iter().find(|(known, _)| known == name) {
            return read(value.as_deref());
        }
        let value = host::get(name);
        let result = read(value.as_deref());
        if known.len() < REMEMBERED {
            known.push((name.to_owned(), value));
        }
        result
    })
}

/// A setting, or what counts where the manifest has none.
pub fn get_or(name: &str, default: &str) -> String {
    with(name, |value| value.unwrap_or(default).to_owned())
}

/// A setting that is `true` or `false`; anything else counts as `default` and is logged as an
/// error.
pub fn flag_or(name: &str, default: bool) -> bool {
    with(name, |value| match value {
        None => default,
        Some("true") => true,
        Some("false") => false,
        Some(other) => {
            crate::log::error!("setting {name} = \"{other}\" is neither \"true\" nor \"false\"");
            default
        }
    })
}

/// A setting that is a whole number from 0 to 2^32 - 1; anything else counts as `default` and is logged
/// as an error.
pub fn number_or(name: &str, default: u32) -> u32 {
    with(name, |value| match value.map(str::parse) {
        None => default,
        Some(Ok(number)) => number,
        Some(Err(error)) => {
            crate::log::error!("setting {name} is no whole number: {error}");
            default
        }
    })
}

/// The parts of a setting that lists several, separated by commas; blanks around them are removed.
pub fn list(name: &str) -> Vec<String> {
    with(name, |value| {
        let parts = value.unwrap_or_default().split(',').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    })
}
