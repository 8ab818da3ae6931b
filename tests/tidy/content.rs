//! What a file must begin with and may not contain.

use syn::spanned::Spanned;
use syn::visit::Visit;

/// A crate or a folder whose first screen does not say what it is.
pub(crate) fn missing_first_words(path: &str, text: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if !["lib.rs", "main.rs", "mod.rs"].contains(&name) {
        return None;
    }
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    let said = first.and_then(|line| line.strip_prefix("//!"));
    said.is_none_or(|words| words.len() <= 10).then(|| path.to_owned())
}

/// Markers of unfinished work. They are put together here, so that this file does not find itself.
fn markers() -> Vec<String> {
    let macros = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let words = ["TODO", "FIXME", "XXX"].map(|word| format!("// {word}"));
    macros.into_iter().chain(words).collect()
}

/// Lines with such a marker, and tests that are switched off.
pub(crate) fn undone(path: &str, text: &str) -> Vec<String> {
    let mut findings = lines_with(path, text, &markers());
    // Read as Rust: a macro's own test may well speak of the attribute in quoted tokens.
    if let Ok(file) = syn::parse_file(text) {
        let mut finder = SwitchedOff { path, found: Vec::new() };
        finder.visit_file(&file);
        findings.extend(finder.found);
    }
    findings
}

struct SwitchedOff<'a> {
    path: &'a str,
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for SwitchedOff<'_> {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("ignore") {
            let line = attribute.span().start().line;
            self.found.push(format!("{}:{line}: a test is switched off", self.path));
        }
    }
}

/// Where people and build machines keep their checkouts; put together for the same reason.
fn places() -> Vec<String> {
    ["work", "root", "home", "Users", "tmp"].iter().map(|name| format!("/{name}/")).collect()
}

/// Lines with a path that exists on one machine only.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<String> {
    lines_with(path, text, &places())
}

fn lines_with(path: &str, text: &str, wanted: &[String]) -> Vec<String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| wanted.iter().any(|marker| line.contains(marker.as_str())))
        .map(|(index, line)| format!("{path}:{}: {}", index + 1, line.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_first_words_is_found() {
        assert!(missing_first_words("a/lib.rs", "use x;\n").is_some());
        assert!(missing_first_words("a/mod.rs", "//!\nuse x;\n").is_some());
        assert!(missing_first_words("a/main.rs", "").is_some());
        assert!(missing_first_words("a/lib.rs", "\n//! What this is about.\n").is_none());
        assert!(missing_first_words("a/other.rs", "use x;\n").is_none());
    }

    #[test]
    fn each_marker_is_found() {
        for marker in markers() {
            let text = format!("fn f() {{\n    {marker} and more\n}}\n");
            assert_eq!(undone("a.rs", &text).len(), 1, "{marker}");
        }
        assert!(undone("a.rs", "// the todo list of the phone\n").is_empty());
    }

    #[test]
    fn a_switched_off_test_is_found_and_quoted_tokens_are_not() {
        let off = "mod tests {\n#[test]\n#[ignore = \"slow\"]\nfn t() {}\n}\n";
        assert_eq!(undone("a.rs", off), ["a.rs:3: a test is switched off"]);
        let quoted = "fn f() { quote!{ #[ignore] fn t() {} }; }";
        assert!(undone("a.rs", quoted).is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for place in places() {
            assert_eq!(machine_paths("a.rs", &format!("open(\"{place}x\")")).len(), 1);
        }
        assert!(machine_paths("a.rs", "open(\"/var/lib/viaduct\")").is_empty());
    }
}
