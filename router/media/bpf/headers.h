/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs of this folder read of headers, and how. */
#ifndef VIADUCT_RELAY_HEADERS_H
#define VIADUCT_RELAY_HEADERS_H

#define FRAGMENTED 0x3fff /* more fragments, or an offset */
#define V4 2		  /* AF_INET */
#define V6 10		  /* AF_INET6 */

/*
 * A length in a header. The verifier of Linux 6.1 takes swapped bytes for any 64 bits, and clang would
 * leave out the mask, were it to see what it is about.
 */
static __always_inline __u32 length_of(__be16 field)
{
	__u32 length = bpf_ntohs(field);

	asm volatile("" : "+r"(length));
	return length & 0xffff;
}

static __always_inline __u16 folded(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

#endif
