/* SPDX-License-Identifier: GPL-2.0-only */
/* In place of libbpf's, for programs that are compiled for user space: steer.c has the helpers. */
#include <linux/types.h>

#define SEC(name)
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

void *bpf_map_lookup_elem(const void *map, const void *key);
long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags);
long bpf_redirect_map(void *map, __u64 key, __u64 flags);
void bpf_tail_call(void *ctx, const void *map, __u32 index);
__u64 bpf_ktime_get_ns(void);
long bpf_xdp_load_bytes(void *ctx, __u32 offset, void *to, __u32 length);
long bpf_skb_load_bytes(const void *ctx, __u32 offset, void *to, __u32 length);
long bpf_loop_in_user_space(__u32 most, long (*step)(__u32, void *), void *ctx);

#define bpf_loop(most, step, ctx, flags) \
	bpf_loop_in_user_space(most, (long (*)(__u32, void *))(void *)(step), ctx)
