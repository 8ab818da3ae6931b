// SPDX-License-Identifier: GPL-2.0
#include "packet.h"

#define RTP_HEADER 12
#define RTCP_HEADER 8	/* the common header and the sender's SSRC */
#define SRTCP_TRAILER 4	/* E flag and index; the tag may be of any length */

/* `inline` to the compiler, for viaduct_screen(): each packet of a session comes through here. */
inline u32 viaduct_classify(const u8 *data, u32 len)
{
	if (len == 0)
		return VIADUCT_CLASS_OTHER;
	switch (data[0]) {
	case 0 ... 3:
		return VIADUCT_CLASS_STUN;
	case 16 ... 19:
		return VIADUCT_CLASS_ZRTP;
	case 20 ... 63:
		return VIADUCT_CLASS_DTLS;
	case 64 ... 79:
		return VIADUCT_CLASS_TURN;
	case 128 ... 191:
		if (len > 1 && data[1] >= 192 && data[1] <= 223)
			return VIADUCT_CLASS_RTCP;
		return VIADUCT_CLASS_RTP;
	default:
		return VIADUCT_CLASS_OTHER;
	}
}

inline bool viaduct_rtp_valid(const u8 *data, u32 len, bool srtp)
{
	u32 header = RTP_HEADER;

	if (len < RTP_HEADER || data[0] >> 6 != 2)
		return false;
	header += 4 * (data[0] & 0x0f);
	if (data[0] & 0x10) {
		if (len < header + 4)
			return false;
		header += 4 + 4 * viaduct_be16(data + header + 2);
	}
	if (len < header)
		return false;
	if ((data[0] & 0x20) && !srtp) {
		u8 padding = data[len - 1];

		return padding != 0 && padding <= len - header;
	}
	return true;
}

bool viaduct_rtcp_valid(const u8 *data, u32 len, bool srtp)
{
	u32 at = 0;

	if (len < RTCP_HEADER)
		return false;
	if (srtp)
		return data[0] >> 6 == 2 && len >= RTCP_HEADER + SRTCP_TRAILER;
	while (at < len) {
		u32 size;

		if (len - at < 4 || data[at] >> 6 != 2)
			return false;
		if (data[at + 1] < 192 || data[at + 1] > 223)
			return false;
		size = 4 * (viaduct_be16(data + at + 2) + 1);
		if (size > len - at)
			return false;
		/* Padding is allowed in the last packet only, in fours. */
		if (data[at] & 0x20) {
			u8 padding = data[at + size - 1];

			if (at + size != len || padding == 0 ||
			    padding % 4 != 0 || padding > size - 4)
				return false;
		}
		at += size;
	}
	return true;
}

static bool type_allowed(const struct viaduct_rules *rules, u8 type)
{
	return rules->payload_types[type / 8] & (1 << (type % 8));
}

static enum viaduct_fault screen_rtp(const struct viaduct_rules *rules,
				     const u8 *data, u32 len,
				     struct viaduct_facts *facts)
{
	if (!viaduct_rtp_valid(data, len, rules->flags & VIADUCT_LEG_F_SRTP))
		return VIADUCT_FAULT_MALFORMED;
	facts->payload_type = data[1] & 0x7f;
	facts->seq = viaduct_be16(data + 2);
	facts->ssrc = viaduct_be32(data + 8);
	if (!type_allowed(rules, facts->payload_type))
		return VIADUCT_FAULT_PAYLOAD_TYPE;
	return VIADUCT_FAULT_NONE;
}

enum viaduct_fault viaduct_screen(const struct viaduct_rules *rules,
				  const u8 *data, u32 len,
				  struct viaduct_facts *facts)
{
	bool srtp = rules->flags & VIADUCT_LEG_F_SRTP;

	memset(facts, 0, sizeof(*facts));
	facts->class = viaduct_classify(data, len);
	if (!((rules->forward | rules->up) & facts->class))
		return VIADUCT_FAULT_CLASS;
	if (rules->max_size && len > rules->max_size)
		return VIADUCT_FAULT_SIZE;
	/* What user space gets it judges itself. */
	if (!(rules->forward & facts->class))
		return VIADUCT_FAULT_NONE;
	if (facts->class == VIADUCT_CLASS_RTP)
		return screen_rtp(rules, data, len, facts);
	if (facts->class == VIADUCT_CLASS_RTCP &&
	    !viaduct_rtcp_valid(data, len, srtp))
		return VIADUCT_FAULT_MALFORMED;
	return VIADUCT_FAULT_NONE;
}
