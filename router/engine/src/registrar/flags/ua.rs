//! The regular expression of `ua-filtering`, in either POSIX syntax (sip-behaviour 2.2).

use regex::bytes::{Regex, RegexBuilder};

use super::FlagError;

/// Longest expression, bytes.
const MAX_PATTERN_BYTES: usize = 256;
/// Most memory a compiled expression may take, bytes: nested repetitions grow fast.
const MAX_COMPILED_BYTES: usize = 64 * 1024;

/// Which User-Agents a lookup is for. Compiled once; matching takes time linear in the text.
#[derive(Clone, Debug)]
pub struct UaFilter {
    /// As written, with `i` and `e`: what two filters are compared by.
    source: (Box<str>, bool, bool),
    regex: Regex,
}

impl UaFilter {
    /// Compiles an expression: POSIX basic syntax, or extended (`e`); without case (`i`).
    pub fn new(pattern: &str, any_case: bool, extended: bool) -> Result<UaFilter, FlagError> {
        let fault = || FlagError::Regex(pattern.chars().take(MAX_PATTERN_BYTES).collect());
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(fault());
        }
        let regex = RegexBuilder::new(&translate(pattern, extended))
            .unicode(false)
            .case_insensitive(any_case)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_COMPILED_BYTES)
            .build()
            .map_err(|_| fault())?;
        Ok(UaFilter { source: (pattern.into(), any_case, extended), regex })
    }

    /// Does the expression match anywhere in the text?
    pub fn matches(&self, user_agent: &[u8]) -> bool {
        self.regex.is_match(user_agent)
    }
}

impl PartialEq for UaFilter {
    fn eq(&self, other: &UaFilter) -> bool {
        self.source == other.source
    }
}

impl Eq for UaFilter {}

/// The expression in the syntax of `regex`. POSIX differs in two things: in basic syntax
/// `( ) { } | + ?` are plain and their escaped forms are not, and inside `[...]` a backslash is
/// plain.
fn translate(pattern: &str, extended: bool) -> String {
    let mut out = String::with_capacity(pattern.len() * 2);
    let mut chars = pattern.chars().peekable();
    // Nothing stands before that could be repeated: there a basic `*` is plain.
    let mut start = true;
    while let Some(c) = chars.next() {
        let mut starts = false;
        match c {
            '[' => bracket(&mut chars, &mut out),
            '\\' => match chars.next() {
                Some(c @ ('(' | ')' | '{' | '}' | '|' | '+' | '?')) if !extended => {
                    out.push(c);
                    starts = matches!(c, '(' | '|');
                }
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            '(' | ')' | '{' | '}' | '|' | '+' | '?' if !extended => out.extend(['\\', c]),
            '*' if !extended && start => out.push_str("\\*"),
            c => {
                out.push(c);
                starts = c == '^' && start;
            }
        }
        start = starts;
    }
    out
}

/// A bracket expression after its `[`.
fn bracket(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if chars.next_if_eq(&']').is_some() {
        out.push_str("\\]");
    }
    while let Some(c) = chars.next() {
        match c {
            ']' => return out.push(']'),
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                // To the end of the class name, `:]`.
                while let Some(c) = chars.next() {
                    out.push(c);
                    if c == ':' && chars.next_if_eq(&']').is_some() {
                        out.push(']');
                        break;
                    }
                }
            }
            '[' | '\\' | '&' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, flags: &str, text: &str) -> bool {
        let filter = UaFilter::new(pattern, flags.contains('i'), flags.contains('e'));
        filter.unwrap().matches(text.as_bytes())
    }

    #[test]
    fn basic_and_extended_syntax_differ_as_posix_says() {
        let cases = [
            ("a+b", "", "xa+by", true),
            ("a+b", "e", "aab", true),
            ("a+b", "", "aab", false),
            ("a\\{2\\}", "", "caat", true),
            ("a{2}", "e", "caat", true),
            ("a{2}", "", "a{2}", true),
            ("\\(Snom\\|Yealink\\)", "", "Yealink T46", true),
            ("(Snom|Yealink)", "e", "Yealink T46", true),
            ("(Snom|Yealink)", "", "Yealink T46", false),
            ("*a", "", "*a", true),
            ("^*a", "", "*a", true),
            ("^a.*c$", "", "abc", true),
            ("^a.*c$", "", "abcd", false),
            ("a\\.b", "", "axb", false),
        ];
        for (pattern, flags, text, expected) in cases {
            assert_eq!(matches(pattern, flags, text), expected, "{pattern} {flags} {text}");
        }
    }

    #[test]
    fn brackets_are_read_as_posix_has_them() {
        let cases = [
            ("[]x]", "]", true),
            ("[^]x]", "x", false),
            ("[\\d]", "d", true),
            ("[\\d]", "7", false),
            ("[[:digit:]]", "7", true),
            ("[a&&b]", "&", true),
            ("[a[b]", "[", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, "", text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn case_counts_unless_told_otherwise() {
        assert!(!matches("snom", "", "SNOM 370"));
        assert!(matches("snom", "i", "SNOM 370"));
    }

    #[test]
    fn expressions_too_large_or_malformed_are_refused() {
        let nested = "((((a{1,99}){1,99}){1,99}){1,99})";
        for (pattern, extended) in [(&*"x".repeat(257), false), (nested, true), ("(", true)] {
            let filter = UaFilter::new(pattern, false, extended);
            assert!(matches!(filter, Err(FlagError::Regex(_))), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_compiles_or_is_refused(
            pattern in ".{0,60}", any_case: bool, extended: bool, text: Vec<u8>,
        ) {
            if let Ok(filter) = UaFilter::new(&pattern, any_case, extended) {
                filter.matches(&text);
            }
        }

        #[test]
        fn a_basic_pattern_of_plain_characters_matches_itself(text in "[a-z0-9 (){}|+?/-]{1,40}") {
            prop_assert!(UaFilter::new(&text, false, false).unwrap().matches(text.as_bytes()));
        }
    }
}
