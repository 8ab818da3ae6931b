//! The registrations of RFC 3665 section 2, played message by message, challenges included.
//!
//! The examples run over TLS: their scheme becomes `sip`. The hashes the RFC prints are of no
//! password it names, so Bob's phone answers the challenge it was really given; the RFC's own hash
//! is used where the example is about a wrong one.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use viaduct_engine::auth::digest::{Claim, response};
use viaduct_engine::auth::{Algorithm, AuthFault, Role, Secrets};
use viaduct_engine::registrar::SaveFlags;
use viaduct_engine::{Flow, Phase, Run, Transport, Verdict};
use viaduct_message::header::AuthParams;
use world::corpus::{between, contacts, final_of, flow, headers, node, same};
use world::{Sent, World};

const SERVER: &str = "192.0.2.1:5060";
const URI: &str = "sip:ss2.biloxi.example.com";
const REALM: &str = "atlanta.example.com";
const PASSWORD: &str = "secret";
const BOB: &str = "<sip:bob@client.biloxi.example.com>";
const MAIL: &str = "<mailto:bob@biloxi.example.com>;expires=4294967295";

/// A registrar that asks everybody, with the realm and the algorithm of the examples.
fn registrar() -> World {
    let mut settings = node(SERVER, "ss2.biloxi.example.com", &["biloxi.example.com"]);
    let mut auth = world::auth();
    auth.realm = Some(REALM.into());
    auth.algorithms = vec![Algorithm::Md5];
    auth.auth_int = false;
    settings.auth = Some(auth);
    let mut world = World::with(settings, &[Phase::Request], |_, run: &mut Run| {
        match run.check_auth(Role::Registrar, None) {
            Ok(identity) => assert!(identity.is_to),
            Err(AuthFault::Ask) => return Ok(Verdict::Ask { fallback: 503 }),
            Err(fault) => {
                let stale = fault == AuthFault::Stale;
                run.challenge(Role::Registrar, None, stale).unwrap();
                return Ok(Verdict::Answered);
            }
        }
        let _ = run.save("location", &SaveFlags::parse("p1").unwrap(), None);
        Ok(Verdict::Answered)
    });
    world.users = vec![("bob", REALM, PASSWORD)];
    world
}

fn client() -> Flow {
    between(SERVER, "192.0.2.201:5061", Transport::Udp, 0)
}

fn nonce_of(challenged: &Sent) -> String {
    assert_eq!(challenged.status(), 401, "{}", challenged.text);
    let value = challenged.header("WWW-Authenticate");
    let read = AuthParams::parse(value.as_bytes()).unwrap();
    String::from_utf8(read.get("nonce").unwrap().to_vec()).unwrap()
}

/// The request with other credentials; none where `credentials` is empty.
fn with_credentials(text: &str, credentials: &str) -> String {
    let unfolded = text.replace("\r\n ", " ");
    let lines = unfolded.split_inclusive("\r\n");
    let replaced = lines.map(|line| match line.starts_with("Authorization:") {
        true => credentials,
        false => line,
    });
    replaced.collect()
}

/// As those of the examples: without a quality of protection, since RFC 2069 and 2543.
fn credentials(nonce: &str, hash: Option<&str>) -> String {
    let claim = Claim {
        method: b"REGISTER",
        uri: URI.as_bytes(),
        nonce: nonce.as_bytes(),
        counted: None,
        body: b"",
    };
    let secrets = Secrets::of_password("bob", REALM, PASSWORD);
    let right = response(&secrets.get(Algorithm::Md5).unwrap(), &claim).to_hex();
    let right = String::from_utf8(right.as_ref().to_vec()).unwrap();
    let hash = hash.unwrap_or(&right);
    format!(
        "Authorization: Digest username=\"bob\", realm=\"{REALM}\", nonce=\"{nonce}\", opaque=\"\", \
         uri=\"{URI}\", response=\"{hash}\"\r\n"
    )
}

/// The challenge as the RFC prints it, but for its nonce.
fn same_challenge(ours: &Sent, printed: &str) {
    let read = |text: &str| {
        let value = headers(text, "WWW-Authenticate").remove(0);
        let read = AuthParams::parse(value.as_bytes()).unwrap();
        let get = |name| read.get(name).map(|v| String::from_utf8_lossy(v).into_owned());
        // Nothing said is FALSE (RFC 2617 3.2.1).
        let stale = get("stale").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        (get("realm"), get("qop"), get("algorithm"), stale)
    };
    assert_eq!(read(&ours.text), read(printed));
}

/// Ours expire when ours do: a binding without `expires` has the registrar's default.
fn listed(text: &str) -> Vec<Vec<String>> {
    let mut contacts = contacts(text);
    let parts = contacts.iter_mut().flatten();
    parts.filter(|part| part.starts_with("expires=")).for_each(String::clear);
    contacts
}

/// A REGISTER of Bob's phone before the flow begins.
fn bind(world: &mut World, number: usize, contact: &str) {
    let register = |credentials: &str| {
        let branch = credentials.len();
        format!(
            "REGISTER {URI} SIP/2.0\r\nVia: SIP/2.0/UDP c;branch=z9hG4bKe{number}{branch}\r\n\
             From: <sip:bob@biloxi.example.com>;tag=e\r\nTo: <sip:bob@biloxi.example.com>\r\n\
             Call-ID: earlier\r\nCSeq: {} REGISTER\r\nContact: {contact}\r\n{credentials}\r\n",
            number + 1
        )
    };
    let nonce = nonce_of(final_of(&world.receive(client(), &register(""))));
    let ok = world.receive(client(), &register(&credentials(&nonce, None)));
    assert_eq!(final_of(&ok).status(), 200);
}

/// Plays a flow with a registrar that has `bound` already; what it sent at last.
fn play(name: &str, bound: &[&str], wrong: Option<&str>) -> Option<(World, Sent)> {
    let messages = flow(&format!("rfc3665/{name}.yaml"))?;
    let plain = |text: &String| text.replace("sips:", "sip:").replace("SIP/2.0/TLS", "SIP/2.0/UDP");
    let messages: Vec<String> = messages.iter().map(plain).collect();
    let mut world = registrar();
    for (number, contact) in bound.iter().enumerate() {
        bind(&mut world, number, contact);
    }
    let mut nonce = String::new();
    let mut last = None;
    for pair in messages.chunks(2) {
        let [asked, answered] = pair else { panic!("{name}: {pair:?}") };
        let has_credentials = !headers(asked, "Authorization").is_empty();
        if has_credentials && nonce.is_empty() {
            // The flow begins with a phone that knows a nonce from before.
            let before = with_credentials(asked, "").replace("z9hG4bK", "z9hG4bKbefore");
            nonce = nonce_of(final_of(&world.receive(client(), &before)));
        }
        let asked = with_credentials(asked, &credentials(&nonce, wrong));
        let sent = world.receive(client(), &asked);
        let sent = final_of(&sent).clone();
        same(name, &sent.text, answered);
        assert_eq!(listed(&sent.text), listed(answered), "{name}");
        if sent.status() == 401 {
            same_challenge(&sent, answered);
            let fresh = nonce_of(&sent);
            assert_ne!(fresh, nonce, "{name}: each challenge has a nonce of its own");
            nonce = fresh;
        }
        last = Some(sent);
    }
    Some((world, last.unwrap()))
}

#[test]
fn rfc_3665_2_1_a_new_registration() {
    let Some((world, _)) = play("2.01_sip-client-new-registration", &[], None) else { return };
    assert_eq!(world.contacts("bob@biloxi.example.com"), ["sip:bob@client.biloxi.example.com"]);
    assert_eq!(world.engine.counters().auth_accepted, 1);
}

#[test]
fn rfc_3665_2_2_an_update_of_the_contact_list() {
    let Some((world, _)) = play("2.02_update-of-contact-list", &[BOB], None) else { return };
    assert_eq!(world.contacts("bob@biloxi.example.com").len(), 2);
}

#[test]
fn rfc_3665_2_3_a_request_for_the_current_list() {
    let played = play("2.03_request-for-current-contact-list", &[BOB, MAIL], None);
    let Some((world, _)) = played else { return };
    assert_eq!(world.contacts("bob@biloxi.example.com").len(), 2, "asking changes nothing");
}

#[test]
fn rfc_3665_2_4_a_cancellation() {
    let played = play("2.04_cancellation-of-registration", &[BOB, MAIL], None);
    let Some((world, _)) = played else { return };
    assert!(world.contacts("bob@biloxi.example.com").is_empty());
}

#[test]
fn rfc_3665_2_5_an_unsuccessful_registration() {
    let hash = "61f8470ceb87d7ebf508220214ed438b"; // as printed
    let Some((world, last)) = play("2.05_unsuccessful-registration", &[], Some(hash)) else {
        return;
    };
    assert_eq!(last.status(), 401);
    assert!(world.contacts("bob@biloxi.example.com").is_empty());
    assert_eq!(world.engine.counters().auth_refused, 1);
}
