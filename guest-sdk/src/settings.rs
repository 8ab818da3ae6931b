//! Settings from the manifest's `[settings]`, the same for every run. Needs the grant `settings`.

use core::cell::RefCell;
use std::rc::Rc;

use crate::bindings::viaduct::policy::settings as host;

/// Names remembered; a policy has a handful.
const REMEMBERED: usize = 32;

/// What the host has said of a name.
struct Known {
    name: String,
    text: Option<String>,
    /// The text as a number, where it is one.
    number: Option<u32>,
    /// The text as a list.
    parts: Rc<[String]>,
}

thread_local! {
    /// A setting is the same for every run of an instance, so each is asked for and read once: the call
    /// would cost more than most of what is done with the answer.
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// A setting; `None` where the manifest has none of that name.
pub fn get(name: &str) -> Option<String> {
    with(name, |known| known.text.clone())
}

fn with<T>(name: &str, read: impl FnOnce(&Known) -> T) -> T {
    KNOWN.with_borrow_mut(|all| {
        if let Some(known) = all.iter().find(|known| known.name == name) {
            return read(known);
        }
        let text = host::get(name);
        let known = Known {
            name: name.to_owned(),
            number: text.as_deref().and_then(|text| text.parse().ok()),
            parts: parts(text.as_deref().unwrap_or_default()),
            text,
        };
        let result = read(&known);
        if all.len() < REMEMBERED {
            all.push(known);
        }
        result
    })
}

/// A setting, or what counts where the manifest has none.
pub fn get_or(name: &str, default: &str) -> String {
    with(name, |known| {
        known.text.as_deref().unwrap_or(default).to_owned()
    })
}

/// A setting that is `true` or `false`; anything else counts as `default` and is logged as an
/// error.
pub fn flag_or(name: &str, default: bool) -> bool {
    with(name, |known| match known.text.as_deref() {
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
    with(name, |known| match (known.number, &known.text) {
        (Some(number), _) => number,
        (None, None) => default,
        (None, Some(text)) => {
            crate::log::error!("setting {name} = \"{text}\" is no whole number");
            default
        }
    })
}

/// The parts of a setting that lists several, separated by commas; blanks around them are removed. They
/// are taken apart once, and shared.
pub fn list(name: &str) -> Rc<[String]> {
    with(name, |known| Rc::clone(&known.parts))
}

fn parts(text: &str) -> Rc<[String]> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}
