/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_CORE_PACKET_H
#define VIADUCT_CORE_PACKET_H

#include "types.h"
#include "../uapi/viaduct.h"

/* What is wrong with a packet; NONE where it may pass. */
enum viaduct_fault {
	VIADUCT_FAULT_NONE,
	VIADUCT_FAULT_CLASS,	/* a class the leg does not take */
	VIADUCT_FAULT_MALFORMED,
	VIADUCT_FAULT_SIZE,
	VIADUCT_FAULT_PAYLOAD_TYPE,
};

/* The rules a leg has for what it receives; fixed until signalled anew. */
struct viaduct_rules {
	u32 forward;		/* VIADUCT_CLASS_* that are relayed */
	u32 up;			/* VIADUCT_CLASS_* that go to user space */
	u32 flags;		/* VIADUCT_LEG_F_* */
	u16 max_size;		/* of the UDP payload in octets, 0: no limit */
	u8 payload_types[16];	/* bit n of octet n/8: type n may pass */
};

/* What was found in a packet on the way. */
struct viaduct_facts {
	u32 class;		/* one of VIADUCT_CLASS_* */
	u32 ssrc;		/* of RTP, else 0 */
	u16 seq;		/* of RTP, else 0 */
	u8 payload_type;	/* of RTP, else 0 */
};

/* One of VIADUCT_CLASS_*, by the first octets (RFC 7983, RFC 5761 section 4). */
u32 viaduct_classify(const u8 *data, u32 len);

/*
 * Whether an RTP packet is well-formed (RFC 3550 5.1): version, room for CSRCs,
 * extension and padding. @srtp: the end of the packet is ciphertext and tag
 * (RFC 3711 3.1), so the octet that counts the padding is not read.
 */
bool viaduct_rtp_valid(const u8 *data, u32 len, bool srtp);

/*
 * Whether the packets of an RTCP compound fit its length exactly (RFC 3550 6.4,
 * A.2). One alone is a compound too (RFC 5506). @srtp: all after the first
 * eight octets is ciphertext (RFC 3711 3.4), so only those are looked at.
 */
bool viaduct_rtcp_valid(const u8 *data, u32 len, bool srtp);

/* Judges a packet by the rules of its leg (R-M4, R-M6); fills @facts. */
enum viaduct_fault viaduct_screen(const struct viaduct_rules *rules,
				  const u8 *data, u32 len,
				  struct viaduct_facts *facts);

#endif
