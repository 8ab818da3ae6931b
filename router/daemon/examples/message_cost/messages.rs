//! The messages of phones and of whoever is behind the router.

use std::net::Ipv4Addr;

use viaduct_message::response::reason_phrase;

/// AoRs in use.
pub(crate) const AORS: u32 = 1_000;
/// Phones in use: so many that none of them floods, as the default script counts it.
const PHONES: u32 = 200;

/// Where the phone of a turn is.
pub(crate) fn phone(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 0, 2, 10)) + n % PHONES)
}

pub(crate) fn options(n: u32) -> String {
    let phone = phone(n);
    format!(
        "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {phone}:5062;branch=z9hG4bK{n:08x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:probe@example.com>;tag={n:x}\r\nTo: <sip:example.com>\r\n\
         Call-ID: {n:08x}@{phone}\r\nCSeq: {n} OPTIONS\r\nContact: <sip:probe@{phone}:5062>\r\n\
         Accept: application/sdp\r\nUser-Agent: cost\r\nContent-Length: 0\r\n\r\n"
    )
}

pub(crate) fn register(n: u32) -> String {
    let phone = phone(n);
    let user = n % AORS;
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {phone}:5062;branch=z9hG4bK{n:08x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:user{user}@example.com>;tag={n:x}\r\n\
         To: <sip:user{user}@example.com>\r\nCall-ID: reg-{user}@{phone}\r\nCSeq: {n} REGISTER\r\n\
         Contact: <sip:user{user}@{phone}:5062>;expires=3600\r\nSupported: path\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nUser-Agent: cost\r\nContent-Length: 0\r\n\r\n"
    )
}

pub(crate) fn invite(n: u32) -> String {
    let phone = phone(n);
    let user = n % AORS;
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 {phone}\r\ns=-\r\nc=IN IP4 {phone}\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP 0 8\r\n"
    );
    format!(
        "INVITE sip:user{user}@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP {phone}:5062;branch=z9hG4bKi{n:08x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.com>;tag=c{n:x}\r\n\
         To: <sip:user{user}@example.com>\r\nCall-ID: call-{n:08x}@{phone}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:caller@{phone}:5062>\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\n\
         User-Agent: cost\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A later request of the dialog that the 200 to an INVITE has made.
pub(crate) fn in_dialog(method: &str, cseq: u32, n: u32, ok: &str) -> String {
    let route: String = lines(ok, "Record-Route")
        .into_iter()
        .rev()
        .map(|value| format!("Route: {value}\r\n"))
        .collect();
    let target = lines(ok, "Contact")[0].trim_start_matches('<').split('>').next().unwrap();
    format!(
        "{method} {target} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {}:5062;branch=z9hG4bK{method}{n:08x};rport\r\n\
         Max-Forwards: 70\r\n{route}From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        phone(n),
        lines(ok, "From")[0],
        lines(ok, "To")[0],
        lines(ok, "Call-ID")[0]
    )
}

/// The response of whoever got a request.
pub(crate) fn response(request: &str, status: u16) -> String {
    let mut out = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq", "Path"] {
        for value in lines(request, name) {
            let tag = if name == "To" && !value.contains("tag=") { ";tag=callee" } else { "" };
            out.push_str(&format!("{name}: {value}{tag}\r\n"));
        }
    }
    let contact = match lines(request, "Contact").first() {
        Some(own) if request.starts_with("REGISTER") => format!("{own};expires=3600"),
        _ => "<sip:callee@192.0.2.7:5062>".to_owned(),
    };
    format!("{out}Contact: {contact}\r\nContent-Length: 0\r\n\r\n")
}

/// Values of a header, in order.
fn lines<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    let head = message.split("\r\n\r\n").next().unwrap();
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}
