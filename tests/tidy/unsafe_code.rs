//! Where `unsafe` may stand, and why: everything else is denied it by the workspace's lints.

use syn::spanned::Spanned;
use syn::visit::Visit;

/// Files with `unsafe`, and what they need it for. One that has none any more is a finding, too.
pub(crate) const ALLOWED: [(&str, &str); 16] = [
    ("guest-sdk/src/allocator.rs", "a policy's allocator: memory is asked of WebAssembly itself"),
    ("guest-sdk/src/compare.rs", "memcmp of a policy, in the place of the standard library's"),
    ("guest-sdk/src/entry.rs", "the functions the router calls, as the component model has them"),
    ("router/daemon/src/memory.rs", "the allocator, which is C"),
    ("router/location/tests/memory.rs", "an allocator that counts, around the system's"),
    ("router/media/src/xdp/consult.rs", "libbpf, which alone finds functions of kernel modules"),
    ("router/media/src/xdp/layout.rs", "structures as the maps of the relay's program have them"),
    ("router/policy/src/aot.rs", "compiled code is loaded that this router has signed itself"),
    ("router/transport/fuzz/fuzz_targets/steer.rs", "the steering program, compiled as C"),
    ("router/transport/src/mmsg.rs", "recvmmsg and sendmmsg: arrays of headers and buffers"),
    ("router/transport/src/xdp/frames.rs", "AF_XDP: memory and rings shared with the kernel"),
    ("router/transport/src/xdp/layout.rs", "structures as the steering program's maps have them"),
    ("router/transport/src/xdp/offload.rs", "an ioctl that asks a card for its features"),
    ("router/transport/tests/support/detach.rs", "the steering program is taken off by number"),
    ("router/transport/tests/support/test_run.rs", "the kernel's test run of the program"),
    ("tests/policies/hostile/src/lib.rs", "a policy calls the host as no bindings would"),
];

/// `unsafe` in a file that is not in the list, and blocks that do not say why they are sound.
pub(crate) fn findings(path: &str, text: &str) -> Vec<String> {
    let Ok(file) = syn::parse_file(text) else { return Vec::new() };
    let mut finder = Finder { lines: Vec::new() };
    finder.visit_file(&file);
    let allowed = ALLOWED.iter().any(|(file, _)| *file == path);
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for line in finder.lines {
        if !allowed {
            found.push(format!("{path}:{line}: unsafe in a file that is not in tests/tidy's list"));
        } else if !says_why(&lines, line) {
            found.push(format!("{path}:{line}: no SAFETY comment"));
        }
    }
    found
}

/// Files of the list without any `unsafe`, and files that are gone.
pub(crate) fn stale(uses: impl Fn(&str) -> bool) -> Vec<String> {
    let stale = ALLOWED.iter().filter(|(file, _)| !uses(file));
    stale.map(|(file, _)| format!("{file} is in tests/tidy's list and has no unsafe")).collect()
}

/// Does it say anything of this kind at all?
pub(crate) fn is_used(text: &str) -> bool {
    let Ok(file) = syn::parse_file(text) else { return false };
    let mut finder = Finder { lines: Vec::new() };
    finder.visit_file(&file);
    !finder.lines.is_empty()
}

/// A comment with the word, in the few lines above or on the line itself.
fn says_why(lines: &[&str], line: usize) -> bool {
    let end = line.min(lines.len());
    let above = lines.get(end.saturating_sub(FEW)..end).unwrap_or_default();
    above.iter().any(|text| {
        let text = text.trim_start();
        text.contains("SAFETY") || text.contains("# Safety")
    })
}

/// Statement, attributes and a comment of several lines fit in.
const FEW: usize = 12;

struct Finder {
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.lines.push(block.span().start().line);
        syn::visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.lines.extend(item.unsafety.map(|token| token.span().start().line));
        syn::visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.lines.extend(item.unsafety.map(|token| token.span().start().line));
        syn::visit::visit_item_trait(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        self.lines.extend(item.unsafety.map(|token| token.span().start().line));
        syn::visit::visit_item_foreign_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.lines.extend(item.sig.unsafety.map(|token| token.span().start().line));
        syn::visit::visit_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_outside_the_list_is_found_and_inside_it_needs_a_reason() {
        let bare = "fn a() {\n    unsafe { b() }\n}\n";
        assert_eq!(
            findings("router/x.rs", bare),
            ["router/x.rs:2: unsafe in a file that is not in tests/tidy's list"]
        );
        let listed = ALLOWED[0].0;
        assert_eq!(findings(listed, bare), [format!("{listed}:2: no SAFETY comment")]);
        let said = "fn a() {\n    // SAFETY: b does nothing.\n    unsafe { b() }\n}\n";
        assert!(findings(listed, said).is_empty());
        assert_eq!(findings("x.rs", "unsafe impl Send for X {}\n").len(), 1);
        assert!(findings("x.rs", "fn f() { g(\"unsafe {}\") } // unsafe\n").is_empty());
    }

    #[test]
    fn an_entry_that_is_not_needed_any_more_is_found() {
        assert_eq!(stale(|file| file != ALLOWED[1].0).len(), 1);
        assert!(is_used("unsafe extern \"C\" {}\n") && !is_used("fn f() {}\n"));
    }
}
