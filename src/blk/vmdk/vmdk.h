/* SPDX-License-Identifier: Apache-2.0 */
/* vmdk.h - the driver of VMware's disk images, for the table of formats. */
#ifndef BLK_VMDK_VMDK_H
#define BLK_VMDK_VMDK_H

#include "blk/blk_ops.h"

extern const struct blk_driver blk_vmdk;

#endif
