/* SPDX-License-Identifier: Apache-2.0 */
/* perf_map.c - tell perf(1) what translated code stands for: /tmp/perf-PID.map, a line per fragment with host
 * address, length and a name of the guest's address and privilege. Vcpu thread.
 *
 * When the cache has been emptied, later lines stand for the same host addresses: perf takes the last. */
#include "cpu/bt/bt_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>
#include "util/err.h"
#include "util/pid.h"

int bt_perf_map_open(struct bt_cache *k, struct err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)pid_of_self());
	/* The name is known to others and the folder is everyone's. */
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

	k->perf_map = fd < 0 ? NULL : fdopen(fd, "a");
	if (!k->perf_map) {
		err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -EIO;
	}
	/* A line at a time: processors share the file. */
	setvbuf(k->perf_map, NULL, _IOLBF, 0);
	fprintf(k->perf_map, "%" PRIxPTR " %x bt_thunks\n", (uintptr_t)k->rx, bt_code_off(k, k->code_start));
	return 0;
}

void bt_perf_map_add(struct bt_cache *k, const struct bt_frag *f, uint32_t end)
{
	bool is_user = f->page->key & BT_KEY_USER;

	fprintf(k->perf_map, "%" PRIxPTR " %x guest_%s_%" PRIx64 "\n", (uintptr_t)k->rx + f->ientry, end - f->ientry,
		is_user ? "user" : "kernel", f->va);
}

void bt_perf_map_close(struct bt_cache *k)
{
	if (k->perf_map)
		fclose(k->perf_map);
	k->perf_map = NULL;
}
