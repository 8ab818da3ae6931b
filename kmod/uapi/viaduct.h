/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * The interface of viaduct.ko: a generic netlink family, and a function for XDP
 * programs. This page is its whole specification.
 *
 * Family
 * ------
 * Name "viaduct", version 1, multicast group "events". Every command wants
 * CAP_NET_ADMIN in the user namespace of the network namespace the socket is in,
 * and speaks of that network namespace only. Integers are in host byte order,
 * ports too; addresses are 4 or 16 octets in network order. Messages have no structs
 * and no pointers. Unknown attributes, attributes of a wrong size and values out
 * of range are refused with EINVAL or ERANGE, and the extended acknowledgement
 * (NETLINK_EXT_ACK) names the attribute and says why. Other errors: EPERM, a
 * capability is missing or the sender does not own what it speaks of; ENOENT, there
 * is no such session; EOPNOTSUPP, no such command; ENOMEM. New versions add
 * attributes and commands; they never change the meaning of one.
 *
 * Sessions
 * --------
 * A session is two legs. A leg is a local address and port, and what is known of
 * the peer that sends there. What arrives at one leg and passes its rules is sent
 * from the local address of the other leg to the peer of the other leg. A local
 * address and port belongs to one leg at a time in a network namespace. The two
 * legs may be of different address families. RTP and RTCP on two ports are two
 * sessions; on one port (RFC 5761) one.
 *
 * Anything the module does not relay goes on as if it were not there: user space
 * holds a bound socket for each leg and relays what reaches it by the same rules.
 * So a session may vanish from the module at any time without harm.
 *
 * A received packet is treated in this order. What fails is dropped, counted, and
 * never answered.
 *   1. IP fragments, IPv6 extension headers, and segments to be split (GSO) are
 *      passed on, as is all that is not UDP to a leg.
 *   2. Its class is told by the first octets (RFC 7983; RTCP by RFC 5761). A class
 *      in VIADUCT_L_FORWARD goes on to 3; one in VIADUCT_L_UP is passed on to
 *      user space, at a limited rate a source prefix; others are dropped.
 *   3. Size, RTP and RTCP validity (RFC 3550), and payload type.
 *   4. Its source, by VIADUCT_L_PEER_* and what was learned (see below). Sources
 *      that are not the peer's share a budget for each /24 or /64.
 *   5. The budgets of the leg.
 * Then it is sent with a new IP header (DSCP by the leg it leaves from, ECN
 * kept, hop limit one less, so that a loop ends), without mark, priority, queue,
 * timestamp, route or connection tracking state of the one that came.
 *
 * Learning
 * --------
 * A leg whose window is 0 takes packets from its signalled peer only. Otherwise,
 * from the message that brings the window until it is over:
 *   - a packet from exactly the signalled address and port locks the leg to it;
 *   - others are candidates, ranked VIADUCT_RANK_ADDRESS, _PORT, _ANY; the first
 *     of the best rank is locked at the end of the window, or SETTLE_MS after it
 *     was first seen. Until then only a candidate of rank ADDRESS is heard, and
 *     nothing is sent to any candidate;
 *   - only RTP makes candidates on a leg that forwards RTP; else only RTCP.
 * Once locked, all other sources are dropped. VIADUCT_CMD_SET opens the leg anew
 * if it brings a window or another peer. Never learned: multicast, unspecified and
 * loopback addresses, addresses of legs, and (VIADUCT_LEG_F_NO_PRIVATE) private
 * ones.
 *
 * Owners
 * ------
 * A session belongs to an owner: a number user space chooses and keeps. ATTACH
 * binds the owner to the sending socket. Only that socket may add, change and
 * remove the owner's sessions. When the socket is closed (also by the death of the
 * process), the sessions go on; another socket may ATTACH with the same number
 * and goes on with them. If none does within GRACE_S, they are removed. Otherwise
 * the module never removes a session by itself: idle ones are reported.
 *
 * Steering
 * --------
 * A namespace has up to 32 rules. A packet to this host is matched at PRE_ROUTING, in
 * the order of the rules' IDs; the first rule that fits it is the only one that acts.
 * All that is not fitted by one goes on as if there were no rules.
 *   - VIADUCT_STEER_SIP fits packets whose destination is in the ports, protocols and
 *     address of the rule. They need not be SIP: nothing but the headers is read.
 *     Whether this host will deliver or route on is not known yet; an address tells.
 *   - VIADUCT_STEER_RTP fits UDP to a leg of a session, of any owner, that is likewise
 *     in the rule's ports and address.
 * What is not looked at: fragments that nobody has put together before (connection
 * tracking does), IPv6 extension headers, packets from a bridge's netfilter, those a
 * socket was already found for (TPROXY), and a second pass at a VRF's device.
 *
 * PRIORITY and MARK are the packet's own. On SIP they are set as it is received: mark
 * is for routing rules, netfilter and sockets (SO_RCVMARK), priority for netfilter, BPF
 * and, where the kernel has it, SO_RCVPRIORITY. On RTP they are set as it leaves, for
 * LOCAL_OUT and POST_ROUTING, where it passes them (see DEVICE_ADD), and the queueing
 * discipline; a leg with a PRIORITY keeps it, and the route does not depend on the mark.
 * QUEUE is for RTP only: it is recorded as the receive queue, of which the kernel makes
 * the transmit queue, modulo the device's count, unless XPS or the driver chooses another.
 *
 * CPUS is a set. One of it is chosen by a hash of addresses, ports and protocol, with a
 * seed of this boot, so all packets of one flow come to one CPU. If that is another than
 * the packet is on, it is put into a queue of that CPU, one for each CPU and namespace,
 * and goes on there, in a softirq, from this place: with the rest of PRE_ROUTING and the
 * IP layer, or relayed. Order within a flow is kept, while the rules and the CPUs that
 * are online stay as they are and it comes in on one CPU. A full queue (parameter
 * steer_queue, 1000 packets, not counting up to as many being worked on) drops. A CPU
 * that is not online is as good as none: the packet goes on where it is. What came by a
 * device named with DEVICE_ADD and is to move is not relayed at the ingress but moved at
 * PRE_ROUTING. On unloading, what is queued is delivered.
 *
 * Rules belong to their owner like its sessions, and go when it does.
 *
 * Consulting
 * ----------
 * XDP programs may ask what the rules want with a packet, and send it there by a map
 * of CPUs, before there is an skb and before PRE_ROUTING:
 *
 *   int viaduct_xdp_consult(struct xdp_md *xdp, struct viaduct_asked *asked,
 *			     __u32 asked__sz)
 *
 * It is a function of the kernel to BPF (kfunc), of programs of the type XDP, where the
 * kernel has those of modules and the module carries BTF; /sys/kernel/btf/viaduct is
 * there then. While a program that calls it is loaded, the module cannot be unloaded.
 * @xdp is the program's own context, and says in which namespace; @asked says what the
 * program has read, and is sizeof(struct viaduct_asked) octets. The program has seen to
 * it that this is a whole packet to this host's station, neither a fragment nor one
 * with extension headers, and that its checksum is complete: on its way by a map a
 * packet loses what its device knew of that.
 * The answer is a set of VIADUCT_ASKED_*, or -EINVAL: @asked makes no sense.
 *   - LEG: it is UDP to a leg of a session, of any owner.
 *   - CPU: the rule that fits it has CPUs, and the one for its flow, which is online, is
 *     in @cpu: the same as PRE_ROUTING would move it to. There it is in its place, is
 *     counted as MATCHED, and all else the rule says is done. If it is another CPU than
 *     this one, BEFORE_STACK is counted, whatever the program does then.
 * Order within a flow is kept as long as the program is asked for all of its packets; one
 * that has come to its CPU goes behind what waits there in the module's own queue.
 *
 * Commands
 * --------
 * VIADUCT_CMD_INFO      -> VERSION, SESSIONS, SESSIONS_MAX, GENERATION, RULES,
 *                       RULES_MAX, RULES_GENERATION.
 * VIADUCT_CMD_ATTACH    OWNER (not 0), GRACE_S (optional, 1..86400, default 60).
 *                       EBUSY: another open socket is attached with that number,
 *                       or this socket with another; ENOSPC: 64 owners are there;
 *                       ESHUTDOWN: the module is being unloaded.
 *                       -> SESSIONS (of this owner).
 * VIADUCT_CMD_DETACH    Removes the owner with all its sessions.
 * VIADUCT_CMD_ADD       SESSION_LIST of whole sessions: all or, on any error, none.
 *                       EEXIST: a leg is in use; ENOSPC: SESSIONS_MAX reached;
 *                       E2BIG: more sessions in the list than it may have.
 * VIADUCT_CMD_SET       SESSION: LEG_A with LOCAL_ADDR and LOCAL_PORT says which
 *                       session, either of its legs. Each leg given is replaced by
 *                       what is given for it, except its local address; a leg not
 *                       given stays. Of LEG_B the local address must be given too.
 *                       Counters go on.
 * VIADUCT_CMD_DEL       SESSION with LEG_A, as for SET; the answer has the session
 *                       with its final counters.
 * VIADUCT_CMD_GET       as DEL, without deleting. With NLM_F_DUMP and without
 *                       attributes: all sessions of the namespace, of all owners.
 *                       NLM_F_DUMP_INTR marks a dump during which sessions were
 *                       added or removed; GENERATION says the same across dumps.
 * VIADUCT_CMD_EVENT     multicast only: EVENT (a set of VIADUCT_EVENT_*), SESSION
 *                       without counters, but with them for UNLOADED; EVENT and OWNER
 *                       where an owner is gone.
 * VIADUCT_CMD_DEVICE_ADD  DEVICE. Its packets are taken at its ingress, before the
 *                       IP layer and PRE_ROUTING, where those of other devices are
 *                       taken, and so are those that a tap sees too. What is relayed
 *                       there leaves, as from the kernel's flow tables, past LOCAL_OUT,
 *                       POST_ROUTING and the IP layer's counters, but through the
 *                       queueing discipline; the IP layer sends it only where there is
 *                       more to do: a packet larger than the MTU, a neighbour that has
 *                       to be asked for, a tunnel, IPsec, a VRF, this host. The device
 *                       belongs to the sender's owner and goes with it, or when it
 *                       leaves the namespace. ENODEV; EEXIST; ENOSPC: 64 are there;
 *                       EOPNOTSUPP: this kernel has no netdev ingress.
 * VIADUCT_CMD_DEVICE_DEL  DEVICE.
 * VIADUCT_CMD_RULE_ADD  RULE. EEXIST: a rule has that ID; ENOSPC: RULES_MAX are there;
 *                       ERANGE: CPUS has one this machine cannot have; E2BIG: CPUS has
 *                       more than 128.
 * VIADUCT_CMD_RULE_DEL  RULE with its ID; the answer has the rule with its counters,
 *                       which are final but for packets on their way.
 * VIADUCT_CMD_RULE_GET  as RULE_DEL, without deleting. With NLM_F_DUMP and without
 *                       attributes: all rules of the namespace, of all owners, in their
 *                       order, with RULES_GENERATION, as for GET.
 */
#ifndef _UAPI_LINUX_VIADUCT_H
#define _UAPI_LINUX_VIADUCT_H

#include <linux/types.h>

#define VIADUCT_FAMILY_NAME "viaduct"
#define VIADUCT_FAMILY_VERSION 1
#define VIADUCT_GROUP_EVENTS "events"

enum viaduct_cmd {
	VIADUCT_CMD_UNSPEC,
	VIADUCT_CMD_INFO,
	VIADUCT_CMD_ATTACH,
	VIADUCT_CMD_DETACH,
	VIADUCT_CMD_ADD,
	VIADUCT_CMD_SET,
	VIADUCT_CMD_DEL,
	VIADUCT_CMD_GET,
	VIADUCT_CMD_EVENT,
	VIADUCT_CMD_DEVICE_ADD,
	VIADUCT_CMD_DEVICE_DEL,
	VIADUCT_CMD_RULE_ADD,
	VIADUCT_CMD_RULE_DEL,
	VIADUCT_CMD_RULE_GET,
	__VIADUCT_CMD_MAX,
	VIADUCT_CMD_MAX = __VIADUCT_CMD_MAX - 1,
};

/* Of a message. */
enum viaduct_attr {
	VIADUCT_A_UNSPEC,
	VIADUCT_A_PAD,
	VIADUCT_A_VERSION,	/* u32: of this interface, 1 */
	VIADUCT_A_OWNER,	/* u64 */
	VIADUCT_A_GRACE_S,	/* u32 */
	VIADUCT_A_SESSION_LIST,	/* nested array of nested VIADUCT_S_*, ..256 */
	VIADUCT_A_SESSION,	/* nested VIADUCT_S_* */
	VIADUCT_A_SESSIONS,	/* u32: how many there are */
	VIADUCT_A_SESSIONS_MAX,	/* u32: how many there may be */
	VIADUCT_A_GENERATION,	/* u32: changes with every add and removal */
	VIADUCT_A_EVENT,	/* u32 */
	VIADUCT_A_DEVICE,	/* u32: index of an interface */
	VIADUCT_A_RULE,		/* nested VIADUCT_R_* */
	VIADUCT_A_RULES,	/* u32: how many there are */
	VIADUCT_A_RULES_MAX,	/* u32: how many there may be */
	VIADUCT_A_RULES_GENERATION,	/* u32: changes with every add and removal */
	__VIADUCT_A_MAX,
	VIADUCT_A_MAX = __VIADUCT_A_MAX - 1,
};

/* Of a session. */
enum viaduct_session_attr {
	VIADUCT_S_UNSPEC,
	VIADUCT_S_PAD,
	VIADUCT_S_ID,		/* u64: user space's own name for it; default 0 */
	VIADUCT_S_OWNER,	/* u64, answers only */
	VIADUCT_S_IDLE_S,	/* u32: report it idle after so long, 0 never; ..86400 */
	VIADUCT_S_LEG_A,	/* nested VIADUCT_L_* */
	VIADUCT_S_LEG_B,	/* nested VIADUCT_L_* */
	__VIADUCT_S_MAX,
	VIADUCT_S_MAX = __VIADUCT_S_MAX - 1,
};

/* Of a leg. Defaults in brackets. */
enum viaduct_leg_attr {
	VIADUCT_L_UNSPEC,
	VIADUCT_L_PAD,
	VIADUCT_L_LOCAL_ADDR,	/* 4 or 16 octets; must be given */
	VIADUCT_L_LOCAL_PORT,	/* u16, 1..; must be given */
	VIADUCT_L_PEER_ADDR,	/* as LOCAL_ADDR, same family [not known yet] */
	VIADUCT_L_PEER_PORT,	/* u16, 1.., with PEER_ADDR */
	VIADUCT_L_FLAGS,	/* u32: VIADUCT_LEG_F_* [0] */
	VIADUCT_L_WINDOW_MS,	/* u32, ..60000: time to learn from now on [0] */
	VIADUCT_L_SETTLE_MS,	/* u32, ..60000 [the window] */
	VIADUCT_L_MIN_RANK,	/* u8: lowest VIADUCT_RANK_* learned [ANY] */
	VIADUCT_L_FORWARD,	/* u32: set of VIADUCT_CLASS_* [RTP and RTCP] */
	VIADUCT_L_UP,		/* u32: set of VIADUCT_CLASS_* [0] */
	VIADUCT_L_PAYLOAD_TYPES,/* 16 octets: bit n%8 of octet n/8 [all] */
	VIADUCT_L_MAX_SIZE,	/* u16: octets of UDP payload, 0 any [0] */
	VIADUCT_L_DSCP,		/* u8, ..63: of what leaves here [as it came] */
	VIADUCT_L_PRIORITY,	/* u32: skb priority of what leaves here [0] */
	VIADUCT_L_PPS,		/* u32: packets a second from the peer, 0 any [0] */
	VIADUCT_L_PPS_BURST,	/* u32, 1..2^20 [PPS / 4, at least 16] */
	VIADUCT_L_BPS,		/* u32: octets of UDP payload a second, 0 any [0] */
	VIADUCT_L_BPS_BURST,	/* u32, 2048..2^26 [BPS / 4, at least 65536] */
	/* Answers only. */
	VIADUCT_L_LEARNED_ADDR,	/* as LOCAL_ADDR: the peer that was learned */
	VIADUCT_L_LEARNED_PORT,	/* u16 */
	VIADUCT_L_LOCKED,	/* u8: 1 once the peer is settled */
	VIADUCT_L_RANK,		/* u8: VIADUCT_RANK_* of the best candidate, 0 none */
	VIADUCT_L_SEEN_MS,	/* u64: since the last relayed packet; absent: none */
	VIADUCT_L_SSRC,		/* u32: of the last RTP packet relayed */
	VIADUCT_L_TCLASS_SEEN,	/* u8: DSCP and ECN the last one relayed came with */
	VIADUCT_L_COUNTERS,	/* nested VIADUCT_C_* */
	__VIADUCT_L_MAX,
	VIADUCT_L_MAX = __VIADUCT_L_MAX - 1,
};

/* Of a steering rule. Defaults in brackets; CPUS, PRIORITY, MARK, QUEUE: one at least. */
enum viaduct_rule_attr {
	VIADUCT_R_UNSPEC,
	VIADUCT_R_PAD,
	VIADUCT_R_ID,		/* u32; must be given. Lower ones are asked first */
	VIADUCT_R_OWNER,	/* u64, answers only */
	VIADUCT_R_CLASS,	/* u8: VIADUCT_STEER_*; must be given */
	VIADUCT_R_PROTOCOLS,	/* u32: set of VIADUCT_PROTO_*; RTP: UDP only [UDP] */
	VIADUCT_R_ADDR,		/* 4 or 16 octets: the local address [any] */
	VIADUCT_R_PORT_FIRST,	/* u16, 1..: local; SIP: must be given [1] */
	VIADUCT_R_PORT_LAST,	/* u16, PORT_FIRST.. [PORT_FIRST; RTP without it: 65535] */
	VIADUCT_R_CPUS,		/* 1..128 octets, not all 0: bit n%8 of octet n/8 [stay] */
	VIADUCT_R_PRIORITY,	/* u32 [as it is] */
	VIADUCT_R_MARK,		/* u32 [as it is] */
	VIADUCT_R_QUEUE,	/* u16, ..65534; RTP only [the kernel's choice] */
	VIADUCT_R_COUNTERS,	/* nested VIADUCT_RC_*, answers only */
	__VIADUCT_R_MAX,
	VIADUCT_R_MAX = __VIADUCT_R_MAX - 1,
};

#define VIADUCT_STEER_SIP 1
#define VIADUCT_STEER_RTP 2

#define VIADUCT_PROTO_UDP (1U << 0)
#define VIADUCT_PROTO_TCP (1U << 1)
#define VIADUCT_PROTO_ALL 0x3U

/* Counters of a rule, each u64, of packets. */
enum viaduct_rule_counter {
	VIADUCT_RC_UNSPEC,
	VIADUCT_RC_PAD,
	VIADUCT_RC_MATCHED,	/* fitted by this rule */
	VIADUCT_RC_MOVED,	/* of those, put into another CPU's queue */
	VIADUCT_RC_FULL,	/* of those, dropped: that queue was full */
	VIADUCT_RC_OFFLINE,	/* of those, gone on in place: that CPU was not online */
	VIADUCT_RC_BEFORE_STACK,	/* XDP programs were told to move it, see Consulting */
	__VIADUCT_RC_MAX,
	VIADUCT_RC_MAX = __VIADUCT_RC_MAX - 1,
};

/* What an XDP program asks about. */
struct viaduct_asked {
	__u8 src[16], dst[16];	/* of IPv4 the first 4 octets, the others are 0 */
	__be16 src_port, dst_port;
	__u8 family;		/* AF_INET or AF_INET6 */
	__u8 protocol;		/* IPPROTO_UDP or IPPROTO_TCP */
	__u16 reserved;		/* 0 */
	__u32 cpu;		/* the answer; asked with 0 */
};

#define VIADUCT_ASKED_LEG (1U << 0)
#define VIADUCT_ASKED_CPU (1U << 1)

#define VIADUCT_LEG_F_SRTP (1U << 0)	/* RTP and RTCP are encrypted */
#define VIADUCT_LEG_F_NO_PRIVATE (1U << 1)	/* learn no private address */
#define VIADUCT_LEG_F_LOOPBACK (1U << 2)	/* loopback peers are allowed */
#define VIADUCT_LEG_F_HANDOVER (1U << 3)	/* the peer may move once, if it
						 * continues its RTP stream */
#define VIADUCT_LEG_F_ALL 0xfU

#define VIADUCT_CLASS_STUN (1U << 0)
#define VIADUCT_CLASS_ZRTP (1U << 1)
#define VIADUCT_CLASS_DTLS (1U << 2)
#define VIADUCT_CLASS_TURN (1U << 3)
#define VIADUCT_CLASS_RTP (1U << 4)
#define VIADUCT_CLASS_RTCP (1U << 5)
#define VIADUCT_CLASS_OTHER (1U << 6)
#define VIADUCT_CLASS_ALL 0x7fU

#define VIADUCT_RANK_ANY 1	/* any address */
#define VIADUCT_RANK_PORT 2	/* another address, the signalled port */
#define VIADUCT_RANK_ADDRESS 3	/* the signalled address, another port */
#define VIADUCT_RANK_EXACT 4	/* both */

#define VIADUCT_EVENT_FIRST (1U << 0)	/* a leg relayed its first packet */
#define VIADUCT_EVENT_LEARNED (1U << 1)	/* a leg locked to a learned address */
#define VIADUCT_EVENT_MOVED (1U << 2)	/* a handover */
#define VIADUCT_EVENT_FOREIGN (1U << 3)	/* a locked leg was sent foreign packets */
#define VIADUCT_EVENT_LIMITED (1U << 4)	/* a leg's budget was exceeded */
#define VIADUCT_EVENT_IDLE (1U << 5)	/* nothing relayed for IDLE_S */
#define VIADUCT_EVENT_OWNER_GONE (1U << 6)	/* the owner's socket was closed */
#define VIADUCT_EVENT_EXPIRED (1U << 7)	/* the owner and its sessions removed */
#define VIADUCT_EVENT_UNLOADED (1U << 8)	/* the module goes; the counters are final */
/* FOREIGN and LIMITED are told at most once a second for a session. */

/* Counters, each u64, of what arrived at a leg. */
enum viaduct_counter {
	VIADUCT_C_UNSPEC,
	VIADUCT_C_PAD,
	VIADUCT_C_PACKETS,	/* relayed */
	VIADUCT_C_OCTETS,	/* UDP payload relayed */
	VIADUCT_C_RTP,		/* relayed packets that were RTP */
	VIADUCT_C_RTCP,		/* relayed packets that were RTCP */
	VIADUCT_C_UP,		/* passed on to user space */
	VIADUCT_C_UP_LIMITED,	/* would have been, but for the limit */
	VIADUCT_C_CLASS,	/* dropped: class not wanted */
	VIADUCT_C_MALFORMED,	/* dropped: not valid RTP, RTCP or UDP */
	VIADUCT_C_SIZE,		/* dropped: larger than MAX_SIZE */
	VIADUCT_C_PAYLOAD_TYPE,	/* dropped: payload type not wanted */
	VIADUCT_C_FOREIGN,	/* dropped: not from the peer */
	VIADUCT_C_CANDIDATE,	/* dropped: from a candidate, not locked yet */
	VIADUCT_C_PREFIX,	/* dropped: budget of the source's prefix */
	VIADUCT_C_LIMITED,	/* dropped: budget of the leg */
	VIADUCT_C_NO_PEER,	/* dropped: the other leg's peer is not known */
	VIADUCT_C_NO_ROUTE,	/* dropped: no way to the other leg's peer */
	VIADUCT_C_HOPS,		/* dropped: hop limit used up */
	VIADUCT_C_NO_MEMORY,	/* dropped: no memory to rewrite the packet */
	__VIADUCT_C_MAX,
	VIADUCT_C_MAX = __VIADUCT_C_MAX - 1,
};

#endif
