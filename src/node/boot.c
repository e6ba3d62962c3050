/* SPDX-License-Identifier: Apache-2.0 */
#include "node/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "node/node.h"
#include "util/err.h"

enum { ID_LEN = 37 };   /* a UUID and the end of the line */

static size_t read_id(const char *path, char id[ID_LEN])
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t len = fd < 0 ? 0 : read(fd, id, ID_LEN);

	return len > 0 ? (size_t)len : 0;
}

int boot_look(struct node *n, struct err *err)
{
	char now[ID_LEN], before[ID_LEN];
	size_t len = read_id("/proc/sys/kernel/random/boot_id", now);
	AUTO(free) char *path = node_path(n->run_dir, "boot");

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	n->is_same_boot = len && read_id(path, before) == len && !memcmp(now, before, len);
	if (n->is_same_boot || !len)
		return 0;
	/* What is written only in part is another one's. */
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, now, len) != (ssize_t)len)
		return err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
	return 0;
}
