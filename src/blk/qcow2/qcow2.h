/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2.h - the driver of QEMU's copy-on-write format, for the table of formats. */
#ifndef BLK_QCOW2_QCOW2_H
#define BLK_QCOW2_QCOW2_H

#include "blk/blk_ops.h"

extern const struct blk_driver blk_qcow2;

#endif
