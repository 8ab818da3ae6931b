//! The challenges of a 401 or 407 (RFC 7616 3.3, RFC 8760 2.4): one header line an algorithm, most
//! wanted first, all with the same nonce.

use super::{Auth, Role};

/// Appends the header lines. `realm` has no quotes, backslashes or control characters.
pub fn write_challenges(
    auth: &Auth,
    role: Role,
    realm: &str,
    nonce: &[u8],
    stale: bool,
    out: &mut Vec<u8>,
) {
    let qop = if auth.auth_int { "auth,auth-int" } else { "auth" };
    for algorithm in &auth.algorithms {
        for part in [role.challenge().as_str(), ": Digest realm=\"", realm, "\", nonce=\""] {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(nonce);
        for part in ["\", algorithm=", algorithm.name(), ", qop=\"", qop, "\""] {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(if stale { b", stale=true\r\n" } else { b"\r\n" });
    }
}

/// Can it stand between quotes as it is?
pub fn is_realm(realm: &str) -> bool {
    let good = |c: char| !c.is_control() && c != '"' && c != '\\';
    (1..=255).contains(&realm.len()) && realm.chars().all(good)
}
