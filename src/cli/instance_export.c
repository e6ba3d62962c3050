/* SPDX-License-Identifier: Apache-2.0 */
/* instance_export.c - `viv export`. The daemon makes an image of the first disk, which is fetched as any other and deleted again; so
 * all that takes long goes on after an interruption of the connection, is that of one project, and counts against its quota. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/archive.h"
#include "cli/client.h"
#include "cli/content.h"
#include "cli/disk.h"
#include "cli/instance.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "util/endian.h"
#include "util/io.h"
#include "util/loop.h"

enum { NAME_CAP = 80, PATH_CAP = 4096, POLL_US = 100000, PATIENCE_S = 60, WHILE_S = 5, QCOW2_BACKING_AT = 8, QCOW2_SIZE_AT = 24 };

struct export {
	struct client *cl;
	struct progress p;
	struct err *err;
	const char *name, *file;
	json_t *doc;                    /* of the instance, as it was at the beginning */
	json_t *disks;                  /* as machine.json has them */
	char image[NAME_CAP];           /* that is made for this; "": none */
	char parts[PATH_CAP];           /* the folder of what is fetched, beside FILE; "": none */
	unsigned n_disks;
	bool has_kernel, has_initrd;    /* of its image's, in PARTS */
};

/* --- before anything is made ---------------------------------------------------- */

static int check_off(struct export *x, const json_t *doc)
{
	if (!json_object_get(json_object_get(doc, "status"), "pid"))
		return 0;
	return err_set(x->err, -EBUSY, "'%s' is running, and its disk changes: stop it first, or clone it and export the clone: 'viv clone %s "
		       "NAME'", x->name, x->name);
}

static int check(struct export *x)
{
	int r = client_call(x->cl, "GET", NULL, &x->doc, x->err, "/v1/instances/%s", x->name);
	const char *of = json_string_value(json_object_get(json_object_get(x->doc, "spec"), "image"));

	if (r < 0)
		return r;
	if (!of)
		return err_set(x->err, -ENOTSUP, "'%s' has no disk of its own: it was made without an image", x->name);
	return check_off(x, x->doc);
}

/* --- fetching ---------------------------------------------------- */

/* The bytes at PATH ("/v1/...") into the file TO. A connection that breaks is made anew. */
static int fetch(struct export *x, const char *path, const char *to)
{
	uint64_t since = loop_now_ns();

	for (;;) {
		uint64_t begun = loop_now_ns();

		x->p.what = "downloading";
		int r = client_download(x->cl, path, to, &x->p, x->err);
		/* What has taken a while has got somewhere. */
		if (loop_now_ns() - begun > (uint64_t)WHILE_S * 1000000000u)
			since = loop_now_ns();
		bool is_hopeful = (r == -ECONNRESET || r == -EAGAIN) && loop_now_ns() - since < (uint64_t)PATIENCE_S * 1000000000u;

		if (!is_hopeful || progress_is_interrupted())
			return r;
		*x->err = (struct err)ERR_INIT;
		usleep(POLL_US);
	}
}

/* What the guest sees of the qcow2 image PATH. */
static int size_of(struct export *x, const char *path, uint64_t *size)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	uint8_t head[QCOW2_SIZE_AT + 8];

	if (fd < 0 || io_read_full(fd, head, sizeof(head)) != (ssize_t)sizeof(head) || memcmp(head, "QFI\373", 4) != 0)
		return err_set(x->err, -EPROTO, "the daemon has sent what is no disk");
	if (get_be64(head + QCOW2_BACKING_AT))
		return err_set(x->err, -ENOTSUP, "a disk of '%s' is a layer over another file", x->name);
	*size = get_be64(head + QCOW2_SIZE_AT);
	return 0;
}

/* The next disk, from PATH; MORE (taken) is what else machine.json says of it. */
static int add_disk(struct export *x, const char *path, json_t *more)
{
	AUTO(json_decref) json_t *disk = more;
	char name[NAME_CAP], to[PATH_CAP + NAME_CAP];
	uint64_t size = 0;

	snprintf(name, sizeof(name), "disk-%u.qcow2", x->n_disks++);
	snprintf(to, sizeof(to), "%s/%s", x->parts, name);
	int r = fetch(x, path, to);
	if (!r)
		r = size_of(x, to, &size);
	if (r < 0)
		return r;
	json_object_set_new(disk, "file", json_string(name));
	json_object_set_new(disk, "size", json_integer((json_int_t)size));
	return json_array_append(x->disks, disk) < 0 ? err_set(x->err, -ENOMEM, "out of memory") : 0;
}

/* What its image brings to be started with: NAME in PARTS. 1: it is there; 0: there is none. */
static int fetch_part(struct export *x, const char *image, const char *part, const char *name)
{
	char path[NAME_CAP + 32], to[PATH_CAP + NAME_CAP];

	snprintf(path, sizeof(path), "/v1/images/%s/%s", image, part);
	snprintf(to, sizeof(to), "%s/%s", x->parts, name);
	int r = fetch(x, path, to);
	if (r != -ENOENT)
		return r < 0 ? r : 1;
	*x->err = (struct err)ERR_INIT;
	return 0;
}

static int fetch_kernel(struct export *x, const json_t *image)
{
	if (!json_is_true(json_object_get(json_object_get(image, "status"), "boots_directly")))
		return 0;
	int r = fetch_part(x, x->image, "kernel", ARCHIVE_KERNEL);
	x->has_kernel = r > 0;
	if (r > 0)
		r = fetch_part(x, x->image, "initrd", ARCHIVE_INITRD);
	x->has_initrd = r > 0;
	return r < 0 ? r : 0;
}

/* The first disk, by way of an image that is there for so long. */
static int add_root(struct export *x)
{
	char name[NAME_CAP], path[NAME_CAP + 32];

	snprintf(name, sizeof(name), "export-%s", json_string_value(json_object_get(x->doc, "uid")));
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:{s:{s:s}}}", "name", name, "spec", "source", "instance", x->name);
	AUTO(json_decref) json_t *made = NULL;
	int r = client_call(x->cl, "POST", doc, NULL, x->err, "/v1/images");

	if (r == -EEXIST)
		return err_set(x->err, -EBUSY, "'%s' is being exported already; if that has been killed, delete what it has left: 'viv image rm "
			       "%s'", x->name, name);
	if (r < 0)
		return r;
	snprintf(x->image, sizeof(x->image), "%s", name);
	x->p.what = "copying";
	r = content_wait(x->cl, &x->p, "images", name, &made, x->err);
	if (!r)
		r = fetch_kernel(x, made);
	snprintf(path, sizeof(path), "/v1/images/%s/content", name);
	return r < 0 ? r : add_disk(x, path, json_object());
}

static int add_volumes(struct export *x)
{
	const json_t *disk, *disks = json_object_get(json_object_get(x->doc, "spec"), "disks");
	int r = 0;
	size_t i;

	json_array_foreach(disks, i, disk) {
		const char *volume = json_string_value(json_object_get(disk, "volume"));
		char path[NAME_CAP + 32];

		snprintf(path, sizeof(path), "/v1/volumes/%s/content", volume);
		r = add_disk(x, path, json_pack("{s:s, s:b}", "volume", volume, "readonly", json_is_true(json_object_get(disk, "readonly"))));
		if (r < 0)
			break;
	}
	return r;
}

/* Disks of different moments do not belong together. */
static int check_unchanged(struct export *x)
{
	AUTO(json_decref) json_t *now = NULL;
	int r = client_call(x->cl, "GET", NULL, &now, x->err, "/v1/instances/%s", x->name);

	if (!r)
		r = check_off(x, now);
	if (!r && !json_equal(json_object_get(now, "revision"), json_object_get(x->doc, "revision")))
		r = err_set(x->err, -EAGAIN, "'%s' has been changed while its disks were being copied; export it again", x->name);
	return r;
}

/* --- the file ---------------------------------------------------- */

/* The file NAME of PARTS, which is not needed any more. */
static int write_part(struct export *x, struct archive_writer *w, const char *name)
{
	struct blk_progress tell = disk_progress(&x->p);
	char from[PATH_CAP + NAME_CAP];

	snprintf(from, sizeof(from), "%s/%s", x->parts, name);
	int r = archive_add_file(w, name, from, &tell, x->err);
	(void)unlink(from);
	return r;
}

static int write_all(struct export *x, struct archive_writer *w)
{
	AUTO(json_decref) json_t *spec = archive_spec(json_object_get(x->doc, "spec"));
	AUTO(json_decref) json_t *machine = json_pack("{s:O, s:O, s:O, s:O}", "name", json_object_get(x->doc, "name"), "labels",
						      json_object_get(x->doc, "labels"), "spec", spec, "disks", x->disks);
	int r = machine ? archive_add_json(w, ARCHIVE_MACHINE, machine, x->err) : err_set(x->err, -ENOMEM, "out of memory");

	x->p.what = "packing";
	for (unsigned i = 0; !r && i < x->n_disks; i++) {
		char name[NAME_CAP];

		snprintf(name, sizeof(name), "disk-%u.qcow2", i);
		r = write_part(x, w, name);
		/* Right behind the first disk, with which it is sent. */
		if (!r && !i && x->has_kernel)
			r = write_part(x, w, ARCHIVE_KERNEL);
		if (!r && !i && x->has_initrd)
			r = write_part(x, w, ARCHIVE_INITRD);
	}
	return r < 0 ? r : archive_finish(w, x->err);
}

static int write_file(struct export *x)
{
	char temp[PATH_CAP + NAME_CAP];
	struct archive_writer w = { .fd = -1 };

	snprintf(temp, sizeof(temp), "%s/archive", x->parts);
	AUTO_FD int fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(x->err, -errno, "cannot create '%s': %s", temp, strerror(errno));
	int r = archive_begin(&w, fd, x->err);
	if (!r)
		r = write_all(x, &w);
	archive_done(&w);
	/* Nothing is replaced, where the file system can do that. */
	if (!r && renameat2(AT_FDCWD, temp, AT_FDCWD, x->file, RENAME_NOREPLACE) < 0 && (errno != EINVAL || rename(temp, x->file) < 0))
		r = err_set(x->err, -errno, "cannot make '%s': %s", x->file, strerror(errno));
	return r;
}

/* --- the end ---------------------------------------------------- */

static void remove_parts(struct export *x)
{
	DIR *d = x->parts[0] ? opendir(x->parts) : NULL;

	for (struct dirent *e; d && (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.')
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (!d)
		return;
	closedir(d);
	(void)rmdir(x->parts);
}

static int make(struct export *x, bool has_volumes)
{
	if (!access(x->file, F_OK))
		return err_set(x->err, -EEXIST, "'%s' is there already; choose another name", x->file);
	int r = check(x);
	if (r < 0)
		return r;
	if (snprintf(x->parts, sizeof(x->parts), "%s.parts-XXXXXX", x->file) >= (int)sizeof(x->parts) || !mkdtemp(x->parts)) {
		x->parts[0] = 0;
		return err_set(x->err, -errno, "cannot make a folder beside '%s': %s", x->file, strerror(errno));
	}
	r = add_root(x);
	if (x->image[0])
		content_remove(x->cl, "images", x->image);
	if (!r && has_volumes)
		r = add_volumes(x);
	if (!r)
		r = check_unchanged(x);
	return r < 0 ? r : write_file(x);
}

static int export(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct export x = { .err = err, .name = cli_arg(c, 0), .file = cli_arg(c, 1), .disks = json_array() };
	int r = client_open(&cl, c, err);

	x.cl = cl;
	progress_start(&x.p, c, "copying");
	if (!r)
		r = make(&x, cli_flag(c, "--volumes"));
	remove_parts(&x);
	if (r == -EINTR)
		err_set(err, r, "interrupted; nothing was written");
	progress_end(&x.p);
	json_decref(x.disks);
	json_decref(x.doc);
	return !r && c->is_json ? output_json(json_pack("{s:s, s:i}", "file", x.file, "disks", (int)x.n_disks), err) : r;
}

const struct cli_command instance_export = {
	.path = "export",
	.summary = "save a machine as a file",
	.about = "What it is, and its first disk, as it is without its snapshots, in one tar archive with checksums, which 'viv import' makes "
		 "a machine of, here or elsewhere. The machine must be off. Not in it are addresses, forwarded ports and paths of this host, and "
		 "'user_data', which may be secret; what is on the disks is, and the kernel that its image brings.",
	.args = (const struct cli_arg[]){ { "MACHINE", .help = "which is off" }, { "FILE", .help = "that is not there" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--volumes", 0, CLI_FLAG, .help = "with its further disks" }, CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "export web web.viv", "its first disk alone" },
						  { "export --volumes db db.viv", "with all that it has" },
						  { .line = NULL } },
	.run = export,
};
