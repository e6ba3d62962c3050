/* SPDX-License-Identifier: Apache-2.0 */
/* io.h - reading from descriptors that give less than was asked for. Any thread; they block as the descriptor does. */
#ifndef UTIL_IO_H
#define UTIL_IO_H

#include <stddef.h>
#include <sys/types.h>

/* Read until LEN bytes are there or the end: how many, less than LEN only at the end, or -errno. Signals do not end it. */
ssize_t io_read_full(int fd, void *buf, size_t len);

#endif
