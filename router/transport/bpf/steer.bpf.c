// SPDX-License-Identifier: GPL-2.0-only
/*
 * Steers SIP over UDP to the worker that owns it: `steer` in front of the stack (XDP), towards
 * AF_XDP sockets; `choose` among the kernel's own sockets of one port (SO_REUSEPORT).
 *
 * What is no SIP over UDP may go on to another program. Whatever is not understood goes up the stack
 * unchanged, where the same workers' ordinary sockets receive it. Dropped are only packets of banned
 * sources and those above a source's rate. Map layouts and verdicts are repeated in `src/xdp/layout.rs`.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "owner.h"

#define MOST_WORKERS 64
#define MOST_QUEUES 64
#define VLAN_ID 0x0fff
#define FRAGMENTED 0x3fff /* more fragments, or an offset */

enum verdict {
	REDIRECTED,
	NOT_IP,
	NOT_UDP,
	FRAGMENT,
	OPTIONS,
	MALFORMED,
	NOT_OURS,
	NOBODYS,
	NO_SOCKET,
	TOO_LONG,
	BANNED,
	TOO_FAST,
	VERDICTS,
};

struct settings {
	__u32 workers;
	__u32 longest_frame; /* bytes that fit a frame of the sockets */
	__u8 mac[6];	     /* of the interface */
	__u16 pad;
	__u32 banning;	     /* look at `banned` at all? */
	__u32 hole;
	__u64 per_second;    /* packets a source may send; 0: any number */
	__u64 burst;	     /* packets at once */
};

struct address {
	__u8 bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct listener {
	struct address address;
	__be16 port;
	__u16 vlan; /* 0: untagged */
};

struct bucket {
	__u64 at_ns;
	__u64 tokens_ns; /* in time: one packet costs a second / per_second */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct listener);
	__type(value, __u32);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MOST_QUEUES *MOST_WORKERS);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* Source -> until when, on the monotonic clock. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct address);
	__type(value, __u64);
} banned SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct address);
	__type(value, struct bucket);
} buckets SEC(".maps");

/* Who gets what is not SIP over UDP before the stack does, where there is somebody. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

/* What is known of a packet. */
struct packet {
	struct address source;
	struct listener to;
	__u32 payload; /* offset in the frame */
	__u32 length;
};

static __always_inline int end(enum verdict verdict, int action)
{
	__u32 key = verdict;
	__u64 *count = bpf_map_lookup_elem(&verdicts, &key);

	if (count)
		(*count)++;
	return action;
}

static __always_inline void mapped(struct address *address, __be32 v4)
{
	__builtin_memset(address->bytes, 0, 10);
	address->bytes[10] = address->bytes[11] = 0xff;
	__builtin_memcpy(address->bytes + 12, &v4, 4);
}

/* There is no memcmp in the kernel's programs. */
static __always_inline int is_same(const __u8 *a, const __u8 *b)
{
	__u8 differing = 0;

#pragma unroll
	for (int i = 0; i < 6; i++)
		differing |= a[i] ^ b[i];
	return !differing;
}

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

/* UDP's own header; `room` is what the IP header leaves to it. */
static __always_inline enum verdict read_udp(struct packet *p, void *start, void *at, void *stop,
					     __u32 room)
{
	struct udphdr *udp = at;
	__u32 length;

	if ((void *)(udp + 1) > stop)
		return MALFORMED;
	length = length_of(udp->len);
	if (length < sizeof(*udp) || length > room || at + length > stop || udp->source == 0)
		return MALFORMED;
	p->to.port = udp->dest;
	p->payload = at + sizeof(*udp) - start;
	p->length = length - sizeof(*udp);
	return REDIRECTED;
}

static __always_inline enum verdict read_ipv4(struct packet *p, void *start, void *at, void *stop)
{
	struct iphdr *ip = at;
	__u32 total;

	if ((void *)(ip + 1) > stop || ip->version != 4)
		return MALFORMED;
	if (ip->protocol != IPPROTO_UDP)
		return NOT_UDP;
	if (ip->ihl != 5)
		return OPTIONS;
	if (ip->frag_off & bpf_htons(FRAGMENTED))
		return FRAGMENT;
	total = length_of(ip->tot_len);
	if (total < sizeof(*ip) || at + total > stop)
		return MALFORMED;
	mapped(&p->source, ip->saddr);
	mapped(&p->to.address, ip->daddr);
	return read_udp(p, start, at + sizeof(*ip), stop, total - sizeof(*ip));
}

static __always_inline enum verdict read_ipv6(struct packet *p, void *start, void *at, void *stop)
{
	struct ipv6hdr *ip = at;
	__u32 room;

	if ((void *)(ip + 1) > stop || ip->version != 6)
		return MALFORMED;
	switch (ip->nexthdr) {
	case IPPROTO_UDP:
		break;
	case IPPROTO_FRAGMENT:
		return FRAGMENT;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		return OPTIONS;
	default:
		return NOT_UDP;
	}
	room = length_of(ip->payload_len);
	if (at + sizeof(*ip) + room > stop)
		return MALFORMED;
	/* No such address may be on a wire (RFC 4038 4.2), and in our maps it'd mean IPv4. */
	if (!(ip->daddr.s6_addr32[0] | ip->daddr.s6_addr32[1]) &&
	    ip->daddr.s6_addr32[2] == bpf_htonl(0xffff))
		return NOT_OURS;
	__builtin_memcpy(&p->source, &ip->saddr, 16);
	__builtin_memcpy(&p->to.address, &ip->daddr, 16);
	return read_udp(p, start, at + sizeof(*ip), stop, room);
}

static __always_inline enum verdict read_packet(struct packet *p, void *start, void *stop,
						const struct settings *set)
{
	struct ethhdr *eth = start;
	void *at = eth + 1;
	__be16 type;

	if (at > stop)
		return MALFORMED;
	type = eth->h_proto;
	p->to.vlan = 0;
	if (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)) {
		struct {
			__be16 tci;
			__be16 type;
		} *tag = at;

		if ((void *)(tag + 1) > stop)
			return MALFORMED;
		p->to.vlan = bpf_ntohs(tag->tci) & VLAN_ID;
		type = tag->type;
		at = tag + 1;
	}
	/* Frames to other stations, to groups and to all are the stack's. */
	if (!is_same(eth->h_dest, set->mac))
		return type == bpf_htons(ETH_P_IP) || type == bpf_htons(ETH_P_IPV6) ? NOT_OURS : NOT_IP;
	if (type == bpf_htons(ETH_P_IP))
		return read_ipv4(p, start, at, stop);
	if (type == bpf_htons(ETH_P_IPV6))
		return read_ipv6(p, start, at, stop);
	return NOT_IP;
}

static __always_inline int is_banned(const struct address *source, __u64 now)
{
	__u64 *until = bpf_map_lookup_elem(&banned, source);

	return until && *until > now;
}

/* A race between processors lets some packets more through, or some fewer; it does not matter. */
static __always_inline int is_too_fast(const struct address *source, const struct settings *set,
				       __u64 now)
{
	__u64 cost = 1000000000ULL / set->per_second, most = cost * set->burst;
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, source);
	struct bucket fresh = { .at_ns = now, .tokens_ns = most - cost };
	__u64 tokens;

	if (!bucket) {
		bpf_map_update_elem(&buckets, source, &fresh, BPF_ANY);
		return 0;
	}
	tokens = bucket->tokens_ns + (now - bucket->at_ns);
	if (tokens > most)
		tokens = most;
	bucket->at_ns = now;
	if (tokens < cost) {
		bucket->tokens_ns = tokens;
		return 1;
	}
	bucket->tokens_ns = tokens - cost;
	return 0;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data, *stop = (void *)(long)ctx->data_end;
	__u32 zero = 0, length = stop - start, worker;
	struct packet p = {};
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct scratch *bytes = bpf_map_lookup_elem(&scratch, &zero);
	enum verdict verdict;

	if (!set || !bytes)
		return XDP_PASS;
	verdict = read_packet(&p, start, stop, set);
	if (verdict == NOT_UDP)
		bpf_tail_call(ctx, &next, 0); /* such as SIP over TCP, which is to be on a certain CPU */
	if (verdict != REDIRECTED)
		return end(verdict, XDP_PASS);
	if (!bpf_map_lookup_elem(&listeners, &p.to)) {
		bpf_tail_call(ctx, &next, 0);
		return end(NOT_OURS, XDP_PASS); /* there is nobody */
	}
	if (set->banning || set->per_second) {
		__u64 now = bpf_ktime_get_ns();

		if (set->banning && is_banned(&p.source, now))
			return end(BANNED, XDP_DROP);
		if (set->per_second && is_too_fast(&p.source, set, now))
			return end(TOO_FAST, XDP_DROP);
	}
	if (length > set->longest_frame)
		return end(TOO_LONG, XDP_PASS);
	worker = 0;
	if (set->workers > 1) {
		length = p.length > SCRATCH_BYTES ? SCRATCH_BYTES : p.length;
		if (length == 0)
			return end(NOBODYS, XDP_PASS);
		length = within_scratch(length);
		if (bpf_xdp_load_bytes(ctx, p.payload, bytes->bytes, length))
			return end(MALFORMED, XDP_PASS);
		worker = owner_of(bytes, length, set->workers);
	}
	if (worker >= MOST_WORKERS)
		return end(NOBODYS, XDP_PASS);
	if (ctx->rx_queue_index >= MOST_QUEUES)
		return end(NO_SOCKET, XDP_PASS);
	worker += ctx->rx_queue_index * MOST_WORKERS;
	if (bpf_redirect_map(&sockets, worker, XDP_PASS) != XDP_REDIRECT)
		return end(NO_SOCKET, XDP_PASS);
	return end(REDIRECTED, XDP_REDIRECT);
}

/*
 * The place of the owner's socket among those of the port: workers bind in their order. A place
 * that isn't there makes the kernel choose by its own hash.
 */
SEC("socket")
int choose(struct __sk_buff *skb)
{
	__u32 zero = 0, length = skb->len;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct scratch *bytes = bpf_map_lookup_elem(&scratch, &zero);

	if (!set || !bytes)
		return NOBODY;
	if (length > SCRATCH_BYTES)
		length = SCRATCH_BYTES;
	if (length == 0)
		return NOBODY;
	length = within_scratch(length);
	if (bpf_skb_load_bytes(skb, 0, bytes->bytes, length))
		return NOBODY;
	return owner_of(bytes, length, set->workers);
}

char _license[] SEC("license") = "GPL";
