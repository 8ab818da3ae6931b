//! Published examples.

use super::*;

fn hex(hash: Hash) -> String {
    String::from_utf8(hash.to_hex().as_ref().to_vec()).unwrap()
}

fn counted<'a>(cnonce: &'a str) -> Option<Counted<'a>> {
    Some(Counted { auth_int: false, nc: b"00000001", cnonce: cnonce.as_bytes() })
}

#[test]
fn rfc_7616_3_9_1_the_response_is_that_of_the_example() {
    let claim = Claim {
        method: b"GET",
        uri: b"/dir/index.html",
        nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        counted: counted("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"),
        body: b"",
    };
    let secrets = Secrets::of_password("Mufasa", "http-auth@example.org", "Circle of Life");
    for (algorithm, expected) in [
        (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let ha1 = secrets.get(algorithm).unwrap();
        assert_eq!(hex(response(&ha1, &claim)), expected, "{algorithm:?}");
    }
}

/// RFC 2617 3.5 has a response with MD5; RFC 2069 2.4 one without qop (its erratum 749).
#[test]
fn rfc_2617_3_5_and_rfc_2069_2_4_with_and_without_qop() {
    let secrets = Secrets::of_password("Mufasa", "testrealm@host.com", "Circle Of Life");
    let claim = Claim {
        method: b"GET",
        uri: b"/dir/index.html",
        nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
        counted: counted("0a4f113b"),
        body: b"",
    };
    let ha1 = secrets.get(Algorithm::Md5).unwrap();
    assert_eq!(hex(ha1), "939e7578ed9e3c518a452acee763bce9");
    assert_eq!(hex(response(&ha1, &claim)), "6629fae49393a05397450978507c4ef1");

    let secrets = Secrets::of_password("Mufasa", "testrealm@host.com", "CircleOfLife");
    let claim = Claim { counted: None, ..claim };
    let ha1 = secrets.get(Algorithm::Md5).unwrap();
    assert_eq!(hex(response(&ha1, &claim)), "1949323746fe6a43ef61f9606e7febea");
}

/// FIPS 180-4's SHA-512/256 has initial values of its own (RFC 7616 3.9.2 uses it).
#[test]
fn rfc_7616_3_9_2_sha_512_256_is_no_cut_sha_512() {
    let abc = hex(Hash::of(Algorithm::Sha512_256, &[b"a", b"bc"]));
    assert_eq!(abc, "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23");
}

#[test]
fn rfc_7616_3_4_3_auth_int_covers_the_body() {
    let ha1 = Secrets::of_password("a", "b", "c").get(Algorithm::Sha256).unwrap();
    let claim = |auth_int, body| Claim {
        method: b"MESSAGE",
        uri: b"sip:b@example.com",
        nonce: b"n",
        counted: Some(Counted { auth_int, nc: b"00000001", cnonce: b"x" }),
        body,
    };
    let of = |auth_int, body| hex(response(&ha1, &claim(auth_int, body)));
    assert_ne!(of(true, b"one"), of(true, b"two"));
    assert_ne!(of(true, b"one"), of(false, b"one"));
    assert_eq!(of(false, b"one"), of(false, b"two"));
}

#[test]
fn digits_are_compared_whole_and_in_any_case() {
    for algorithm in Algorithm::ALL {
        let hash = Hash::of(algorithm, &[b"x"]);
        let text = hex(hash);
        assert_eq!(text.len(), algorithm.hash_bytes() * 2);
        assert!(hash.is_hex(text.as_bytes()) && hash.is_hex(text.to_uppercase().as_bytes()));
        let again = Hash::from_hex(algorithm, &text.to_uppercase()).unwrap();
        assert!(again.is_hex(text.as_bytes()));
        for wrong in ["", &text[1..], &format!("{text}0"), &"0".repeat(text.len())] {
            assert!(!hash.is_hex(wrong.as_bytes()), "{wrong}");
        }
        assert!(!hash.is_hex(&[b'0'; 100]));
        for wrong in ["", &text[1..], &text.replace(&text[..1], "g"), &"é".repeat(text.len() / 2)]
        {
            assert!(Hash::from_hex(algorithm, wrong).is_none(), "{wrong}");
        }
    }
}

#[test]
fn secrets_do_not_show_in_logs() {
    let secrets = Secrets::of_password("alice", "example.com", "secret");
    assert_eq!(format!("{secrets:?}"), r#"{"SHA-256", "SHA-512-256", "MD5"}"#);
}
