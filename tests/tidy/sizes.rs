//! How long a function and a file may be. The width of lines is rustfmt's business.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;
/// Lines of a file.
const FILE_LINES: usize = 800;

/// Functions of 70 lines or more, in whatever module, impl or trait, closures counted with the
/// function around them.
pub(crate) fn long_functions(path: &str, text: &str) -> Vec<String> {
    let file = match syn::parse_file(text) {
        Ok(file) => file,
        Err(error) => return vec![format!("{path}: cannot be read: {error}")],
    };
    let mut finder = Finder { path, found: Vec::new() };
    finder.visit_file(&file);
    finder.found
}

struct Finder<'a> {
    path: &'a str,
    found: Vec<String>,
}

impl Finder<'_> {
    fn look(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let last = block.span().end().line;
        let lines = last + 1 - first;
        if lines >= FUNCTION_LINES {
            self.found.push(format!("{}:{first}: {} has {lines}", self.path, signature.ident));
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.look(&node.sig, &node.block);
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.look(&node.sig, &node.block);
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if let Some(block) = &node.default {
            self.look(&node.sig, block);
        }
        visit::visit_trait_item_fn(self, node);
    }
}

/// A file of 800 lines or more. C, scripts and scenarios are long for reasons of their own.
pub(crate) fn long_file(path: &str, text: &str) -> Option<String> {
    let other = [".c", ".h", ".sh", ".xml"].iter().any(|kind| path.ends_with(kind));
    let lines = text.lines().count();
    (!other && lines >= FILE_LINES).then(|| format!("{path}: {lines}"))
}

/// Lines of code of a Rust file: those that are neither blank nor only a comment.
pub(crate) fn code_lines(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, lines: usize) -> String {
        // Braces in strings and comments must not confuse the count.
        let filler = "    let _ = \"}{\"; // }\n".repeat(lines - 2);
        format!("fn {name}() {{\n{filler}}}\n")
    }

    #[test]
    fn seventy_lines_are_too_long_and_sixty_nine_are_not() {
        assert!(long_functions("a.rs", &function("short", 69)).is_empty());
        let found = long_functions("a.rs", &format!("\n\n{}", function("long", 70)));
        assert_eq!(found, ["a.rs:3: long has 70"]);
    }

    #[test]
    fn methods_defaults_and_inner_functions_count() {
        let long = function("f", 70);
        for around in
            ["impl X {\n@}\n", "trait X {\n@}\n", "mod m { mod n {\n@}}\n", "fn g() {\n@}\n"]
        {
            let found = long_functions("a.rs", &around.replace('@', &long));
            assert!(found.iter().any(|f| f.contains(": f has 70")), "{around}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_rust_is_a_finding() {
        assert_eq!(long_functions("a.rs", "fn {").len(), 1);
    }

    #[test]
    fn eight_hundred_lines_are_too_long_except_where_allowed() {
        let text = "x\n".repeat(800);
        assert!(long_file("a.rs", &text).is_some());
        assert!(long_file("a.rs", &text[2..]).is_none());
        assert!(long_file("a.c", &text).is_none());
    }

    #[test]
    fn comments_and_blank_lines_are_no_code() {
        assert_eq!(code_lines("//! a\n\nfn b() {\n    // c\n    d() // e\n}\n"), 3);
    }
}
