/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_TESTS_CHECKS_H
#define VIADUCT_TESTS_CHECKS_H

#include <stdbool.h>

/* Each ends the program where something is not so. */
void checks(void);
void check_priority(void);
void check_full(void);

/* False where this kernel has no way to take CPU 1 away. */
bool cpu1_online(bool online);

#endif
