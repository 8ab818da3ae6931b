/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How well the RTP of a peer arrives: loss by sequence numbers, and jitter (RFC 3550 6.4.1, A.1,
 * A.3, A.8), as `src/relay/quality.rs` has it. A stream comes by one queue, so by one processor;
 * where it moves to another, a number may be off by a packet.
 */
#ifndef VIADUCT_RELAY_STREAM_H
#define VIADUCT_RELAY_STREAM_H

#define DROPOUT_MAX 3000
#define MISORDER_MAX 100

struct stream {
	__u64 expected; /* from the first to the highest sequence number */
	__u64 received;
	__u64 past_expected; /* of streams that came before this one */
	__u64 past_lost;
	__u64 last_ns; /* arrival of the last packet with a new timestamp */
	__u64 jitter_16us;
	__u32 timestamp;
	__u32 ssrc;
	__u16 highest;
	__u16 begun;
	__u32 jitter_us;
};

static __always_inline void stream_note(struct stream *s, const __u8 *head, __u64 now,
					__u32 clock_hz)
{
	__u16 sequence = (__u16)head[2] << 8 | head[3];
	__u32 timestamp = (__u32)head[4] << 24 | (__u32)head[5] << 16 | (__u32)head[6] << 8 | head[7];
	__u32 ssrc = (__u32)head[8] << 24 | (__u32)head[9] << 16 | (__u32)head[10] << 8 | head[11];
	__u16 ahead = sequence - s->highest;
	__u64 apart_us, sent_us;
	__u32 ticks;

	if (!s->begun || s->ssrc != ssrc ||
	    (ahead >= DROPOUT_MAX && ahead <= 0xffff - MISORDER_MAX)) {
		s->past_expected += s->expected;
		if (s->expected > s->received)
			s->past_lost += s->expected - s->received;
		s->begun = 1;
		s->ssrc = ssrc;
		s->highest = sequence;
		s->timestamp = timestamp;
		s->last_ns = now;
		s->expected = s->received = 1;
		s->jitter_16us = 0;
		return;
	}
	s->received++;
	if (ahead >= DROPOUT_MAX)
		return; /* late */
	s->expected += ahead;
	s->highest = sequence;
	ticks = timestamp - s->timestamp;
	s->timestamp = timestamp;
	/* Packets of one picture, and of one digit (RFC 4733), have one timestamp; a leap is a pause. */
	if (ticks == 0)
		return;
	apart_us = (now - s->last_ns) / 1000;
	s->last_ns = now;
	if (clock_hz == 0 || ticks > clock_hz)
		return;
	sent_us = (__u64)ticks * 1000000 / clock_hz;
	s->jitter_16us += (apart_us > sent_us ? apart_us - sent_us : sent_us - apart_us) -
			  s->jitter_16us / 16;
	s->jitter_us = s->jitter_16us / 16;
}

#endif
