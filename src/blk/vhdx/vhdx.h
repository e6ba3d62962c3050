/* SPDX-License-Identifier: Apache-2.0 */
/* vhdx.h - the driver of Microsoft's second virtual hard disk, for the table of formats. */
#ifndef BLK_VHDX_VHDX_H
#define BLK_VHDX_VHDX_H

#include "blk/blk_ops.h"

extern const struct blk_driver blk_vhdx;

#endif
