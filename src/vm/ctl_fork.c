/* SPDX-License-Identifier: Apache-2.0 */
/* `viv-vmm ctl SOCKET fork`: running copies of a machine.
 *
 * The machine is saved once to memory, which is then sealed, and each copy continues from there: guest memory
 * is mapped privately, so that a copy costs what it changes. All of it is done here, with the requests that any
 * client may make: a machine in its jail can start nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "util/str.h"
#include "vm/ctl_fork.h"

enum { COPIES_MAX = 1000, OPTIONS_MAX = 64 };

static int fork_parse(struct ctl_fork *f, int argc, char **argv, struct err *err)
{
	uint64_t n = 1;
	int i = 0;

	for (; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], "--dir") && i + 1 < argc) {
			f->disks.folder = argv[++i];
			continue;
		}
		if (strcmp(argv[i], "-n") || i + 1 == argc)
			return err_set(err, -EINVAL, "'fork' does not take '%s'; usage: viv-vmm ctl SOCKET fork [-n N] [--dir DIR] "
				       "[-- OPTION...]", argv[i]);
		int r = str_parse_u64(&n, argv[++i], err);
		if (r < 0)
			return err_wrap(err, r, "-n");
	}
	if (n < 1 || n > COPIES_MAX)
		return err_set(err, -EINVAL, "-n: from 1 to %d copies are possible", COPIES_MAX);
	f->n = (unsigned)n;
	f->options = argv + i + (i < argc);
	f->n_options = argc - i - (i < argc);
	return f->n_options > OPTIONS_MAX ? err_set(err, -E2BIG, "there are too many options") : 0;
}

/* Memory and disks of one instant: nothing runs from here until the memory is saved. */
static int fork_save(struct ctl_fork *f, const struct ctl_guard *g, struct err *err)
{
	int r = ctl_ask(f->socket, "pause", NULL, -1, NULL, err);

	if (!r)
		r = ctl_fork_split(&f->disks, g, err);
	if (!r && ctl_guard_ends(g))
		r = err_set(err, -ECANCELED, "interrupted");
	return r ? r : ctl_ask(f->socket, "save", NULL, f->state, NULL, err);
}

static int fork_take(struct ctl_fork *f, const struct ctl_guard *g, struct err *err)
{
	f->state = memfd_create("saved-machine", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (f->state < 0)
		return err_set(err, -errno, "cannot make a memory file: %s", strerror(errno));
	const char *state = json_string_value(json_object_get(f->info, "state"));
	int r = fork_save(f, g, err);

	if (state && strcmp(state, "paused") && ctl_ask(f->socket, "resume", NULL, -1, NULL, r < 0 ? NULL : err) < 0 && !r)
		return -EIO;
	if (r < 0)
		return r;
	/* What the copies stand on must not move. */
	if (fcntl(f->state, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_set(err, -errno, "cannot seal the saved machine: %s", strerror(errno));
	return 0;
}

/* Two at once would pause and resume the machine for each other. *TMP: a file beside the socket, locked by the result, to be removed. */
static int fork_lock(const struct ctl_fork *f, char **tmp, struct err *err)
{
	AUTO(free) char *name = NULL;

	if (asprintf(&name, "%s.fork", f->socket) < 0) {
		name = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	int fd = ctl_file_make(tmp, name, err);

	return fd == -EBUSY || fd == -EAGAIN ? err_set(err, -EBUSY, "the machine is being forked by somebody else; wait for the end of that") : fd;
}

/* Nothing is left of a fork without copies. */
static int fork_work(void *arg, const struct ctl_guard *g, struct err *err)
{
	struct ctl_fork *f = arg;
	AUTO(free) char *tmp = NULL;
	AUTO_FD int lock = fork_lock(f, &tmp, err);
	unsigned n_run = 0;
	int r = lock < 0 ? lock : ctl_ask(f->socket, "info", NULL, -1, &f->info, err);

	f->disks.disks = json_object_get(f->info, "disks");
	if (!r)
		r = ctl_fork_check_sockets(f, err);
	if (!r)
		r = fork_take(f, g, err);
	if (!r)
		r = ctl_fork_start(f, g, &n_run, err);
	if (r < 0 && !n_run)
		ctl_fork_unsplit(&f->disks, err);
	if (tmp)
		unlink(tmp);
	auto_fd(&f->state);
	ctl_fork_disks_fini(&f->disks);
	json_decref(f->info);
	return r;
}

int ctl_fork(const char *socket, int argc, char **argv, struct err *err)
{
	struct ctl_fork f = { .socket = socket, .state = -1, .disks.socket = socket };

	if (fork_parse(&f, argc, argv, err) < 0)
		return CTL_USAGE;
	return ctl_guarded(fork_work, &f, err) < 0 ? CTL_REFUSED : CTL_DONE;
}
