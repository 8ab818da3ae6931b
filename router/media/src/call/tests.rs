#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::session::{Classes, Rank};

const LEARN: Learn = Learn { window_ms: 3_000, settle_ms: 500, lowest: Rank::Any };

struct Stand {
    call: Call,
    pools: [PortPool; 2],
}

fn stand() -> Stand {
    let settings = Settings {
        learn: LEARN,
        idle_s: 60,
        dscp_audio: Some(46),
        dscp_video: Some(34),
        loopback: false,
        handover: false,
    };
    let pool = |ip: &str| PortPool::new(ip.parse().unwrap(), 30_000..=30_099, 0).unwrap();
    Stand { call: Call::new(5, settings), pools: [pool("198.51.100.1"), pool("2001:db8::1")] }
}

fn said(from: Side, text: &str) -> Said<'_> {
    Said { from, text: text.as_bytes(), source: None, show: Show::default(), settles: true }
}

impl Stand {
    fn offer(&mut self, from: Side, text: &str) -> Result<Rewritten, CallError> {
        self.offer_as(&said(from, text))
    }

    fn offer_as(&mut self, said: &Said<'_>) -> Result<Rewritten, CallError> {
        let mut pools = Pools { all: &mut self.pools, places: [0, 1], random: 12_345 };
        self.call.offer(0, said, &mut pools)
    }

    fn answer(&mut self, from: Side, text: &str) -> Result<Rewritten, CallError> {
        self.answer_as(&said(from, text))
    }

    fn answer_as(&mut self, said: &Said<'_>) -> Result<Rewritten, CallError> {
        let mut pools = Pools { all: &mut self.pools, places: [0, 1], random: 54_321 };
        self.call.answer(0, said, &mut pools)
    }

    fn refuse(&mut self) -> Vec<Order> {
        let mut pools = Pools { all: &mut self.pools, places: [0, 1], random: 1 };
        self.call.refuse(0, &mut pools)
    }

    fn end(&mut self) -> Vec<Order> {
        let mut pools = Pools { all: &mut self.pools, places: [0, 1], random: 1 };
        self.call.end(0, &mut pools)
    }

    fn free(&self) -> (usize, usize) {
        (self.pools[0].free(), self.pools[1].free())
    }
}

fn removed(orders: &[Order]) -> usize {
    orders.iter().filter(|order| matches!(order, Order::Remove(_))).count()
}

fn sdp(ip: &str, media: &[&str]) -> String {
    let family = if ip.contains(':') { "IP6" } else { "IP4" };
    let media: String = media.iter().map(|m| format!("m={m}\r\n")).collect();
    format!("v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n{media}")
}

fn offer_sdp() -> String {
    sdp("192.0.2.7", &["audio 4000 RTP/AVP 0 101", "video 4002 RTP/AVP 96"])
}

fn answer_sdp() -> String {
    sdp("2001:db8::b", &["audio 5000 RTP/AVP 0", "video 0 RTP/AVP 96"])
}

fn sets(orders: &[Order]) -> Vec<&Leg> {
    orders
        .iter()
        .flat_map(|order| if let Order::Set(legs) = order { legs.as_slice() } else { &[] })
        .collect()
}

#[test]
fn an_offer_takes_ports_and_the_other_side_sees_its_own() {
    let mut stand = stand();
    let (text, orders) = stand.offer(Side::A, &offer_sdp()).unwrap();
    let seen = Sdp::read(&text).unwrap();
    let Order::Add(audio) = &orders[0] else { panic!() };
    assert_eq!(orders.len(), 4, "RTP and RTCP of two streams");
    assert_eq!(seen.media[0].peer(), Some(audio.legs[1].local));
    assert!(audio.legs[1].local.is_ipv6() && audio.legs[0].local.is_ipv4());
    assert_eq!(audio.legs[0].peer, Some("192.0.2.7:4000".parse().unwrap()));
    assert_eq!((audio.legs[1].peer, audio.legs[0].learn), (None, Learn::OFF));
    let Order::Add(control) = &orders[1] else { panic!() };
    assert_eq!(control.legs[0].local.port(), audio.legs[0].local.port() + 1);
    assert_eq!(control.legs[0].forward, Classes::RTCP);
    assert_eq!(stand.free(), (96, 96));
}

#[test]
fn r_m5_the_windows_open_with_the_answer() {
    let mut stand = stand();
    stand.offer(Side::A, &offer_sdp()).unwrap();
    let (text, orders) = stand.answer(Side::B, &answer_sdp()).unwrap();
    let seen = Sdp::read(&text).unwrap();
    assert_eq!(seen.media[0].peer().unwrap().ip(), "198.51.100.1".parse::<IpAddr>().unwrap());
    assert_eq!(seen.media[1].port, 0);
    let legs = sets(&orders);
    assert_eq!(legs.len(), 4);
    assert!(legs.iter().all(|leg| leg.learn == LEARN));
    assert_eq!(legs[1].peer, Some("[2001:db8::b]:5000".parse().unwrap()));
    assert_eq!(legs[0].payload_types, 1 | 1 << 101);
    assert_eq!(legs[0].dscp, Some(46));
    let after = (removed(&orders), stand.free());
    assert_eq!(after, (2, (98, 98)), "the refused stream is gone");
}

#[test]
fn r_m5_the_same_answer_again_and_a_re_invite_without_news_leave_the_legs_locked() {
    let mut stand = stand();
    stand.offer(Side::A, &offer_sdp()).unwrap();
    stand.answer(Side::B, &answer_sdp()).unwrap();
    assert!(stand.answer(Side::B, &answer_sdp()).unwrap().1.is_empty());
    let again = sdp("2001:db8::b", &["audio 5000 RTP/AVP 0", "video 0 RTP/AVP 96"]);
    assert!(stand.offer(Side::B, &again).unwrap().1.is_empty());
    let answer = sdp("192.0.2.7", &["audio 4000 RTP/AVP 0 101", "video 0 RTP/AVP 96"]);
    assert!(stand.answer(Side::A, &answer).unwrap().1.is_empty());
}

#[test]
fn r_m5_a_re_invite_with_another_address_opens_only_its_own_leg() {
    let mut stand = stand();
    stand.offer(Side::A, &offer_sdp()).unwrap();
    stand.answer(Side::B, &answer_sdp()).unwrap();
    let moved = sdp("192.0.2.99", &["audio 4400 RTP/AVP 0 101", "video 0 RTP/AVP 96"]);
    let (_, orders) = stand.offer(Side::A, &moved).unwrap();
    assert!(orders.is_empty(), "not before the answer");
    let (_, orders) = stand.answer(Side::B, &answer_sdp()).unwrap();
    let peers: Vec<_> = sets(&orders).iter().map(|leg| leg.peer.unwrap().to_string()).collect();
    assert_eq!(peers, ["192.0.2.99:4400", "192.0.2.99:4401"]);
}

#[test]
fn r_m5_on_hold_by_address_nothing_is_learned() {
    let mut stand = stand();
    stand.offer(Side::A, &offer_sdp()).unwrap();
    stand.answer(Side::B, &answer_sdp()).unwrap();
    let held = sdp("0.0.0.0", &["audio 4000 RTP/AVP 0 101", "video 0 RTP/AVP 96"]);
    let (text, _) = stand.offer(Side::A, &held).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("c=IN IP6 ::\r\n"));
    let (_, orders) = stand.answer(Side::B, &answer_sdp()).unwrap();
    assert!(sets(&orders).iter().all(|leg| leg.peer.is_none() && leg.learn == Learn::OFF));
}

#[test]
fn rfc_5761_5_1_1_rtcp_shares_the_port_only_if_both_say_so() {
    for both in [false, true] {
        let mut stand = stand();
        let offer = sdp("192.0.2.7", &["audio 4000 RTP/AVP 0"]) + "a=rtcp-mux\r\n";
        stand.offer(Side::A, &offer).unwrap();
        let mux = if both { "a=rtcp-mux\r\n" } else { "" };
        let answer = sdp("2001:db8::b", &["audio 5000 RTP/AVP 0"]) + mux;
        let (_, orders) = stand.answer(Side::B, &answer).unwrap();
        let control = sets(&orders)[2].forward;
        assert_eq!(control, if both { Classes::empty() } else { Classes::RTCP });
    }
}

#[test]
fn the_source_of_the_signalling_counts_where_it_is_given() {
    let mut stand = stand();
    let source = Some("203.0.113.50".parse().unwrap());
    let text = sdp("10.0.0.3", &["audio 4000 RTP/AVP 0"]);
    let (_, orders) = stand.offer_as(&Said { source, ..said(Side::A, &text) }).unwrap();
    let Order::Add(session) = &orders[0] else { panic!() };
    assert_eq!(session.legs[0].peer, Some("203.0.113.50:4000".parse().unwrap()));
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut stand = stand();
    assert_eq!(stand.answer(Side::B, &answer_sdp()), Err(CallError::NoOffer));
    assert!(matches!(stand.offer(Side::A, "v=0\r\nm=audio 1\r\n"), Err(CallError::Sdp(_))));
    let no_address = "v=0\r\nm=audio 4000 RTP/AVP 0\r\n";
    assert!(matches!(stand.offer(Side::A, no_address), Err(CallError::Sdp(_))));
    let too_many = sdp("192.0.2.7", &["audio 4000 RTP/AVP 0"; 32]);
    stand.pools[1] = PortPool::new("2001:db8::1".parse().unwrap(), 30_000..=30_041, 0).unwrap();
    assert!(matches!(stand.offer(Side::A, &too_many), Err(CallError::Ports(_))));
    let free = |stand: &mut Stand| {
        // A released port counts as free when the pool is asked the next time.
        let (text, _) = stand.offer(Side::A, &sdp("192.0.2.7", &["audio 4 RTP/AVP 0"])).unwrap();
        drop(text);
        stand.free()
    };
    assert_eq!(free(&mut stand), (98, 40));
    let streams = CallError::Streams { offered: 1, answered: 2 };
    assert_eq!(stand.answer(Side::B, &answer_sdp()), Err(streams));
}

#[test]
fn the_end_of_a_call_gives_everything_back() {
    let mut stand = stand();
    let (_, added) = stand.offer(Side::A, &offer_sdp()).unwrap();
    let removed = stand.end();
    let locals: Vec<_> = added
        .iter()
        .map(|order| if let Order::Add(session) = order { session.legs[0].local } else { panic!() })
        .collect();
    assert_eq!(removed, locals.into_iter().map(Order::Remove).collect::<Vec<_>>());
    let again = stand.offer(Side::A, &sdp("192.0.2.7", &["audio 4 RTP/AVP 0"]));
    assert!(again.is_ok());
    assert_eq!(stand.free(), (98, 98));
}

#[test]
fn rfc_3261_14_1_a_refused_re_invite_leaves_all_as_it_was() {
    let mut stand = stand();
    stand.offer(Side::A, &offer_sdp()).unwrap();
    let both = sdp("2001:db8::b", &["audio 5000 RTP/AVP 0", "video 5002 RTP/AVP 96"]);
    stand.answer(Side::B, &both).unwrap();
    let free = stand.free();
    let offer =
        sdp("192.0.2.99", &["audio 4000 RTP/AVP 0", "video 0 RTP/AVP 96", "audio 4004 RTP/AVP 0"]);
    let (_, orders) = stand.offer(Side::A, &offer).unwrap();
    assert_eq!((orders.len(), removed(&orders)), (2, 0), "a third stream, and none ends yet");
    let orders = stand.refuse();
    assert_eq!((removed(&orders), orders.len()), (2, 2), "the third stream is taken back");
    stand.offer(Side::A, &sdp("192.0.2.7", &["audio 4 RTP/AVP 0"])).unwrap();
    stand.refuse();
    assert_eq!(stand.free(), free);
    assert!(stand.refuse().is_empty(), "there is nothing to refuse any more");
    let again = sdp("192.0.2.7", &["audio 4000 RTP/AVP 0 101", "video 4002 RTP/AVP 96"]);
    stand.offer(Side::A, &again).unwrap();
    assert!(stand.answer(Side::B, &both).unwrap().1.is_empty(), "nobody has moved");
}

#[test]
fn a_stream_one_branch_refuses_may_be_taken_by_another() {
    let mut stand = stand();
    stand.offer(Side::A, &offer_sdp()).unwrap();
    let early = answer_sdp();
    let (_, orders) = stand.answer_as(&Said { settles: false, ..said(Side::B, &early) }).unwrap();
    assert_eq!(removed(&orders), 0);
    let both = sdp("2001:db8::c", &["audio 6000 RTP/AVP 0", "video 6002 RTP/AVP 96"]);
    let (_, orders) = stand.answer(Side::B, &both).unwrap();
    let peers: Vec<_> = sets(&orders).into_iter().filter_map(|leg| leg.peer).collect();
    assert!(peers.contains(&"[2001:db8::c]:6000".parse().unwrap()));
    assert!(peers.contains(&"[2001:db8::c]:6002".parse().unwrap()));
}

#[test]
fn what_was_agreed_may_be_said_again_by_who_offered() {
    let mut stand = stand();
    stand.offer(Side::A, &offer_sdp()).unwrap();
    stand.answer(Side::B, &answer_sdp()).unwrap();
    let (first, _) = stand.offer(Side::B, &answer_sdp()).unwrap();
    let (again, orders) = stand.answer(Side::B, &answer_sdp()).unwrap();
    assert_eq!((first, orders), (again, Vec::new()));
}

#[test]
fn peers_are_told_the_address_before_the_nat() {
    let mut stand = stand();
    let ip = "2001:db8::1".parse().unwrap();
    let pool = PortPool::new(ip, 30_000..=30_099, 0).unwrap();
    stand.pools[1] = pool.advertised_as("2001:db8::ffff".parse().unwrap());
    let (text, orders) = stand.offer(Side::A, &offer_sdp()).unwrap();
    let Order::Add(session) = &orders[0] else { panic!() };
    assert_eq!(session.legs[1].local.ip(), ip);
    assert!(String::from_utf8(text).unwrap().contains("c=IN IP6 2001:db8::ffff\r\n"));
    let show = Show {
        address: Some("2001:db8::aaaa".parse().unwrap()),
        origin: true,
        connection: true,
        ..Show::default()
    };
    let (text, _) = stand.offer_as(&Said { show, ..said(Side::A, &offer_sdp()) }).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("192.0.2.7"), "{text}");
    assert_eq!(text.matches("IN IP6 2001:db8::aaaa\r\n").count(), 4);
}
