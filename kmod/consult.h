/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_CONSULT_H
#define VIADUCT_CONSULT_H

#include <linux/types.h>

struct viaduct_asked;
struct xdp_md;

/* For XDP programs, see "Consulting" in uapi/viaduct.h. */
int viaduct_xdp_consult(struct xdp_md *xdp, struct viaduct_asked *asked, u32 asked__sz);

/* Lets programs call it, where this kernel and this module can have that. */
void viaduct_consult_init(void);

#endif
