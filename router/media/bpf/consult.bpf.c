// SPDX-License-Identifier: GPL-2.0-only
/*
 * Asks the kernel module which CPU its steering rules want a packet on, and sends it there before the
 * stack has seen it. Jumped to by the relay's program for what that would pass up the stack of a device
 * it serves: frames to that device itself. A program of its own, as it can be loaded only where the
 * module is, and the module cannot be unloaded while it is.
 *
 * Whatever is not understood goes up the stack unchanged, where the module steers it at PRE_ROUTING.
 * Nothing is dropped here; a full queue of another CPU drops.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "../../../kmod/uapi/viaduct.h"
#include "headers.h"

enum outcome { /* in the order of CONSULTED in src/xdp/consult.rs */
	MOVED,
	HERE,
	NO_RULE,
	UNREAD,
	CHECKSUM,
	NO_QUEUE,
	REFUSED,
	OUTCOMES,
};

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1); /* as many as there may be, when it is loaded */
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} consulted SEC(".maps");

extern int viaduct_xdp_consult(struct xdp_md *xdp, struct viaduct_asked *asked,
			       __u32 asked__sz) __ksym;

static __always_inline int end(enum outcome outcome, int action)
{
	__u32 key = outcome;
	__u64 *count = bpf_map_lookup_elem(&consulted, &key);

	if (count)
		(*count)++;
	return action;
}

/*
 * The ports, and whether the checksum is for the device to complete: of a packet made on this machine
 * it is that of the pseudo header alone, of which `pseudo` is all but the length. Nobody would know
 * that any more where the packet comes out. MOVED: it may be asked about.
 */
static __always_inline enum outcome read_ports(struct viaduct_asked *asked, void *at, void *stop,
					       __u32 room, __u64 pseudo)
{
	__u16 check;

	pseudo += bpf_htons(asked->protocol) + bpf_htons(room);
	if (asked->protocol == IPPROTO_UDP) {
		struct udphdr *udp = at;

		if ((void *)(udp + 1) > stop || length_of(udp->len) < sizeof(*udp) ||
		    length_of(udp->len) > room)
			return UNREAD;
		asked->src_port = udp->source;
		asked->dst_port = udp->dest;
		check = udp->check;
		if (check == 0)
			return asked->family == V4 ? MOVED : CHECKSUM;
	} else {
		struct tcphdr *tcp = at;

		if ((void *)(tcp + 1) > stop || room < sizeof(*tcp))
			return UNREAD;
		asked->src_port = tcp->source;
		asked->dst_port = tcp->dest;
		check = tcp->check;
	}
	return check == folded(pseudo) ? CHECKSUM : MOVED;
}

static __always_inline enum outcome read_ipv4(struct viaduct_asked *asked, void *at, void *stop)
{
	struct iphdr *ip = at;
	__u32 total;

	if ((void *)(ip + 1) > stop || ip->version != 4 || ip->ihl != 5 ||
	    ip->frag_off & bpf_htons(FRAGMENTED))
		return UNREAD;
	total = length_of(ip->tot_len);
	if (total < sizeof(*ip) || at + total > stop)
		return UNREAD;
	asked->family = V4;
	asked->protocol = ip->protocol;
	__builtin_memcpy(asked->src, &ip->saddr, 4);
	__builtin_memcpy(asked->dst, &ip->daddr, 4);
	if (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP)
		return UNREAD;
	return read_ports(asked, at + sizeof(*ip), stop, total - sizeof(*ip),
			  (__u64)ip->saddr + ip->daddr);
}

static __always_inline enum outcome read_ipv6(struct viaduct_asked *asked, void *at, void *stop)
{
	struct ipv6hdr *ip = at;
	__u64 pseudo = 0;
	__u32 words[8], room;

	if ((void *)(ip + 1) > stop || ip->version != 6)
		return UNREAD;
	room = length_of(ip->payload_len);
	if (at + sizeof(*ip) + room > stop)
		return UNREAD;
	asked->family = V6;
	asked->protocol = ip->nexthdr;
	__builtin_memcpy(asked->src, &ip->saddr, 16);
	__builtin_memcpy(asked->dst, &ip->daddr, 16);
	if (ip->nexthdr != IPPROTO_UDP && ip->nexthdr != IPPROTO_TCP)
		return UNREAD;
	__builtin_memcpy(words, &ip->saddr, 32);
#pragma unroll
	for (int i = 0; i < 8; i++)
		pseudo += words[i];
	return read_ports(asked, at + sizeof(*ip), stop, room, pseudo);
}

SEC("xdp")
int consult(struct xdp_md *ctx)
{
	void *start = (void *)(long)ctx->data, *stop = (void *)(long)ctx->data_end;
	struct viaduct_asked asked = {};
	struct ethhdr *eth = start;
	enum outcome read = UNREAD;
	int told;

	if ((void *)(eth + 1) > stop)
		return end(UNREAD, XDP_PASS);
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		read = read_ipv4(&asked, eth + 1, stop);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		read = read_ipv6(&asked, eth + 1, stop);
	if (read != MOVED)
		return end(read, XDP_PASS);
	told = viaduct_xdp_consult(ctx, &asked, sizeof(asked));
	if (told < 0)
		return end(REFUSED, XDP_PASS);
	if (!(told & VIADUCT_ASKED_CPU))
		return end(NO_RULE, XDP_PASS);
	if (asked.cpu == bpf_get_smp_processor_id())
		return end(HERE, XDP_PASS);
	if (bpf_redirect_map(&cpus, asked.cpu, XDP_PASS) != XDP_REDIRECT)
		return end(NO_QUEUE, XDP_PASS);
	return end(MOVED, XDP_REDIRECT);
}

char _license[] SEC("license") = "GPL";
