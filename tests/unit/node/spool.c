/* SPDX-License-Identifier: Apache-2.0 */
/* Text for a file that another thread writes. */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/spool.h"
#include "node/work.h"
#include "util/loop.h"

struct rig {
	struct loop *l;
	struct works *writer;
	struct spool *s;
	char dir[64], path[96];
};

static void setup(struct rig *r)
{
	strcpy(r->dir, "/tmp/viv-spool-XXXXXX");
	CHECK(mkdtemp(r->dir));
	snprintf(r->path, sizeof(r->path), "%s/log", r->dir);
	CHECK_EQ(loop_new(&r->l, NULL), 0);
	CHECK_EQ(works_new(&r->writer, r->l, 1, NULL), 0);
	CHECK((r->s = spool_new(r->writer, r->path)) != NULL);
}

static void teardown(struct rig *r)
{
	char cmd[128];

	spool_free(r->s);
	works_drain(r->writer);
	works_free(r->writer);
	loop_free(r->l);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", r->dir);
	CHECK_EQ(system(cmd), 0);
}

/* All of the file, with a NUL. */
static char *text_of(const struct rig *r)
{
	static char text[2 * SPOOL_WAITING_MAX];
	int fd = open(r->path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	CHECK(n >= 0);
	if (fd >= 0)
		close(fd);
	text[n] = 0;
	return text;
}

/* The thread waits for a byte of a pipe. */
static int gate[2];

static int hold(void *arg, struct err *err)
{
	char c;

	(void)arg;
	(void)err;
	return read(gate[0], &c, 1) == 1 ? 0 : -1;
}

static void held(void *arg, int r, const struct err *err)
{
	(void)arg;
	(void)r;
	(void)err;
}

TEST(what_is_put_stands_in_the_file_in_order)
{
	struct rig r;

	setup(&r);
	for (char c = 'a'; c <= 'z'; c++)
		spool_put(r.s, &c, 1);
	works_drain(r.writer);
	spool_rest(r.s);
	spool_put(r.s, "!", 1);
	works_drain(r.writer);
	CHECK_STR(text_of(&r), "abcdefghijklmnopqrstuvwxyz!");
	teardown(&r);
}

TEST(what_waits_is_written_also_when_its_owner_goes)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(pipe(gate), 0);
	CHECK_EQ(work_start(r.writer, hold, held, NULL), 0);
	spool_put(r.s, "one ", 4);
	spool_put(r.s, "two", 3);
	spool_free(r.s);
	r.s = NULL;
	CHECK_EQ(write(gate[1], "x", 1), 1);
	works_drain(r.writer);
	CHECK_STR(text_of(&r), "one two");
	teardown(&r);
}

TEST(a_disk_that_takes_nothing_costs_the_lines_and_bounded_memory)
{
	static char line[1 << 10];
	struct rig r;

	setup(&r);
	CHECK_EQ(pipe(gate), 0);
	CHECK_EQ(work_start(r.writer, hold, held, NULL), 0);
	memset(line, 'x', sizeof(line));
	spool_put(r.s, "first ", 6);                    /* is on its way, */
	for (unsigned i = 0; i < 2 * SPOOL_WAITING_MAX / sizeof(line); i++)
		spool_put(r.s, line, sizeof(line));     /* these wait, and these are lost */
	CHECK_EQ(write(gate[1], "x", 1), 1);
	works_drain(r.writer);
	spool_put(r.s, "last", 4);
	works_drain(r.writer);
	const char *text = text_of(&r), *note = strstr(text, "\n[262144 bytes are missing");
	CHECK(!strncmp(text, "first x", 7) && note && note - text == 6 + SPOOL_WAITING_MAX);
	CHECK(!strcmp(text + strlen(text) - 6, "]\nlast"));
	teardown(&r);
}

TEST(a_long_file_moves_aside)
{
	static char block[64 << 10];
	char old[112];
	struct rig r;
	struct stat st;

	setup(&r);
	for (unsigned i = 0; i < SPOOL_FILE_MAX / sizeof(block); i++) {
		spool_put(r.s, block, sizeof(block));
		works_drain(r.writer);
	}
	spool_put(r.s, "anew", 4);
	works_drain(r.writer);
	snprintf(old, sizeof(old), "%s.1", r.path);
	CHECK(!stat(old, &st) && st.st_size == SPOOL_FILE_MAX);
	CHECK_STR(text_of(&r), "anew");
	teardown(&r);
}
