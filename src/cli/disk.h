/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h - what the commands of `viv disk` share. */
#ifndef CLI_DISK_H
#define CLI_DISK_H

#include <stdbool.h>
#include "blk/blk.h"
#include "blk/opts.h"
#include "blk/progress.h"
#include "cli/command.h"
#include "cli/progress.h"

struct blk_secret;

extern const struct cli_command disk_create, disk_convert, disk_fetch, disk_catalogue, disk_pull, disk_info, disk_map, disk_check, disk_snapshot_create,
	disk_snapshot_list, disk_snapshot_revert, disk_snapshot_rm, disk_commit, disk_rebase, disk_flatten,
		disk_compare,
	disk_resize, disk_measure, disk_bitmap_add, disk_bitmap_rm, disk_bitmap_clear,
	disk_bitmap_list, disk_key_list, disk_key_add, disk_key_change, disk_key_rm,
	disk_ova_list, disk_ova_extract, disk_ova_import, disk_ova_create, disk_serve, disk_bench;
extern const struct cli_group disk_group;

/* For tables of options. */
#define DISK_OPTION_KEY \
	{ "--key-file", 'k', CLI_STRING, .is_repeatable = true, .metavar = "FILE", \
	  .help = "file with the passphrase of an encrypted image, byte for byte; else the terminal is asked" }
#define DISK_OPTION_FORMAT \
	{ "--format", 'f', CLI_STRING, .metavar = "FORMAT", .help = "format of the image; else its content tells" }, \
	DISK_OPTION_KEY

enum disk_open_flag {
	DISK_WRITABLE = 1,
	DISK_NO_BACKING = 2,    /* this image alone */
	DISK_REPAIRING = 4,
	DISK_UNLOCKED = 8,      /* read what another process may be writing */
	DISK_NO_KEY = 16,       /* its bytes are not needed */
};

/* Open the image PATH; FORMAT NULL: by content. C has the option --key-file. */
int disk_open(struct blk **out, const struct cli *c, const char *path, const char *format, unsigned flags,
	      struct err *err);
/* FN(O, ARG, err) with the passphrases of C in O, and again with one from the terminal if it says -ENOKEY. */
int disk_with_keys(const struct cli *c, struct blk_options *o, int (*fn)(struct blk_options *o, void *arg,
									 struct err *err),
		   void *arg, struct err *err);
/* A new passphrase of the image PATH from the terminal, twice. -EINVAL: they differ. */
int disk_ask_new_key(struct blk_secret *s, const char *path, struct err *err);
/* FROM has, behind a disk, from byte AT on a tar archive with 'vmlinuz' and perhaps 'initrd.img': they become files in the folder of BESIDE.
 * (disk_kernel.c) */
int disk_take_kernel(const char *from, uint64_t at, const char *beside, struct err *err);
/* The passphrase of the new image PATH of FORMAT, if OPTS make it encrypted and do not say it: of --new-key-file, else of
 * --key-file, else from the terminal. 1: S is set; 0: none is needed. C has both options. */
int disk_new_key(struct blk_secret *s, const struct cli *c, const char *path, const char *format,
		 const struct blk_opts *opts, struct err *err);
/* The format for a new file: FORMAT, or what the ending of PATH says, or qcow2. */
const char *disk_new_format(const char *path, const char *format);
/* The format of the backing image NAME as it stands in IMAGE: FORMAT, or what the content says when nobody but its
 * owner can have chosen that: it is raw, or the ending of its name agrees. -EINVAL: say it. */
int disk_backing_format(const char **out, const char *image, const char *name, const char *format, struct err *err);
/* All that -o of C says, for creating FORMAT. OPTS is for blk_opts_fini() in any case. */
int disk_create_opts(struct blk_opts *opts, const struct cli *c, const char *format, struct err *err);
/* What the library tells goes to P. */
struct blk_progress disk_progress(struct progress *p);
/* -EEXIST with what to do, unless C has --force. */
int disk_check_new(const struct cli *c, const char *path, struct err *err);

#endif
