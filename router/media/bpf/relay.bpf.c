// SPDX-License-Identifier: GPL-2.0-only
/*
 * Relays RTP and RTCP between settled peers in front of the stack (XDP): found by local address and
 * port, judged, rewritten in place, sent. Attached by itself, or jumped to by the steering program
 * for what is no SIP.
 *
 * Every session is in user space too, with its sockets. So what cannot be done here goes up the
 * stack unchanged and is relayed there: peers that are still to be learned (no entry is made for
 * those: nobody is learned here, R-M5), fragments, IP options, VLANs, neighbours not known, devices
 * that cannot send what comes from another. Dropped is only what user space would drop as well.
 * Map layouts are repeated in `src/xdp/layout.rs`.
 */
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "headers.h"
#include "packet.h"
#include "stream.h"

/* As seen from this device, a route is that of packets made here, which is what ours are; and it
 * alone must be forwarding (`net.ipv4.conf.lo.forwarding`), not the devices packets come by. */
#define LOOPBACK 1
#define SECOND_NS 1000000000ULL
#define AS_IT_CAME 255
/* With so many processors on one bucket at once, the packet counts as one too many. */
#define ATTEMPTS_MAX 8

enum outcome { /* in the order of OUTCOMES in src/xdp/layout.rs */
	RELAYED,
	DROPPED,
	UP,
	LONG_RTCP,
	CHECKSUM,
	NOT_FORWARDING,
	NO_NEIGHBOUR,
	NO_ROUTE,
	NO_DEVICE,
	OUTCOMES,
};

enum counter { /* in the order of COUNTED in src/xdp/layout.rs */
	PACKETS,
	OCTETS,
	RTP_PACKETS,
	RTCP_PACKETS,
	CLASS,
	MALFORMED,
	SIZE,
	PAYLOAD_TYPE,
	FOREIGN,
	LIMITED,
	HOPS,
	COUNTERS,
};

enum { /* as `Events` of src/session.rs */
	FIRST = 1 << 0,
	EVENT_FOREIGN = 1 << 3,
	EVENT_LIMITED = 1 << 4,
};

struct address {
	__u8 bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct local {
	struct address address;
	__be16 port;
	__u16 pad;
};

/* A token bucket, in time: when it would be full again is beside it, as packets change that. */
struct rate {
	__u64 cost; /* of one unit, in ns * 1024; 0: no limit */
	__u64 depth_ns;
};

/* What arrives at a local address may pass from `peer`, and leaves from `from` to `to`. */
struct leg {
	struct address peer, from, to;
	__be16 peer_port, from_port, to_port;
	__u16 size_max; /* octets of payload; 0: any */
	__u32 forward;	/* classes */
	__u32 up;
	__u32 slot; /* its number among `tallies` */
	__u32 clock_hz;
	__u64 payload_types[2];
	struct rate packets, octets;
	__u8 srtp;
	__u8 dscp;
	__u16 pad;
	/* From here on packets change it. */
	__u32 heard; /* has relayed something */
	__u64 packets_full_at, octets_full_at;
	__u64 told_ns; /* FOREIGN or LIMITED */
	__u64 seen_ns; /* the last that was relayed */
	struct stream stream;
};

struct tally {
	__u64 counts[COUNTERS];
};

/* An interface that is served. */
struct device {
	__u8 mac[6];
	__u8 is_native; /* the program runs in the driver */
	__u8 can_send;	/* what another device's driver received */
};

struct event {
	__u32 slot;
	__u32 events;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct local);
	__type(value, struct leg);
} legs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} outcomes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");

/* Who gets what is not relayed here before the stack does, where there is somebody. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

/* What is known of a packet. */
struct packet {
	struct payload payload;
	struct local to;
	struct address source;
	__be16 source_port;
	__u8 family;
	__u8 tclass;
	__u8 ttl;
};

static __always_inline int end(enum outcome outcome, int action)
{
	__u32 key = outcome;
	__u64 *count = bpf_map_lookup_elem(&outcomes, &key);

	if (count)
		(*count)++;
	return action;
}

static __always_inline void count(struct tally *tally, enum counter counter, __u64 n)
{
	tally->counts[counter] += n;
}

static __always_inline void tell(__u32 slot, __u32 what)
{
	struct event event = { .slot = slot, .events = what };

	/* Where there is no room the counters still tell. */
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
}

static __always_inline void tell_rarely(struct leg *leg, __u32 what, __u64 now)
{
	if (leg->told_ns && now - leg->told_ns < SECOND_NS)
		return;
	leg->told_ns = now;
	tell(leg->slot, what);
}

static __always_inline void mapped(struct address *address, __be32 v4)
{
	__builtin_memset(address->bytes, 0, 10);
	address->bytes[10] = address->bytes[11] = 0xff;
	__builtin_memcpy(address->bytes + 12, &v4, 4);
}

static __always_inline int is_same(const __u8 *a, const __u8 *b, int length)
{
	__u8 differing = 0;

#pragma unroll
	for (int i = 0; i < length; i++)
		differing |= a[i] ^ b[i];
	return !differing;
}

static __always_inline int is_same_address(const struct address *a, const struct address *b)
{
	__u64 x[2], y[2];

	__builtin_memcpy(x, a, 16);
	__builtin_memcpy(y, b, 16);
	return x[0] == y[0] && x[1] == y[1];
}

/* 0: it is none of ours. */
static __always_inline int read_udp(struct packet *p, void *start, void *at, void *stop, __u32 room)
{
	struct udphdr *udp = at;
	__u8 *data = at + sizeof(*udp);
	__u32 length;

	if ((void *)(udp + 1) > stop)
		return 0;
	length = length_of(udp->len);
	if (length < sizeof(*udp) || length > room || at + length > stop)
		return 0;
	p->source_port = udp->source;
	p->to.port = udp->dest;
	p->payload.at = (void *)data - start;
	p->payload.length = length - sizeof(*udp);
	if ((void *)data + RTP_HEADER <= stop) {
		__builtin_memcpy(p->payload.head, data, RTP_HEADER);
	} else if ((void *)data + 2 <= stop) {
		p->payload.head[0] = data[0];
		p->payload.head[1] = data[1];
	} else if ((void *)data + 1 <= stop) {
		p->payload.head[0] = data[0];
	}
	return 1;
}

static __always_inline int read_ipv4(struct packet *p, void *start, void *at, void *stop)
{
	struct iphdr *ip = at;
	__u32 total;

	if ((void *)(ip + 1) > stop || ip->version != 4 || ip->ihl != 5 ||
	    ip->protocol != IPPROTO_UDP || ip->frag_off & bpf_htons(FRAGMENTED))
		return 0;
	total = length_of(ip->tot_len);
	if (total < sizeof(*ip) || at + total > stop)
		return 0;
	mapped(&p->source, ip->saddr);
	mapped(&p->to.address, ip->daddr);
	p->family = V4;
	p->tclass = ip->tos;
	p->ttl = ip->ttl;
	return read_udp(p, start, at + sizeof(*ip), stop, total - sizeof(*ip));
}

static __always_inline int read_ipv6(struct packet *p, void *start, void *at, void *stop)
{
	struct ipv6hdr *ip = at;
	__u32 room;

	if ((void *)(ip + 1) > stop || ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
		return 0;
	room = length_of(ip->payload_len);
	if (at + sizeof(*ip) + room > stop)
		return 0;
	/* No such address may be on a wire (RFC 4038 4.2), and in our maps it'd mean IPv4. */
	if (!(ip->daddr.s6_addr32[0] | ip->daddr.s6_addr32[1]) &&
	    ip->daddr.s6_addr32[2] == bpf_htonl(0xffff))
		return 0;
	__builtin_memcpy(&p->source, &ip->saddr, 16);
	__builtin_memcpy(&p->to.address, &ip->daddr, 16);
	p->family = V6;
	p->tclass = ip->priority << 4 | ip->flow_lbl[0] >> 4;
	p->ttl = ip->hop_limit;
	return read_udp(p, start, at + sizeof(*ip), stop, room);
}

/* GCRA: without a lock, as any processor may take. */
static __always_inline int take(const struct rate *rate, __u64 *full_at, __u64 now, __u32 units)
{
	__u64 cost = rate->cost * units >> 10;

	if (rate->cost == 0)
		return 1;
	for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
		__u64 old = *(volatile __u64 *)full_at;
		__u64 next = (old > now ? old : now) + cost;

		if (next - now > rate->depth_ns)
			return 0;
		if (__sync_val_compare_and_swap(full_at, old, next) == old)
			return 1;
	}
	return 0;
}

#define PASSES -1 /* no counter */

/* The counter of what is wrong with the packet, PASSES, or an outcome beyond the counters. */
static __always_inline int screen(struct xdp_md *ctx, const struct packet *p, const struct leg *leg,
				  __u32 class)
{
	__u8 type = p->payload.head[1] & 0x7f;

	if (!((leg->forward | leg->up) & class))
		return CLASS;
	if (leg->size_max && p->payload.length > leg->size_max)
		return SIZE;
	if (!(leg->forward & class))
		return COUNTERS + UP; /* whoever takes it judges it */
	if (class == RTP) {
		if (!is_rtp(ctx, &p->payload, leg->srtp))
			return MALFORMED;
		if (!(leg->payload_types[type >> 6] >> (type & 63) & 1))
			return PAYLOAD_TYPE;
	} else if (class == RTCP) {
		enum chain chain = rtcp_chain(ctx, &p->payload, leg->srtp);

		if (chain != WHOLE)
			return chain == LONG ? COUNTERS + LONG_RTCP : MALFORMED;
	}
	return PASSES;
}

/* The addresses and ports of a packet, as its checksum covers them. */
struct flow_v4 {
	__be32 source, target;
	__be16 ports[2];
};

struct flow_v6 {
	struct address source, target;
	__be16 ports[2];
};

/*
 * Of a packet made on this machine the checksum may be for the device to complete, and is that of
 * the pseudo header alone (`partial`). Those are user space's, like those of IPv6 without one.
 */
static __always_inline int has_checksum(const struct udphdr *udp, int family, __u16 partial)
{
	if (udp->check == 0)
		return family == V4;
	return udp->check != partial;
}

/* `difference` is the sum of what comes less the sum of what goes, as bpf_csum_diff() has it. */
static __always_inline void update_checksum(struct udphdr *udp, __u32 difference)
{
	__u16 sum;

	if (udp->check == 0)
		return;
	sum = ~folded((__u64)(__u16)~udp->check + difference);
	udp->check = sum ? sum : 0xffff;
}

static __always_inline void pour(__u8 *to, const struct address *from)
{
	__builtin_memcpy(to, from->bytes, 16);
}

/* 0: not here. */
static __always_inline int rewrite_v4(void *at, void *stop, const struct leg *leg, __u8 tclass)
{
	struct iphdr *ip = at;
	struct udphdr *udp = at + sizeof(*ip);
	struct flow_v4 old, new;
	__u64 sum = 0;
	__u16 *words;

	if ((void *)(udp + 1) > stop)
		return 0;
	old.source = ip->saddr;
	old.target = ip->daddr;
	old.ports[0] = udp->source;
	old.ports[1] = udp->dest;
	if (!has_checksum(udp, V4,
			  folded((__u64)old.source + old.target + bpf_htons(IPPROTO_UDP) + udp->len)))
		return 0;
	__builtin_memcpy(&new.source, leg->from.bytes + 12, 4);
	__builtin_memcpy(&new.target, leg->to.bytes + 12, 4);
	new.ports[0] = leg->from_port;
	new.ports[1] = leg->to_port;
	update_checksum(udp, bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new),
					   0));
	ip->saddr = new.source;
	ip->daddr = new.target;
	udp->source = new.ports[0];
	udp->dest = new.ports[1];
	ip->tos = tclass;
	ip->ttl--;
	ip->check = 0;
	words = at;
#pragma unroll
	for (int i = 0; i < sizeof(*ip) / 2; i++)
		sum += words[i];
	ip->check = ~folded(sum);
	return 1;
}

static __always_inline int rewrite_v6(void *at, void *stop, const struct leg *leg, __u8 tclass)
{
	struct ipv6hdr *ip = at;
	struct udphdr *udp = at + sizeof(*ip);
	struct flow_v6 old, new;
	__u64 pseudo;

	if ((void *)(udp + 1) > stop)
		return 0;
	__builtin_memcpy(&old.source, &ip->saddr, 16);
	__builtin_memcpy(&old.target, &ip->daddr, 16);
	old.ports[0] = old.ports[1] = 0;
	pseudo = (__u32)bpf_csum_diff(NULL, 0, (__be32 *)&old, sizeof(old), 0);
	if (!has_checksum(udp, V6, folded(pseudo + bpf_htons(IPPROTO_UDP) + udp->len)))
		return 0;
	old.ports[0] = udp->source;
	old.ports[1] = udp->dest;
	new.source = leg->from;
	new.target = leg->to;
	new.ports[0] = leg->from_port;
	new.ports[1] = leg->to_port;
	update_checksum(udp, bpf_csum_diff((__be32 *)&old, sizeof(old), (__be32 *)&new, sizeof(new),
					   0));
	__builtin_memcpy(&ip->saddr, &new.source, 16);
	__builtin_memcpy(&ip->daddr, &new.target, 16);
	udp->source = new.ports[0];
	udp->dest = new.ports[1];
	ip->priority = tclass >> 4;
	ip->flow_lbl[0] = (tclass & 0x0f) << 4;
	ip->flow_lbl[1] = ip->flow_lbl[2] = 0;
	ip->hop_limit--;
	return 1;
}

/* Finds the way to the other leg's peer. RELAYED: `fib` has it. */
static __always_inline enum outcome find_way(struct xdp_md *ctx, const struct packet *p,
					     const struct leg *leg, __u8 tclass,
					     const struct device *in, struct bpf_fib_lookup *fib)
{
	__u32 udp = p->payload.length + sizeof(struct udphdr);
	struct device *out;

	fib->family = p->family;
	fib->l4_protocol = IPPROTO_UDP;
	fib->sport = leg->from_port;
	fib->dport = leg->to_port;
	fib->ifindex = LOOPBACK;
	if (p->family == V4) {
		fib->tot_len = udp + sizeof(struct iphdr);
		fib->tos = tclass;
		__builtin_memcpy(&fib->ipv4_src, leg->from.bytes + 12, 4);
		__builtin_memcpy(&fib->ipv4_dst, leg->to.bytes + 12, 4);
	} else {
		fib->tot_len = udp + sizeof(struct ipv6hdr);
		fib->flowinfo = bpf_htonl((__u32)tclass << 20);
		pour((__u8 *)fib->ipv6_src, &leg->from);
		pour((__u8 *)fib->ipv6_dst, &leg->to);
	}
	switch (bpf_fib_lookup(ctx, fib, sizeof(*fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		break;
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return NOT_FORWARDING;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		return NO_NEIGHBOUR;
	default:
		return NO_ROUTE;
	}
	out = bpf_map_lookup_elem(&devices, &fib->ifindex);
	if (!out || (in->is_native && !out->can_send))
		return NO_DEVICE;
	return RELAYED;
}

static __always_inline void note_relayed(struct leg *leg, struct tally *tally,
					 const struct payload *p, __u32 class, __u64 now)
{
	leg->seen_ns = now;
	count(tally, PACKETS, 1);
	count(tally, OCTETS, p->length);
	if (class == RTP) {
		count(tally, RTP_PACKETS, 1);
		stream_note(&leg->stream, p->head, now, leg->clock_hz);
	} else if (class == RTCP) {
		count(tally, RTCP_PACKETS, 1);
	}
	if (!leg->heard) {
		leg->heard = 1;
		tell(leg->slot, FIRST);
	}
}

/* The counter of what is wrong with where the packet comes from or how often, or PASSES. */
static __always_inline int admit(const struct packet *p, struct leg *leg, __u64 now)
{
	if (p->source_port != leg->peer_port || !is_same_address(&p->source, &leg->peer)) {
		tell_rarely(leg, EVENT_FOREIGN, now);
		return FOREIGN;
	}
	if (!take(&leg->packets, &leg->packets_full_at, now, 1) ||
	    !take(&leg->octets, &leg->octets_full_at, now, p->payload.length)) {
		tell_rarely(leg, EVENT_LIMITED, now);
		return LIMITED;
	}
	return p->ttl <= 1 ? HOPS : PASSES;
}

/* A datagram to a leg; the Ethernet header and that of `family` are in the packet. */
static __always_inline int relay_to(struct xdp_md *ctx, struct packet *p, struct leg *leg,
				    struct tally *tally, const struct device *in)
{
	void *start = (void *)(long)ctx->data, *stop = (void *)(long)ctx->data_end;
	struct ethhdr *eth = start;
	struct bpf_fib_lookup fib = {};
	__u32 class = class_of(&p->payload);
	__u64 now = bpf_ktime_get_ns();
	__u8 tclass = p->tclass;
	enum outcome way;
	int wrong = screen(ctx, p, leg, class), rewritten;

	if (wrong >= COUNTERS)
		return end(wrong - COUNTERS, XDP_PASS);
	if (wrong == PASSES)
		wrong = admit(p, leg, now);
	if (wrong >= 0 && wrong < COUNTERS) {
		count(tally, wrong, 1);
		return end(DROPPED, XDP_DROP);
	}
	if (leg->dscp != AS_IT_CAME)
		tclass = leg->dscp << 2 | (tclass & 3);
	way = find_way(ctx, p, leg, tclass, in, &fib);
	if (way != RELAYED)
		return end(way, XDP_PASS);
	if ((void *)(eth + 1) > stop)
		return XDP_PASS;
	rewritten = p->family == V4 ? rewrite_v4(eth + 1, stop, leg, tclass) :
				      rewrite_v6(eth + 1, stop, leg, tclass);
	if (!rewritten)
		return end(CHECKSUM, XDP_PASS);
	__builtin_memcpy(eth->h_source, fib.smac, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, fib.dmac, ETH_ALEN);
	note_relayed(leg, tally, &p->payload, class, now);
	if (fib.ifindex == ctx->ingress_ifindex)
		return end(RELAYED, XDP_TX);
	return end(RELAYED, bpf_redirect(fib.ifindex, 0));
}

/* A frame to this device. */
static __always_inline int received(struct xdp_md *ctx, struct ethhdr *eth, const struct device *in)
{
	void *start = (void *)(long)ctx->data, *stop = (void *)(long)ctx->data_end;
	struct packet p = {};
	struct tally *tally;
	struct leg *leg;
	int is_read;

	if (eth->h_proto == bpf_htons(ETH_P_IP))
		is_read = read_ipv4(&p, start, eth + 1, stop);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		is_read = read_ipv6(&p, start, eth + 1, stop);
	else
		return XDP_PASS;
	if (!is_read)
		return XDP_PASS;
	leg = bpf_map_lookup_elem(&legs, &p.to);
	if (!leg)
		return XDP_PASS;
	tally = bpf_map_lookup_elem(&tallies, &leg->slot);
	if (!tally)
		return XDP_PASS;
	return relay_to(ctx, &p, leg, tally, in);
}

SEC("xdp")
int relay(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data, *stop = (void *)(long)ctx->data_end;
	__u32 index = ctx->ingress_ifindex;
	struct device *in = bpf_map_lookup_elem(&devices, &index);
	struct ethhdr *eth = start;
	int action;

	/* Frames to other stations, to groups and to all are the stack's. */
	if (!in || (void *)(eth + 1) > stop || !is_same(eth->h_dest, in->mac, ETH_ALEN))
		return XDP_PASS;
	action = received(ctx, eth, in);
	if (action == XDP_PASS)
		bpf_tail_call(ctx, &next, 0); /* there may be nobody */
	return action;
}

char _license[] SEC("license") = "GPL";
