/* SPDX-License-Identifier: Apache-2.0 */
/* tool - single operations of the block library, for tests that compare it with other programs.
 *
 *	tool create FILE FORMAT SIZE OPTIONS [BACKING BACKING_FORMAT]
 *	tool load FILE FORMAT RAW [compressed]          write the bytes of RAW into the disk
 *	tool dump FILE FORMAT RAW                       and back
 *	tool check FILE FORMAT [fix]                    prints "ERRORS LEAKS FIXED"
 *	tool snapshot FILE FORMAT create|apply|delete NAME
 *	tool resize FILE FORMAT SIZE
 *	tool write FILE FORMAT OFFSET LENGTH BYTE
 *	tool crash FILE FORMAT OFFSET LENGTH BYTE       the same, flushed, and the program dies
 *	tool info FILE FORMAT                           JSON
 *	tool watch FILE FORMAT TIMES MS                 read the disk that often, with a pause between; a sum each time
 *	tool key FILE FORMAT add|remove|find KEYFILE    key slots of an encrypted image
 *	tool key FILE FORMAT change KEYFILE NEWFILE     prints the number of the slot
 * FORMAT "-": by content; "qcow2:cache_size=1M,...": with options of opening. Exit status 1 and a sentence on error. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/luks/luks.h"
#include "blk/opts.h"
#include "blk/secret.h"
#include "util/err.h"
#include "util/str.h"

enum { CHUNK = 2 << 20 };

static struct err err = ERR_INIT;

_Noreturn static void die(const char *what, int r)
{
	fprintf(stderr, "tool: %s: %s\n", what, err.code ? err.msg : strerror(-r));
	exit(1);
}

static uint64_t number(const char *text)
{
	uint64_t v;

	if (str_parse_size(&v, text, &err) < 0)
		die("a number", 0);
	return v;
}

static struct blk *open_image(char **a, bool is_readonly, bool is_repairing)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	AUTO(free) char *format = strdup(a[1]);
	char *options = format ? strchr(format, ':') : NULL;
	struct blk_options o = { .path = a[0], .fd = -1, .format = strcmp(a[1], "-") ? format : NULL,
				 .is_readonly = is_readonly, .is_repairing = is_repairing };
	struct blk *b = NULL;
	int r = 0;

	if (options) {
		*options++ = '\0';
		r = blk_opts_init(&opts, blk_format_open_opts(format), &err);
		if (!r)
			r = blk_opts_parse(&opts, options, &err);
		o.opts = &opts;
	}
	if (!r)
		r = blk_open(&b, NULL, &o, &err);

	if (r < 0)
		die("open", r);
	return b;
}

static int do_create(int n, char **a)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct blk_create c = { .path = a[0], .format = a[1], .size = number(a[2]), .opts = &opts,
				.backing = n > 5 ? a[4] : NULL, .backing_format = n > 5 ? a[5] : NULL };
	int r = blk_opts_init(&opts, blk_format_create_opts(a[1]), &err);

	if (!r)
		r = blk_opts_parse(&opts, a[3], &err);
	if (!r)
		r = blk_create(&c, &err);
	if (r < 0)
		die("create", r);
	return 0;
}

static int do_copy(int n, char **a, bool is_load)
{
	bool is_compressed = n > 3 && !strcmp(a[3], "compressed");
	AUTO(blk_close) struct blk *b = open_image(a, !is_load, false);
	FILE *f = fopen(a[2], is_load ? "rb" : "wb");
	uint64_t step = is_compressed ? blk_cluster_size(b) : CHUNK;
	AUTO(free) char *buf = malloc(CHUNK);
	int r = f && buf ? 0 : -1;

	for (uint64_t off = 0; !r && off < blk_size(b); off += step) {
		size_t len = blk_size(b) - off < step ? blk_size(b) - off : step;

		if (is_load && fread(buf, 1, len, f) != len)
			break;
		r = !is_load ? blk_pread(b, off, buf, len) : is_compressed ? blk_pwrite_compressed(b, off, buf, len) :
		    blk_pwrite(b, off, buf, len);
		if (!r && !is_load && fwrite(buf, 1, len, f) != len)
			r = -1;
	}
	if (r < 0 || fclose(f))
		die("copy", r);
	return 0;
}

static void print_line(void *arg, const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static int do_check(int n, char **a)
{
	bool is_fixing = n > 2;
	AUTO(blk_close) struct blk *b = open_image(a, !is_fixing, is_fixing);
	struct blk_check c = { .report = print_line };
	int r = blk_check(b, is_fixing ? BLK_FIX_ALL : BLK_FIX_NOTHING, &c, &err);

	if (r < 0)
		die("check", r);
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", c.n_errors, c.n_leaks, c.n_errors_fixed + c.n_leaks_fixed);
	return 0;
}

static int do_snapshot(int n, char **a)
{
	AUTO(blk_close) struct blk *b = open_image(a, false, false);
	struct blk_snapshot s = { .name = "" };
	int r;

	snprintf(s.name, sizeof(s.name), "%s", a[3]);
	r = !strcmp(a[2], "create") ? blk_snapshot_create(b, &s, &err) :
	    !strcmp(a[2], "apply") ? blk_snapshot_apply(b, a[3], &err) : blk_snapshot_delete(b, a[3], &err);
	if (r < 0)
		die(a[2], r);
	return 0;
}

static int do_resize(int n, char **a)
{
	AUTO(blk_close) struct blk *b = open_image(a, false, false);
	int r = blk_resize(b, number(a[2]), BLK_PREALLOC_OFF, &err);

	if (r < 0)
		die("resize", r);
	return 0;
}

static void write_byte(struct blk *b, char **a)
{
	size_t len = number(a[3]);
	AUTO(free) char *buf = malloc(len);

	if (!buf)
		die("write", -12);
	memset(buf, (int)number(a[4]), len);
	int r = blk_pwrite(b, number(a[2]), buf, len);

	if (r < 0)
		die("write", r);
}

static int do_write(int n, char **a)
{
	AUTO(blk_close) struct blk *b = open_image(a, false, false);

	write_byte(b, a);
	return 0;
}

static int do_crash(int n, char **a)
{
	struct blk *b = open_image(a, false, false);

	write_byte(b, a);
	int r = blk_flush(b);

	if (r < 0)
		die("crash", r);
	_exit(0);
}

static int do_info(int n, char **a)
{
	AUTO(blk_close) struct blk *b = open_image(a, true, false);
	json_t *o = NULL;
	int r = blk_info(b, true, &o, &err);

	if (r < 0)
		die("info", r);
	json_dumpf(o, stdout, JSON_INDENT(1));
	json_decref(o);
	return 0;
}

static int do_watch(int n, char **a)
{
	AUTO(blk_close) struct blk *b = open_image(a, true, false);
	AUTO(free) uint8_t *buf = malloc(CHUNK);

	for (uint64_t times = number(a[2]); buf && times; times--) {
		uint64_t sum = 0;

		for (uint64_t off = 0; off < blk_size(b); off += CHUNK) {
			size_t len = blk_size(b) - off < CHUNK ? blk_size(b) - off : CHUNK;
			int r = blk_pread(b, off, buf, len);

			if (r < 0)
				die("read", r);
			for (size_t i = 0; i < len; i++)
				sum = sum * 31 + buf[i];
		}
		printf("%" PRIx64 "\n", sum);
		fflush(stdout);
		usleep((useconds_t)number(a[3]) * 1000);
	}
	return 0;
}

static int do_key(int n, char **a)
{
	AUTO(blk_close) struct blk *b = open_image(a, false, false);
	AUTO(blk_secret_wipe) struct blk_secret s = { 0 }, now = { 0 };
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	int r = blk_secret_read_file(&s, a[3], &err);

	if (!r && n > 4)
		r = blk_secret_read_file(&now, a[4], &err);
	if (!r)
		r = blk_opts_init(&opts, luks_slot_opts, &err);
	if (!r)
		r = blk_opts_set(&opts, "iter-time", "10", &err);
	if (!r)
		r = !strcmp(a[2], "add") ? blk_luks_add_key(b, &s, &opts, &err) :
		    !strcmp(a[2], "remove") ? blk_luks_remove_key(b, &s, false, &err) :
		    !strcmp(a[2], "find") ? blk_luks_find_key(b, &s, &err) :
		    blk_luks_change_key(b, &s, &now, &opts, &err);
	if (r < 0)
		die(a[2], r);
	printf("%d\n", r);
	return 0;
}

static int do_load(int n, char **a) { return do_copy(n, a, true); }
static int do_dump(int n, char **a) { return do_copy(n, a, false); }

int main(int argc, char **argv)
{
	static const struct { const char *name; int n; int (*fn)(int n, char **a);
	} commands[] = {
		{ "create", 4, do_create },     { "load", 3, do_load },
		{ "dump", 3, do_dump },         { "check", 2, do_check },
		{ "snapshot", 4, do_snapshot }, { "resize", 3, do_resize },
		{ "write", 5, do_write },       { "crash", 5, do_crash },
		{ "key", 4, do_key },           { "watch", 4, do_watch },
		{ "info", 2, do_info },
	};

	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(argv[1], commands[i].name) && argc - 2 >= commands[i].n)
			return commands[i].fn(argc - 2, argv + 2);
	fprintf(stderr, "tool: no such command, or too few arguments\n");
	return 2;
}
