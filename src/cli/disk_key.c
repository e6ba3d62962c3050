/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk key list, add, change, rm */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "blk/luks/luks.h"
#include "blk/secret.h"
#include "cli/disk.h"
#include "cli/output.h"
#include "util/str.h"

/* One command on the slots of an image that is open with its key. */
struct key_run {
	struct cli *c;
	struct blk_secret now;          /* the new passphrase */
	struct blk_opts opts;           /* how the new slot is made */
	uint64_t slot;                  /* to be removed */
	int (*fn)(struct key_run *k, struct blk *b, const struct blk_options *o, struct err *err);
	int result;                     /* number of the slot that was made or removed */
};

/* --- the new passphrase ----------------------------------------------------------------------------- */

static int key_new(struct key_run *k, struct err *err)
{
	const char *path = cli_str(k->c, "--new-key-file"), *text;
	int r = blk_opts_init(&k->opts, luks_slot_opts, err);

	for (unsigned i = 0; !r && (text = cli_nth(k->c, "-o", i)); i++)
		r = blk_opts_parse(&k->opts, text, err);
	if (r < 0)
		return r;
	if (path)
		return blk_secret_read_file(&k->now, path, err);
	if (!isatty(STDIN_FILENO))
		return err_set(err, -EINVAL, "name a file that holds the new passphrase with --new-key-file");
	return disk_ask_new_key(&k->now, cli_arg(k->c, 0), err);
}

/* --- what is done ------------------------------------------------------------------------------------ */

static int key_do_add(struct key_run *k, struct blk *b, const struct blk_options *o, struct err *err)
{
	return blk_luks_add_key(b, &k->now, &k->opts, err);
}

/* The old passphrase is the one that opens this image; others of O may be for its backing images. */
static int key_do_change(struct key_run *k, struct blk *b, const struct blk_options *o, struct err *err)
{
	for (unsigned i = 0; i < o->n_secrets; i++)
		if (blk_luks_find_key(b, &o->secrets[i], NULL) >= 0)
			return blk_luks_change_key(b, &o->secrets[i], &k->now, &k->opts, err);
	return err_set(err, -EKEYREJECTED, "no key slot of '%s' has this passphrase", blk_name(b));
}

static int key_do_rm(struct key_run *k, struct blk *b, const struct blk_options *o, struct err *err)
{
	int r = blk_luks_remove_slot(b, (unsigned)k->slot, cli_flag(k->c, "--force"), err);

	return r < 0 ? r : (int)k->slot;
}

static int key_open(struct blk_options *o, void *arg, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct key_run *k = arg;
	int r = blk_open(&b, NULL, o, err);

	if (r < 0)
		return r;
	k->result = k->fn(k, b, o, err);
	return k->result < 0 ? k->result : 0;
}

static int key_run(struct key_run *k, const char *says, struct err *err)
{
	const char *path = cli_arg(k->c, 0);
	struct blk_options o = { .path = path, .fd = -1, .format = cli_str(k->c, "--format"), .has_no_backing = true };
	int r = disk_with_keys(k->c, &o, key_open, k, err);

	if (r < 0)
		return r;
	if (k->c->is_json)
		return output_json(json_pack("{s:s, s:i}", "filename", path, "slot", k->result), err);
	if (!k->c->is_quiet)
		printf("%s: %s %d\n", path, says, k->result);
	return 0;
}

static int key_run_new(struct cli *c, int (*fn)(struct key_run *, struct blk *, const struct blk_options *, struct err *),
		       const char *says, struct err *err)
{
	struct key_run k = { .c = c, .fn = fn };
	int r = key_new(&k, err);

	if (!r)
		r = key_run(&k, says, err);
	blk_secret_wipe(&k.now);
	blk_opts_fini(&k.opts);
	return r;
}

static int key_add(struct cli *c, struct err *err)
{
	return key_run_new(c, key_do_add, "the passphrase opens it, from slot", err);
}

static int key_change(struct cli *c, struct err *err)
{
	return key_run_new(c, key_do_change, "the new passphrase takes the place of the old one, in slot", err);
}

static int key_rm(struct cli *c, struct err *err)
{
	struct key_run k = { .c = c, .fn = key_do_rm };

	if (str_parse_u64(&k.slot, cli_arg(c, 1), err) < 0 || k.slot >= LUKS_SLOTS_MAX)
		return err_set(err, -EINVAL, "'%s' is no key slot; 'viv disk key list' tells them", cli_arg(c, 1));
	return key_run(&k, "nothing opens it any more from slot", err);
}

/* --- list ------------------------------------------------------------------------------------------- */

static json_t *key_json(const struct blk_luks_slot *s)
{
	json_t *o = json_pack("{s:i, s:b, s:s, s:s, s:I}", "slot", (int)s->index, "opens-disk", s->is_bound, "cipher",
			      s->cipher, "kdf", s->kdf, "iterations", (json_int_t)s->iterations);

	if (s->hash[0])
		json_object_set_new(o, "hash", json_string(s->hash));
	if (s->memory_kib) {
		json_object_set_new(o, "memory-kib", json_integer(s->memory_kib));
		json_object_set_new(o, "lanes", json_integer(s->lanes));
	}
	return o;
}

static void key_print(const struct blk_luks_slot *s)
{
	printf("%4u  %-22s %-9s %9" PRIu32, s->index, s->cipher, s->kdf, s->iterations);
	if (s->memory_kib)
		printf("  %" PRIu32 " KiB, %" PRIu32 " lanes", s->memory_kib, s->lanes);
	else
		printf("  %s", s->hash);
	printf("%s\n", s->is_bound ? "" : "  (opens another disk)");
}

static int key_list(struct cli *c, struct err *err)
{
	struct blk_luks_slot slots[LUKS_SLOTS_MAX];
	AUTO(blk_close) struct blk *b = NULL;
	unsigned n = 0;
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_NO_BACKING | DISK_UNLOCKED | DISK_NO_KEY,
			  err);

	if (!r)
		r = blk_luks_slots(b, slots, &n, err);
	if (r < 0)
		return r;
	json_t *out = c->is_json ? json_array() : NULL;

	if (!out)
		printf("%4s  %-22s %-9s %9s\n", "slot", "cipher", "kdf", "rounds");
	for (unsigned i = 0; i < n; i++) {
		if (out)
			json_array_append_new(out, key_json(&slots[i]));
		else
			key_print(&slots[i]);
	}
	return out ? output_json(out, err) : 0;
}

/* --- the commands ------------------------------------------------------------------------------------- */

static const struct cli_arg key_args[] = { { "FILE", .help = "an image of format luks, or of qcow2 with LUKS inside" },
					   { .name = NULL } };
static const struct cli_option key_options[] = { DISK_OPTION_FORMAT, { .name = NULL } };
static const struct cli_option key_new_options[] = {
	{ "--new-key-file", 0, CLI_STRING, .metavar = "FILE",
	  .help = "file with the new passphrase, byte for byte; else the terminal is asked" },
	{ "-o", 'o', CLI_STRING, .is_repeatable = true, .metavar = "NAME=VALUE,...",
	  .help = "of the new slot: pbkdf=pbkdf2|argon2i|argon2id, iter-time=MILLISECONDS" },
	DISK_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command disk_key_list = {
	.path = "disk key list",
	.summary = "list the key slots of an encrypted image",
	.about = "Needs no passphrase. A slot is the key of the disk, encrypted with what a passphrase makes.",
	.args = key_args,
	.options = key_options,
	.examples = (const struct cli_example[]){ { "disk key list secret.qcow2", "what there is" }, { .line = NULL } },
	.run = key_list,
};

const struct cli_command disk_key_add = {
	.path = "disk key add",
	.summary = "let a further passphrase open an encrypted image",
	.about = "The disk is not encrypted anew, so this takes a few seconds whatever its size.",
	.args = key_args,
	.options = key_new_options,
	.examples = (const struct cli_example[]){
		{ "disk key add secret.qcow2 --key-file now --new-key-file further", "a second passphrase" },
		{ .line = NULL },
	},
	.run = key_add,
};

const struct cli_command disk_key_change = {
	.path = "disk key change",
	.summary = "give an encrypted image another passphrase",
	.about = "The new passphrase is durable in a slot of its own before the old one's is destroyed, so the disk can be "
		 "opened whenever the power goes. Who has a copy of the old header can still open the disk with the old "
		 "passphrase.",
	.args = key_args,
	.options = key_new_options,
	.examples = (const struct cli_example[]){
		{ "disk key change secret.luks --key-file old --new-key-file new", "replace a passphrase" },
		{ .line = NULL },
	},
	.run = key_change,
};

const struct cli_command disk_key_rm = {
	.path = "disk key rm",
	.summary = "destroy a key slot of an encrypted image",
	.about = "The passphrase of the slot opens nothing any more. A passphrase is asked for, of whatever slot.",
	.args = (const struct cli_arg[]){
		{ "FILE", .help = "an image of format luks, or of qcow2 with LUKS inside" },
		{ "SLOT", .help = "its number" },
		{ .name = NULL },
	},
	.options = (const struct cli_option[]){
		{ "--force", 0, CLI_FLAG, .help = "the last slot, too: nothing opens the disk then, ever" },
		DISK_OPTION_FORMAT,
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk key rm secret.qcow2 1 --key-file now", "forget a passphrase" }, { .line = NULL },
	},
	.run = key_rm,
};
