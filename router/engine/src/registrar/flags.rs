//! Flags of `save()` and `lookup()`: named and letter form (sip-behaviour 2.1, 2.2, R-S1, R-S3).

mod parse;
mod ua;

pub use ua::UaFilter;

/// What is done with Path (sip-behaviour 1.7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathMode {
    /// No Path flag: Path is ignored and not stored.
    #[default]
    Ignore,
    /// `p0`, `path-off`: stored, never in the 200.
    Off,
    /// `p1`, `path-lazy`: stored; in the 200 where the UA supports it.
    Lazy,
    /// `p2`, `path-strict`: 420 unless the UA supports it.
    Strict,
}

/// How a contact is recognised as one already bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// URI comparison (RFC 3261 19.1.4, R-U1).
    #[default]
    Contact,
    /// Contact URI and Call-ID.
    ContactAndCallId,
    /// The value of this Contact URI parameter; URI comparison where either URI has none.
    Param(Box<str>),
}

/// Flags of one `save()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaveFlags {
    /// `m`
    pub memory_only: bool,
    /// `r`
    pub no_reply: bool,
    /// `c<n>`; `Some(0)`: no check
    pub max_contacts: Option<u16>,
    /// `f`
    pub force: bool,
    /// `M0`, `M1`, `M<p>`; `None`: the registrar's default
    pub matching: Option<Matching>,
    /// `p0`, `p1`, `p2`; `None`: the domain's default
    pub path: Option<PathMode>,
    /// `v`
    pub path_received: bool,
    /// `o`
    pub only_request_contacts: bool,
    /// `s`
    pub socket_header: bool,
    /// `e<n>` seconds; `Some(0)`: none
    pub min_expires_s: Option<u32>,
    /// `E<n>` seconds; `Some(0)`: none
    pub max_expires_s: Option<u32>,
}

/// Flags of one `lookup()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupFlags {
    /// `b`: the best contact alone
    pub no_branches: bool,
    /// `B`: the Request-URI stays as it is. Looked-up contacts are targets beside it in any case.
    pub to_branches_only: bool,
    /// `r`: AoRs among the targets already staged are replaced by their contacts
    pub branch: bool,
    /// `m`
    pub method_filtering: bool,
    /// `u/re/` with `i` and `e`
    pub ua: Option<UaFilter>,
    /// `y<us>`: only contacts that answered their last ping within this many microseconds, and
    /// those not pinged yet
    pub max_ping_latency_us: Option<u32>,
    /// `Y`: quickest first, those not pinged yet last
    pub sort_by_latency: bool,
}

/// A flag string that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// No such name or letter.
    #[error("unknown flag `{0}`")]
    Unknown(String),
    /// A known flag for a function the router does not have.
    #[error("flag `{0}` is not supported")]
    Unsupported(&'static str),
    /// A flag's argument is missing or not a number in range.
    #[error("bad argument of flag `{0}`")]
    Argument(String),
    /// Two flags that exclude each other.
    #[error("flags `{0}` and `{1}` exclude each other")]
    Conflict(String, String),
    /// A flag that means something only beside another.
    #[error("flag `{0}` needs `{1}`")]
    Needs(&'static str, &'static str),
    /// A regular expression that does not compile, or is too large.
    #[error("bad or too large regular expression `{0}`")]
    Regex(String),
}

impl SaveFlags {
    /// Reads either spelling (R-S1): with a comma, or where it is the name of a flag, the text is a
    /// list of names; otherwise a string of letters. Empty: no flags.
    pub fn parse(text: &str) -> Result<SaveFlags, FlagError> {
        parse::save(text)
    }
}

impl LookupFlags {
    /// Reads either spelling; a `/` inside the expression of `u/re/` is written `\\/`. `g`
    /// (`global`, federation) is refused by name.
    pub fn parse(text: &str) -> Result<LookupFlags, FlagError> {
        parse::lookup(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(text: &str) -> SaveFlags {
        SaveFlags::parse(text).unwrap()
    }

    fn lookup(text: &str) -> LookupFlags {
        LookupFlags::parse(text).unwrap()
    }

    #[test]
    fn r_s1_each_flag_means_the_same_in_both_spellings() {
        let pairs = [
            ("m", "memory-only"),
            ("r", "no-reply"),
            ("c5", "max-contacts=5"),
            ("c0", "max-contacts=0"),
            ("f", "force-registration"),
            ("M0", "matching-mode=0"),
            ("M1", "matching-mode=1"),
            ("M<rinstance>", "matching-mode=<rinstance>"),
            ("p0", "path-off"),
            ("p1", "path-lazy"),
            ("p2", "path-strict"),
            ("v", "path-received"),
            ("o", "only-request-contacts"),
            ("s", "socket-header"),
            ("e120", "min-expires=120"),
            ("E7200", "max-expires=7200"),
            ("p2v", "path-strict, path-received"),
            (
                "mrc3fM1p1vose60E600",
                "memory-only,no-reply, max-contacts=3,force-registration,\
              matching-mode=1 ,path-lazy,path-received,only-request-contacts,socket-header,\
              min-expires=60,max-expires=600",
            ),
        ];
        for (letters, names) in pairs {
            assert_eq!(save(letters), save(names), "{letters}");
            assert_ne!(save(letters), SaveFlags::default(), "{letters}");
        }
        assert_eq!(save(""), SaveFlags::default());
        assert_eq!(save("  "), SaveFlags::default());
    }

    #[test]
    fn r_s1_values_land_in_their_fields() {
        assert_eq!(save("c12").max_contacts, Some(12));
        assert_eq!(save("e30E40").min_expires_s, Some(30));
        assert_eq!(save("e30E40").max_expires_s, Some(40));
        assert_eq!(save("M0").matching, Some(Matching::Contact));
        assert_eq!(save("M1").matching, Some(Matching::ContactAndCallId));
        assert_eq!(save("M<rinstance>").matching, Some(Matching::Param("rinstance".into())));
        assert_eq!(save("p0").path, Some(PathMode::Off));
        assert_eq!(save("p2").path, Some(PathMode::Strict));
    }

    #[test]
    fn r_s1_unknown_flags_are_named() {
        for (text, name) in [("mx", "x"), ("memory-only, nonsense", "nonsense"), ("m,r", "m")] {
            assert_eq!(SaveFlags::parse(text), Err(FlagError::Unknown(name.into())), "{text}");
        }
        assert_eq!(LookupFlags::parse("bz"), Err(FlagError::Unknown("z".into())));
    }

    #[test]
    fn bad_arguments_are_named() {
        let bad = ["c", "c65536", "e", "e4294967296", "M", "M2", "M<", "M<>", "M<a b>", "p", "p3"];
        let named =
            ["max-contacts", "max-contacts=x", "min-expires=", "matching-mode=", "path-off=1"];
        for text in bad.into_iter().chain(named) {
            let result = SaveFlags::parse(text);
            assert!(matches!(result, Err(FlagError::Argument(_))), "{text}: {result:?}");
        }
    }

    #[test]
    fn r_s3_more_than_one_path_mode_is_an_error() {
        for text in ["p0p1", "p1p2", "path-off,path-strict"] {
            let result = SaveFlags::parse(text);
            assert!(matches!(result, Err(FlagError::Conflict(_, _))), "{text}: {result:?}");
        }
        assert_eq!(save("p1p1"), save("p1"));
    }

    #[test]
    fn contradicting_values_are_an_error() {
        for text in ["c1c2", "M0M1", "e10e20", "e600E60", "min-expires=600,max-expires=60"] {
            let result = SaveFlags::parse(text);
            assert!(matches!(result, Err(FlagError::Conflict(_, _))), "{text}: {result:?}");
        }
        assert_eq!(save("e600E0").max_expires_s, Some(0));
    }

    #[test]
    fn r_s1_each_lookup_flag_means_the_same_in_both_spellings() {
        let pairs = [
            ("b", "no-branches"),
            ("B", "to-branches-only"),
            ("r", "branch"),
            ("m", "method-filtering"),
            ("u/Snom/", "ua-filtering=/Snom/"),
            ("u/Snom/i", "ua-filtering=/Snom/, case-insensitive"),
            ("iu/Snom/e", "extended-regexp,case-insensitive,ua-filtering=/Snom/"),
            ("u/a\\/b,c=d/", "ua-filtering=/a\\/b,c=d/"),
            ("y500", "max-ping-latency=500"),
            ("Y", "sort-by-latency"),
            ("mu/x/Yb", "method-filtering, ua-filtering=/x/, sort-by-latency, no-branches"),
        ];
        for (letters, names) in pairs {
            assert_eq!(lookup(letters), lookup(names), "{letters}");
            assert_ne!(lookup(letters), LookupFlags::default(), "{letters}");
        }
        assert_eq!(lookup("y500").max_ping_latency_us, Some(500));
        let slash = lookup("u/a\\/b,c=d/").ua.unwrap();
        assert!(slash.matches(b"xa/b,c=d"));
    }

    #[test]
    fn lookup_flags_that_exclude_each_other_are_an_error() {
        let conflicts = ["bB", "no-branches,to-branches-only", "br", "y5y6", "u/a/u/b/"];
        for text in conflicts {
            let result = LookupFlags::parse(text);
            assert!(matches!(result, Err(FlagError::Conflict(_, _))), "{text}: {result:?}");
        }
    }

    #[test]
    fn lookup_flags_that_mean_nothing_are_refused_by_name() {
        let refused = [
            ("g", FlagError::Unsupported("global")),
            ("no-branches,global", FlagError::Unsupported("global")),
            ("i", FlagError::Needs("case-insensitive", "ua-filtering")),
            ("me", FlagError::Needs("extended-regexp", "ua-filtering")),
            ("u/(/e", FlagError::Regex("(".into())),
        ];
        for (text, fault) in refused {
            assert_eq!(LookupFlags::parse(text), Err(fault), "{text}");
        }
        for text in
            ["u", "u/x", "ux/", "y", "ya", "ua-filtering=x", "ua-filtering", "ua-filtering=//"]
        {
            let result = LookupFlags::parse(text);
            assert!(matches!(result, Err(FlagError::Argument(_))), "{text}: {result:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_flags_or_an_error(text in ".{0,40}") {
            let _ = SaveFlags::parse(&text);
            let _ = LookupFlags::parse(&text);
        }
    }
}
