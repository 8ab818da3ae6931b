//! The address-of-record a REGISTER is about.

use viaduct_message::{Message, uri};

use super::{Registrar, SaveRefusal};

/// Appends the canonical AoR of a REGISTER's To (RFC 3261 10.3 step 5). Whether it is one of ours
/// is for the caller to say; 400 where To names no SIP URI.
pub fn aor_of(message: Message<'_>, fold_user: bool, out: &mut Vec<u8>) -> Result<(), SaveRefusal> {
    let bad = |_| SaveRefusal::new(400, "Bad To");
    let to = message.to().map_err(bad)?.parse_uri().map_err(bad)?;
    if !to.is_sip() {
        return Err(SaveRefusal::new(400, "Bad To"));
    }
    uri::write_aor(&to, fold_user, out);
    Ok(())
}

/// 500 for an AoR longer than the registrar stores (sip-behaviour 2.3).
pub fn check_aor(aor: &[u8], registrar: &Registrar) -> Result<(), SaveRefusal> {
    if aor.len() > usize::from(registrar.max_aor_bytes) {
        return Err(SaveRefusal::new(500, "AoR Too Long"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use viaduct_message::{Head, Limits};

    fn aor(to: &str, fold_user: bool) -> Result<String, u16> {
        let text = format!("REGISTER sip:example.com SIP/2.0\r\nTo: {to}\r\n\r\n");
        let mut head = Head::new();
        head.scan(text.as_bytes(), &Limits::default()).unwrap();
        let mut out = Vec::new();
        aor_of(Message::new(text.as_bytes(), &head), fold_user, &mut out)
            .map_err(|refusal| refusal.status)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn escapes_and_parameters_do_not_make_another_aor() {
        let plain = aor("<sip:alice@example.com>", false);
        assert_eq!(plain, Ok("alice@example.com".into()));
        assert_eq!(aor("A <sip:%61lice@EXAMPLE.com:5060;x=y>;tag=1", false), plain);
        assert_ne!(aor("<sip:Alice@example.com>", false), plain);
        assert_eq!(aor("<sip:Alice@example.com>", true), plain);
    }

    #[test]
    fn a_to_that_is_no_sip_uri_is_refused() {
        assert_eq!(aor("<tel:+49301234>", false), Err(400));
        assert_eq!(aor("<<>", false), Err(400));
    }

    #[test]
    fn an_aor_over_the_limit_is_500() {
        let registrar = Registrar { max_aor_bytes: 5, ..Registrar::default() };
        assert_eq!(check_aor(b"a@b.c", &registrar), Ok(()));
        let status = check_aor(b"aa@b.c", &registrar).map_err(|refusal| refusal.status);
        assert_eq!(status, Err(500));
    }
}
