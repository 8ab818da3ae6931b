//! Targets by requirement (sip-behaviour 1.7.4).

use super::*;
use crate::registrar::Bindings;

const NOW_MS: u64 = 1_900_000_000_000;

fn fields(contact: &'static str) -> BindingFields<'static> {
    BindingFields {
        contact: contact.as_bytes(),
        contact_params: b"",
        path: b"",
        received: b"",
        call_id: b"c",
        user_agent: b"",
        instance: b"",
        attributes: b"",
        cseq: 1,
        q_milli: None,
        reg_id: 0,
        methods: None,
        expires_ms: NOW_MS + 60_000,
        modified_ms: NOW_MS,
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        conn: ConnId::NONE,
        nat: false,
    }
}

fn find(
    all: &[BindingFields<'_>],
    method: Method,
    flags: &str,
) -> Result<Vec<Target>, LookupFault> {
    find_in(all.iter().map(Binding::pack).collect(), method, flags)
}

fn find_in(bindings: Bindings, method: Method, flags: &str) -> Result<Vec<Target>, LookupFault> {
    let flags = LookupFlags::parse(flags).unwrap();
    lookup(&BindingSet { bindings }, &input(method, &flags))
}

fn input(method: Method, flags: &LookupFlags) -> LookupInput<'_> {
    LookupInput { method, flags, unix_ms: NOW_MS, instance: None, ours: None, key: None }
}

fn only(fields: BindingFields<'_>) -> Target {
    let mut targets = find(&[fields], Method::Invite, "").unwrap();
    assert_eq!(targets.len(), 1);
    targets.remove(0)
}

fn uris(targets: &[Target]) -> Vec<&str> {
    targets.iter().map(|target| std::str::from_utf8(&target.uri).unwrap()).collect()
}

#[test]
fn targets_are_ordered_by_q_then_newest_first() {
    let mut all = [
        fields("sip:low@h"),
        fields("sip:old@h"),
        fields("sip:new@h"),
        fields("sip:half@h"),
        fields("sip:gone@h"),
        fields("sip:new2@h"),
    ];
    all[0].q_milli = Some(100);
    all[1].modified_ms = NOW_MS - 5;
    all[3].q_milli = Some(500);
    all[4].expires_ms = NOW_MS;
    let targets = find(&all, Method::Invite, "").unwrap();
    let expected = ["sip:new2@h", "sip:new@h", "sip:old@h", "sip:half@h", "sip:low@h"];
    assert_eq!(uris(&targets), expected);
    assert_eq!(targets[0].q_milli, 1000);
    let best = find(&all, Method::Invite, "no-branches").unwrap();
    assert_eq!(uris(&best), ["sip:new2@h"]);
}

#[test]
fn no_bindings_and_none_for_the_method_are_told_apart() {
    assert_eq!(find(&[], Method::Invite, ""), Err(LookupFault::NotFound));
    let mut invite_only = fields("sip:1@h");
    invite_only.methods = Some(1 << (Method::Invite as u32));
    let all = [invite_only];
    assert_eq!(find(&all, Method::Message, "m"), Err(LookupFault::Method));
    assert_eq!(find(&all, Method::Invite, "m").map(|t| t.len()), Ok(1));
    assert_eq!(find(&all, Method::Message, "").map(|t| t.len()), Ok(1));
    assert_eq!(find(&all, Method::Other, "m").map(|t| t.len()), Ok(1));
    assert_eq!(find(&[fields("sip:1@h")], Method::Message, "m").map(|t| t.len()), Ok(1));
}

#[test]
fn path_becomes_the_route_set_and_beats_received() {
    let mut binding = fields("sip:ua1@192.0.2.4");
    binding.path = b"<sip:p2.example;lr>, <sip:p1.example;lr>";
    binding.received = b"sip:203.0.113.5:1024";
    binding.nat = true;
    let target = only(binding);
    assert_eq!(&*target.uri, b"sip:ua1@192.0.2.4");
    assert_eq!(&*target.route, b"<sip:p2.example;lr>, <sip:p1.example;lr>");
    assert_eq!((&*target.destination, target.flow), (&b""[..], None));
}

#[test]
fn of_two_contacts_each_has_its_own_path() {
    let mut with_path = fields("sip:1@h");
    with_path.path = b"<sip:p1.example;lr>";
    let targets = find(&[with_path, fields("sip:2@h")], Method::Invite, "").unwrap();
    assert_eq!(uris(&targets), ["sip:2@h", "sip:1@h"]);
    assert_eq!((&*targets[0].route, &*targets[1].route), (&b""[..], &b"<sip:p1.example;lr>"[..]));
}

#[test]
fn without_path_the_received_address_is_the_next_hop() {
    let mut binding = fields("sip:ua1@10.0.0.4");
    binding.received = b"sip:203.0.113.5:1024";
    binding.nat = true;
    let target = only(binding);
    assert_eq!(&*target.destination, b"sip:203.0.113.5:1024");
    assert_eq!(target.local, Some("192.0.2.1:5060".parse().unwrap()));
    assert_eq!(target.flow, None);
}

#[test]
fn r_p9_a_stream_is_reached_by_its_connection_or_not_at_all() {
    let mut binding = fields("sip:ua1@10.0.0.4;transport=tcp");
    binding.transport = Transport::Tcp;
    binding.received = b"sip:203.0.113.5:1024;transport=tcp";
    binding.conn = ConnId::new(1, 7);
    binding.nat = true;
    let flow = only(binding.clone()).flow.unwrap();
    assert_eq!(flow.conn, ConnId::new(1, 7));
    assert_eq!(flow.remote, "203.0.113.5:1024".parse().unwrap());
    assert_eq!((flow.transport, flow.local), (Transport::Tcp, "192.0.2.1:5060".parse().unwrap()));
    // After a restart the connection is gone; nobody can connect to a phone behind NAT.
    binding.conn = ConnId::NONE;
    assert_eq!(find(&[binding.clone()], Method::Invite, ""), Err(LookupFault::NotFound));
    binding.nat = false;
    assert_eq!(only(binding).flow, None, "a phone that can be connected to");
}

#[test]
fn r_p18_the_stored_socket_is_used_where_it_fits() {
    let local = |path: &'static str, contact: &'static str| {
        let mut binding = fields(contact);
        binding.path = path.as_bytes();
        only(binding).local.is_some()
    };
    assert!(local("", "sip:1@192.0.2.4"));
    assert!(local("<sip:192.0.2.7;lr>", "sip:1@[2001:db8::4]"));
    assert!(!local("<sip:192.0.2.7;lr;transport=tcp>", "sip:1@192.0.2.4"));
    assert!(!local("<sip:[2001:db8::7];lr>", "sip:1@192.0.2.4"));
    assert!(!local("<sip:p1.example;lr>, <sip:192.0.2.7;lr>", "sip:1@192.0.2.4"));
    assert!(!local("", "sip:1@phone.example"));
    assert!(!local("", "sips:1@192.0.2.4"));
    assert!(!local("", "sip:1@[2001:db8::4]"));
}

#[test]
fn contacts_nothing_can_be_sent_to_are_left_out() {
    let mut broken = fields("sip:2@h");
    broken.path = b"<sip:p1.example;lr";
    let all = [fields("mailto:a@b"), broken, fields("sip:3@h"), fields("tel:+4930")];
    assert_eq!(uris(&find(&all, Method::Invite, "").unwrap()), ["sip:3@h"]);
}

#[test]
fn ua_filtering_takes_the_contacts_of_matching_phones() {
    let (mut snom, mut other) = (fields("sip:1@h"), fields("sip:2@h"));
    (snom.user_agent, other.user_agent) = (b"snom370/8.7", b"Yealink SIP-T46");
    let all = [snom, other];
    assert_eq!(uris(&find(&all, Method::Invite, "u/SNOM/i").unwrap()), ["sip:1@h"]);
    assert_eq!(uris(&find(&all, Method::Invite, "u/(T46|T48)$/e").unwrap()), ["sip:2@h"]);
    assert_eq!(find(&all, Method::Invite, "u/SNOM/"), Err(LookupFault::NotFound));
}

#[test]
fn latency_leaves_out_the_slow_and_sorts_the_rest_with_the_unknown_last() {
    let binding = |uri, us| Binding::pack(&fields(uri)).with_ping_us(us);
    let all: Bindings = vec![
        binding("sip:unknown@h", None),
        binding("sip:slow@h", Some(90_000)),
        binding("sip:quick@h", Some(2_000)),
    ]
    .into();
    let find = |flags| find_in(all.clone(), Method::Invite, flags).unwrap();
    assert_eq!(uris(&find("Y")), ["sip:quick@h", "sip:slow@h", "sip:unknown@h"]);
    assert_eq!(uris(&find("y50000")), ["sip:quick@h", "sip:unknown@h"]);
    assert_eq!(uris(&find("y90000Yb")), ["sip:quick@h"]);
}

#[test]
fn rfc_5626_7_a_phone_with_two_flows_is_one_target_with_one_to_fall_back_on() {
    let mut all = [fields("sip:first@h"), fields("sip:second@h"), fields("sip:other@h")];
    for (reg_id, binding) in all.iter_mut().take(2).enumerate() {
        (binding.instance, binding.reg_id) = (b"<urn:uuid:1>", reg_id as u32 + 1);
    }
    all[0].modified_ms = NOW_MS - 1;
    let targets = find(&all, Method::Invite, "").unwrap();
    assert_eq!(uris(&targets), ["sip:other@h", "sip:second@h"]);
    assert_eq!(uris(&targets[1].flows), ["sip:first@h"]);
    assert!(targets[0].flows.is_empty());
}

#[test]
fn rfc_5627_a_gruu_leads_to_its_phone_alone() {
    let mut all = [fields("sip:1@h"), fields("sip:2@h"), fields("sip:3@h")];
    (all[0].instance, all[1].instance) = (b"<urn:uuid:1>", b"<urn:uuid:2>");
    let set = BindingSet { bindings: all.iter().map(Binding::pack).collect() };
    let flags = LookupFlags::default();
    let find = |instance: &'static [u8]| {
        lookup(&set, &LookupInput { instance: Some(instance), ..input(Method::Invite, &flags) })
    };
    assert_eq!(uris(&find(b"<urn:uuid:1>").unwrap()), ["sip:1@h"]);
    assert_eq!(find(b"<urn:uuid:9>"), Err(LookupFault::NotFound));
}

#[test]
fn r_p19_our_own_topmost_path_values_are_skipped_as_list_values() {
    let settings = crate::settings::tests::settings();
    let route = |path: &str| {
        let mut binding = fields("sip:1@192.0.2.4");
        binding.path = path.as_bytes();
        let flags = LookupFlags::default();
        let input = LookupInput { ours: Some(&settings), ..input(Method::Invite, &flags) };
        let set = BindingSet { bindings: [Binding::pack(&binding)].into() };
        let target = lookup(&set, &input).unwrap().remove(0);
        String::from_utf8(target.route.into()).unwrap()
    };
    let (us, far) = ("\"a, b\" <sip:192.0.2.1;lr;r2=on>;x=y", "<sip:p9.example.net;lr>");
    assert_eq!(route(&format!("{us},{us} , {far}")), far);
    assert_eq!(route(&format!("{far}, {us}")), format!("{far}, {us}"), "only the topmost ones");
    assert_eq!(route(us), "", "the only one: the contact itself is the next hop");
}

fn at_home(fields: BindingFields<'_>, address: &str) -> Target {
    let home = Home { node: "a".into(), boot: 7, address: address.into() };
    let binding = Binding::pack(&fields).at(Arc::new(home), ConnId::new(1, 9));
    let set = BindingSet { bindings: [binding].into() };
    let flags = LookupFlags::default();
    let mut targets = lookup(&set, &input(Method::Invite, &flags)).unwrap();
    assert_eq!(targets.len(), 1);
    targets.remove(0)
}

#[test]
fn a_phone_of_another_router_is_reached_by_way_of_it() {
    let mut binding = fields("sip:a@10.0.0.1");
    (binding.nat, binding.received) = (true, b"sip:198.51.100.7:40000");
    let target = at_home(binding.clone(), "");
    assert_eq!(&*target.route, b"<sip:192.0.2.1:5060;lr;received=sip:198.51.100.7:40000>");
    assert_eq!((&*target.uri, &*target.destination), (&b"sip:a@10.0.0.1"[..], &b""[..]));
    assert_eq!((target.flow, target.local), (None, None));
    let target = at_home(binding.clone(), "a.example:5070");
    assert_eq!(&*target.route, b"<sip:a.example:5070;lr;received=sip:198.51.100.7:40000>");
    // Its connection's number may be one of ours.
    binding.transport = Transport::Tcp;
    binding.received = b"sip:198.51.100.7:40000;transport=tcp";
    let target = at_home(binding, "");
    let expected = b"<sip:192.0.2.1:5060;lr;transport=tcp;\
                     received=sip:198.51.100.7:40000%3btransport%3dtcp>";
    assert_eq!(&*target.route, &expected[..]);
    assert_eq!(target.flow, None);
}

#[test]
fn a_phone_of_another_router_with_a_path_is_reached_by_its_path() {
    let mut binding = fields("sip:a@10.0.0.1");
    binding.path = b"<sip:p1.example.com;lr>";
    assert_eq!(&*at_home(binding.clone(), "").route, b"<sip:p1.example.com;lr>");
    // The last proxy's connection ends at the other router.
    binding.transport = Transport::Tcp;
    let target = at_home(binding, "");
    let expected = b"<sip:192.0.2.1:5060;lr;transport=tcp>, <sip:p1.example.com;lr>";
    assert_eq!(&*target.route, &expected[..]);
}
