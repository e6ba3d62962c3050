/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk ova create: disks become streamOptimized VMDK images beside the archive, which go when they are in it. */
#include <errno.h>
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

struct packing {
	const struct cli *c;
	struct blk_ova_member disks[BLK_OVA_DISKS_MAX];
	char *paths[BLK_OVA_DISKS_MAX], *names[BLK_OVA_DISKS_MAX];
	unsigned n;
};

static void packing_fini(struct packing *p)
{
	for (unsigned i = 0; i < p->n; i++) {
		if (p->paths[i])
			unlink(p->paths[i]);
		free(p->paths[i]);
		free(p->names[i]);
	}
}

/* "web" for "/srv/web.ova". */
static void packing_name(char *out, size_t cap, const struct cli *c)
{
	const char *said = cli_str(c, "--name"), *path = cli_arg(c, 0), *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');

	if (said)
		snprintf(out, cap, "%s", said);
	else
		snprintf(out, cap, "%.*s", dot && dot != base ? (int)(dot - base) : (int)strlen(base), base);
}

static int packing_convert(struct blk_options *o, void *arg, struct err *err)
{
	return blk_convert_file(arg, err);
}

/* The disk SRC into a file of its own. */
static int packing_add(struct packing *p, const char *name, const char *src, struct err *err)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct blk_options from = { .path = src, .fd = -1, .is_readonly = true };
	struct blk_convert_file f = { .src = &from, .format = "vmdk", .opts = &opts };
	struct progress progress;
	unsigned i = p->n++;
	char what[32];

	if (asprintf(&p->paths[i], "%s.disk%u-%u.vmdk", cli_arg(p->c, 0), i + 1, (unsigned)getpid()) < 0 ||
	    asprintf(&p->names[i], "%s-disk%u.vmdk", name, i + 1) < 0) {
		p->n--;
		return err_set(err, -ENOMEM, "out of memory");
	}
	f.path = p->paths[i];
	f.how.progress = disk_progress(&progress);
	int r = blk_opts_init(&opts, blk_format_create_opts("vmdk"), err);

	if (!r)
		r = blk_opts_parse(&opts, "subformat=streamOptimized,adapter_type=lsilogic", err);
	if (r < 0)
		return r;
	snprintf(what, sizeof(what), "packing disk %u", i + 1);
	progress_start(&progress, p->c, what);
	r = disk_with_keys(p->c, &from, packing_convert, &f, err);
	progress_end(&progress);
	p->disks[i] = (struct blk_ova_member){ .path = p->paths[i], .name = p->names[i], .capacity = f.size };
	return r < 0 ? err_wrap(err, r, "disk '%s'", src) : 0;
}

static int packing_write(const struct packing *p, const char *name, struct err *err)
{
	struct progress progress;
	struct blk_ova_make m = { .path = cli_arg(p->c, 0), .name = name, .cpus = (unsigned)cli_num(p->c, "--cpus"),
				  .memory = cli_num(p->c, "--memory"), .disks = p->disks, .n_disks = p->n,
				  .is_replacing = cli_flag(p->c, "--force"), .progress = disk_progress(&progress) };

	progress_start(&progress, p->c, "writing");
	int r = blk_ova_write(&m, err);

	progress_end(&progress);
	return r;
}

static int packing_report(const struct packing *p, const char *name, struct err *err)
{
	const char *path = cli_arg(p->c, 0);
	char size[OUTPUT_SIZE_LEN];
	struct stat st = { 0 };

	if (p->c->is_quiet && !p->c->is_json)
		return 0;
	if (stat(path, &st) < 0)
		return err_set(err, -errno, "cannot examine '%s': %s", path, strerror(errno));
	if (p->c->is_json)
		return output_json(json_pack("{s:s, s:s, s:i, s:I}", "filename", path, "name", name, "disks", (int)p->n,
					     "length", (json_int_t)st.st_size), err);
	printf("%s: the machine '%s' with %u disk%s, %s\n", path, name, p->n, p->n == 1 ? "" : "s",
	       output_size(size, (uint64_t)st.st_size));
	return 0;
}

static int ova_create(struct cli *c, struct err *err)
{
	struct packing p = { .c = c };
	char name[BLK_OVA_NAME_MAX];
	const char *src;
	int r = disk_check_new(c, cli_arg(c, 0), err);

	packing_name(name, sizeof(name), c);
	/* Before anything is packed: what the archive could not be called. */
	if (!r)
		r = blk_ova_check_name(name, err);
	if (!r && c->n_args - 1 > BLK_OVA_DISKS_MAX)
		r = err_set(err, -E2BIG, "an archive has at most %d disks", BLK_OVA_DISKS_MAX);
	if (!r && cli_num(c, "--cpus") > 4096)
		r = err_set(err, -ERANGE, "a machine has at most 4096 processors");
	for (unsigned i = 1; !r && (src = cli_arg(c, i)); i++)
		r = packing_add(&p, name, src, err);
	if (!r)
		r = packing_write(&p, name, err);
	if (!r)
		r = packing_report(&p, name, err);
	packing_fini(&p);
	return r;
}

const struct cli_command disk_ova_create = {
	.path = "disk ova create",
	.summary = "pack disks into an OVA archive for other products",
	.about = "The archive has a descriptor of the machine, the disks as streamOptimized VMDK images, and a manifest with "
		 "a checksum of each: what VMware's and VirtualBox' products import. Backing images are packed along. It appears "
		 "under its name when it is whole and on the disk; until then as much space is taken once more beside it.",
	.args = (const struct cli_arg[]){
		{ "FILE", .help = "the new archive" },
		{ "DISK", .help = "an image of any format, or several; the first is what the machine starts from",
		  .is_repeated = true },
		{ .name = NULL },
	},
	.options = (const struct cli_option[]){
		{ "--name", 'n', CLI_STRING, .metavar = "NAME", .help = "of the machine; else that of FILE without its ending" },
		{ "--cpus", 0, CLI_UINT, .metavar = "N", .def = "1", .help = "its processors" },
		{ "--memory", 'm', CLI_SIZE, .metavar = "SIZE", .def = "1G", .help = "its memory" },
		DISK_OPTION_KEY,
		{ "--force", 0, CLI_FLAG, .help = "replace FILE if it exists" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk ova create web.ova root.qcow2 data.qcow2 --cpus 2 --memory 4G", "a machine with two disks" },
		{ .line = NULL },
	},
	.run = ova_create,
};
