/* SPDX-License-Identifier: Apache-2.0 */
/* vdi.h - the driver of VirtualBox's disk image, for the table of formats. */
#ifndef BLK_VDI_VDI_H
#define BLK_VDI_VDI_H

#include "blk/blk_ops.h"

extern const struct blk_driver blk_vdi;

#endif
