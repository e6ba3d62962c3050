/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/frames.h"
#include "util/unixsock.h"

enum { IN_MAX = 1000, OUT_MAX = 4096 };

struct pair {
	int peer;
	struct frames f;
	const uint8_t *msg;
	size_t len;
	int fds[FRAMES_FDS_MAX];
	unsigned n_fds;
};

static void pair_init(struct pair *p)
{
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	p->peer = sv[0];
	CHECK_EQ(frames_init(&p->f, sv[1], IN_MAX, OUT_MAX), 0);
}

static int pair_next(struct pair *p)
{
	return frames_next(&p->f, &p->msg, &p->len, p->fds, &p->n_fds);
}

TEST(messages_come_whole_however_they_are_cut)
{
	struct pair p;
	uint8_t bytes[4 + 10 + 4 + 0 + 4 + 3] = { 0 };

	pair_init(&p);
	put_le32(bytes, 10);
	memcpy(bytes + 4, "0123456789", 10);
	put_le32(bytes + 18, 3);
	memcpy(bytes + 22, "abc", 3);
	for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
		CHECK_EQ(write(p.peer, bytes + i, 1), 1);
		CHECK_EQ(frames_read(&p.f), 1);
		int r = pair_next(&p);

		CHECK_EQ(r, i == 13 || i == 17);
		if (i == 13)
			CHECK(p.len == 10 && !memcmp(p.msg, "0123456789", 10));
	}
	CHECK_EQ(write(p.peer, bytes + sizeof(bytes) - 1, 1), 1);
	CHECK_EQ(frames_read(&p.f), 1);
	CHECK_EQ(pair_next(&p), 1);
	CHECK(p.len == 3 && !memcmp(p.msg, "abc", 3));
	CHECK_EQ(frames_read(&p.f), 0);
	close(p.peer);
	CHECK_EQ(frames_read(&p.f), -EPIPE);
	frames_fini(&p.f);
}

TEST(a_message_that_is_too_long_is_refused_and_the_longest_is_not)
{
	struct pair p;
	char text[IN_MAX] = "x";
	uint8_t head[4];

	pair_init(&p);
	CHECK_EQ(frames_send(p.peer, text, IN_MAX, NULL, 0), 0);
	CHECK_EQ(frames_read(&p.f), 1);
	CHECK_EQ(pair_next(&p), 1);
	CHECK_EQ(p.len, IN_MAX);
	put_le32(head, IN_MAX + 1);
	CHECK_EQ(write(p.peer, head, 4), 4);
	CHECK_EQ(frames_read(&p.f), 1);
	CHECK_EQ(pair_next(&p), -EMSGSIZE);
	frames_fini(&p.f);
}

TEST(descriptors_come_with_their_own_message)
{
	struct pair p;
	struct stat a, b;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	pair_init(&p);
	CHECK_EQ(frames_send(p.peer, "one", 3, NULL, 0), 0);
	CHECK_EQ(frames_send(p.peer, "two", 3, &fd, 1), 0);
	CHECK_EQ(frames_send(p.peer, "three", 5, NULL, 0), 0);
	unsigned with = 0, n = 0;

	while (n < 3) {
		CHECK_EQ(frames_read(&p.f), 1);
		while (pair_next(&p) == 1) {
			if (p.n_fds) {
				with |= 1u << n;
				CHECK_EQ(fstat(p.fds[0], &a) | fstat(fd, &b), 0);
				CHECK_EQ(a.st_rdev, b.st_rdev);
				close(p.fds[0]);
			}
			n++;
		}
	}
	CHECK_EQ(with, 1 << 1);
	frames_fini(&p.f);
}

TEST(too_many_descriptors_are_refused_and_none_stays_open)
{
	struct pair p;
	int fds[FRAMES_FDS_MAX], r = 1, lowest = open("/dev/null", O_RDONLY);

	for (unsigned i = 0; i < FRAMES_FDS_MAX; i++)
		fds[i] = STDIN_FILENO;
	pair_init(&p);
	int expected = dup(lowest);     /* the first free number */
	close(expected);
	for (int i = 0; i < 3 && r >= 0; i++) {
		uint8_t head[4] = { 200 };      /* a message that never ends */

		CHECK_EQ(frames_send(p.peer, head, i ? 0 : 1, fds, FRAMES_FDS_MAX), 0);
		r = frames_read(&p.f);
	}
	/* The second set waits for a message that begins behind one that is whole: still beyond the bound. */
	CHECK_EQ(r, -EMFILE);
	frames_fini(&p.f);
	CHECK_EQ(dup(lowest), expected);
}

TEST(what_nobody_reads_has_a_bound)
{
	struct pair p;
	char text[1000] = "x", *got = NULL;
	int n = 0;
	size_t len;

	pair_init(&p);
	while (frames_queue(&p.f, text, sizeof(text)) == 0)
		n++;
	CHECK_EQ(n, OUT_MAX / 1004);
	CHECK_EQ(frames_flush(&p.f), 1);
	CHECK_EQ(frames_queue(&p.f, text, sizeof(text)), 0);
	CHECK_EQ(frames_receive(p.peer, 1000, &got, &len), 1);
	CHECK_EQ(len, 1000);
	free(got);
	CHECK_EQ(frames_receive(p.peer, 999, &got, &len), -EMSGSIZE);
	frames_fini(&p.f);
}

TEST(a_socket_gets_its_permissions_and_replaces_one_that_was_left_behind)
{
	char dir[] = "/tmp/viv-test-XXXXXX", path[64];
	struct err e = ERR_INIT;
	struct stat st;

	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	int fd = unixsock_listen(path, 0600, 1, &e);
	CHECK(fd >= 0 && !stat(path, &st));
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK_EQ(unixsock_listen(path, 0600, 1, &e), -EADDRINUSE);
	CHECK_HAS(e.msg, "another process does");
	close(fd);
	CHECK_EQ(unixsock_connect(path, &e), -ECONNREFUSED);
	CHECK_HAS(e.msg, "has ended");
	fd = unixsock_listen(path, 0600, 1, &e);
	CHECK(fd >= 0);
	CHECK(unixsock_connect(path, NULL) >= 0);
	unlink(path);
	rmdir(dir);
}
