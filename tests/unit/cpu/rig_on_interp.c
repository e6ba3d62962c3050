/* SPDX-License-Identifier: Apache-2.0 */
/* The rig's tests run on engine `interp`. */
#include "cpu/interp_rig.h"
#include "cpu/interp/interp.h"

const struct rig_engine rig_engine = { &cpu_interp, interp_step, true };
