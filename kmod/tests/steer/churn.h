/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VIADUCT_TESTS_CHURN_H
#define VIADUCT_TESTS_CHURN_H

#include <stdint.h>

void hold(void);
void flood(void);
void churn(uint32_t rounds);

#endif
