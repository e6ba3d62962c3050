/* SPDX-License-Identifier: Apache-2.0 */
/* parallels.h - the driver of Parallels' disk image, for the table of formats. */
#ifndef BLK_PARALLELS_PARALLELS_H
#define BLK_PARALLELS_PARALLELS_H

#include "blk/blk_ops.h"

extern const struct blk_driver blk_parallels;

#endif
