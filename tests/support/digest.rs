//! The phone's side of digest authentication, with MD5 (RFC 7616), for [`super::sip_client`].

use anyhow::{Context, Result};
use md5::{Digest, Md5};

use super::sip_text::{Received, Request};

/// Who answers a challenge.
#[derive(Clone, Copy, Debug)]
pub struct User<'a> {
    /// User name.
    pub name: &'a str,
    /// Password.
    pub password: &'a str,
}

/// The same request with credentials for the MD5 challenge of a 401 or 407, and the next CSeq.
///
/// # Errors
/// When there is no such challenge.
pub fn answer(
    request: &Request,
    (method, uri): (&str, &str),
    challenge: &Received,
    user: User<'_>,
) -> Result<Request> {
    let proxy = challenge.status() == Some(407);
    let (header, credentials) = if proxy {
        ("Proxy-Authenticate", "Proxy-Authorization")
    } else {
        ("WWW-Authenticate", "Authorization")
    };
    let offers = challenge.headers(header);
    let offered = offers.iter().find(|offer| offer.contains("algorithm=MD5"));
    let offered = offered.with_context(|| format!("no MD5 challenge in:\n{}", challenge.text))?;
    let part = |name: &str| -> Result<&str> {
        let after = offered.split(&format!("{name}=\"")).nth(1);
        let value = after.and_then(|rest| rest.split('"').next());
        value.with_context(|| format!("no {name} in {offered}"))
    };
    let (realm, nonce) = (part("realm")?, part("nonce")?);
    let ha1 = md5(&format!("{}:{realm}:{}", user.name, user.password));
    let ha2 = md5(&format!("{method}:{uri}"));
    let hash = md5(&format!("{ha1}:{nonce}:00000001:c:auth:{ha2}"));
    let value = format!(
        "Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{hash}\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"",
        user.name
    );
    Ok(request.clone().with("CSeq", &format!("2 {method}")).with(credentials, &value))
}

/// H(A1) of RFC 7616 3.4.2, as databases keep it.
#[must_use]
pub fn ha1(user: &str, realm: &str, password: &str) -> String {
    md5(&format!("{user}:{realm}:{password}"))
}

fn md5(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn rfc_2617_3_5_has_this_hash() {
        let hash = super::ha1("Mufasa", "testrealm@host.com", "Circle Of Life");
        assert_eq!(hash, "939e7578ed9e3c518a452acee763bce9");
    }
}
