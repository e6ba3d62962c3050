/* SPDX-License-Identifier: Apache-2.0 */
/* The rig's tests run on engine `bt`. */
#include "cpu/interp_rig.h"
#include "cpu/bt/bt.h"

const struct rig_engine rig_engine = { &cpu_bt, bt_step, false };
