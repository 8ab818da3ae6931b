//! What does not pass, and is never answered (R-M3, R-M4, R-M6).

use anyhow::Result;
use viaduct_media::packet;
use viaduct_media::session::{Budget, Classes, Counter, Counters, Leg, LegFlags};

use crate::fuzz::Random;
use crate::packets::{dtls, rtcp, rtp, rtp_of, stun};
use crate::phone::Phone;
use crate::stage;
use crate::stage::Call;

/// Alice sends what must be dropped and counted so; then a good packet is the first to arrive.
fn refused(packets: &[Vec<u8>], counter: Counter) -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    for packet in packets {
        call.alice.send(call.for_alice, packet)?;
    }
    stage.counted(call.for_alice, counter, packets.len() as u64)?;
    call.alice_reaches_bob()?;
    assert!(call.alice.drain().is_empty(), "garbage is not answered");
    Ok(())
}

fn changed(mut packet: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    packet[at] = value;
    packet
}

#[test]
fn r_m6_short_rtp_is_dropped() -> Result<()> {
    refused(&[rtp(1)[..11].to_vec(), rtp(1)[..2].to_vec(), vec![0x80]], Counter::Malformed)
}

#[test]
fn r_m6_csrcs_extension_and_padding_that_do_not_fit_are_dropped() -> Result<()> {
    let csrcs = changed(rtp(1)[..40].to_vec(), 0, 0x8f);
    let extension = changed(changed(rtp(1), 0, 0x90), 14, 0xff);
    let padding = changed(changed(rtp(1), 0, 0xa0), 171, 161);
    let no_padding = changed(changed(rtp(1), 0, 0xa0), 171, 0);
    refused(&[csrcs, extension, padding, no_padding], Counter::Malformed)
}

#[test]
fn r_m6_rtcp_lengths_must_chain() -> Result<()> {
    let too_long = changed(rtcp(), 3, 9);
    let too_short = changed(rtcp(), 11, 2);
    let rtp_inside = changed(rtcp(), 9, 100);
    let cut = rtcp()[..23].to_vec();
    refused(&[too_long, too_short, rtp_inside, cut], Counter::Malformed)
}

#[test]
fn r_m4_classes_nobody_asked_for_are_dropped() -> Result<()> {
    let others = vec![vec![], vec![0xff; 20], vec![0x50; 20], b"GET / HTTP/1.1\r\n".to_vec()];
    let mut packets = vec![stun(), dtls()];
    packets.extend(others.into_iter().filter(|packet| !packet.is_empty()));
    refused(&packets, Counter::Class)
}

#[test]
fn r_m4_an_empty_datagram_is_dropped() -> Result<()> {
    refused(&[vec![]], Counter::Class)
}

#[test]
fn r_m4_classes_asked_for_are_relayed_from_the_peer() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.forward |= Classes::STUN | Classes::DTLS)?;
    call.alice.send(call.for_alice, &stun())?;
    assert_eq!(call.bob.receive()?.data, stun());
    call.alice.send(call.for_alice, &dtls())?;
    assert_eq!(call.bob.receive()?.data, dtls());
    let stranger = Phone::new(&stage.net.a, "10.0.1.2:4000")?;
    stranger.send(call.for_alice, &stun())?;
    stage.counted(call.for_alice, Counter::Foreign, 1)
}

#[test]
fn r_m6_payload_types_are_filtered() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.payload_types = 1 | 1 << 101)?;
    for (payload_type, passes) in [(0, true), (8, false), (101, true), (127, false), (100, false)] {
        let packet = rtp_of(payload_type, 1, 1);
        call.alice.send(call.for_alice, &packet)?;
        if passes {
            assert_eq!(call.bob.receive()?.data, packet);
        }
    }
    stage.counted(call.for_alice, Counter::PayloadType, 3)
}

#[test]
fn r_m6_the_marker_is_no_part_of_the_payload_type() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.payload_types = 1 << 101)?;
    let marked = rtp_of(0x80 | 101, 1, 1);
    call.alice.send(call.for_alice, &marked)?;
    assert_eq!(call.bob.receive()?.data, marked);
    Ok(())
}

#[test]
fn r_m3_larger_packets_than_allowed_are_dropped() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.max_size = 172)?;
    let mut large = rtp(1);
    large.push(0);
    call.alice.send(call.for_alice, &large)?;
    stage.counted(call.for_alice, Counter::Size, 1)?;
    call.alice_reaches_bob()
}

#[test]
fn r_m6_encrypted_packets_are_judged_by_their_clear_part() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.flags |= LegFlags::SRTP)?;
    // The padding octet and the RTCP lengths are ciphertext here.
    let secret_rtp = changed(changed(rtp(1), 0, 0xa0), 171, 255);
    let mut secret_rtcp = vec![0x80, 200, 0, 6, 1, 2, 3, 4];
    secret_rtcp.extend_from_slice(&[0xee; 34]);
    for packet in [secret_rtp, secret_rtcp] {
        call.alice.send(call.for_alice, &packet)?;
        assert_eq!(call.bob.receive()?.data, packet);
    }
    call.alice.send(call.for_alice, &[0x80, 200, 0, 1, 1, 2, 3, 4])?;
    stage.counted(call.for_alice, Counter::Malformed, 1)
}

#[test]
fn r_m3_a_leg_has_a_budget_of_packets() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.packets = Budget { per_s: 1, burst: 10 })?;
    for number in 0..200 {
        call.alice.send(call.for_alice, &rtp(number))?;
    }
    // How many pass depends on how long the sending took, but all are counted.
    let mut both = 0;
    while both < 200 {
        both = stage.count(call.for_alice, Counter::Packets)
            + stage.count(call.for_alice, Counter::Limited);
    }
    assert!(stage.count(call.for_alice, Counter::Packets) >= 10);
    assert!(stage.count(call.for_alice, Counter::Limited) > 0);
    call.bob_reaches_alice()
}

#[test]
fn r_m3_a_leg_has_a_budget_of_octets() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.octets = Budget { per_s: 10, burst: 2_048 })?;
    for number in 0..11 {
        call.alice.send(call.for_alice, &rtp(number))?; // 172 octets, 11 of them 1,892
    }
    stage.counted(call.for_alice, Counter::Packets, 11)?;
    let mut large = rtp(12);
    large.resize(1_400, 0);
    call.alice.send(call.for_alice, &large)?;
    stage.counted(call.for_alice, Counter::Limited, 1)
}

/// Something like RTP, RTCP or DTLS, with a few octets changed; mostly of the headers.
fn damaged(random: &mut Random) -> Vec<u8> {
    let mut packet = match random.below(6) {
        0 => rtcp(),
        1 => rtcp().repeat(1 + random.below(20) as usize),
        2 => dtls(),
        _ => rtp_of(random.below(40) as u8, 1, random.next() as u16),
    };
    if random.below(4) == 0 {
        packet.resize(random.below(700) as usize, 0x81);
    }
    for _ in 0..random.below(4) {
        let within = if random.below(3) == 0 { packet.len() as u64 } else { 20 };
        if let Some(octet) = packet.get_mut(random.below(within.max(1)) as usize) {
            *octet = random.next() as u8;
        }
    }
    packet
}

/// The rules are written three times: in Rust, in the module's C, in the program's.
#[test]
fn r_m6_damaged_packets_are_judged_alike_by_every_executor() -> Result<()> {
    const JUDGED: [Counter; 5] =
        [Counter::Packets, Counter::Class, Counter::Malformed, Counter::Size, Counter::PayloadType];
    let mut stage = stage!(new);
    let rules = |leg: &mut Leg| {
        leg.payload_types = u128::from(u32::MAX);
        leg.max_size = 600;
        leg.forward |= Classes::DTLS;
    };
    let call = Call::with(&mut stage, rules)?;
    let [mut leg, _] = call.legs();
    rules(&mut leg);
    let (mut random, mut expected) = (Random(2_026), Counters::default());
    for _ in 0..60 {
        // As many as any queue on the way has room for.
        for _ in 0..50 {
            let packet = damaged(&mut random);
            let counter = packet::screen(&leg, &packet).err().unwrap_or(Counter::Packets);
            expected.add(counter, 1);
            call.alice.send(call.for_alice, &packet)?;
        }
        for counter in JUDGED {
            stage.counted(call.for_alice, counter, expected.get(counter))?;
        }
        call.bob.drain();
    }
    assert!(JUDGED.iter().all(|counter| expected.get(*counter) > 50), "{expected:?}");
    Ok(())
}
