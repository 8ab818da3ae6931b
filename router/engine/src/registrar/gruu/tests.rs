use super::*;
use crate::flow::{ConnId, Transport};
use crate::registrar::Binding;
use proptest::prelude::*;

const NOW_MS: u64 = 1_000;

fn keys(id: u8) -> PathKeys {
    PathKeys::new(vec![(id, vec![id; 32])]).unwrap()
}

fn read_uri(text: &str, keys: &PathKeys) -> Result<Option<Gruu>, NoGruu> {
    read(&Uri::parse(text.as_bytes()).unwrap(), &Registrar::default(), keys)
}

fn set(instance: &str, call_id: &str) -> BindingSet {
    let binding = Binding::pack(&BindingFields {
        contact: b"sip:1@192.0.2.4",
        contact_params: b"",
        path: b"",
        received: b"",
        call_id: call_id.as_bytes(),
        user_agent: b"",
        instance: instance.as_bytes(),
        attributes: b"",
        cseq: 1,
        q_milli: None,
        reg_id: 0,
        methods: None,
        expires_ms: NOW_MS + 1,
        modified_ms: 0,
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        conn: ConnId::NONE,
        nat: false,
    });
    BindingSet { bindings: [binding].into() }
}

fn sealed(instance: &str, call_id: &str, aor: &str, keys: &PathKeys) -> String {
    let set = set(instance, call_id);
    let mut plain = vec![VERSION];
    plain.extend_from_slice(&registration(&set.bindings[0].fields()));
    plain.extend_from_slice(aor.as_bytes());
    let (id, sealed) = keys.seal([7; NONCE_BYTES], &plain).unwrap();
    format!("sip:tgruu.{id:02x}{}@example.com;gr", URL_SAFE_NO_PAD.encode(sealed))
}

#[test]
fn r_o3_a_public_gruu_names_aor_and_instance() {
    let uri = "sip:alice@example.com;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    let gruu = read_uri(uri, &keys(1)).unwrap().unwrap();
    assert_eq!(gruu.aor, b"alice@example.com");
    let instance = gruu.instance(&BindingSet::default(), NOW_MS).unwrap();
    assert_eq!(instance, b"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>");
    assert_eq!(read_uri("sip:alice@example.com", &keys(1)), Ok(None));
}

#[test]
fn r_o3_a_temporary_gruu_ends_with_its_registration() {
    let uri = sealed("<urn:uuid:1>", "call-1", "alice@example.com", &keys(1));
    let gruu = read_uri(&uri, &keys(1)).unwrap().unwrap();
    assert_eq!((gruu.is_temporary(), &*gruu.aor), (true, &b"alice@example.com"[..]));
    assert!(!uri.contains("alice"), "it tells nobody whose it is");
    let instance = |call_id, now_ms| gruu.instance(&set("<urn:uuid:1>", call_id), now_ms);
    assert_eq!(instance("call-1", NOW_MS).as_deref(), Some(&b"<urn:uuid:1>"[..]));
    assert_eq!(instance("call-2", NOW_MS), None, "a REGISTER with another Call-ID ends it");
    assert_eq!(instance("call-1", NOW_MS + 1), None, "so does the end of the binding");
    assert_eq!(gruu.instance(&set("<urn:uuid:2>", "call-1"), NOW_MS), None);
}

#[test]
fn r_o3_keys_rotate_and_what_is_not_ours_is_no_gruu() {
    let old = sealed("<urn:uuid:1>", "c", "alice@example.com", &keys(1));
    let both = PathKeys::new(vec![(2, vec![2; 32]), (1, vec![1; 32])]).unwrap();
    assert!(read_uri(&old, &both).unwrap().is_some());
    assert_eq!(read_uri(&old, &keys(2)), Err(NoGruu));
    for bad in ["sip:alice@example.com;gr", "sip:tgruu.01@example.com;gr", "sip:example.com;gr"] {
        assert_eq!(read_uri(bad, &both), Err(NoGruu), "{bad}");
    }
}

proptest! {
    #[test]
    fn r_o3_a_token_that_was_changed_is_no_gruu(
        at in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_-]",
    ) {
        let good = sealed("<urn:uuid:1>", "c", "alice@example.com", &keys(1));
        let start = "sip:tgruu.01".len();
        let length = good.find('@').unwrap() - start;
        let at = start + at.index(length);
        let mut bad = good.clone();
        bad.replace_range(at..=at, &letter);
        prop_assume!(bad != good);
        prop_assert_eq!(read_uri(&bad, &keys(1)), Err(NoGruu));
    }

    #[test]
    fn any_token_is_read_without_harm(token in "[0-9a-f]{0,2}[A-Za-z0-9_-]{0,80}") {
        prop_assert_eq!(read_uri(&format!("sip:tgruu.{token}@h;gr"), &keys(1)), Err(NoGruu));
    }
}
