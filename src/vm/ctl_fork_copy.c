/* SPDX-License-Identifier: Apache-2.0 */
/* The copies of `viv-vmm ctl SOCKET fork`: their options, and their processes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "util/unixsock.h"
#include "vm/ctl_fork.h"

extern char **environ;

enum {
	ARGS_MAX = 128,
	STATE_FD = 3,                   /* the saved machine, in a copy */
	START_MS = 60000, POLL_MS = 2,
	END_MS = 2000, SOCKET_MS = 2000,        /* how long one that is given up may take to end, and its janitor */
	REASON_MAX = 400,
};

struct copy {
	pid_t pid;                      /* 0: it was not started, or has ended */
	bool has_log;                   /* of our own */
	unsigned n_disks;               /* those that have what it needs */
	char name[80];
	char socket[UNIXSOCK_PATH_MAX + 1];
	char log[UNIXSOCK_PATH_MAX + 8];        /* its standard error: ours may end with the terminal */
};

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

static int fork_add_disks(const struct ctl_fork *f, struct fork_args *a, struct copy *c, struct err *err)
{
	size_t n = json_array_size(f->disks.disks);

	for (; c->n_disks < n; c->n_disks++) {
		char *text = ctl_fork_disk(&f->disks, c->n_disks, c->name, err);

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

static int fork_build_args(const struct ctl_fork *f, struct fork_args *a, struct copy *c, unsigned number, struct err *err)
{
	args_add(a, "viv-vmm");
	args_add(a, "--restore");
	args_add(a, "fd:3");
	args_add(a, "--name");
	args_add(a, c->name);
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
	int r = fork_names(f, "--disk") ? 0 : fork_add_disks(f, a, c, err);

	for (int i = 0; i < f->n_options; i++)
		args_add_numbered(a, f->options[i], number);
	return r;
}

/* --- processes --- */

static int fork_name_copy(const struct ctl_fork *f, struct copy *c, unsigned number, struct err *err)
{
	if ((size_t)snprintf(c->socket, sizeof(c->socket), "%s-%u", f->socket, number) >= sizeof(c->socket))
		return err_set(err, -ENAMETOOLONG, "'%s-%u' is too long for a socket", f->socket, number);
	snprintf(c->log, sizeof(c->log), "%s.log", c->socket);
	snprintf(c->name, sizeof(c->name), "%.50s-%u", json_string_value(json_object_get(f->info, "name")), number);
	return 0;
}

/* A copy of before that still runs would be taken for the new one, which could not listen where that does. */
int ctl_fork_check_sockets(const struct ctl_fork *f, struct err *err)
{
	struct copy c;
	int r = 0;

	for (unsigned i = 1; !r && i <= f->n; i++) {
		r = fork_name_copy(f, &c, i, err);
		AUTO_FD int other = r ? -1 : unixsock_connect(c.socket, NULL);
		if (other >= 0)
			r = err_set(err, -EADDRINUSE, "a machine that runs listens on '%s', where copy %u would: end it first, with "
				    "'viv-vmm ctl %s quit'", c.socket, i, c.socket);
	}
	return r;
}

static int fork_spawn(const struct ctl_fork *f, const struct ctl_guard *g, struct copy *c, unsigned number, struct err *err)
{
	struct fork_args a = { .n = 0 };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t all;
	int r = fork_name_copy(f, c, number, err);

	if (!r)
		r = fork_build_args(f, &a, c, number, err);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &g->signals);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, c->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&fa, f->state, STATE_FD);
	c->has_log = !r && !a.is_broken;
	int e = !c->has_log ? ENOMEM : posix_spawn(&c->pid, "/proc/self/exe", &fa, &attr, a.v, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	while (a.n)
		free(a.v[--a.n]);
	return r < 0 ? err_wrap(err, r, "copy %u", number) : e ? err_set(err, -e, "cannot start copy %u: %s", number, strerror(e)) : 0;
}

/* The last line of what the copy had to say: why it has ended. Its log goes with it. */
static void fork_read_reason(const struct copy *c, char out[REASON_MAX])
{
	AUTO_FD int fd = open(c->log, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END), at = end > REASON_MAX - 1 ? end - (REASON_MAX - 1) : 0;
	ssize_t n = end > 0 ? pread(fd, out, REASON_MAX - 1, at) : 0;

	while (n > 0 && out[n - 1] == '\n')
		n--;
	out[n > 0 ? n : 0] = 0;
	const char *line = strrchr(out, '\n');

	if (line)
		memmove(out, line + 1, strlen(line + 1) + 1);
	for (char *p = out; *p; p++)
		*p = (unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p;
}

/* It answers: it runs. That its socket is there says only that it is being built. The number of the machine's process, which may be behind
 * the one that was started, or a negative errno. */
static int fork_wait(struct copy *c, const struct ctl_guard *g, unsigned number, struct err *err)
{
	char reason[REASON_MAX] = "";

	for (int ms = 0; ms < START_MS; ms += POLL_MS) {
		AUTO(json_decref) json_t *info = NULL;

		if (ctl_guard_ends(g))
			return err_set(err, -ECANCELED, "interrupted");
		if (ctl_ask(c->socket, "info", NULL, -1, &info, NULL) == 0)
			return (int)json_integer_value(json_object_get(info, "pid"));
		if (waitpid(c->pid, NULL, WNOHANG) != 0) {
			c->pid = 0;
			fork_read_reason(c, reason);
			return err_set(err, -ECHILD, "copy %u has ended at once: %s", number, *reason ? reason : "it has not said why");
		}
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	}
	return err_set(err, -ETIMEDOUT, "copy %u does not serve '%s'", number, c->socket);
}

/* Nothing is left of a copy that does not run. The machine ends a moment after a process in front of it that is killed, and its sockets are
 * removed by its janitor then. */
static void fork_give_up(const struct ctl_fork *f, struct copy *c)
{
	struct stat st;
	int left = c->pid ? END_MS : 0;

	if (c->pid)
		kill(c->pid, SIGTERM);
	for (; left > 0 && !waitpid(c->pid, NULL, WNOHANG); left -= POLL_MS)
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	if (c->pid && left <= 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	for (int ms = 0; *c->socket && !lstat(c->socket, &st) && S_ISSOCK(st.st_mode) && ms < SOCKET_MS; ms += POLL_MS)
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	ctl_fork_undisk(&f->disks, c->n_disks, c->name);
	if (c->has_log)
		unlink(c->log);
}

int ctl_fork_start(const struct ctl_fork *f, const struct ctl_guard *g, unsigned *n_run, struct err *err)
{
	AUTO(free) struct copy *copies = calloc(f->n, sizeof(*copies));
	unsigned n = 0;
	int r = 0;

	*n_run = 0;
	if (!copies)
		return err_set(err, -ENOMEM, "out of memory");
	for (; !r && n < f->n; n++)
		r = ctl_guard_ends(g) ? err_set(err, -ECANCELED, "interrupted") : fork_spawn(f, g, &copies[n], n + 1, err);
	for (unsigned i = 0; i < n; i++) {
		struct err why = ERR_INIT;

		int pid = copies[i].pid ? fork_wait(&copies[i], g, i + 1, &why) : 0;
		if (pid > 0) {
			printf("%d %s\n", pid, copies[i].socket);
			++*n_run;
			continue;
		}
		if (!r)
			r = err_set(err, why.code, "%s", why.msg);
		fork_give_up(f, &copies[i]);
	}
	return r < 0 && f->n > 1 ? err_wrap(err, r, "%u of %u copies run", *n_run, f->n) : r;
}
