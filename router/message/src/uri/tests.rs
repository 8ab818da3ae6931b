use super::*;

fn of(text: &str) -> Uri<'_> {
    Uri::parse(text.as_bytes()).expect(text)
}

#[test]
fn every_part_is_taken_apart() {
    let uri = of("sips:al%69ce;x=1:p$w@Example.com:5061;transport=TCP;lr;maddr=[::1]?a=b&c=");
    assert_eq!(uri.scheme, Scheme::Sips);
    assert_eq!(uri.user, Some(&b"al%69ce;x=1"[..]));
    assert_eq!(uri.password, Some(&b"p$w"[..]));
    assert_eq!((uri.host_text, uri.port), (&b"Example.com"[..], Some(5061)));
    assert_eq!(uri.transport(), Some(&b"TCP"[..]));
    assert!(uri.is_loose() && uri.is_sip());
    assert_eq!(uri.param(b"maddr"), Some(Some(&b"[::1]"[..])));
    assert_eq!(uri.headers, Some(&b"a=b&c="[..]));
}

#[test]
fn escaped_parameter_names_count() {
    assert!(of("sip:a@b;%6C%72").is_loose());
    assert!(!of("sip:a@b;x%6C%72").is_loose());
    assert!(!of("sip:a@b;lrx=1").is_loose());
}

#[test]
fn odd_but_legal_users_stay_whole() {
    assert_eq!(
        of("sip:user;par=u%40example.net@example.com").user,
        Some(&b"user;par=u%40example.net"[..])
    );
    let odd = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*\
        :&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com";
    assert_eq!(of(odd).password, Some(&b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"[..]));
    assert_eq!(of("sip:*21#@example.com").user, Some(&b"*21#"[..]));
}

#[test]
fn other_schemes_are_opaque() {
    let tel = of("tel:+358-555-1234567;postd=pp22");
    assert_eq!((tel.scheme, tel.user), (Scheme::Tel, Some(&b"+358-555-1234567;postd=pp22"[..])));
    assert_eq!(of("soap.beep://192.0.2.103:3002").scheme, Scheme::Other);
    assert_eq!(of("http://www.example.com").scheme_text, b"http");
}

#[test]
fn broken_uris_are_refused() {
    for bad in [
        "",
        "sip",
        "sip:",
        ":a@b",
        "1x:a",
        "sip:@b",
        "sip:a@",
        "sip:a@b@c",
        "sip:a b@c",
        "sip:a@b ",
        "sip:a@b;",
        "sip:a@b;;x",
        "sip:a@b;=1",
        "sip:a@b;x=a b",
        "sip:a@b; lr",
        "sip:a@b:",
        "sip:a@b:0",
        "sip:a@b:65536",
        "sip:a@b: 5060",
        "sip:a@b?",
        "sip:a@b?x",
        "sip:a@b?=x",
        "sip:a@b?x=1&",
        "sip:a%@b",
        "sip:a%4@b",
        "sip:a%4g@b",
        "sip:a\"@b",
        "sip:<a@b>",
        "sip:2001:db8::10",
        "sip:[::1",
        "sip:a@[1.2.3.4]",
        "sip:a\0@b",
        "sip:é@b",
        "sip:a@b;x=\"y\"",
        "tel:",
        "tel:1 2",
        "isbn:<x>",
        "sip:a:b:c@d",
    ] {
        assert_eq!(Uri::parse(bad.as_bytes()), Err(Fault::Uri), "{bad}");
    }
}

/// The examples of RFC 3261 19.1.4, and what follows from its rules.
#[test]
fn comparison_follows_rfc3261_19_1_4() {
    for (a, b) in [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:DB8::0:1]", "sip:a@[2001:db8:0::1]"),
        ("SIP:a@b", "sip:a@b"),
        ("not a URI", "not a URI"),
        ("HTTP://x/A", "http://x/A"),
    ] {
        assert!(equivalent(a.as_bytes(), b.as_bytes()), "{a} {b}");
        assert!(equivalent(b.as_bytes(), a.as_bytes()), "{b} {a}");
    }
    for (a, b) in [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@b", "sips:a@b"),
        ("sip:a@b", "sip:b"),
        ("sip:a:p@b", "sip:a@b"),
        ("sip:a@b;user=phone", "sip:a@b"),
        ("sip:a@b;ttl=1", "sip:a@b"),
        ("sip:a@b;method=INVITE", "sip:a@b"),
        ("sip:a@b;maddr=c", "sip:a@b"),
        ("sip:a@b;lr", "sip:a@b;lr=1"),
        ("sip:a%3Bb@c", "sip:a;b@c"),
        ("sip:%00@h", "sip:%00%00@h"),
        ("sip:a@b?x=1", "sip:a@b?x=1&x=1"),
        ("http://x/A", "http://x/a"),
        ("tel:1", "sip:1"),
    ] {
        assert!(!equivalent(a.as_bytes(), b.as_bytes()), "{a} {b}");
        assert!(!equivalent(b.as_bytes(), a.as_bytes()), "{b} {a}");
    }
}

#[test]
fn too_many_parameters_are_compared_byte_for_byte() {
    let many = |n: usize, x: &str| format!("sip:a@b{}{x}", ";p".repeat(n));
    assert!(equivalent(many(64, "").as_bytes(), many(63, "").as_bytes()));
    assert!(!equivalent(many(65, "").as_bytes(), many(64, "").as_bytes()));
    assert!(equivalent(many(65, "").as_bytes(), many(65, "").as_bytes()));
}
