/* SPDX-License-Identifier: Apache-2.0 */
/* format.c - the table of formats, and which one a file has. */
#include "blk/core_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/luks/luks.h"
#include "blk/ova/ova.h"
#include "blk/parallels/parallels.h"
#include "blk/qcow2/qcow2.h"
#include "blk/vdi/vdi.h"
#include "blk/vhd/vhd.h"
#include "blk/vhdx/vhdx.h"
#include "blk/vmdk/vmdk.h"
#include "util/checked.h"

/* Where two are equally sure the first wins: VHD, because the guest has written the first bytes of a fixed one, and
 * must not choose what they are taken for. Raw has no marks and is what is left. */
static const struct blk_driver *const blk_formats[] = {
	&blk_vhd, &blk_qcow2, &blk_vmdk, &blk_vdi, &blk_vhdx, &blk_parallels, &blk_luks, &blk_ova, &blk_raw,
};

const char *blk_format_name(unsigned i)
{
	return i < ARRAY_LEN(blk_formats) ? blk_formats[i]->name : NULL;
}

const char *blk_format_title(unsigned i)
{
	return i < ARRAY_LEN(blk_formats) ? blk_formats[i]->title : NULL;
}

const struct blk_driver *blk_format_find(const char *name, struct err *err)
{
	char known[256] = "";

	for (unsigned i = 0; i < ARRAY_LEN(blk_formats); i++) {
		size_t n = strlen(known);

		if (!strcmp(name, blk_formats[i]->name))
			return blk_formats[i];
		snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "", blk_formats[i]->name);
	}
	err_set(err, -EINVAL, "unknown disk image format '%s'; known are: %s", name, known);
	return NULL;
}

const struct blk_opt *blk_format_open_opts(const char *format)
{
	const struct blk_driver *d = blk_format_find(format, NULL);

	return d ? d->open_opts : NULL;
}

const struct blk_opt *blk_format_create_opts(const char *format)
{
	const struct blk_driver *d = blk_format_find(format, NULL);

	return d && d->co_create ? d->create_opts : NULL;
}

const struct blk_driver *blk_probe_format(const struct blk_probe *p)
{
	const struct blk_driver *best = &blk_raw;
	int score = 0;

	for (unsigned i = 0; i < ARRAY_LEN(blk_formats); i++) {
		int s = blk_formats[i]->probe ? blk_formats[i]->probe(p) : 0;

		if (s > score) {
			score = s;
			best = blk_formats[i];
		}
	}
	return best;
}

int blk_co_probe(struct blk *file, const struct blk_driver **drv, struct err *err)
{
	struct probe_buf { uint8_t head[BLK_PROBE_HEAD], tail[BLK_PROBE_TAIL]; };
	AUTO(free) struct probe_buf *buf = calloc(1, sizeof(*buf));
	struct blk_probe p = { .size = file->size };

	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	p.head = buf->head;
	p.tail = buf->tail;
	p.head_len = p.size < BLK_PROBE_HEAD ? (size_t)p.size : BLK_PROBE_HEAD;
	p.tail_len = p.size < BLK_PROBE_TAIL ? (size_t)p.size : BLK_PROBE_TAIL;
	int r = blk_co_pread(file, 0, buf->head, p.head_len);

	if (!r)
		r = blk_co_pread(file, p.size - p.tail_len, buf->tail, p.tail_len);
	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", file->name, strerror(-r));
	*drv = blk_probe_format(&p);
	return 0;
}

struct probe_run {
	struct blk_ctx *ctx;
	const char *path;
	int fd;
	const struct blk_driver *drv;
	struct err *err;
};

static int probe_run(void *arg)
{
	struct probe_run *p = arg;
	struct blk_options o = { .path = p->path, .fd = p->fd, .is_readonly = true, .is_unlocked = true };
	struct blk *file = NULL;
	int r = blk_co_open_protocol(&file, p->ctx, &o, p->err);

	if (!r)
		r = blk_co_probe(file, &p->drv, p->err);
	blk_co_close(file);
	return r;
}

int blk_probe(const char *path, int fd, const char **format, struct err *err)
{
	struct probe_run p = { .path = path, .fd = path ? -1 : fd, .err = err };
	int r = blk_ctx_new(&p.ctx, NULL, &aio_threads, err);

	if (r < 0)
		return r;
	r = blk_ctx_run(p.ctx, probe_run, &p);
	blk_ctx_put(p.ctx);
	if (!r)
		*format = p.drv->name;
	return r;
}
