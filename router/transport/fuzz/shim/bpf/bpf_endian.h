/* SPDX-License-Identifier: GPL-2.0-only */
/* In place of libbpf's, for programs that are compiled for user space on little-endian machines. */
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohl(x) __builtin_bswap32(x)
#define bpf_htonl(x) __builtin_bswap32(x)
