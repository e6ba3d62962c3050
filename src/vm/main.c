/* SPDX-License-Identifier: Apache-2.0 */
/* viv-vmm: run one virtual machine. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include "cpu/cpu.h"
#include "cpu/x86/model.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/fatal.h"
#include "util/log.h"
#include "util/loop.h"
#include "vm/beside.h"
#include "vm/config.h"
#include "vm/console.h"
#include "vm/control.h"
#include "vm/handover.h"
#include "vm/jail.h"
#include "vm/janitor.h"
#include "vm/machine.h"
#include "vm/migrate.h"
#include "vm/migrate_tls.h"
#include "vm/pidns.h"
#include "vm/state_file.h"

/* Where messages go; see console_own_output(). */
static int own_stderr = -1;

/* The terminal as we found it: a fatal signal must give it back, whatever else is broken. */
static struct termios terminal_before;
static volatile sig_atomic_t terminal_is_raw;

static void terminal_restore(void)
{
	if (terminal_is_raw)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
	terminal_is_raw = 0;
	log_set_raw_terminal(0);
}

/* Who was started before this process, which is the first of its PID namespace. */
static struct pidns outside;

/* The thread that is telling; 0: none. */
static _Atomic pid_t dying;

/* What ends the process by its own fault. One thread tells; a fault on the way ends it at once. */
static void on_fatal_signal(int signo, siginfo_t *info, void *context)
{
	pid_t me = gettid(), nobody = 0;

	if (atomic_compare_exchange_strong(&dying, &nobody, me)) {
		terminal_restore();
		fatal_tell(signo, info, context);
	} else if (nobody != me) {
		for (;;)
			(void)poll(NULL, 0, -1);
	}
	signal(signo, SIG_DFL);
	raise(signo);
	/* The first process of a PID namespace can send itself nothing. What the processor says comes again, and ends it. */
	if (getpid() == 1 && (info->si_code <= 0 || signo == SIGQUIT))
		pidns_end_by(signo);
}

static void terminal_make_raw(void)
{
	struct termios t;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &terminal_before) < 0)
		return;
	t = terminal_before;
	cfmakeraw(&t);
	terminal_is_raw = 1;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &t);
	log_set_raw_terminal(isatty(STDERR_FILENO));
}

static bool wants_terminal(const struct config *c)
{
	for (unsigned i = 0; i < c->n_consoles; i++) {
		if (!strcmp(c->consoles[i].target, "stdio"))
			return true;
	}
	return !c->n_consoles;
}

static void tell_size(struct machine *m)
{
	struct winsize w;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col)
		machine_resize_terminal(m, w.ws_col, w.ws_row);
}

/* What signals reach. */
struct running {
	struct loop *loop;
	struct machine *m;              /* NULL at first */
};

static void on_end(void *arg, int signo)
{
	struct running *r = arg;

	log_info("signal %d: the machine ends", signo);
	if (r->m)
		machine_quit(r->m, "signal");
	loop_stop(r->loop, 0);
}

static void on_resize(void *arg, int signo)
{
	struct running *r = arg;

	if (r->m)
		tell_size(r->m);
}

static int list_engines(void)
{
	for (const struct cpu_ops *const *e = cpu_engines; *e; e++) {
		struct err err = ERR_INIT;
		int r = (*e)->probe(false, &err);

		printf("%-8s %-12s %s\n", (*e)->name, r < 0 ? "unusable" : "works", r < 0 ? err.msg : (*e)->summary);
	}
	return 0;
}

/* Answer what is no run; 1: it is one (or a check). */
static int answer(enum config_action action)
{
	switch (action) {
	case CONFIG_HELP:
		config_print_help(stdout);
		return 0;
	case CONFIG_MAN:
		config_print_man(stdout);
		return 0;
	case CONFIG_API:
		control_print_doc(stdout);
		return 0;
	case CONFIG_VERSION:
		printf("viv-vmm %s\n", VIV_VERSION);
		return 0;
	case CONFIG_LIST_ENGINES:
		return list_engines();
	case CONFIG_LIST_CPUS:
		x86_model_list(stdout);
		return 0;
	case CONFIG_RUN:
	case CONFIG_CHECK:
		break;
	}
	return 1;
}

static int watch_signals(struct running *r, struct err *err)
{
	static const int ends[] = { SIGTERM, SIGINT, SIGHUP };
	int rc = loop_signal_add(r->loop, SIGWINCH, on_resize, r);

	for (size_t i = 0; !rc && i < ARRAY_LEN(ends); i++)
		rc = loop_signal_add(r->loop, ends[i], on_end, r);
	return rc < 0 ? err_set(err, rc, "cannot watch signals: %s", strerror(-rc)) : 0;
}

static int start_machine(const struct config *c, const struct running *now, struct incoming *in, struct err *err)
{
	if (c->starts_paused)
		machine_hold(now->m, MACHINE_HOLD_USER);
	if (in)
		return incoming_start(in, now->m, now->loop, err);
	machine_start(now->m);
	return 0;
}

static int run_machine(const struct config *c, const struct running *now, struct incoming *in, struct err *err)
{
	tell_size(now->m);
	if (wants_terminal(c))
		terminal_make_raw();
	int rc = machine_revert_disks(now->m, err);
	if (!rc && c->has_jail)
		rc = jail_filter(err);
	if (rc < 0) {
		terminal_restore();
		return rc;
	}
	int r = start_machine(c, now, in, err);
	if (r < 0) {
		terminal_restore();
		return r;
	}
	r = loop_run(now->loop);
	incoming_cancel(in);
	if (incoming_is_owed(in)) {     /* its processors may be waiting for what never comes: nothing can stop them in order */
		log_error("the machine ends without all of its memory, which its source had: it is lost");
		terminal_restore();
		_exit(1);
	}
	machine_stop(now->m);
	terminal_restore();
	if (c->wants_stats || c->wants_profile)
		machine_print_stats(now->m, stderr);
	return r < 0 ? err_set(err, r, "the event loop failed: %s", strerror(-r)) : r;
}

/* IN: where the machine comes from; NULL: from nowhere. */
static int build_and_run(struct config *c, enum config_action action, struct janitor *janitor, struct incoming *in,
			 struct err *err)
{
	AUTO(loop_free) struct loop *loop = NULL;
	AUTO(machine_free) struct machine *m = NULL;
	AUTO(control_close) struct control *control = NULL;
	struct running now = { 0 };
	int r = loop_new(&loop, err);

	now.loop = loop;
	if (!r)
		r = watch_signals(&now, err);   /* before the machine's threads exist, so that they inherit the mask */
	if (!r && c->control && action == CONFIG_RUN)
		r = control_open(&control, &(struct control_config){
			.path = c->control, .loop = loop, .cfg = c, .janitor_fd = janitor->fd,
			.listen_fd = c->handed ? c->handed->control : -1,
		}, err);
	if (!r)
		r = machine_new(&m, c, loop, err);
	if (r < 0) {
		incoming_refuse(in, err);
		return r;
	}
	now.m = m;
	machine_log_map(m);
	if (action == CONFIG_CHECK)
		return c->saved ? state_file_verify(c->saved, err) : 0;
	janitor_note(janitor);
	if (control)
		r = control_serve(control, m, err);
	if (!r)
		r = run_machine(c, &now, in, err);
	if (machine_is_handed_over(m)) {        /* what has a name is another process's */
		janitor_forget(janitor);
		control_forget_name(control);
	} else {
		janitor_note_end(janitor, machine_end_reason(m));
	}
	return r;
}

/* ARGV: to start this program again. What main() returns, or -errno. */
static int run(struct config *c, enum config_action action, struct incoming *in, char **argv, struct err *err)
{
	struct beside b;

	beside_init(&b);
	int r = action == CONFIG_RUN ? beside_start(&b, c, in, &outside, argv, err) : 0;
	if (r > 0)
		return 0;
	if (!r && in)
		r = incoming_settle(in, err);
	if (!r)
		r = build_and_run(c, action, &b.janitor, in, err);
	else
		incoming_refuse(in, err);
	beside_end(&b, c);
	return r;
}

/* Wait for the machine, and read the command line again for what it is. */
static int wait_for_machine(struct config *c, struct incoming **in, struct handed *handed, int argc, char **argv,
			    struct err *err)
{
	struct state_file *machine = NULL;
	struct config mine = *c;
	bool is_own = false;
	struct migrate_tls tls = { .folder = mine.incoming_tls, .has_jail = mine.has_jail };
	int r = mine.incoming_tls && mine.is_takeover ? err_set(err, -EINVAL, "--takeover is of this host; it has no use for TLS") :
		incoming_open(in, mine.incoming, mine.incoming_tls ? &tls : NULL, &machine, &is_own, err);

	if (!r && mine.is_takeover)
		r = is_own ? incoming_take_hands(*in, handed, err) :
			     err_set(err, -EPERM, "a machine is taken over from a process of this user on this host only");
	if (r < 0) {
		incoming_refuse(*in, err);
		state_file_close(machine);
		return r;
	}
	if (handed->log >= 0) {         /* and let go of what it was */
		(void)dup2(handed->log, STDERR_FILENO);
		if (own_stderr >= 0)
			(void)dup2(handed->log, own_stderr);
	}
	r = config_parse_incoming(c, argc, argv, machine, mine.is_takeover ? handed : NULL, err);
	c->keeps_incoming = incoming_listens(*in);
	log_set_level(config_log_level(c));
	if (!r && !is_own)
		r = config_distrust(c, &mine, err);
	config_fini(&mine);
	if (!r)
		r = config_validate(c, err);
	if (!r)
		r = incoming_take_disks(*in, c, err);
	if (r < 0)
		incoming_refuse(*in, err);
	return r;
}

static int run_incoming(struct config *c, int argc, char **argv, struct err *err)
{
	AUTO(incoming_close) struct incoming *in = NULL;
	struct handed handed;

	handed_init(&handed);
	if (beside_pidns_mode(c) == PIDNS_DETACHED)
		return err_set(err, -EINVAL, "a machine that comes from elsewhere cannot be detached; leave out '--pid-namespace detached'");
	int r = wait_for_machine(c, &in, &handed, argc, argv, err);
	if (!r)
		r = run(c, CONFIG_RUN, in, argv, err);
	handed_close(&handed);
	return r;
}

/* A standard descriptor that is closed would become the number of the next file opened, a disk
 * for one, and messages would go there. */
static void fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* What the parent has left open is nobody's business here, unless an argument names a descriptor. */
static void close_inherited_fds(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strstr(argv[i], "fd:"))
			return;
	}
	(void)close_range(STDERR_FILENO + 1, ~0u, 0);
}

int main(int argc, char **argv)
{
	enum config_action action = CONFIG_RUN;
	struct err err = ERR_INIT;
	struct config c;

	fill_standard_fds();
	if (argc > 1 && !strcmp(argv[1], "ctl"))
		return ctl_main(argc - 1, argv + 1);
	pidns_inherit(&outside);
	if (!outside.is_inside)
		close_inherited_fds(argc, argv);
	log_set_name("viv-vmm");
	own_stderr = console_own_output(STDERR_FILENO);
	if (own_stderr >= 0)
		log_set_fd(own_stderr);
	signal(SIGPIPE, SIG_IGN);
	(void)fatal_stack_new();        /* for as long as there is a process */
	fatal_catch(on_fatal_signal);
	json_object_seed(0);            /* by /dev/urandom, which no jail opens; else by the time of day */
	int r = config_init(&c, &err);
	if (!r)
		r = config_parse_args(&c, &action, argc, argv, &err);
	if (!r)
		r = answer(action);
	if (r > 0) {
		log_set_level(config_log_level(&c));
		bool is_incoming = c.incoming && action == CONFIG_RUN;

		r = is_incoming ? run_incoming(&c, argc, argv, &err) : config_validate(&c, &err);
		if (!r && !is_incoming)
			r = run(&c, action, NULL, argv, &err);
	}
	if (r < 0)
		log_error("%s", err.msg);
	config_fini(&c);
	return r < 0 ? 1 : r;
}
