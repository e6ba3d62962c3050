/* SPDX-License-Identifier: Apache-2.0 */
/* system.h - what the files that translate system instructions share. Vcpu thread only. */
#ifndef CPU_BT_SYSTEM_H
#define CPU_BT_SYSTEM_H

#include "cpu/bt/translate.h"

/* DST = RFLAGS; the arithmetic flags are in the slot. TMP and the host's flags are lost. */
void tr_rflags_get(struct tr *t, unsigned dst, unsigned tmp);
/* The arithmetic flags of SRC go to the slot. SRC, TMP and the host's flags are lost. */
void tr_rflags_split(struct tr *t, unsigned src, unsigned tmp);
/* IF is about to rise: give up when an interrupt has been waiting for it. The host's flags are lost. */
void tr_unless_waiting(struct tr *t, struct tr_cold *c);

#endif
