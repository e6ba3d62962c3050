/* SPDX-License-Identifier: Apache-2.0 */
/* rig_on_bt.h - what only rigs on engine `bt` can do. */
#ifndef TESTS_UNIT_CPU_RIG_ON_BT_H
#define TESTS_UNIT_CPU_RIG_ON_BT_H

#include "cpu/interp_rig.h"

/* What the translator has learned about places in pages was about other programs: before long fragments would end
 * everywhere, and nothing be grouped. */
void rig_forget_places(struct rig *r);
/* How many fragments there are that run in windows. */
unsigned rig_window_frags(const struct rig *r);

#endif
