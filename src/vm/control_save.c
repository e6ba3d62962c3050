/* SPDX-License-Identifier: Apache-2.0 */
/* The request 'save'. */
#include "vm/control_save.h"

#include <errno.h>
#include <sys/stat.h>
#include "blk/secret.h"
#include "vm/save.h"
#include "vm/state_pack.h"

const struct control_param control_save_params[] = {
	{ "file", CONTROL_NEW_FILE, true, "FILE", "an empty regular file, open for reading and writing", NULL },
	{ "stop", CONTROL_BOOL, false, "--stop", "end the machine when it is saved; else it goes on", NULL },
	{ "snapshot", CONTROL_STRING, false, "snapshot=NAME",
	  "take a snapshot of this name inside each writable disk at the same instant; they must be qcow2. --restore goes back to it "
	  "with --revert-disks", NULL },
	{ "packing", CONTROL_CHOICE, false, "packing=raw|lz4|zstd",
	  "raw: guest memory can be mapped, so that a restored machine runs at once; lz4: smaller, and read in full before "
	  "it runs; zstd: smaller still, and slower", "raw lz4 zstd" },
	{ "key-file", CONTROL_SECRET, false, "key-file=FILE",
	  "the second descriptor: a regular file, open for reading, whose bytes from where it stands are a passphrase. What is saved is encrypted "
	  "with it, and continued with --restore-key-file", NULL },
	{ .name = NULL },
};

static void save_done(void *arg, const struct save_result *result, const struct err *err)
{
	json_t *doc = err ? NULL : json_pack("{s:I, s:I, s:I}", "memory", (json_int_t)result->memory, "file",
					     (json_int_t)result->file, "pause_ns", (json_int_t)result->pause_ns);

	control_finish(arg, doc, err);
}

/* From a pipe it might never come: nothing here waits for a client. */
static int read_secret(struct blk_secret *s, int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "key-file: must be a regular file");
	return blk_secret_read_fd(s, fd, err);
}

int control_save(struct control_call *call, struct err *err)
{
	struct save_options o = {
		.fd = call->fd[0], .packing = state_packing_of(control_get_string(call->params, "packing", "raw")),
		.ends_machine = control_get_bool(call->params, "stop", false),
		.snapshot = control_get_string(call->params, "snapshot", NULL), .done = save_done, .arg = call,
	};
	int r = call->n_fds > 1 ? read_secret(&o.secret, call->fd[1], err) : 0;

	if (!r)
		r = save_start(control_machine(call->control), &o, err);
	if (r < 0) {
		blk_secret_wipe(&o.secret);
		return r;
	}
	call->fd[0] = -1;
	return 1;
}
