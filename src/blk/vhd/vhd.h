/* SPDX-License-Identifier: Apache-2.0 */
/* vhd.h - the driver of Microsoft's first virtual hard disk (QEMU: "vpc"), for the table of formats. */
#ifndef BLK_VHD_VHD_H
#define BLK_VHD_VHD_H

#include "blk/blk_ops.h"

extern const struct blk_driver blk_vhd;

#endif
