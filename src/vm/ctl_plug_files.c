/* SPDX-License-Identifier: Apache-2.0 */
/* What a disk that is plugged needs beside its image, opened by the client: backing images, the file of its passphrase, and for direct
 * I/O each image a second time. The machine in its jail opens nothing, and finds them by their names. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "blk/blk.h"
#include "util/checked.h"
#include "vm/ctl_priv.h"

struct files {
	json_t *names;                  /* borrowed */
	int *fds;
	unsigned n, cap;
};

static int files_add(struct files *f, const char *name, int flags, struct err *err)
{
	json_t *text = json_string(name);

	if (f->n == f->cap || !text || json_array_append_new(f->names, text) < 0)
		return f->n == f->cap ? err_set(err, -E2BIG, "the disk needs more than %u files; merge some of its images", f->cap) :
		       err_set(err, -ENOMEM, "out of memory");
	int fd = open(name, flags | O_CLOEXEC);

	if (fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", name, strerror(errno));
	f->fds[f->n++] = fd;
	return 0;
}

/* Image B of the chain, and those below. */
static int files_add_chain(struct files *f, const struct blk *b, const struct config_disk *d, struct err *err)
{
	int access = d->is_readonly ? O_RDONLY : O_RDWR, r = d->is_direct ? files_add(f, blk_name(b), access | O_DIRECT, err) : 0;

	for (b = blk_backing(b); !r && b; b = blk_backing(b)) {
		r = files_add(f, blk_name(b), O_RDONLY, err);
		if (!r && d->is_direct)
			r = files_add(f, blk_name(b), O_RDONLY | O_DIRECT, err);
	}
	return r;
}

static int files_of_disk(struct files *f, const struct config_disk *d, const char *path, struct err *err)
{
	struct blk_options o = {
		.path = path, .fd = -1, .format = d->format && strcmp(d->format, "auto") ? d->format : NULL,
		.is_readonly = true, .is_unlocked = true, .has_no_key = true,
	};
	AUTO(blk_close) struct blk *b = NULL;

	if (d->key_file && *d->key_file != '/')
		return err_set(err, -EINVAL, "key-file: '%s' must be an absolute path: the machine, and whoever restores it, stand elsewhere", d->key_file);
	int r = blk_open(&b, NULL, &o, err);

	if (!r)
		r = files_add_chain(f, b, d, err);
	return r || !d->key_file ? r : files_add(f, d->key_file, O_RDONLY | O_NOCTTY, err);
}

int ctl_plug_files(json_t *params, int *fds, unsigned cap, struct err *err)
{
	const char *path = control_get_string(params, "image-path", NULL);
	struct files f = { .fds = fds, .cap = cap };
	struct config c;

	if (!path || strcmp(control_get_string(params, "type", ""), "disk") != 0)
		return 0;
	f.names = json_array();
	int r = config_init(&c, err);
	if (!r)
		r = config_set(&c, "--disk", control_get_string(params, "settings", ""), err);
	if (!r)
		r = files_of_disk(&f, &c.disks[0], path, err);
	config_fini(&c);
	if (!r && f.n)
		json_object_set(params, "files", f.names);
	json_decref(f.names);
	while (r < 0 && f.n)
		close(fds[--f.n]);
	return r < 0 ? r : (int)f.n;
}
