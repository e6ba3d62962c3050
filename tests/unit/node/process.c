/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that stay, and how they are found again. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/process.h"
#include "util/checked.h"
#include "util/err.h"

struct rig {
	struct loop *l;
	char dir[64], lock[96], log[96];
	struct process p;
	bool has_ended;
};

static void on_end(struct process *p)
{
	container_of(p, struct rig, p)->has_ended = true;
}

static void setup(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	strcpy(r->dir, "/tmp/viv-process-XXXXXX");
	CHECK(mkdtemp(r->dir));
	snprintf(r->lock, sizeof(r->lock), "%s/lock", r->dir);
	snprintf(r->log, sizeof(r->log), "%s/log", r->dir);
	CHECK_EQ(loop_new(&r->l, NULL), 0);
	r->p.ended = on_end;
}

static void teardown(struct rig *r)
{
	process_forget(&r->p);
	loop_free(r->l);
	unlink(r->lock);
	unlink(r->log);
	CHECK(!rmdir(r->dir));
}

static int start(struct rig *r, const char *script, struct err *err)
{
	char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, (char *)script, NULL };
	struct process_spec s = { .lock_path = r->lock, .log_path = r->log, .argv = argv };

	return process_start(&r->p, r->l, &s, err);
}

static void wait_end(struct rig *r)
{
	while (!r->has_ended)
		CHECK(loop_run_once(r->l, 5000) >= 0);
	CHECK_EQ(r->p.pid, 0);
}

TEST(a_process_tells_how_it_ended_and_what_it_said)
{
	struct rig r;
	char words[32];

	setup(&r);
	CHECK_EQ(start(&r, "echo first; echo last >&2; exit 3", NULL), 0);
	wait_end(&r);
	CHECK(WIFEXITED(r.p.status) && WEXITSTATUS(r.p.status) == 3);
	process_last_words(r.dir, "log", words, sizeof(words));
	CHECK_STR(words, "last");
	process_last_words(r.dir, "nothing", words, sizeof(words));
	CHECK_STR(words, "");
	teardown(&r);
}

/* Files stand for those of control groups. */
TEST(a_process_goes_into_its_groups_before_it_is_another_program)
{
	char text[8] = "", path[96], words[96];
	char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, (char[]){ "cat $0; echo" }, path, NULL };
	struct rig r;

	setup(&r);
	snprintf(path, sizeof(path), "%s/group", r.dir);
	int one = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), other = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const int groups[] = { one, other };
	struct process_spec s = { .lock_path = r.lock, .log_path = r.log, .argv = argv, .groups = groups, .n_groups = 1 };

	CHECK_EQ(process_start(&r.p, r.l, &s, NULL), 0);
	wait_end(&r);
	process_last_words(r.dir, "log", words, sizeof(words));
	CHECK_STR(words, "0");          /* it was there when the program began */
	CHECK_EQ(pread(one, text, sizeof(text), 0), 1);
	CHECK_STR(text, "0");
	/* One that it cannot go into is told. */
	r.has_ended = false;
	argv[2] = (char[]){ ":" };
	s.n_groups = 2;
	CHECK_EQ(process_start(&r.p, r.l, &s, NULL), 0);
	wait_end(&r);
	CHECK(WIFEXITED(r.p.status) && !WEXITSTATUS(r.p.status));
	process_last_words(r.dir, "log", words, sizeof(words));
	CHECK_STR(words, "vivd: the control group cannot be entered; it runs without");
	close(one);
	close(other);
	unlink(path);
	teardown(&r);
}

TEST(one_lock_has_one_process)
{
	struct rig r;
	struct err err = ERR_INIT;
	struct process second = { .ended = on_end };
	char *argv[] = { (char[]){ "/bin/true" }, NULL };

	setup(&r);
	CHECK_EQ(start(&r, "exec sleep 60", &err), 0);
	struct process_spec s = { .lock_path = r.lock, .argv = argv };
	CHECK_EQ(process_start(&second, r.l, &s, &err), -EBUSY);
	process_kill(&r.p, SIGKILL);
	wait_end(&r);
	CHECK(WIFSIGNALED(r.p.status) && WTERMSIG(r.p.status) == SIGKILL);
	CHECK_EQ(process_start(&r.p, r.l, &s, &err), 0);
	r.has_ended = false;
	wait_end(&r);
	teardown(&r);
}

/* A daemon that starts a process and is killed. */
TEST(who_comes_after_finds_it_and_its_end)
{
	struct rig r;
	struct err err = ERR_INIT;
	int status, found;

	setup(&r);
	pid_t daemon = fork();
	if (!daemon)
		_exit(start(&r, "exec sleep 60", NULL) ? 1 : 0);
	CHECK_EQ(waitpid(daemon, &status, 0), daemon);
	CHECK_EQ(status, 0);
	while ((found = process_find(&r.p, r.l, r.lock, &err)) == -EAGAIN)
		usleep(1000);
	CHECK_EQ(found, 1);
	CHECK(r.p.pid > 0 && !r.p.is_child);
	process_kill(&r.p, SIGTERM);
	wait_end(&r);
	CHECK_EQ(r.p.status, -1);
	teardown(&r);
}

/* As dnsmasq does when an interface gets an address while it starts. */
TEST(a_process_that_writes_to_its_standard_input_keeps_its_number)
{
	struct process found = { .ended = on_end };
	struct rig r;
	struct err err = ERR_INIT;
	char text[32] = { 0 };

	setup(&r);
	CHECK_EQ(start(&r, "echo nonsense >&0 || echo refused >&2; exec sleep 60", &err), 0);
	do {
		usleep(10000);
		process_last_words(r.dir, "log", text, sizeof(text));
	} while (!text[0]);
	CHECK_EQ(process_find(&found, r.l, r.lock, &err), 1);
	CHECK_EQ(found.pid, r.p.pid);
	process_forget(&found);
	process_kill(&r.p, SIGKILL);
	wait_end(&r);
	teardown(&r);
}

TEST(a_free_lock_and_no_lock_are_no_process)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(process_find(&r.p, r.l, r.lock, NULL), 0);
	int fd = open(r.lock, O_RDWR | O_CREAT, 0600);
	CHECK_EQ(write(fd, "1\n", 2), 2); /* whatever number stands there */
	CHECK_EQ(process_find(&r.p, r.l, r.lock, NULL), 0);
	close(fd);
	teardown(&r);
}

TEST(a_lock_without_a_number_is_one_that_is_being_started)
{
	struct rig r;
	struct err err = ERR_INIT;

	setup(&r);
	int fd = open(r.lock, O_RDWR | O_CREAT, 0600);
	CHECK_EQ(flock(fd, LOCK_EX), 0);
	CHECK_EQ(process_find(&r.p, r.l, r.lock, &err), -EAGAIN);
	CHECK_EQ(write(fd, "12", 2), 2); /* not all of it yet */
	CHECK_EQ(process_find(&r.p, r.l, r.lock, &err), -EAGAIN);
	close(fd);
	teardown(&r);
}

TEST(what_cannot_be_started_is_said)
{
	struct rig r;
	struct err err = ERR_INIT;
	char *argv[] = { (char[]){ "/nonexistent/program" }, NULL };

	setup(&r);
	struct process_spec s = { .lock_path = r.lock, .argv = argv };
	CHECK_EQ(process_start(&r.p, r.l, &s, &err), -ENOENT);
	CHECK(strstr(err.msg, "/nonexistent/program"));
	teardown(&r);
}

/* As dnsmasq does: the lock goes, the number stays. */
TEST(a_process_that_lets_go_of_its_lock_is_known_by_a_word)
{
	struct process found = { .ended = on_end };
	struct rig r;

	setup(&r);
	char *argv[] = { (char[]){ "/bin/sh" }, (char[]){ "-c" }, (char[]){ "exec </dev/null; while :; do sleep 0.1; done" },
			 (char[]){ "--conf=ours" }, NULL };
	struct process_spec s = { .lock_path = r.lock, .log_path = r.log, .argv = argv };
	CHECK_EQ(process_start(&r.p, r.l, &s, NULL), 0);
	while (process_find(&found, r.l, r.lock, NULL) != 0) {
		process_forget(&found);
		usleep(10000);
	}
	CHECK_EQ(process_find_word(&found, r.l, r.lock, "--conf=other", NULL), 0);
	CHECK_EQ(found.pid, 0);
	CHECK_EQ(process_find_word(&found, r.l, r.lock, "--conf=ours", NULL), 1);
	CHECK_EQ(found.pid, r.p.pid);
	process_forget(&found);
	process_kill_group(&r.p, SIGKILL);
	wait_end(&r);
	CHECK_EQ(process_find_word(&found, r.l, r.lock, "--conf=ours", NULL), 0);
	teardown(&r);
}
