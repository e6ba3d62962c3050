/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "store/store.h"
#include "util/err.h"
#include "util/loop.h"

struct fixture {
	struct loop *l;
	struct store *s;
	char dir[64], path[96];
};

static void open_it(struct fixture *f)
{
	struct err err = ERR_INIT;

	if (store_open(&f->s, f->l, f->path, &err) < 0)
		FAIL("%s", err.msg);
}

static void setup(struct fixture *f)
{
	strcpy(f->dir, "/tmp/viv-store-XXXXXX");
	CHECK(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/store", f->dir);
	CHECK_EQ(loop_new(&f->l, NULL), 0);
	open_it(f);
}

static void teardown(struct fixture *f)
{
	char cmd[128];

	store_close(f->s);
	loop_free(f->l);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", f->dir);
	CHECK_EQ(system(cmd), 0);
}

static void reopen(struct fixture *f)
{
	store_close(f->s);
	open_it(f);
}

struct answer { bool is_there; int code; unsigned op; int64_t revision; char message[200]; };

static void note(void *arg, const struct store_result *r)
{
	struct answer *a = arg;

	*a = (struct answer){ true, r->code, r->op, r->revision, "" };
	snprintf(a->message, sizeof(a->message), "%s", r->message);
}

static struct answer commit(struct fixture *f, const struct store_op *ops, unsigned n)
{
	struct answer a = { .is_there = false };

	store_commit(f->s, ops, n, note, &a);
	CHECK(!a.is_there);             /* never from inside */
	while (!a.is_there)
		loop_run_once(f->l, -1);
	return a;
}

static struct answer put(struct fixture *f, const char *key, const char *value, int64_t if_modified)
{
	return commit(f, &(struct store_op){ STORE_PUT, key, value, strlen(value), if_modified }, 1);
}

TEST(what_is_put_is_there_after_opening_again)
{
	struct fixture f;
	struct stat st;

	setup(&f);
	CHECK_EQ(put(&f, "a/1", "one", STORE_ABSENT).revision, 1);
	CHECK_EQ(put(&f, "a/2", "two", STORE_ANY).revision, 2);
	CHECK_EQ(put(&f, "a/1", "uno", 1).revision, 3);
	reopen(&f);
	CHECK_EQ(store_revision(f.s), 3);
	CHECK_EQ(store_count(f.s), 2);
	const struct store_doc *d = store_get(f.s, "a/1");

	CHECK_STR(d->value, "uno");
	CHECK_EQ(d->len, 3);
	CHECK_EQ(d->created, 1);
	CHECK_EQ(d->modified, 3);
	CHECK(!stat(f.path, &st));
	CHECK_EQ(st.st_mode & 0777, 0600);
	teardown(&f);
}

TEST(a_condition_that_does_not_hold_undoes_the_whole_commit)
{
	struct fixture f;

	setup(&f);
	put(&f, "k", "v", STORE_ANY);
	struct store_op ops[] = {
		{ STORE_PUT, "new", "x", 1, STORE_ABSENT },
		{ STORE_DELETE, "k", NULL, 0, 1 },
		{ STORE_CHECK, "other", NULL, 0, 7 },
	};
	struct answer a = commit(&f, ops, 3);

	CHECK_EQ(a.code, -ESTALE);
	CHECK_EQ(a.op, 2);
	CHECK_HAS(a.message, "'other' does not exist");
	CHECK(!store_get(f.s, "new"));
	CHECK(store_get(f.s, "k"));
	a = put(&f, "k", "w", STORE_ABSENT);
	CHECK_EQ(a.code, -ESTALE);
	CHECK_HAS(a.message, "exists already");
	a = put(&f, "k", "w", 17);
	CHECK_HAS(a.message, "changed by someone else");
	CHECK_EQ(commit(&f, ops, 2).revision, 2);
	reopen(&f);
	CHECK(!store_get(f.s, "k"));
	CHECK_STR(store_get(f.s, "new")->value, "x");
	teardown(&f);
}

TEST(commits_in_flight_at_once_keep_their_order_and_fail_alone)
{
	struct fixture f;
	struct answer a[50];
	char value[16];

	setup(&f);
	memset(a, 0, sizeof(a));
	for (int i = 0; i < 50; i++) {
		snprintf(value, sizeof(value), "%d", i);
		struct store_op op = { STORE_PUT, "k", value, strlen(value), i % 10 == 9 ? 1000 : STORE_ANY };

		store_commit(f.s, &op, 1, note, &a[i]);
	}
	while (!a[49].is_there)
		loop_run_once(f.l, -1);
	for (int i = 0, revision = 0; i < 50; i++) {
		CHECK(a[i].is_there);
		CHECK_EQ(a[i].code, i % 10 == 9 ? -ESTALE : 0);
		CHECK_EQ(a[i].revision, i % 10 == 9 ? 0 : ++revision);
	}
	CHECK_STR(store_get(f.s, "k")->value, "48");
	teardown(&f);
}

TEST(listing_goes_by_prefix)
{
	struct fixture f;
	static const char *const keys[] = { "a/1", "b/1", "b/2", "b0", "c" };
	unsigned n = 0;

	setup(&f);
	for (unsigned i = 0; i < 5; i++)
		put(&f, keys[i], "", STORE_ANY);
	for (const struct store_doc *d = store_next(f.s, "b/", NULL); d; d = store_next(f.s, "b/", d->key))
		CHECK_STR(d->key, keys[1 + n++]);
	CHECK_EQ(n, 2);
	CHECK(!store_next(f.s, "d", NULL));
	teardown(&f);
}

struct seen {
	struct store_watch w;
	char text[256];
};

static void see(struct store_watch *w, const struct store_event *e)
{
	struct seen *s = (struct seen *)w;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof(s->text) - n, "%s%s=%s@%d ", e->is_delete ? "-" : "+", e->doc->key, e->doc->value,
		 (int)e->revision);
}

TEST(a_watch_sees_each_change_of_its_prefix_once_and_in_order)
{
	struct fixture f;
	struct seen now = { .w = { .prefix = "a/", .fn = see } }, late = now;

	setup(&f);
	CHECK_EQ(store_watch_start(f.s, &now.w, STORE_ANY), 0);
	put(&f, "a/1", "x", STORE_ANY);
	put(&f, "b/1", "y", STORE_ANY);
	put(&f, "a/1", "z", STORE_ANY);
	commit(&f, &(struct store_op){ STORE_DELETE, "a/1", NULL, 0, STORE_ANY }, 1);
	CHECK_STR(now.text, "+a/1=x@1 +a/1=z@3 -a/1=z@4 ");
	CHECK_EQ(store_watch_start(f.s, &late.w, 1), 0);
	CHECK_STR(late.text, "+a/1=z@3 -a/1=z@4 ");
	store_watch_stop(&now.w);
	put(&f, "a/2", "", STORE_ANY);
	CHECK_STR(now.text, "+a/1=x@1 +a/1=z@3 -a/1=z@4 ");
	CHECK_HAS(late.text, "+a/2=@5 ");
	store_watch_stop(&late.w);
	CHECK_EQ(store_watch_start(f.s, &late.w, 6), -ERANGE);
	reopen(&f);
	CHECK_EQ(store_watch_start(f.s, &late.w, 1), -ERANGE);
	teardown(&f);
}

TEST(history_is_bounded)
{
	struct fixture f;
	struct seen late = { .w = { .prefix = "none", .fn = see } };

	setup(&f);
	for (int i = 0; i < STORE_HISTORY + 10; i++)
		store_commit(f.s, &(struct store_op){ STORE_PUT, "k", "v", 1, STORE_ANY }, 1, NULL, NULL);
	put(&f, "k", "w", STORE_ANY);
	CHECK_EQ(store_watch_start(f.s, &late.w, 10), -ERANGE);
	CHECK_EQ(store_watch_start(f.s, &late.w, 11), 0);
	teardown(&f);
}

TEST(what_cannot_be_stored_is_refused_with_a_sentence)
{
	struct fixture f;
	char key[STORE_KEY_MAX + 2];

	setup(&f);
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = 0;
	CHECK_EQ(put(&f, key, "", STORE_ANY).code, -EINVAL);
	CHECK_EQ(put(&f, "", "", STORE_ANY).code, -EINVAL);
	CHECK_HAS(put(&f, "a b", "", STORE_ANY).message, "cannot be a key");
	struct store_op big = { STORE_PUT, "k", NULL, STORE_VALUE_MAX + 1, STORE_ANY };

	CHECK_HAS(commit(&f, &big, 1).message, "at most");
	CHECK_EQ(commit(&f, &big, 0).code, -EINVAL);
	CHECK_EQ(store_count(f.s), 0);
	teardown(&f);
}

TEST(one_process_has_the_store)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct store *other;

	setup(&f);
	CHECK_EQ(store_open(&other, f.l, f.path, &err), -EBUSY);
	CHECK_HAS(err.msg, "in use by another process");
	teardown(&f);
}

static void write_file(const char *path, const char *text)
{
	FILE *out = fopen(path, "w");

	CHECK(out && fputs(text, out) >= 0 && !fclose(out));
}

TEST(a_file_that_is_no_store_is_refused_and_left_alone)
{
	struct fixture f;
	struct err err = ERR_INIT;
	char path[128], cmd[256], back[64] = "";
	struct store *other;

	setup(&f);
	snprintf(path, sizeof(path), "%s/other", f.dir);
	write_file(path, "this is not a database, but it is somebody's text file");
	CHECK_EQ(store_open(&other, f.l, path, &err), -EPROTO);
	FILE *in = fopen(path, "r");

	CHECK(in && fgets(back, sizeof(back), in));
	fclose(in);
	CHECK_HAS(back, "somebody's text");
	err = (struct err)ERR_INIT;
	snprintf(path, sizeof(path), "%s/newer", f.dir);
	snprintf(cmd, sizeof(cmd), "cp '%s' '%s'", f.path, path);
	store_close(f.s);
	f.s = NULL;
	CHECK_EQ(system(cmd), 0);
	FILE *raw = fopen(path, "r+");

	/* user_version: 4 bytes, big endian, at offset 60 of the database header */
	CHECK(raw && !fseek(raw, 60, SEEK_SET) && fwrite("\0\0\0\x09", 4, 1, raw) == 1 && !fclose(raw));
	CHECK_EQ(store_open(&other, f.l, path, &err), -EPROTO);
	CHECK_HAS(err.msg, "version 9");
	teardown(&f);
}

/* The child commits documents 1, 2, 3 ... two at a time and tells which are durable, until it is killed. */
static void child_writes(const struct fixture *of, int out)
{
	struct fixture f = *of;
	struct answer a;
	char x[32], y[32];

	CHECK_EQ(loop_new(&f.l, NULL), 0);
	open_it(&f);
	for (int i = (int)store_revision(f.s) + 1;; i++) {
		snprintf(x, sizeof(x), "x/%d", i);
		snprintf(y, sizeof(y), "y/%d", i);
		struct store_op ops[] = { { STORE_PUT, x, "", 0, STORE_ABSENT }, { STORE_PUT, y, "", 0, STORE_ABSENT } };

		a = commit(&f, ops, 2);
		CHECK_EQ(a.revision, i);
		CHECK_EQ(write(out, &i, sizeof(i)), sizeof(i));
	}
}

TEST_SLOW(a_kill_at_any_moment_loses_nothing_that_was_acknowledged)
{
	struct fixture f;

	setup(&f);
	for (int round = 0; round < 40; round++) {
		int fds[2], last = (int)store_revision(f.s), got;

		store_close(f.s);
		CHECK(!pipe(fds));
		pid_t pid = fork();

		if (!pid)
			child_writes(&f, fds[1]);
		close(fds[1]);
		usleep((useconds_t)(5000 + round * 700));
		kill(pid, SIGKILL);
		while (read(fds[0], &got, sizeof(got)) == sizeof(got))
			last = got;
		close(fds[0]);
		waitpid(pid, NULL, 0);
		open_it(&f);
		CHECK(store_revision(f.s) >= last && store_revision(f.s) <= last + 1);
		CHECK_EQ(store_count(f.s), 2 * store_revision(f.s));
	}
	CHECK(store_revision(f.s) > 0);
	teardown(&f);
}

TEST(a_full_disk_fails_the_commit_and_nothing_else)
{
	struct fixture f;
	struct rlimit limit = { 1 << 20, RLIM_INFINITY }, none = { RLIM_INFINITY, RLIM_INFINITY };
	static char big[300 << 10];
	struct answer a = { .code = 0 };
	int good = 0;

	signal(SIGXFSZ, SIG_IGN);
	setup(&f);
	memset(big, 'x', sizeof(big) - 1);
	CHECK(!setrlimit(RLIMIT_FSIZE, &limit));        /* the write fails as on a full disk, with EFBIG */
	for (; !a.code && good < 100; good++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", good);
		a = put(&f, key, big, STORE_ANY);
	}
	CHECK(a.code < 0 && a.message[0]);
	CHECK_EQ(store_count(f.s), good - 1);
	struct store_health h;
	store_health(f.s, &h);
	CHECK(h.failures > 0 && h.writes > h.failures);
	CHECK(!setrlimit(RLIMIT_FSIZE, &none));
	CHECK_EQ(put(&f, "after", "x", STORE_ANY).code, 0);
	store_health(f.s, &h);
	CHECK(!h.is_failing && !h.reason[0]);
	reopen(&f);
	CHECK_EQ(store_count(f.s), good);
	teardown(&f);
}
