/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a packet is, and whether it may pass (R-M4, R-M6): the rules of `src/packet.rs`, on packets
 * the verifier lets be read in pieces only.
 */
#ifndef VIADUCT_RELAY_PACKET_H
#define VIADUCT_RELAY_PACKET_H

enum { /* as `Classes` of src/session.rs */
	STUN = 1 << 0,
	ZRTP = 1 << 1,
	DTLS = 1 << 2,
	TURN = 1 << 3,
	RTP = 1 << 4,
	RTCP = 1 << 5,
	OTHER = 1 << 6,
};

#define RTP_HEADER 12
#define RTCP_HEADER 8	 /* the common header and the sender's SSRC */
#define SRTCP_TRAILER 4	 /* E flag and index; the tag may be of any length */
#define MOST_IN_RTCP 16	 /* packets of a compound; a longer one is user space's */

/* Octets of UDP payload: where they are, how many, and the first of them (0 beyond the end). */
struct payload {
	__u32 at;
	__u32 length;
	__u8 head[RTP_HEADER];
};

static __always_inline __u32 class_of(const struct payload *p)
{
	__u8 first = p->head[0];

	if (p->length == 0)
		return OTHER;
	if (first <= 3)
		return STUN;
	if (first >= 16 && first <= 19)
		return ZRTP;
	if (first >= 20 && first <= 63)
		return DTLS;
	if (first >= 64 && first <= 79)
		return TURN;
	if (first < 128 || first > 191)
		return OTHER;
	return p->length > 1 && p->head[1] >= 192 && p->head[1] <= 223 ? RTCP : RTP;
}

/* Version, CSRCs, extension and padding of RTP fit the packet (RFC 3550 5.1). */
static __always_inline int is_rtp(struct xdp_md *ctx, const struct payload *p, int srtp)
{
	__u32 header = RTP_HEADER + 4 * (p->head[0] & 0x0f);
	__be16 words;
	__u8 padding;

	if (p->length < RTP_HEADER || p->head[0] >> 6 != 2)
		return 0;
	if (p->head[0] & 0x10) {
		if (p->length < header + 4 ||
		    bpf_xdp_load_bytes(ctx, p->at + header + 2, &words, sizeof(words)))
			return 0;
		header += 4 + 4 * bpf_ntohs(words);
	}
	if (p->length < header)
		return 0;
	if (!(p->head[0] & 0x20) || srtp)
		return 1;
	if (bpf_xdp_load_bytes(ctx, p->at + p->length - 1, &padding, 1))
		return 0;
	return padding != 0 && padding <= p->length - header;
}

enum chain {
	BROKEN,
	WHOLE,
	LONG, /* more packets than are followed here */
};

/* The packets of an RTCP compound fit it exactly (RFC 3550 A.2; RFC 5506). */
static __always_inline enum chain rtcp_chain(struct xdp_md *ctx, const struct payload *p, int srtp)
{
	__u32 at = 0;

	if (p->length < RTCP_HEADER)
		return BROKEN;
	if (srtp)
		return p->head[0] >> 6 == 2 && p->length >= RTCP_HEADER + SRTCP_TRAILER ? WHOLE :
											   BROKEN;
	for (int i = 0; i < MOST_IN_RTCP; i++) {
		__u8 one[4], padding;
		__u32 size;

		if (at >= p->length)
			return WHOLE;
		if (p->length - at < 4 || bpf_xdp_load_bytes(ctx, p->at + at, one, sizeof(one)))
			return BROKEN;
		size = 4 * (((__u32)one[2] << 8 | one[3]) + 1);
		if (one[0] >> 6 != 2 || one[1] < 192 || one[1] > 223 || size > p->length - at)
			return BROKEN;
		if (one[0] & 0x20) {
			/* Padding is allowed in the last packet only, in fours. */
			if (at + size != p->length ||
			    bpf_xdp_load_bytes(ctx, p->at + at + size - 1, &padding, 1))
				return BROKEN;
			if (padding == 0 || padding % 4 != 0 || padding > size - 4)
				return BROKEN;
		}
		at += size;
	}
	return at >= p->length ? WHOLE : LONG;
}

#endif
