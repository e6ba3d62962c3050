/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "blk/secret.h"
#include "cli/output.h"

/* --- images ------------------------------------------------------------------------------------- */

enum { DISK_KEYS_MAX = 8 };

static int disk_keys_read(const struct cli *c, struct blk_secret *keys, unsigned *n, struct err *err)
{
	const char *path;
	int r = 0;

	for (*n = 0; !r && (path = cli_nth(c, "--key-file", *n));) {
		if (*n == DISK_KEYS_MAX)
			return err_set(err, -E2BIG, "more than %d key files", DISK_KEYS_MAX);
		r = blk_secret_read_file(&keys[*n], path, err);
		++*n;
	}
	return r;
}

int disk_with_keys(const struct cli *c, struct blk_options *o, int (*fn)(struct blk_options *o, void *arg,
									 struct err *err),
		   void *arg, struct err *err)
{
	struct blk_secret keys[DISK_KEYS_MAX] = { 0 };
	struct err why = ERR_INIT;
	char question[320];
	unsigned n;
	int r = disk_keys_read(c, keys, &n, &why);

	o->secrets = keys;
	o->n_secrets = n;
	if (!r)
		r = fn(o, arg, &why);
	if (r == -ENOKEY && !n && isatty(STDIN_FILENO)) {
		snprintf(question, sizeof(question), "passphrase of '%.256s': ", o->path);
		why.code = 0;
		r = blk_secret_ask(&keys[0], question, &why);
		o->n_secrets = 1;
		if (!r)
			r = fn(o, arg, &why);
	}
	for (unsigned i = 0; i < DISK_KEYS_MAX; i++)
		blk_secret_wipe(&keys[i]);
	o->secrets = NULL;
	o->n_secrets = 0;
	return r < 0 ? err_set(err, r, "%s%s", why.msg, r == -ENOKEY ? "; name a file that holds it with --key-file" :
			       "") : r;
}

int disk_ask_new_key(struct blk_secret *s, const char *path, struct err *err)
{
	AUTO(blk_secret_wipe) struct blk_secret again = { 0 };
	char question[320];

	snprintf(question, sizeof(question), "new passphrase of '%.256s': ", path);
	int r = blk_secret_ask(s, question, err);

	if (!r)
		r = blk_secret_ask(&again, "the same once more: ", err);
	if (!r && (s->len != again.len || memcmp(s->data, again.data, s->len)))
		r = err_set(err, -EINVAL, "the two are not the same; nothing was changed");
	return r;
}

static bool disk_is_said(const struct blk_opts *opts, const char *name)
{
	return blk_opts_has(opts, name) && blk_opts_is_set(opts, name);
}

int disk_new_key(struct blk_secret *s, const struct cli *c, const char *path, const char *format,
		 const struct blk_opts *opts, struct err *err)
{
	const char *file = cli_str(c, "--new-key-file");
	bool is_encrypted = !strcmp(format, "luks") || disk_is_said(opts, "encrypt.format");

	if (!is_encrypted)
		return file ? err_set(err, -EINVAL, "'%s' will not be encrypted, so --new-key-file means nothing; "
				      "add -o encrypt.format=luks", path) : 0;
	if (disk_is_said(opts, "key-file") || disk_is_said(opts, "key-fd"))
		return file ? err_set(err, -EINVAL, "--new-key-file and -o both say where the passphrase is; give one") : 0;
	if (!file)
		file = cli_nth(c, "--key-file", 0);
	if (!file && !isatty(STDIN_FILENO))
		return err_set(err, -ENOKEY, "'%s' needs a passphrase: name a file that holds it with --new-key-file", path);
	int r = file ? blk_secret_read_file(s, file, err) : disk_ask_new_key(s, path, err);

	return r < 0 ? r : 1;
}

static int disk_open_with(struct blk_options *o, void *arg, struct err *err)
{
	return blk_open(arg, NULL, o, err);
}

int disk_open(struct blk **out, const struct cli *c, const char *path, const char *format, unsigned flags,
	      struct err *err)
{
	struct blk_options o = {
		.path = path, .fd = -1, .format = format,
		.is_readonly = !(flags & DISK_WRITABLE), .has_no_backing = flags & DISK_NO_BACKING,
		.is_repairing = flags & DISK_REPAIRING, .is_unlocked = flags & DISK_UNLOCKED,
		.has_no_key = flags & DISK_NO_KEY,
	};

	return disk_with_keys(c, &o, disk_open_with, out, err);
}

/* The format that the ending of PATH names, NULL: none. */
static const char *disk_ending(const char *path)
{
	const char *dot = strrchr(path, '.');

	if (!dot || strchr(dot, '/'))
		return NULL;
	if (!strcasecmp(dot, ".img"))
		return "raw";
	for (unsigned i = 0; blk_format_name(i); i++)
		if (!strcasecmp(dot + 1, blk_format_name(i)))
			return blk_format_name(i);
	return NULL;
}

const char *disk_new_format(const char *path, const char *format)
{
	const char *ending = disk_ending(path);

	return format ? format : ending ? ending : "qcow2";
}

/* NAME in image IMAGE: relative to the directory of that. */
static void disk_beside(char *buf, size_t cap, const char *image, const char *name)
{
	const char *slash = strrchr(image, '/');

	snprintf(buf, cap, "%.*s%s", name[0] == '/' || !slash ? 0 : (int)(slash - image + 1), image, name);
}

int disk_backing_format(const char **out, const char *image, const char *name, const char *format, struct err *err)
{
	const char *found = format, *ending = disk_ending(name);
	char path[4096];

	disk_beside(path, sizeof(path), image, name);
	int r = format ? 0 : blk_probe(path, -1, &found, err);

	if (r < 0)
		return err_wrap(err, r, "backing image '%s'", name);
	if (!format && strcmp(found, "raw") && (!ending || strcmp(ending, found)))
		return err_set(err, -EINVAL, "'%s' looks like %s, but a guest that had it as a raw disk may have made "
			       "it "
			       "look so: say --backing-format %s if you know that it is", name, found, found);
	*out = found;
	return 0;
}

int disk_create_opts(struct blk_opts *opts, const struct cli *c, const char *format, struct err *err)
{
	const char *text;
	int r = blk_opts_init(opts, blk_format_create_opts(format), err);

	for (unsigned i = 0; !r && (text = cli_nth(c, "-o", i)); i++) {
		r = blk_opts_parse(opts, text, err);
		if (r < 0)
			err_wrap(err, r, "format %s", format);
	}
	return r;
}

static int disk_progress_fn(void *arg, uint64_t done, uint64_t total)
{
	return progress_update(arg, done, total);
}

struct blk_progress disk_progress(struct progress *p)
{
	return (struct blk_progress){ .fn = disk_progress_fn, .arg = p };
}

int disk_check_new(const struct cli *c, const char *path, struct err *err)
{
	if (cli_flag(c, "--force") || access(path, F_OK) < 0)
		return 0;
	return err_set(err, -EEXIST, "'%s' exists; choose another name, or overwrite it with --force", path);
}

/* --- the group ---------------------------------------------------------------------------------- */

static void describe_opt(struct cli_doc *d, const struct blk_opt *o)
{
	static const char *const values[] = {
		[BLK_OPT_BOOL] = "=on|off", [BLK_OPT_SIZE] = "=SIZE", [BLK_OPT_NUMBER] = "=N",
			[BLK_OPT_STRING] = "=TEXT",
	};
	char value[128] = "=";

	for (unsigned i = 0; o->type == BLK_OPT_CHOICE && o->choices[i]; i++) {
		size_t n = strlen(value);

		snprintf(value + n, sizeof(value) - n, "%s%s", i ? "|" : "", o->choices[i]);
	}
	char name[256];

	snprintf(name, sizeof(name), "%s%s", o->name, o->type == BLK_OPT_CHOICE ? value : values[o->type]);
	cli_doc_entry(d, name, "", o->help, o->def);
}

static void describe_formats(struct cli_doc *d)
{
	cli_doc_section(d, "FORMATS");
	cli_doc_text(d, "A format is told by the content of an image, never by its name; --format says it instead. A "
		     "new "
			"image has the format that its ending names ('.img' is raw), else qcow2.");
	for (unsigned i = 0; blk_format_name(i); i++)
		cli_doc_entry(d, blk_format_name(i), "", blk_format_title(i), NULL);
	for (unsigned i = 0; blk_format_name(i); i++) {
		const struct blk_opt *o = blk_format_create_opts(blk_format_name(i));
		char title[96];

		if (!o)
			continue;
		snprintf(title, sizeof(title), "OPTIONS OF NEW %s IMAGES", blk_format_name(i));
		for (char *p = title; *p; p++)
			*p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
		cli_doc_section(d, title);
		for (; o->name; o++)
			describe_opt(d, o);
	}
}

const struct cli_group disk_group = {
	.path = "disk",
	.summary = "make, inspect, change, convert and export disk images",
	.about = "Works on files and block devices that hold a disk of a virtual machine, in any format that machines "
		 "can "
		 "use. Sizes are bytes and take the suffixes K, M, G and T, which count in powers of 1024. An image "
			 "that "
		 "is written is locked, so that no machine and no other command can use it at the same time; one that "
			 "is "
		 "read only may be read by many.",
	.describe = describe_formats,
	.see_also = ".BR qemu\\-img (1),\n.BR nbdinfo (1)",
};
