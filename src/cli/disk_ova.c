/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk ova list, extract, import */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/convert.h"
#include "blk/ova/ova.h"
#include "cli/disk.h"
#include "cli/output.h"

enum { OVA_COPY = 1 << 20, OVA_PATH_MAX = 4096 };

/* --- list -------------------------------------------------------------------------------------------- */

static json_t *ova_json(const struct blk_ova_info *o)
{
	json_t *disks = json_array();

	for (unsigned i = 0; i < o->n_disks; i++) {
		const struct blk_ova_disk *d = &o->disks[i];

		json_array_append_new(disks, json_pack("{s:s, s:s, s:s, s:I, s:I}", "id", d->id, "file", d->file, "format",
						       d->format, "capacity", (json_int_t)d->capacity, "length",
						       (json_int_t)d->len));
	}
	return json_pack("{s:s, s:i, s:I, s:b, s:o}", "name", o->name, "cpus", (int)o->cpus, "memory",
			 (json_int_t)o->memory, "manifest", o->has_manifest, "disks", disks);
}

static void ova_print(const struct blk_ova_info *o)
{
	char size[OUTPUT_SIZE_LEN], len[OUTPUT_SIZE_LEN];

	printf("name       ");
	output_text(stdout, o->name[0] ? o->name : "-");
	printf("\nprocessors %u\nmemory     %s\nmanifest   %s\n", o->cpus, output_size(size, o->memory),
	       o->has_manifest ? "yes" : "none");
	for (unsigned i = 0; i < o->n_disks; i++) {
		printf("disk %-5u %s in %s, ", i + 1, output_size(size, o->disks[i].capacity),
		       output_size(len, o->disks[i].len));
		output_text(stdout, o->disks[i].file);
		putchar('\n');
	}
}

/* What PATH holds; with --verify of C compared with its manifest. OUT is to be freed. */
static int ova_read(struct blk_ova_info **out, const struct cli *c, struct err *err)
{
	AUTO(free) struct blk_ova_info *o = calloc(1, sizeof(*o));
	int r = o ? blk_ova_read(cli_arg(c, 0), o, err) : err_set(err, -ENOMEM, "out of memory");

	if (!r && cli_flag(c, "--verify"))
		r = blk_ova_verify(cli_arg(c, 0), err);
	if (!r)
		*out = take_ptr(&o);
	return r;
}

static int ova_list(struct cli *c, struct err *err)
{
	AUTO(free) struct blk_ova_info *o = NULL;
	int r = ova_read(&o, c, err);

	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(ova_json(o), err);
	ova_print(o);
	return 0;
}

/* --- extract ------------------------------------------------------------------------------------------- */

/* By number from 1 on, by the name of its file, or by its id. */
static const struct blk_ova_disk *ova_find(const struct blk_ova_info *o, const char *which)
{
	for (unsigned i = 0; i < o->n_disks; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%u", i + 1);
		if (!strcmp(which, number) || !strcmp(which, o->disks[i].file) || !strcmp(which, o->disks[i].id))
			return &o->disks[i];
	}
	return NULL;
}

static int ova_copy(int from, int to, const struct blk_ova_disk *d, struct progress *p)
{
	AUTO(free) char *buf = malloc(OVA_COPY);

	if (!buf)
		return -ENOMEM;
	for (uint64_t at = 0; at < d->len;) {
		size_t want = d->len - at < OVA_COPY ? (size_t)(d->len - at) : OVA_COPY;
		ssize_t n = pread(from, buf, want, (off_t)(d->off + at));

		if (n <= 0)
			return n ? -errno : -EIO;
		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(to, buf + done, (size_t)(n - done));
			if (w < 0)
				return -errno;
		}
		at += (uint64_t)n;
		int r = progress_update(p, at, d->len);

		if (r < 0)
			return r;
	}
	return fsync(to) < 0 ? -errno : 0;
}

static int ova_extract_to(const struct cli *c, const struct blk_ova_disk *d, const char *path, struct err *err)
{
	AUTO_FD int from = open(cli_arg(c, 0), O_RDONLY | O_CLOEXEC);
	AUTO_FD int to = from < 0 ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	struct progress p;

	if (from < 0)
		return err_set(err, -errno, "cannot open '%s': %s", cli_arg(c, 0), strerror(errno));
	if (to < 0)
		return err_set(err, -errno, "cannot make '%s': %s", path, strerror(errno));
	progress_start(&p, c, "extracting");
	int r = ova_copy(from, to, d, &p);

	progress_end(&p);
	if (r < 0)
		unlink(path);
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", path, r == -EINTR ? "interrupted" : strerror(-r)) : 0;
}

static int ova_extract(struct cli *c, struct err *err)
{
	AUTO(free) struct blk_ova_info *o = NULL;
	const char *path = cli_arg(c, 2);
	int r = ova_read(&o, c, err);
	const struct blk_ova_disk *d = r < 0 ? NULL : ova_find(o, cli_arg(c, 1));

	if (r < 0)
		return r;
	if (!d)
		return err_set(err, -ENOENT, "'%s' has no disk '%s'; 'viv disk ova list' tells them", cli_arg(c, 0),
			       cli_arg(c, 1));
	if (o->is_unpacked)
		return err_set(err, -EINVAL, "'%s' is a descriptor: '%s' lies beside it already", cli_arg(c, 0), d->file);
	r = disk_check_new(c, path, err);
	if (!r && cli_flag(c, "--force") && unlink(path) < 0 && errno != ENOENT)
		r = err_set(err, -errno, "cannot replace '%s': %s", path, strerror(errno));
	if (!r)
		r = ova_extract_to(c, d, path, err);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_pack("{s:s, s:s, s:I}", "filename", path, "member", d->file, "length",
					     (json_int_t)d->len), err);
	if (!c->is_quiet)
		printf("%s: as it is in the archive; 'viv disk info' tells its format\n", path);
	return 0;
}

/* --- import --------------------------------------------------------------------------------------------- */

static int ova_import_disk(const struct cli *c, const struct blk_ova_info *o, unsigned i, const char *path, struct err *err)
{
	char beside[OVA_PATH_MAX];
	const char *slash = strrchr(cli_arg(c, 0), '/');
	AUTO(blk_opts_fini) struct blk_opts from = { 0 }, to = { 0 };
	struct progress progress;
	struct blk_options src = { .path = cli_arg(c, 0), .fd = -1, .format = "ova", .is_readonly = true, .opts = &from };
	struct blk_convert_file f = { .src = &src, .path = path, .format = cli_str(c, "--format"), .opts = &to,
				      .how = { .progress = disk_progress(&progress) } };
	char number[16], what[32];
	int r = o->is_unpacked ? 0 : blk_opts_init(&from, blk_format_open_opts("ova"), err);

	if (o->is_unpacked) {
		snprintf(beside, sizeof(beside), "%.*s%s", slash ? (int)(slash - cli_arg(c, 0)) + 1 : 0, cli_arg(c, 0),
			 o->disks[i].file);
		src = (struct blk_options){ .path = beside, .fd = -1, .is_readonly = true, .is_confined = true };
	}
	snprintf(number, sizeof(number), "%u", i + 1);
	snprintf(what, sizeof(what), "disk %u", i + 1);
	if (!r && !o->is_unpacked)
		r = blk_opts_set(&from, "disk", number, err);
	if (!r)
		r = disk_create_opts(&to, c, f.format, err);
	if (r < 0)
		return r;
	progress_start(&progress, c, what);
	r = blk_convert_file(&f, err);
	progress_end(&progress);
	return r;
}

static int ova_describe(const char *path, json_t *machine, struct err *err)
{
	int r = json_dump_file(machine, path, JSON_INDENT(2)) < 0 ? -errno : 0;

	return r < 0 ? err_set(err, r, "cannot write '%s': %s", path, strerror(-r)) : 0;
}

/* All disks into FOLDER, then machine.json: who finds that has all. */
static int ova_import_all(const struct cli *c, const struct blk_ova_info *o, const char *folder, json_t *machine,
			  struct err *err)
{
	char path[OVA_PATH_MAX], name[64];
	int r = 0;

	for (unsigned i = 0; !r && i < o->n_disks; i++) {
		json_t *disk = json_array_get(json_object_get(machine, "disks"), i);

		snprintf(name, sizeof(name), "disk%u.%.32s", i + 1, cli_str(c, "--format"));
		snprintf(path, sizeof(path), "%s/%s", folder, name);
		r = ova_import_disk(c, o, i, path, err);
		json_object_set_new(disk, "image", json_string(name));
	}
	snprintf(path, sizeof(path), "%s/machine.json", folder);
	return r ? r : ova_describe(path, machine, err);
}

static void ova_import_undo(const char *folder, unsigned n, const char *format)
{
	char path[OVA_PATH_MAX];

	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/disk%u.%.32s", folder, i + 1, format);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/machine.json", folder);
	unlink(path);
	rmdir(folder);
}

static int ova_import(struct cli *c, struct err *err)
{
	AUTO(free) struct blk_ova_info *o = NULL;
	const char *folder = cli_arg(c, 1);
	int r = strlen(folder) > OVA_PATH_MAX - 64 ? err_set(err, -ENAMETOOLONG, "the name of the folder is too long") : 0;

	if (!r && !blk_format_create_opts(cli_str(c, "--format")))
		r = err_set(err, -EINVAL, "no image of format '%s' can be made", cli_str(c, "--format"));
	if (!r)
		r = ova_read(&o, c, err);
	if (r < 0)
		return r;
	if (mkdir(folder, 0777) < 0)
		return err_set(err, -errno, "cannot make the folder '%s': %s%s", folder, strerror(errno),
			       errno == EEXIST ? "; choose another name" : "");
	json_t *machine = ova_json(o);

	r = ova_import_all(c, o, folder, machine, err);
	if (r < 0)
		ova_import_undo(folder, o->n_disks, cli_str(c, "--format"));
	if (r < 0 || !c->is_json) {
		json_decref(machine);
		if (!r && !c->is_quiet)
			printf("%s: %u disks, and machine.json, which tells what they belong to\n", folder, o->n_disks);
		return r;
	}
	return output_json(machine, err);
}

/* --- the commands ------------------------------------------------------------------------------------------ */

#define OVA_VERIFY \
	{ "--verify", 0, CLI_FLAG, .help = "compare every checksum of the manifest; reads all of the archive" }

const struct cli_command disk_ova_list = {
	.path = "disk ova list",
	.summary = "tell what machine an OVA archive holds",
	.about = "Its name, processors, memory and disks, as the descriptor in the archive says.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the archive, or the descriptor (.ovf) of one that is unpacked" },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ OVA_VERIFY, { .name = NULL } },
	.examples = (const struct cli_example[]){
		{ "disk ova list appliance.ova --verify", "is it whole, and what is it?" }, { .line = NULL },
	},
	.run = ova_list,
};

const struct cli_command disk_ova_extract = {
	.path = "disk ova extract",
	.summary = "take one disk out of an OVA archive as it is",
	.about = "To read it, nothing has to be extracted: every command takes an archive with one disk for that disk.",
	.args = (const struct cli_arg[]){
		{ "FILE", .help = "the archive" }, { "DISK", .help = "its number, the name of its file, or its id" },
		{ "OUT", .help = "the new file" }, { .name = NULL },
	},
	.options = (const struct cli_option[]){
		OVA_VERIFY, { "--force", 0, CLI_FLAG, .help = "replace OUT if it exists" }, { .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk ova extract appliance.ova 1 disk.vmdk", "the first disk" }, { .line = NULL },
	},
	.run = ova_extract,
};

const struct cli_command disk_ova_import = {
	.path = "disk ova import",
	.summary = "turn an OVA archive into disks that can be used",
	.about = "Makes a folder with an image per disk, disk1.qcow2 and so on, and machine.json, which says to what machine "
		 "they belong. machine.json is written last; if anything fails, the folder is removed again.",
	.args = (const struct cli_arg[]){
		{ "FILE", .help = "the archive, or the descriptor (.ovf) of one that is unpacked" },
		{ "FOLDER", .help = "the new folder" }, { .name = NULL },
	},
	.options = (const struct cli_option[]){
		OVA_VERIFY,
		{ "--format", 'f', CLI_STRING, .metavar = "FORMAT", .def = "qcow2", .help = "format of the new images" },
		{ "-o", 'o', CLI_STRING, .is_repeatable = true, .metavar = "NAME=VALUE,...",
		  .help = "options of the new images' format" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk ova import appliance.ova appliance --verify", "an appliance of another product" },
		{ .line = NULL },
	},
	.run = ova_import,
};
