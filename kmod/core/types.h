/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What lets the files of this folder compile both into the module and into the
 * programs that test and fuzz them in user space. Nothing here may sleep, lock,
 * allocate or read a clock: time is an argument.
 */
#ifndef VIADUCT_CORE_TYPES_H
#define VIADUCT_CORE_TYPES_H

#ifdef __KERNEL__
#include <linux/atomic.h>
#include <linux/compiler.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/barrier.h>
#else
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define READ_ONCE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define smp_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define smp_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define cmpxchg64(p, o, n) __sync_val_compare_and_swap((p), (o), (n))
#endif

/* Big-endian reads of octets that may stand anywhere. */
static inline u16 viaduct_be16(const u8 *p)
{
	return (u16)((p[0] << 8) | p[1]);
}

static inline u32 viaduct_be32(const u8 *p)
{
	return ((u32)p[0] << 24) | ((u32)p[1] << 16) | ((u32)p[2] << 8) | p[3];
}

#endif
