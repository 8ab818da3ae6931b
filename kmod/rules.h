/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_RULES_H
#define VIADUCT_RULES_H

#include <net/genetlink.h>

#include "uapi/viaduct.h"

extern const struct nla_policy viaduct_rule_policy[VIADUCT_R_MAX + 1];

int viaduct_cmd_rule_add(struct sk_buff *request, struct genl_info *info);
int viaduct_cmd_rule_del(struct sk_buff *request, struct genl_info *info);
int viaduct_cmd_rule_get(struct sk_buff *request, struct genl_info *info);
int viaduct_cmd_rule_dump(struct sk_buff *skb, struct netlink_callback *cb);

#endif
