//! Addresses-of-record as keys.

use viaduct_message::{Uri, uri};

use super::{Registrar, SaveRefusal};

/// Appends the canonical AoR of a SIP URI, as this registrar writes it: see
/// [`viaduct_message::uri::write_aor`]; `realm_prefix` is taken off the host.
pub fn canonical_aor(uri: &Uri<'_>, registrar: &Registrar, out: &mut Vec<u8>) {
    let start = out.len();
    uri::write_aor(uri, registrar.fold_user, out);
    let prefix = registrar.realm_prefix.as_bytes();
    if prefix.is_empty() {
        return;
    }
    let written = out.get(start..).unwrap_or_default();
    let host = written.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    if written.get(host..).is_some_and(|host| host.len() > prefix.len() && host.starts_with(prefix))
    {
        let from = start + host;
        out.drain(from..from + prefix.len());
    }
}

/// 500 for an AoR longer than the registrar stores (sip-behaviour 2.3).
pub fn check_aor(aor: &[u8], registrar: &Registrar) -> Result<(), SaveRefusal> {
    let limits = [registrar.max_aor_bytes, registrar.max_user_bytes, registrar.max_domain_bytes];
    if limits.iter().all(|limit| aor.len() <= usize::from(*limit)) {
        return Ok(()); // whatever its parts
    }
    let at = aor.iter().rposition(|byte| *byte == b'@');
    let (user, domain) = match at.and_then(|at| aor.split_at_checked(at)) {
        Some((user, domain)) => (user.len(), domain.len() - 1),
        None => (0, aor.len()),
    };
    let fits = aor.len() <= usize::from(registrar.max_aor_bytes)
        && user <= usize::from(registrar.max_user_bytes)
        && domain <= usize::from(registrar.max_domain_bytes);
    if fits { Ok(()) } else { Err(SaveRefusal::new(500, "AoR Too Long")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aor(uri: &str, registrar: &Registrar) -> String {
        let mut out = Vec::new();
        canonical_aor(&Uri::parse(uri.as_bytes()).unwrap(), registrar, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_and_parameters_do_not_make_another_aor() {
        let exact = Registrar::default();
        let fold = Registrar { fold_user: true, ..Registrar::default() };
        assert_eq!(aor("sip:%61lice@EXAMPLE.com:5060;x=y", &exact), "alice@example.com");
        assert_eq!(aor("sip:Alice@example.com", &exact), "Alice@example.com");
        assert_eq!(aor("sip:Alice@example.com", &fold), "alice@example.com");
    }

    #[test]
    fn a_realm_prefix_is_taken_off_the_host_alone() {
        let registrar = Registrar { realm_prefix: "sip.".into(), ..Registrar::default() };
        assert_eq!(aor("sip:sip.al@SIP.example.com", &registrar), "sip.al@example.com");
        assert_eq!(aor("sip:al@example.sip.com", &registrar), "al@example.sip.com");
        assert_eq!(aor("sip:al@sip.", &registrar), "al@sip.", "something has to be left");
        assert_eq!(aor("sip:sip.example.com", &registrar), "example.com");
    }

    #[test]
    fn an_aor_over_a_limit_is_500() {
        let check = |aor: &str, registrar: &Registrar| {
            check_aor(aor.as_bytes(), registrar).map_err(|refusal| refusal.status)
        };
        let whole = Registrar { max_aor_bytes: 5, ..Registrar::default() };
        assert_eq!(check("a@b.c", &whole), Ok(()));
        assert_eq!(check("aa@b.c", &whole), Err(500));
        let parts = Registrar { max_user_bytes: 2, max_domain_bytes: 4, ..Registrar::default() };
        assert_eq!(check("aa@b.cd", &parts), Ok(()));
        assert_eq!(check("aaa@b.cd", &parts), Err(500));
        assert_eq!(check("aa@b.cde", &parts), Err(500));
    }
}
