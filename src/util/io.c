/* SPDX-License-Identifier: Apache-2.0 */
#include "util/io.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

ssize_t io_read_full(int fd, void *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, (uint8_t *)buf + have, len - have);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n)
			break;
		have += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)have;
}
