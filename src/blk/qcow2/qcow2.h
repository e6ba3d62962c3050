/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2.h - the driver of QEMU's copy-on-write format, for the table of formats. */
#ifndef BLK_QCOW2_QCOW2_H
#define BLK_QCOW2_QCOW2_H

#include "blk/blk_ops.h"

extern const struct blk_driver blk_qcow2;

/* Bytes of the encryption header of a new image, of which C has the options; 0: it is not encrypted. */
uint64_t q2_crypt_room(const struct blk_creating *c);

#endif
