//! Digest authentication through the engine: challenge and answer, nonce counts, unknown users,
//! and requests that wait for a user's secret (sip-behaviour 3.12, RFC 3261 22, RFC 7616, 8760).

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use viaduct_engine::auth::digest::{Claim, Counted, response};
use viaduct_engine::auth::{Algorithm, AuthFault, Role, Secrets};
use viaduct_engine::registrar::SaveFlags;
use viaduct_engine::{Event, FailureKind, Phase, QueryFault, Run, Settings, Verdict};
use viaduct_message::Method;
use viaduct_message::header::AuthParams;
use world::{ALICE, BOB, Sent, World, auth, in_dialog, request, settings};

const CONTACT: &str = "Contact: <sip:alice@192.0.2.11:5062>\r\n";

/// REGISTER and calls of our users need credentials.
fn decide(run: &mut Run) -> Verdict {
    let role = if run.method() == Method::Register { Role::Registrar } else { Role::Proxy };
    let identity = match run.check_auth(role, None) {
        Ok(identity) => identity,
        Err(AuthFault::Ask) => return Verdict::Ask { fallback: 503 },
        Err(fault) => {
            return match run.challenge(role, None, fault == AuthFault::Stale) {
                Ok(()) => Verdict::Answered,
                Err(_) => Verdict::Relay,
            };
        }
    };
    let own = if role == Role::Registrar { identity.is_to } else { identity.is_from };
    if !own {
        return Verdict::Reply { status: 403, reason: "".into() };
    }
    if role == Role::Registrar {
        let _ = run.save("location", &SaveFlags::parse("p1").unwrap(), None);
        return Verdict::Answered;
    }
    run.set_destination(&format!("sip:{BOB}")).unwrap();
    Verdict::Relay
}

fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings();
    settings.auth = Some(auth());
    change(&mut settings);
    let mut world = World::with(settings, &[Phase::Request], |_, run| Ok(decide(run)));
    world.users = vec![
        ("alice", "example.com", "secret"),
        ("bob", "example.com", "other"),
        ("a%6cice", "example.com", "escaped"),
    ];
    world
}

fn world() -> World {
    world_with(|_| ())
}

/// A phone that answers challenges.
#[derive(Clone)]
struct Phone {
    user: &'static str,
    password: &'static str,
    algorithm: Algorithm,
    qop: Option<&'static str>,
    nonce: String,
    count: u32,
    cseq: u32,
}

fn phone() -> Phone {
    Phone {
        user: "alice",
        password: "secret",
        algorithm: Algorithm::Sha256,
        qop: Some("auth"),
        nonce: String::new(),
        count: 0,
        cseq: 1,
    }
}

impl Phone {
    /// Takes the nonce of the challenge of its algorithm.
    fn challenged(&mut self, answer: &Sent) {
        let name = if answer.status() == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" };
        let found = answer.headers(name).into_iter().find_map(|value| {
            let value = AuthParams::parse(value.as_bytes()).unwrap();
            let fits = value.get("algorithm") == Some(self.algorithm.name().as_bytes());
            fits.then(|| String::from_utf8(value.get("nonce").unwrap().to_vec()).unwrap())
        });
        self.nonce = found.unwrap();
        self.count = 0;
    }

    /// Credentials for the next request.
    fn credentials(&mut self, header: &str, method: &str, uri: &str, body: &str) -> String {
        self.count += 1;
        let nc = format!("{:08x}", self.count);
        let counted = self.qop.map(|qop| Counted {
            auth_int: qop == "auth-int",
            nc: nc.as_bytes(),
            cnonce: b"0a4f",
        });
        let claim = Claim {
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            nonce: self.nonce.as_bytes(),
            counted,
            body: body.as_bytes(),
        };
        let secrets = Secrets::of_password(self.user, "example.com", self.password);
        let hash = response(&secrets.get(self.algorithm).unwrap(), &claim).to_hex();
        let hash = String::from_utf8(hash.as_ref().to_vec()).unwrap();
        let qop =
            self.qop.map_or(String::new(), |qop| format!(", qop={qop}, nc={nc}, cnonce=\"0a4f\""));
        format!(
            "{header}: Digest username=\"{}\", realm=\"example.com\", nonce=\"{}\", uri=\"{uri}\", \
             response=\"{hash}\", algorithm={}{qop}\r\n",
            self.user,
            self.nonce,
            self.algorithm.name(),
        )
    }

    fn register(&mut self, extra: &str) -> String {
        self.cseq += 1;
        let cseq = self.cseq;
        request("REGISTER", "sip:example.com", ALICE, &format!("reg{cseq}"), extra)
            .replace("To: <sip:bob@example.com>", "To: <sip:alice@example.com>")
            .replace(&format!("Call-ID: call-reg{cseq}"), "Call-ID: same")
            .replace("CSeq: 1 ", &format!("CSeq: {cseq} "))
    }

    fn answered_register(&mut self) -> String {
        let credentials = self.credentials("Authorization", "REGISTER", "sip:example.com", "");
        self.register(&format!("{CONTACT}{credentials}"))
    }

    fn call(&mut self, branch: &str) -> String {
        let uri = "sip:bob@example.com";
        let credentials = self.credentials("Proxy-Authorization", "INVITE", uri, "");
        request("INVITE", uri, ALICE, branch, &credentials)
    }
}

/// A phone that has been challenged once, in a new world.
fn challenged(world: &mut World) -> Phone {
    let mut phone = phone();
    let register = phone.register(CONTACT);
    let sent = world.udp(ALICE, &register);
    assert_eq!(sent[0].status(), 401, "{}", sent[0].text);
    phone.challenged(&sent[0]);
    phone
}

fn stale(answer: &Sent) -> bool {
    answer.header("WWW-Authenticate").contains("stale=true")
}

#[test]
fn rfc_8760_2_4_one_challenge_an_algorithm_most_wanted_first() {
    let mut world = world();
    let sent = world.udp(ALICE, &phone().register(CONTACT));
    assert_eq!(sent[0].first_line(), "SIP/2.0 401 Unauthorized");
    let challenges = sent[0].headers("WWW-Authenticate");
    assert_eq!(challenges.len(), 3);
    for (value, algorithm) in challenges.iter().zip(["SHA-256", "SHA-512-256", "MD5"]) {
        let read = AuthParams::parse(value.as_bytes()).unwrap();
        let get = |name| std::str::from_utf8(read.get(name).unwrap_or_default()).unwrap();
        assert_eq!((get("algorithm"), get("realm")), (algorithm, "example.com"));
        assert_eq!((get("qop"), get("stale")), ("auth,auth-int", ""));
        assert_eq!(get("nonce").len(), 36);
    }
    assert!(world.contacts("alice@example.com").is_empty());
    assert_eq!(world.engine.transactions(), 0, "a challenge costs no state");
}

#[test]
fn rfc_3261_22_2_every_algorithm_and_quality_of_protection_registers() {
    let qops = [Some("auth"), Some("auth-int"), None];
    for algorithm in Algorithm::ALL {
        for qop in qops {
            let mut world = world();
            let mut phone = Phone { algorithm, qop, ..challenged(&mut world) };
            let sent = world.udp(ALICE, &phone.answered_register());
            assert_eq!(sent[0].status(), 200, "{algorithm:?} {qop:?}: {}", sent[0].text);
            assert_eq!(world.contacts("alice@example.com").len(), 1);
            assert_eq!(world.engine.counters().auth_accepted, 1);
        }
    }
}

#[test]
fn an_algorithm_that_is_not_offered_is_not_taken() {
    let only_sha = |settings: &mut Settings| {
        settings.auth.as_mut().unwrap().algorithms = vec![Algorithm::Sha256];
    };
    let mut world = world_with(only_sha);
    let mut phone = Phone { algorithm: Algorithm::Md5, ..challenged(&mut world) };
    assert_eq!(world.udp(ALICE, &phone.answered_register())[0].status(), 401);
}

#[test]
fn rfc_7616_3_4_session_variants_and_hashed_names_get_a_challenge_and_count_as_no_attack() {
    for change in [
        |text: &str| text.replace("algorithm=SHA-256", "algorithm=SHA-256-sess"),
        |text: &str| text.replace("algorithm=SHA-256", "algorithm=SHA-256, userhash=true"),
    ] {
        let mut world = world();
        let mut phone = challenged(&mut world);
        let sent = world.udp(ALICE, &change(&phone.answered_register()));
        assert_eq!((sent[0].status(), stale(&sent[0])), (401, false));
        let offered = sent[0].headers("WWW-Authenticate").concat();
        assert!(!offered.contains("-sess") && !offered.contains("userhash"), "{offered}");
        assert!(world.events.is_empty(), "it says nothing about the password");
        assert!(world.contacts("alice@example.com").is_empty());
    }
}

#[test]
fn rfc_7616_3_5_a_phone_is_shown_that_its_secret_is_known_and_given_its_next_nonce() {
    for qop in [Some("auth"), Some("auth-int"), None] {
        let mut world = world_with(|settings| settings.auth.as_mut().unwrap().info = true);
        let mut phone = Phone { qop, ..challenged(&mut world) };
        let sent = world.udp(ALICE, &phone.answered_register());
        assert_eq!(sent[0].status(), 200, "{}", sent[0].text);
        let line = format!("Digest {}", sent[0].header("Authentication-Info"));
        let info = AuthParams::parse(line.as_bytes()).unwrap();
        let get = |name| info.get(name).map(|v| String::from_utf8(v.to_vec()).unwrap());
        assert_eq!(get("qop").as_deref(), qop);
        // RFC 7616 3.5: as the response, but A2 begins with the colon.
        let counted = qop.map(|qop| Counted {
            auth_int: qop == "auth-int",
            nc: b"00000001",
            cnonce: b"0a4f",
        });
        let claim = Claim {
            method: b"",
            uri: b"sip:example.com",
            nonce: phone.nonce.as_bytes(),
            counted,
            body: b"",
        };
        let ha1 = Secrets::of_password("alice", "example.com", "secret").get(phone.algorithm);
        let expected = response(&ha1.unwrap(), &claim).to_hex();
        let expected = qop.map(|_| String::from_utf8(expected.as_ref().to_vec()).unwrap());
        assert_eq!(get("rspauth"), expected);
        let echoed = qop.map(|_| ("0a4f".to_owned(), "00000001".to_owned()));
        assert_eq!(get("cnonce").zip(get("nc")), echoed);
        // The next nonce saves the round trip of a challenge.
        phone.nonce = get("nextnonce").unwrap();
        phone.count = 0;
        let sent = world.udp(ALICE, &phone.answered_register());
        assert_eq!(sent[0].status(), 200, "{}", sent[0].text);
    }
    let mut world = world();
    let mut phone = challenged(&mut world);
    let sent = world.udp(ALICE, &phone.answered_register());
    assert!(sent[0].headers("Authentication-Info").is_empty(), "only where it is asked for");
}

#[test]
fn an_unknown_user_and_a_wrong_password_look_the_same() {
    let mut answers = Vec::new();
    for (user, password) in [("alice", "wrong"), ("nobody", "secret")] {
        let mut world = world();
        let mut phone = Phone { user, password, ..challenged(&mut world) };
        let sent = world.udp(ALICE, &phone.answered_register());
        assert_eq!((sent.len(), sent[0].status(), stale(&sent[0])), (1, 401, false));
        let refused = Event::AuthRefused {
            source: ALICE.parse().unwrap(),
            method: "REGISTER".into(),
            realm: "example.com".into(),
            user: user.into(),
        };
        assert_eq!(world.events, [refused]);
        answers.push(sent[0].text.clone());
    }
    let without_nonces = |text: &String| -> String {
        text.split("nonce=\"").map(|part| part.get(36..).unwrap_or(part)).collect()
    };
    assert_eq!(without_nonces(&answers[0]), without_nonces(&answers[1]));
}

#[test]
fn rfc_3261_10_3_step_4_nobody_changes_the_bindings_of_another() {
    let mut world = world();
    let mut phone = Phone { user: "bob", password: "other", ..challenged(&mut world) };
    assert_eq!(world.udp(ALICE, &phone.answered_register())[0].status(), 403);
    // A name that looks like an escaped one is another user.
    let mut phone = Phone { user: "a%6cice", password: "escaped", ..challenged(&mut world) };
    assert_eq!(world.udp(ALICE, &phone.answered_register())[0].status(), 403);
    assert!(world.contacts("alice@example.com").is_empty());
}

#[test]
fn rfc_7616_3_4_6_credentials_for_another_uri_or_method_are_refused() {
    let mut world = world();
    let mut phone = challenged(&mut world);
    for (method, uri) in [("REGISTER", "sip:example.org"), ("INVITE", "sip:example.com")] {
        let credentials = phone.credentials("Authorization", method, uri, "");
        let register = phone.register(&format!("{CONTACT}{credentials}"));
        assert_eq!(world.udp(ALICE, &register)[0].status(), 401, "{method} {uri}");
    }
    // Equivalent is enough.
    let uri = "sip:EXAMPLE.com";
    let credentials = phone.credentials("Authorization", "REGISTER", uri, "");
    let register = phone.register(&format!("{CONTACT}{credentials}"));
    assert_eq!(world.udp(ALICE, &register)[0].status(), 200);
}

#[test]
fn rfc_7616_3_4_3_a_body_changed_on_the_way_is_noticed_with_auth_int() {
    let mut world = world();
    let mut phone = Phone { qop: Some("auth-int"), ..challenged(&mut world) };
    let mut send = |signed: &str, sent: &str| {
        let credentials = phone.credentials("Authorization", "REGISTER", "sip:example.com", signed);
        let text = phone.register(&credentials);
        let length = format!("Content-Length: {}\r\n\r\n{sent}", sent.len());
        world.udp(ALICE, &text.replace("Content-Length: 0\r\n\r\n", &length))[0].status()
    };
    assert_eq!(send("hello", "hello"), 200);
    assert_eq!(send("hello", "hellO"), 401);
}

#[test]
fn rfc_7616_3_3_an_old_nonce_is_stale_and_the_next_one_works() {
    let mut world = world();
    let mut phone = challenged(&mut world);
    world.advance(300_001);
    let sent = world.udp(ALICE, &phone.answered_register());
    assert!(sent[0].status() == 401 && stale(&sent[0]), "{}", sent[0].text);
    assert!(world.events.is_empty(), "no attack");
    phone.challenged(&sent[0]);
    assert_eq!(world.udp(ALICE, &phone.answered_register())[0].status(), 200);
    // A wrong password with an old nonce is just wrong.
    world.advance(300_001);
    phone.password = "wrong";
    let sent = world.udp(ALICE, &phone.answered_register());
    assert!(sent[0].status() == 401 && !stale(&sent[0]));
}

#[test]
fn a_nonce_of_others_is_stale_for_who_knows_the_password() {
    let mut world = world();
    let mut phone = challenged(&mut world);
    phone.nonce = "84a4cc6f3082121f32b42a2187831a9e".to_owned();
    let sent = world.udp(ALICE, &phone.answered_register());
    assert!(sent[0].status() == 401 && stale(&sent[0]), "{}", sent[0].text);
}

#[test]
fn rfc_7616_5_12_a_request_cannot_be_replayed_but_it_can_be_retransmitted() {
    let mut world = world();
    let mut phone = challenged(&mut world);
    let register = phone.answered_register();
    assert_eq!(world.udp(ALICE, &register)[0].status(), 200);
    assert_eq!(world.udp(ALICE, &register)[0].status(), 200, "its 200 was lost");
    let sent = world.udp("192.0.2.66:5060", &register);
    assert!(sent[0].status() == 401 && stale(&sent[0]), "overheard: {}", sent[0].text);
    let forged = register.replace("192.0.2.11:5062>", "192.0.2.66:5060>");
    assert!(stale(&world.udp(ALICE, &forged)[0]));
    assert_eq!(world.contacts("alice@example.com"), ["sip:alice@192.0.2.11:5062"]);
    // The phone goes on with the same nonce and the next count.
    assert_eq!(world.udp(ALICE, &phone.answered_register())[0].status(), 200);
    world.advance(33_000);
    assert!(stale(&world.udp(ALICE, &register)[0]), "too late for a retransmission");
}

#[test]
fn without_a_count_a_nonce_is_good_for_one_request() {
    let mut world = world();
    let mut phone = Phone { qop: None, ..challenged(&mut world) };
    assert_eq!(world.udp(ALICE, &phone.answered_register())[0].status(), 200);
    let sent = world.udp(ALICE, &phone.answered_register());
    assert!(sent[0].status() == 401 && stale(&sent[0]));
    phone.challenged(&sent[0]);
    assert_eq!(world.udp(ALICE, &phone.answered_register())[0].status(), 200);
}

#[test]
fn rfc_3261_22_3_a_proxy_challenges_with_407_and_forwards_without_its_credentials() {
    let mut world = world();
    let mut phone = challenged(&mut world);
    let call = request("INVITE", "sip:bob@example.com", ALICE, "c1", "");
    let sent = world.udp(ALICE, &call);
    assert_eq!(sent[0].first_line(), "SIP/2.0 407 Proxy Authentication Required");
    phone.challenged(&sent[0]);
    let foreign = "Proxy-Authorization: Digest username=\"a\", realm=\"other.example\", \
                   nonce=\"n\", uri=\"sip:b@c\", response=\"r\"\r\n";
    let call = phone.call("c2").replace("Content-Length", &format!("{foreign}Content-Length"));
    let sent = world.udp(ALICE, &call);
    let forwarded = sent.iter().find(|sent| sent.method() == "INVITE").unwrap();
    let left = forwarded.headers("Proxy-Authorization");
    assert_eq!(left.len(), 1, "ours is gone, another proxy's is not: {}", forwarded.text);
    assert!(left[0].contains("other.example"));
}

/// Their removal is an edit that no bound counts.
#[test]
fn credentials_are_removed_once_however_often_they_are_checked() {
    let settings = Settings { auth: Some(auth()), ..settings() };
    let mut world = World::with(settings, &[Phase::Request], |_, run: &mut Run| {
        for _ in 0..100 {
            match run.check_auth(Role::Proxy, None) {
                Ok(_) => {}
                Err(AuthFault::Ask) => return Ok(Verdict::Ask { fallback: 503 }),
                Err(_) => {
                    run.challenge(Role::Proxy, None, false).unwrap();
                    return Ok(Verdict::Answered);
                }
            }
        }
        Ok(Verdict::Reply { status: 200 + run.effects.edits.len() as u16, reason: "".into() })
    });
    world.users = vec![("alice", "example.com", "secret")];
    let mut phone = phone();
    let call = request("INVITE", "sip:bob@example.com", ALICE, "once1", "");
    phone.challenged(&world.udp(ALICE, &call)[0]);
    let sent = world.udp(ALICE, &phone.call("once2"));
    assert_eq!(sent.last().unwrap().status(), 201, "one edit");
}

#[test]
fn an_invite_is_never_taken_for_its_own_replay() {
    let mut world = world();
    let mut phone = challenged(&mut world);
    let call = phone.call("c3");
    world.held_asks = Some(Vec::new());
    assert_eq!(world.udp(ALICE, &call)[0].status(), 100);
    assert!(world.udp(ALICE, &call).iter().all(|sent| sent.status() == 100), "absorbed");
    let (token, query) = world.held_asks.take().unwrap().remove(0);
    let sent = world.answer(token, query);
    assert_eq!(sent.iter().filter(|sent| sent.method() == "INVITE").count(), 1);
    assert!(sent.iter().all(|sent| sent.status() != 100), "said already");
    let other = call.replace("z9hG4bKc3", "z9hG4bKc4").replace("call-c3", "call-c4");
    let sent = world.udp(ALICE, &other);
    assert_eq!(sent.last().unwrap().status(), 407, "overheard and sent as another call");
}

#[test]
fn rfc_3261_22_1_ack_and_cancel_are_never_challenged() {
    let mut world = world();
    let ack = in_dialog("ACK", &format!("sip:bob@{BOB}"), ALICE, "ack", "");
    let sent = world.udp(ALICE, &ack);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].method(), "ACK");
    let cancel = request("CANCEL", "sip:bob@example.com", ALICE, "none", "");
    assert!(world.udp(ALICE, &cancel).iter().all(|sent| sent.status() != 407));
}

#[test]
fn other_traffic_flows_while_one_request_waits_for_its_user() {
    let mut world = world();
    let mut phone = challenged(&mut world);
    world.held_asks = Some(Vec::new());
    assert!(world.udp(ALICE, &phone.answered_register()).is_empty(), "it waits");
    assert_eq!(world.engine.unanswered(), 1);
    for n in 0..10 {
        let other = request("REGISTER", "sip:example.com", BOB, &format!("o{n}"), "");
        assert_eq!(world.udp(BOB, &other)[0].status(), 401, "nobody else waits");
    }
    let (token, query) = world.held_asks.take().unwrap().remove(0);
    assert_eq!(world.answer(token, query)[0].status(), 200);
    assert_eq!(world.engine.transactions(), 0);
    assert!(world.no_answer(token, QueryFault::Busy).is_empty(), "an answer counts once");
}

#[test]
fn a_user_who_cannot_be_looked_up_gets_the_fallback_and_is_told_when_to_come_again() {
    for late in [false, true] {
        let mut world = world();
        let mut phone = challenged(&mut world);
        world.held_asks = Some(Vec::new());
        let register = phone.answered_register();
        world.udp(ALICE, &register);
        assert!(world.udp(ALICE, &register).is_empty(), "a retransmission waits too");
        let (token, _) = world.held_asks.take().unwrap().remove(0);
        let sent = if late {
            world.advance(5_001)
        } else {
            world.no_answer(token, QueryFault::Unavailable)
        };
        let answer = sent.last().unwrap();
        assert_eq!(answer.status(), 503, "{sent:?}");
        assert!(!answer.header("Retry-After").is_empty());
        let failed =
            Event::QueryFailed { what: "credentials", fault: QueryFault::Unavailable, status: 503 };
        assert_eq!(world.events, [failed]);
        assert_eq!(world.engine.transactions(), 0);
        assert!(world.no_answer(token, QueryFault::Busy).is_empty());
    }
}

#[test]
fn requests_that_wait_are_bounded() {
    let mut world = world_with(|settings| settings.bounds.asking = 2);
    let mut phone = challenged(&mut world);
    world.held_asks = Some(Vec::new());
    for _ in 0..2 {
        assert!(world.udp(ALICE, &phone.answered_register()).is_empty());
    }
    let sent = world.udp(ALICE, &phone.answered_register());
    assert_eq!(sent[0].status(), 503);
    let held = world.held_asks.take().unwrap();
    assert_eq!(held.len(), 2);
    for (token, query) in held {
        assert_eq!(world.answer(token, query)[0].status(), 200);
    }
    world.held_asks = Some(Vec::new());
    assert!(world.udp(ALICE, &phone.answered_register()).is_empty(), "there is room again");
}

#[test]
fn a_cancelled_call_does_not_wait_on() {
    let mut world = world();
    let mut phone = challenged(&mut world);
    world.held_asks = Some(Vec::new());
    let call = phone.call("c5");
    assert_eq!(world.udp(ALICE, &call)[0].status(), 100);
    let cancel = request("CANCEL", "sip:bob@example.com", ALICE, "c5", "");
    let statuses: Vec<u16> = world.udp(ALICE, &cancel).iter().map(Sent::status).collect();
    assert_eq!(statuses, [200, 487]);
    let (token, query) = world.held_asks.take().unwrap().remove(0);
    assert!(world.answer(token, query).is_empty(), "no call");
}

#[test]
fn a_policy_that_asks_too_often_is_stopped() {
    let asker = |realms: usize| {
        let mut settings = settings();
        settings.auth = Some(auth());
        // One seat is enough: a request that asks again keeps its own.
        settings.bounds.asking = 1;
        World::with(settings, &[Phase::Request], move |_, run: &mut Run| {
            for n in 0..realms {
                let found = run.check_auth(Role::Registrar, Some(&format!("r{n}")));
                if found == Err(AuthFault::Ask) {
                    return Ok(Verdict::Ask { fallback: 500 });
                }
            }
            Ok(Verdict::Reply { status: 403, reason: "".into() })
        })
    };
    let lines: String = (0..9)
        .map(|n| {
            format!(
                "Authorization: Digest username=\"alice\", realm=\"r{n}\", nonce=\"n\", \
                 uri=\"sip:example.com\", response=\"00\"\r\n"
            )
        })
        .collect();
    let register = phone().register(&lines);
    let mut world = asker(8);
    assert_eq!(world.udp(ALICE, &register)[0].status(), 403);
    assert_eq!(world.engine.counters().asked, 8);
    let mut world = asker(9);
    assert_eq!(world.udp(ALICE, &register)[0].status(), 500);
    let rounds = Event::QueryFailed { what: "credentials", fault: QueryFault::Rounds, status: 500 };
    assert!(world.events.contains(&rounds));
}

#[test]
fn a_phase_that_cannot_wait_fails_by_its_own_rules() {
    let mut settings = settings();
    settings.auth = Some(auth());
    let mut world = World::with(settings, &[Phase::Request, Phase::Branch], |phase, run| {
        Ok(match phase {
            Phase::Branch => Verdict::Ask { fallback: 503 },
            _ => {
                run.set_destination(&format!("sip:{BOB}")).unwrap();
                Verdict::Relay
            }
        })
    });
    let call = request("INVITE", "sip:bob@example.com", ALICE, "b1", "");
    let sent = world.udp(ALICE, &call);
    assert_eq!(sent.last().unwrap().method(), "INVITE", "the branch goes as it is");
    let failed = Event::PolicyFailed { kind: FailureKind::Fact, status: 503 };
    assert_eq!(world.events, [failed]);
}

#[test]
fn malformed_credentials_are_challenged_not_believed() {
    let mut world = world();
    for value in [
        "Digest",
        "Digest =\"\"",
        "Digest username",
        "Digest realm=\"example.com\"",
        "Digest realm=\"example.com\", username=\"alice\", nonce=\"\", uri=\"\", response=\"\"",
        "Basic YWxpY2U6c2VjcmV0",
        "Digest username=\"alice\",realm=\"example.com\",nonce=\"n\",uri=\"sip:example.com\",\
         response=\"00\",qop=auth,nc=1,cnonce=\"\"",
        "Digest username=\"a\0b\",realm=\"example.com\",nonce=\"n\",uri=\"sip:example.com\",\
         response=\"00\"",
    ] {
        let register = phone().register(&format!("{CONTACT}Authorization: {value}\r\n"));
        let sent = world.udp(ALICE, &register);
        assert!(matches!(sent[0].status(), 401 | 400), "{value}: {}", sent[0].text);
    }
    assert!(world.contacts("alice@example.com").is_empty());
}

#[test]
fn one_realm_for_all_domains_names_users_of_each() {
    let mut world = world_with(|settings| {
        settings.auth.as_mut().unwrap().realm = Some("example.com".into());
        settings.domains.push("example.org".into());
    });
    let mut phone = challenged(&mut world);
    let uri = "sip:example.org";
    let credentials = phone.credentials("Authorization", "REGISTER", uri, "");
    let register = phone
        .register(&format!("{CONTACT}{credentials}"))
        .replace("REGISTER sip:example.com", "REGISTER sip:example.org")
        .replace("To: <sip:alice@example.com>", "To: <sip:alice@example.org>");
    assert_eq!(world.udp(ALICE, &register)[0].status(), 200);
    assert_eq!(world.contacts("alice@example.org").len(), 1);
}
