/* SPDX-License-Identifier: Apache-2.0 */
/* `viv-vmm ctl SOCKET fork`: running copies of a machine.
 *
 * The machine is saved once to memory, which is then sealed, and each copy continues from there: guest memory
 * is mapped privately, so that a copy costs what it changes. All of it is done here, with the requests that any
 * client may make: a machine in its jail can start nothing. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include "util/str.h"
#include "util/unixsock.h"
#include "vm/ctl_priv.h"

extern char **environ;

enum {
	COPIES_MAX = 1000,
	ARGS_MAX = 128,
	STATE_FD = 3,                   /* the saved machine, in a copy */
	START_MS = 10000, POLL_MS = 2,
};

struct ctl_fork {
	const char *socket;
	unsigned n;
	char **options;                 /* for the copies, after "--" */
	int n_options;
	int state;                      /* a memory file */
	json_t *info;                   /* of the machine */
	struct ctl_fork_disks disks;
};

struct copy {
	pid_t pid;
	char socket[UNIXSOCK_PATH_MAX + 1];
	char log[UNIXSOCK_PATH_MAX + 8];        /* its standard error: ours may end with the terminal */
};

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
	return f->n_options > ARGS_MAX / 2 ? err_set(err, -E2BIG, "there are too many options") : 0;
}

/* --- options of one copy --- */

struct fork_args {
	char *v[ARGS_MAX + 1];
	int n;
	bool is_broken;
};

/* TEXT is taken; NULL: out of memory. */
static void args_take(struct fork_args *a, char *text)
{
	if (!text || a->n == ARGS_MAX) {
		a->is_broken = true;
		free(text);
		return;
	}
	a->v[a->n++] = text;
	a->v[a->n] = NULL;
}

static void args_add(struct fork_args *a, const char *text)
{
	args_take(a, strdup(text));
}

/* "{}" stands for the copy's number. */
static void args_add_numbered(struct fork_args *a, const char *text, unsigned number)
{
	const char *at = strstr(text, "{}");
	char *out = NULL;

	if (!at)
		args_add(a, text);
	else
		args_take(a, asprintf(&out, "%.*s%u%s", (int)(at - text), text, number, at + 2) < 0 ? NULL : out);
}

static bool fork_names(const struct ctl_fork *f, const char *option)
{
	for (int i = 0; i < f->n_options; i++) {
		if (!strncmp(f->options[i], option, strlen(option)))
			return true;
	}
	return false;
}

/* Copies cannot share the terminal: their consoles lead nowhere unless options say where. */
static void fork_add_consoles(const struct ctl_fork *f, struct fork_args *a)
{
	json_t *list = json_object_get(f->info, "consoles"), *c;
	size_t i;

	if (!json_array_size(list)) {
		args_add(a, "--console");
		args_add(a, "none");
	}
	json_array_foreach(list, i, c) {
		const char *name = json_string_value(json_object_get(c, "name")), *id = json_string_value(json_object_get(c, "id"));
		char *text = NULL;

		args_add(a, "--console");
		args_take(a, asprintf(&text, "none,device=%s%s%s%s%s", json_string_value(json_object_get(c, "device")),
				      name ? ",name=" : "", name ? name : "", id ? ",id=" : "", id ? id : "") < 0 ? NULL : text);
	}
}

static int fork_add_disks(const struct ctl_fork *f, struct fork_args *a, const char *name, struct err *err)
{
	size_t n = json_array_size(f->disks.disks);

	for (unsigned i = 0; i < n; i++) {
		char *text = ctl_fork_disk(&f->disks, i, name, err);

		if (!text)
			return err->code;
		args_add(a, "--disk");
		args_take(a, text);
	}
	/* What the copy has of its own was made just now. */
	if (n)
		args_add(a, "--changed-disks");
	return 0;
}

static int fork_build_args(const struct ctl_fork *f, struct fork_args *a, const struct copy *c, unsigned number, struct err *err)
{
	char name[80];

	snprintf(name, sizeof(name), "%.50s-%u", json_string_value(json_object_get(f->info, "name")), number);
	args_add(a, "viv-vmm");
	args_add(a, "--restore");
	args_add(a, "fd:3");
	args_add(a, "--name");
	args_add(a, name);
	args_add(a, "--copy");
	args_add(a, "--control");
	args_add(a, c->socket);
	if (!fork_names(f, "--engine")) {
		args_add(a, "--engine");
		args_add(a, json_string_value(json_object_get(f->info, "engine")));
	}
	if (json_object_get(f->info, "vsock") && !fork_names(f, "--vsock")) {
		char *text = NULL;

		args_add(a, "--vsock");
		args_take(a, asprintf(&text, "%s.vsock", c->socket) < 0 ? NULL : text);
	}
	if (!fork_names(f, "--console"))
		fork_add_consoles(f, a);
	int r = fork_names(f, "--disk") ? 0 : fork_add_disks(f, a, name, err);

	for (int i = 0; i < f->n_options; i++)
		args_add_numbered(a, f->options[i], number);
	return r;
}

/* --- processes --- */

static int fork_name_socket(const struct ctl_fork *f, struct copy *c, unsigned number, struct err *err)
{
	if ((size_t)snprintf(c->socket, sizeof(c->socket), "%s-%u", f->socket, number) >= sizeof(c->socket))
		return err_set(err, -ENAMETOOLONG, "'%s-%u' is too long for a socket", f->socket, number);
	snprintf(c->log, sizeof(c->log), "%s.log", c->socket);
	return 0;
}

/* A copy of before that still runs would be taken for the new one, which could not listen where that does. */
static int fork_check_sockets(const struct ctl_fork *f, struct err *err)
{
	struct copy c;
	int r = 0;

	for (unsigned i = 1; !r && i <= f->n; i++) {
		r = fork_name_socket(f, &c, i, err);
		AUTO_FD int other = r ? -1 : unixsock_connect(c.socket, NULL);
		if (other >= 0)
			r = err_set(err, -EADDRINUSE, "a machine that runs listens on '%s', where copy %u would: end it first, with "
				    "'viv-vmm ctl %s quit'", c.socket, i, c.socket);
	}
	return r;
}

static int fork_spawn(const struct ctl_fork *f, struct copy *c, unsigned number, struct err *err)
{
	struct fork_args a = { .n = 0 };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int r = fork_name_socket(f, c, number, err);

	if (!r)
		r = fork_build_args(f, &a, c, number, err);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, c->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&fa, f->state, STATE_FD);
	int e = r < 0 || a.is_broken ? ENOMEM : posix_spawn(&c->pid, "/proc/self/exe", &fa, &attr, a.v, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	while (a.n)
		free(a.v[--a.n]);
	return r < 0 ? r : e ? err_set(err, -e, "cannot start copy %u: %s", number, strerror(e)) : 0;
}

/* It answers: it runs. That its socket is there says only that it is being built. The number of the machine's process, which may be behind
 * the one that was started, or a negative errno. */
static int fork_wait(const struct copy *c, unsigned number, struct err *err)
{
	for (int ms = 0; ms < START_MS; ms += POLL_MS) {
		json_t *info = NULL;

		if (ctl_ask(c->socket, "info", NULL, -1, &info, NULL) == 0) {
			int pid = (int)json_integer_value(json_object_get(info, "pid"));

			json_decref(info);
			return pid;
		}
		if (waitpid(c->pid, NULL, WNOHANG) != 0)
			return err_set(err, -ECHILD, "copy %u has ended at once; '%s' says why", number, c->log);
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	}
	return err_set(err, -ETIMEDOUT, "copy %u does not serve '%s'", number, c->socket);
}

static int fork_start_all(const struct ctl_fork *f, struct err *err)
{
	AUTO(free) struct copy *copies = calloc(f->n, sizeof(*copies));
	int r = copies ? 0 : err_set(err, -ENOMEM, "out of memory");
	unsigned started = 0;

	for (; !r && started < f->n; started++)
		r = fork_spawn(f, &copies[started], started + 1, err);
	for (unsigned i = 0; i < started; i++) {
		struct err why = ERR_INIT;

		int pid = copies[i].pid ? fork_wait(&copies[i], i + 1, &why) : 0;
		if (pid > 0)
			printf("%d %s\n", pid, copies[i].socket);
		else if (why.code && !r)
			r = err_set(err, why.code, "%s", why.msg);
	}
	return r;
}

/* --- the whole --- */

/* Memory and disks of one instant: nothing runs from here until the memory is saved. */
static int fork_save(struct ctl_fork *f, struct err *err)
{
	int r = ctl_ask(f->socket, "pause", NULL, -1, NULL, err);

	if (!r)
		r = ctl_fork_split(&f->disks, err);
	return r ? r : ctl_ask(f->socket, "save", NULL, f->state, NULL, err);
}

/* Whoever ends this program does so when the machine goes on. */
static void fork_hold_signals(sigset_t *before)
{
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigprocmask(SIG_BLOCK, &ends, before);
}

static int fork_take(struct ctl_fork *f, struct err *err)
{
	int r = ctl_ask(f->socket, "info", NULL, -1, &f->info, err);

	if (r < 0)
		return r;
	f->disks.disks = json_object_get(f->info, "disks");
	f->state = memfd_create("saved-machine", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (f->state < 0)
		return err_set(err, -errno, "cannot make a memory file: %s", strerror(errno));
	const char *state = json_string_value(json_object_get(f->info, "state"));

	r = fork_save(f, err);
	if (state && strcmp(state, "paused") && ctl_ask(f->socket, "resume", NULL, -1, NULL, r < 0 ? NULL : err) < 0 && !r)
		return -EIO;
	if (r < 0)
		return r;
	/* What the copies stand on must not move. */
	if (fcntl(f->state, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_set(err, -errno, "cannot seal the saved machine: %s", strerror(errno));
	return 0;
}

int ctl_fork(const char *socket, int argc, char **argv, struct err *err)
{
	struct ctl_fork f = { .socket = socket, .state = -1, .disks.socket = socket };
	int r = fork_parse(&f, argc, argv, err);

	if (r < 0)
		return CTL_USAGE;
	if (fork_check_sockets(&f, err) < 0)
		return CTL_REFUSED;
	sigset_t before;

	fork_hold_signals(&before);
	r = fork_take(&f, err);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (!r)
		r = fork_start_all(&f, err);
	auto_fd(&f.state);
	ctl_fork_disks_fini(&f.disks);
	json_decref(f.info);
	return r < 0 ? CTL_REFUSED : CTL_DONE;
}
