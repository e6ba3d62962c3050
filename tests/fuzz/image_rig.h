/* SPDX-License-Identifier: Apache-2.0 */
/* image_rig.h - disk images in memory, with a back end that does each job at once. What an image says cannot make the
 * file longer than some MiB. */
#ifndef TESTS_FUZZ_IMAGE_RIG_H
#define TESTS_FUZZ_IMAGE_RIG_H

#include <unistd.h>
#include "blk/blk.h"
#include "fuzz.h"

struct aio_ops;
/* Does each job at once; it ends when it is asked for. */
extern const struct aio_ops rig_now_aio;

int rig_image_fd(const uint8_t *data, size_t len);      /* of a file with these bytes */
/* Takes FD. NULL: refused, with a sentence. */
struct blk *rig_image_open(const char *format, int fd, bool is_readonly, bool is_repairing);
void rig_image_walk(struct blk *b, bool is_writing);    /* reads or writes here and there, asks for the map; reading, also what it is */
void rig_image_check(struct blk *b, unsigned fix);

#endif
