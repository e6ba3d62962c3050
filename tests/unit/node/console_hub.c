/* SPDX-License-Identifier: Apache-2.0 */
/* What a console keeps for those who come later. */
#include "test.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "node/console_hub.h"
#include "node/work.h"
#include "util/loop.h"

enum { TOLD_MAX = 200000 };

struct rig {
	struct loop *l;
	struct works *writer;
	struct console_hub *h;
	char dir[64], log[96];
	struct sockaddr_un at;
	int listener, guest;
};

static void setup(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	strcpy(r->dir, "/tmp/viv-console-XXXXXX");
	CHECK(mkdtemp(r->dir));
	snprintf(r->log, sizeof(r->log), "%s/log", r->dir);
	r->at.sun_family = AF_UNIX;
	snprintf(r->at.sun_path, sizeof(r->at.sun_path), "%s/socket", r->dir);
	r->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(bind(r->listener, (struct sockaddr *)&r->at, sizeof(r->at)), 0);
	CHECK_EQ(listen(r->listener, 1), 0);
	CHECK_EQ(loop_new(&r->l, NULL), 0);
	CHECK_EQ(works_new(&r->writer, r->l, 1, NULL), 0);
	CHECK_EQ(console_hub_new(&r->h, r->l, r->writer, r->log), 0);
	console_hub_attach(r->h, r->at.sun_path);
	r->guest = accept(r->listener, NULL, NULL);
	CHECK(r->guest >= 0);
}

static void teardown(struct rig *r)
{
	console_hub_free(r->h);
	works_drain(r->writer);
	works_free(r->writer);
	loop_free(r->l);
	close(r->guest);
	close(r->listener);
	unlink(r->at.sun_path);
	unlink(r->log);
	CHECK(!rmdir(r->dir));
}

static char letter(size_t i) { return (char)('a' + i % 23); }

/* The guest says bytes FROM to TO of an endless line. */
static void say(struct rig *r, size_t from, size_t to)
{
	char buf[1000];

	while (from < to) {
		size_t n = to - from < sizeof(buf) ? to - from : sizeof(buf);

		for (size_t i = 0; i < n; i++)
			buf[i] = letter(from + i);
		CHECK_EQ(write(r->guest, buf, n), (ssize_t)n);
		CHECK(loop_run_once(r->l, 5000) >= 0);
		from += n;
	}
}

/* The last N bytes of TOLD are kept, and no more. */
static void check_kept(struct rig *r, size_t told, size_t n)
{
	size_t len;
	char *text = console_hub_text(r->h, TOLD_MAX, &len);

	CHECK(text);
	CHECK_EQ(len, n);
	for (size_t i = 0; i < n; i++)
		if (text[i] != letter(told - n + i))
			FAIL("byte %zu of %zu is wrong after %zu", i, n, told);
	free(text);
}

TEST(the_last_of_what_was_said_is_kept)
{
	static const size_t told[] = { 0, 1, 4095, 4096, 4097, 9000, 65535, 65536, 65537, TOLD_MAX };
	size_t before = 0, len;
	struct rig r;

	setup(&r);
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		say(&r, before, told[i]);
		check_kept(&r, told[i], told[i] < CONSOLE_KEEP ? told[i] : CONSOLE_KEEP);
		before = told[i];
	}
	char *text = console_hub_text(r.h, 5, &len);
	CHECK(text && len == 5 && text[4] == letter(TOLD_MAX - 1));
	free(text);
	teardown(&r);
}
