/* SPDX-License-Identifier: Apache-2.0 */
/* image_rig.c - images in memory: see image_rig.h. */
#include "image_rig.h"

#include <errno.h>
#include <jansson.h>
#include <sys/mman.h>
#include "blk/blk_ops.h"
#include "util/err.h"

enum { MAX_DISK_WALK = 32, FILE_MAX = 64 << 20 };

/* Jobs are done at once, and end when they are asked for. */
struct aio { int event_fd; struct aio_job *first, **last; };

static int now_open(struct aio **out, int event_fd, struct err *err)
{
	struct aio *a = calloc(1, sizeof(*a));

	FUZZ_CHECK(a);
	a->event_fd = event_fd;
	a->last = &a->first;
	*out = a;
	return 0;
}

static void now_submit(struct aio *a, struct aio_job *j)
{
	uint64_t one = 1;

	/* What an image says must not make the file of the fuzzer large. */
	j->result = j->op == AIO_FDATASYNC ? 0 : j->op == AIO_WRITEV && j->off > FILE_MAX ? -ENOSPC : aio_do(j);
	j->next = NULL;
	*a->last = j;
	a->last = &j->next;
	FUZZ_CHECK(write(a->event_fd, &one, sizeof(one)) == sizeof(one));
}

static void now_reap(struct aio *a)
{
	struct aio_job *j;

	while ((j = a->first)) {
		a->first = j->next;
		if (!a->first)
			a->last = &a->first;
		j->done(j, j->result);
	}
}

static void now_close(struct aio *a) { free(a); }

const struct aio_ops rig_now_aio = {
	.name = "now",
	.has_threads = true,
	.open = now_open,
	.submit = now_submit,
	.reap = now_reap,
	.close = now_close,
};

int rig_image_fd(const uint8_t *data, size_t len)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	return fd;
}

struct blk *rig_image_open(const char *format, int fd, bool is_readonly, bool is_repairing)
{
	struct blk_options o = { .fd = fd, .format = format, .is_readonly = is_readonly, .is_repairing = is_repairing,
				 .has_no_backing = true, .is_confined = true };
	struct err err = ERR_INIT;
	struct blk *b = NULL;
	int r = blk_open_with(&b, NULL, &o, &rig_now_aio, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	FUZZ_CHECK(r < 0 ? !b : !!b);
	if (r < 0)
		close(fd);
	return b;
}

void rig_image_walk(struct blk *b, bool is_writing)
{
	static uint8_t buf[4096];
	uint64_t size = blk_size(b);
	struct json_t *info = NULL;

	if (!is_writing && !blk_info(b, false, &info, NULL))
		json_decref(info);

	for (unsigned i = 0; size && i < MAX_DISK_WALK; i++) {
		uint64_t off = (size / MAX_DISK_WALK * i) & ~511ull,
			 len = size - off < sizeof(buf) ? size - off : sizeof(buf);
		struct blk_extent e = { 0 };

		if (is_writing)
			blk_pwrite(b, off, buf, len);
		else
			blk_pread(b, off, buf, len);
		if (!blk_map(b, off, size - off, true, &e))
			FUZZ_CHECK(e.len && e.len <= size - off);
	}
}

void rig_image_check(struct blk *b, unsigned fix)
{
	struct blk_check c = { .report = NULL };
	struct err err = ERR_INIT;
	int r = blk_check(b, fix, &c, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
}

