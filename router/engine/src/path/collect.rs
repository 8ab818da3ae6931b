//! Reading the Path vector of a REGISTER (R-P1, R-P14 to R-P16).

use viaduct_message::{HeaderName, Message, NameAddr};

/// Why a Path vector is refused with 400 (R-P14, R-P15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// A value does not parse, has no `<...>`, or is no SIP URI.
    #[error("Path parse error")]
    Syntax,
    /// A value without `lr`.
    #[error("Path value without lr")]
    NotLoose,
    /// Too many values or bytes.
    #[error("Path too long")]
    TooLong,
}

impl PathFault {
    /// Reason phrase of the 400.
    pub fn reason(self) -> &'static str {
        match self {
            PathFault::Syntax => "Path Parse Error",
            PathFault::NotLoose => "Path Value Without lr",
            PathFault::TooLong => "Path Too Long",
        }
    }
}

/// Collects the Path values of a message into one string joined by `, ` (R-P1, R-P14 to R-P16).
/// Appends nothing where there is no Path or a fault. How many values there are.
pub fn collect_path(
    message: Message<'_>,
    max_values: usize,
    max_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<usize, PathFault> {
    let before = out.len();
    let result = append_values(message, max_values, max_bytes, out);
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn append_values(
    message: Message<'_>,
    max_values: usize,
    max_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<usize, PathFault> {
    let before = out.len();
    let mut count = 0;
    // A Path header whose value is empty yields no value, and is no vector either (RFC 3327 4).
    if message.lines_of(HeaderName::Path).any(|line| line.value.is_empty()) {
        return Err(PathFault::Syntax);
    }
    for value in message.values(HeaderName::Path) {
        check_value(value.bytes)?;
        let separator: &[u8] = if count == 0 { b"" } else { b", " };
        let used = out.len().saturating_sub(before);
        let length = used.saturating_add(separator.len()).saturating_add(value.bytes.len());
        if count >= max_values || length > max_bytes {
            return Err(PathFault::TooLong);
        }
        out.extend_from_slice(separator);
        append_unfolded(value.bytes, out);
        count += 1;
    }
    Ok(count)
}

/// A folded line becomes one line (RFC 3261 7.3.1).
fn append_unfolded(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(value);
    for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\r' | b'\n')) {
        *byte = b' ';
    }
}

/// Every value, not only the first, must be usable as a Route (R-P2, R-P14).
fn check_value(value: &[u8]) -> Result<(), PathFault> {
    let control = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
    if value.iter().any(control) {
        return Err(PathFault::Syntax);
    }
    let parsed = NameAddr::parse(value).map_err(|_| PathFault::Syntax)?;
    let uri = parsed.parse_uri().map_err(|_| PathFault::Syntax)?;
    if !parsed.bracketed || !uri.is_sip() {
        return Err(PathFault::Syntax);
    }
    if uri.is_loose() { Ok(()) } else { Err(PathFault::NotLoose) }
}

/// Cuts the first value off a stored vector: that value and the rest. Commas in quotes and in
/// `<...>` do not separate. `None` where nothing is left.
pub fn first_value(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.trim_ascii().is_empty() {
        return None;
    }
    let (mut quoted, mut escaped, mut bracketed) = (false, false, false);
    let comma = path.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !bracketed => quoted = !quoted,
            b'<' if !quoted => bracketed = true,
            b'>' if !quoted => bracketed = false,
            b',' => return !quoted && !bracketed,
            _ => {}
        }
        false
    });
    let (value, rest) = match comma.and_then(|at| path.split_at_checked(at)) {
        Some((value, rest)) => (value, rest.get(1..).unwrap_or_default()),
        None => (path, &[][..]),
    };
    Some((value.trim_ascii(), rest.trim_ascii()))
}

/// The last value of a stored vector: the one next to the phone. `None` where there is none.
pub fn last_value(path: &[u8]) -> Option<&[u8]> {
    let mut last = None;
    let mut rest = path;
    while let Some((value, next)) = first_value(rest) {
        last = Some(value);
        rest = next;
    }
    last
}
