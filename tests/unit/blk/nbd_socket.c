/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs whose target is an NBD server at the other end of a socket: a good one (ours), and those that are none. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "blk/nbd_server.h"
#include "blk/nbd_socket.h"
#include "blk/proto/dial.h"
#include "job_rig.h"

static const char address[] = "nbd+unix:///disk?socket=/nowhere";

struct served {
	struct blk *blk;
	struct nbd_server *server;
	int fd;                 /* the job's end */
};

/* A raw disk of SIZE bytes that are not zero, in the file "target". */
static void serve(struct served *s, struct rig *r, uint64_t size, bool is_readonly)
{
	struct err e = ERR_INIT;
	uint8_t old[4096];
	int fd = open(rig_path(r, "target"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), sv[2];

	memset(old, 0xa5, sizeof(old));
	for (uint64_t at = 0; at < size; at += sizeof(old))
		CHECK(pwrite(fd, old, size - at < sizeof(old) ? size - at : sizeof(old), (off_t)at) > 0);
	close(fd);
	struct blk_options o = { .path = rig_path(r, "target"), .fd = -1, .format = "raw", .is_readonly = is_readonly };

	CHECK_EQ(blk_open(&s->blk, r->loop, &o, &e), 0);
	struct nbd_server_config c = { .loop = r->loop, .blk = s->blk, .name = "disk", .is_readonly = is_readonly };
	char where[100];

	snprintf(where, sizeof(where), "unix:%s", rig_path(r, "nbd"));
	c.address = where;
	CHECK_EQ(nbd_server_open(&s->server, &c, &e), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	CHECK_EQ(nbd_server_add(s->server, sv[1], &e), 0);
	s->fd = sv[0];
}

static void serve_end(struct served *s)
{
	nbd_server_close(s->server);
	blk_close(s->blk);
	s->server = NULL;
	s->blk = NULL;
}

static struct blk_job_args job(struct rig *r, const char *kind, int fd)
{
	return (struct blk_job_args){
		.kind = kind, .id = "n", .front = r->front, .overlay.fd = -1, .keeps_source = true,
		.target = { .fd = fd, .path = address, .format = "raw", .is_socket = true },
	};
}

static void rig_begin(struct rig *r, uint64_t seed)
{
	rig_init(r, seed);
	rig_add_image(r, "base", "qcow2", NULL, 300);
	rig_add_image(r, "top", "qcow2", "base", 300);
	rig_open(r, NULL);
}

static void rig_end(struct rig *r)
{
	rig_settle(r);
	rig_verify(r);
	rig_close(r);
	rig_fini(r);
}

TEST(a_mirror_to_a_server_has_the_disk_of_its_end)
{
	struct served s;
	struct rig r;

	for (int i = 0; i < 2; i++) {
		rig_begin(&r, 900 + (uint64_t)i);
		serve(&s, &r, RIG_SIZE, false);
		struct blk_job_args a = job(&r, "mirror", s.fd);

		a.stays_ready = true;
		a.mode = i ? BLK_MODE_BLOCKING : BLK_MODE_BACKGROUND;
		a.speed = 20 << 20;
		rig_start(&r, &a, 1);
		close(s.fd);
		if (!i)
			rig_settle(&r);
		rig_until(&r, &r.n_ready, 1, i ? 200 : 0);
		rig_settle(&r);
		/* It was said that it stays: it does, whoever completes it. */
		CHECK_EQ(blk_job_complete(blk_job_find(&r.jobs, "n", NULL), false, NULL), 0);
		rig_until(&r, &r.n_completed, 1, 0);
		CHECK_STR(blk_name(r.front), rig_path(&r, "top"));
		serve_end(&s);
		rig_verify_image(&r, "target", "raw", true);
		rig_end(&r);
	}
}

TEST(a_backup_to_a_server_has_the_disk_of_its_beginning)
{
	struct served s;
	struct rig r;

	for (int i = 0; i < 2; i++) {
		bool is_at_rest = i;

		rig_begin(&r, 910 + (uint64_t)i);
		serve(&s, &r, RIG_SIZE + (is_at_rest ? 0 : 8192), false);
		struct blk_job_args a = job(&r, "backup", s.fd);

		a.speed = 20 << 20;
		if (is_at_rest)
			rig_settle(&r);
		rig_start(&r, &a, 1);
		close(s.fd);
		rig_until(&r, &r.n_completed, 1, is_at_rest ? 0 : 100);
		rig_settle(&r);
		serve_end(&s);
		if (is_at_rest)
			rig_verify_image(&r, "target", "raw", true);
		rig_end(&r);
	}
}

TEST(a_server_that_goes_away_fails_the_job_and_not_the_guest)
{
	static const struct { const char *kind; enum blk_job_mode mode; } kinds[] = {
		{ "mirror", BLK_MODE_BACKGROUND }, { "mirror", BLK_MODE_BLOCKING }, { "backup", 0 },
	};
	struct served s;
	struct rig r;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		rig_begin(&r, 920 + i);
		serve(&s, &r, RIG_SIZE, false);
		struct blk_job_args a = job(&r, kinds[i].kind, s.fd);

		a.mode = kinds[i].mode;
		a.speed = 2 << 20;
		rig_start(&r, &a, 1);
		close(s.fd);
		for (unsigned k = 0; k < 50; k++)
			rig_turn(&r);
		serve_end(&s);
		rig_until(&r, &r.n_failed, 1, 100);
		CHECK_HAS(r.why, address);
		CHECK_STR(blk_name(r.front), rig_path(&r, "top"));
		rig_end(&r);
	}
}

TEST(a_job_that_is_cancelled_lets_go_of_the_server)
{
	struct served s;
	struct rig r;

	rig_begin(&r, 930);
	serve(&s, &r, RIG_SIZE, false);
	struct blk_job_args a = job(&r, "mirror", s.fd);

	a.speed = 1 << 20;
	rig_start(&r, &a, 1);
	close(s.fd);
	blk_job_cancel(blk_job_find(&r.jobs, "n", NULL));
	rig_until(&r, &r.n_cancelled, 1, 20);
	for (unsigned i = 0; i < 100 && nbd_server_clients(s.server); i++)
		rig_turn(&r);
	CHECK_EQ(nbd_server_clients(s.server), 0);
	serve_end(&s);
	rig_end(&r);
}

static void refused(struct rig *r, uint64_t size, bool is_readonly, const struct blk_job_args *like, const char *says)
{
	struct blk_job_args a = *like;
	struct served s;

	serve(&s, r, size, is_readonly);
	a.target.fd = s.fd;
	CHECK_HAS(rig_start_fails(r, &a), says);
	close(s.fd);
	serve_end(&s);
}

TEST(what_cannot_be_a_target_is_refused)
{
	struct rig r;

	rig_begin(&r, 940);
	struct blk_job_args mirror = job(&r, "mirror", -1), backup = job(&r, "backup", -1), a = mirror;

	refused(&r, RIG_SIZE - 512, false, &mirror, "a mirror needs the same");
	refused(&r, RIG_SIZE + 512, false, &mirror, "a mirror needs the same");
	refused(&r, RIG_SIZE - 512, false, &backup, "and the disk");
	refused(&r, RIG_SIZE, true, &mirror, "for reading only");
	a.target.path = "nbd://host/other";
	refused(&r, RIG_SIZE, false, &a, "no such export");
	a.target.path = address;
	a.keeps_source = false;
	refused(&r, RIG_SIZE, false, &a, "cannot change over");
	a.kind = "overlay";
	refused(&r, RIG_SIZE, false, &a, "only a backup and a mirror");
	rig_end(&r);
}

TEST(addresses_that_cannot_be_handed_over_are_named)
{
	static const struct { const char *address, *says; } bad[] = {
		{ "nbds://host/x", "TLS" },
		{ "https://host/x.img", "only be read" },
		{ "iscsi://host/iqn.2001-04.com.example/0", "viv disk serve" },
		{ "nbd://host/x#reconnect=3", "no options" },
		{ "/dev/null", "'/dev/null'" },
	};
	struct err e = ERR_INIT;

	CHECK_EQ(blk_nbd_socket_check("nbd://host:1234/x", &e), 0);
	CHECK_EQ(blk_nbd_socket_check(address, &e), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		e = (struct err)ERR_INIT;
		CHECK(blk_nbd_socket_check(bad[i].address, &e) < 0);
		CHECK_HAS(e.msg, bad[i].says);
	}
}

/* --- the disk is there from then on --------------------------------------------------------------- */

/* A server of the file "target" in a process of its own, which can be killed; it is listening. */
static pid_t serve_apart(struct rig *r)
{
	const char *path = rig_path(r, "nbd");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	pid_t pid;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unlink(path);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		struct blk_options o = { .path = rig_path(r, "target"), .fd = -1, .format = "raw" };
		struct nbd_server_config c = { .name = "disk" };
		struct nbd_server *server;
		char where[100];

		snprintf(where, sizeof(where), "unix:%s", path);
		c.address = where;
		if (loop_new(&c.loop, NULL) < 0 || blk_open(&c.blk, c.loop, &o, NULL) < 0 ||
		    nbd_server_open(&server, &c, NULL) < 0)
			_exit(1);
		loop_run(c.loop);
		_exit(0);
	}
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	for (int i = 0; connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0; i++) {
		CHECK(i < 3000);
		usleep(10000);
	}
	close(fd);
	return pid;
}

static void serve_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

static struct blk_job_args job_by_dialer(struct rig *r)
{
	struct err e = ERR_INIT;
	struct blk_dialer *d = NULL;

	CHECK_EQ(blk_dialer_new(&d, &(struct blk_dial){ .path = rig_path(r, "nbd") }, &e), 0);
	struct blk_job_args a = job(r, "mirror", blk_dialer_part(d));

	a.keeps_source = false;
	return a;
}

static void make_target(struct rig *r)
{
	int fd = open(rig_path(r, "target"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK_EQ(ftruncate(fd, RIG_SIZE), 0);
	close(fd);
}

TEST(a_disk_that_moved_to_a_server_outlives_its_connections)
{
	struct rig r;

	rig_begin(&r, 950);
	make_target(&r);
	pid_t server = serve_apart(&r);
	struct blk_job_args a = job_by_dialer(&r);

	rig_start(&r, &a, 1);
	close(a.target.fd);
	rig_until(&r, &r.n_completed, 1, 100);
	CHECK_STR(blk_name(r.front), address);
	for (int i = 0; i < 3; i++) {
		rig_until(&r, &r.n_completed, 1, 100);
		serve_kill(server);
		for (int k = 0; k < 20; k++)
			rig_turn(&r);
		server = serve_apart(&r);
		rig_until(&r, &r.n_completed, 1, 100);
	}
	rig_settle(&r);
	rig_close(&r);
	serve_kill(server);
	rig_verify_image(&r, "target", "raw", true);
	rig_fini(&r);
}

/* A disk that is on its way to a server, slowly. */
static pid_t begin_to_move(struct rig *r, unsigned seed)
{
	rig_begin(r, seed);
	make_target(r);
	pid_t server = serve_apart(r);
	struct blk_job_args a = job_by_dialer(r);

	a.speed = 1 << 20;
	rig_start(r, &a, 1);
	close(a.target.fd);
	rig_until(r, &r->n_progress, 1, 20);
	return server;
}

TEST(a_server_that_is_lost_before_leaves_the_disk_where_it_is)
{
	struct rig r;
	pid_t server = begin_to_move(&r, 951);

	serve_kill(server);
	rig_until(&r, &r.n_failed, 1, 20);
	CHECK_HAS(r.why, "cannot bring the disk to");
	CHECK_STR(blk_name(r.front), rig_path(&r, "top"));
	rig_end(&r);
}

TEST(the_end_of_a_machine_does_not_wait_for_a_server_that_was_dialed)
{
	struct rig r;
	pid_t server = begin_to_move(&r, 952);

	kill(server, SIGSTOP);
	uint64_t begin = loop_now_ns();

	rig_end(&r);
	CHECK(loop_now_ns() - begin < NBD_SOCKET_SILENCE_S * 1000000000ull / 2);
	serve_kill(server);
}

/* --- servers that are none ------------------------------------------------------------------------ */

#define HELLO "NBDMAGICIHAVEOPT\0\3"
#define REPLY "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7"
#define EXPORT REPLY "\0\0\0\3\0\0\0\14" "\0\0" "\0\0\0\0\0\x60\0\0" "\0\1"     /* RIG_SIZE bytes */
#define ACK REPLY "\0\0\0\1\0\0\0\0"

static int fake(const char *bytes, size_t len, int *other)
{
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	CHECK_EQ(write(sv[1], bytes, len), (ssize_t)len);
	*other = sv[1];
	return sv[0];
}

TEST(a_handshake_that_makes_no_sense_is_refused)
{
#define SAYS(bytes_, says_) { bytes_, sizeof(bytes_) - 1, says_ }
	static const struct { const char *bytes; size_t len; const char *says; } bad[] = {
		SAYS("HTTP/1.1 400 Bad Request", "does not speak NBD"),
		SAYS("NBDMAGIC\0\0\x42\2\x81\x86\x12\x53\0\3", "does not speak NBD"),
		SAYS("NBDMAGICIHAVEOPT\0\2", "does not speak NBD"),
		SAYS("NBDMAGIC", "reset"),
		SAYS(HELLO, "reset"),
		SAYS(HELLO "\0\3\xe8\x89\4\x55\x65\xa8\0\0\0\7\0\0\0\1\0\0\0\0", "does not speak NBD"),
		SAYS(HELLO REPLY "\0\0\0\3\x7f\0\0\0", "does not speak NBD"),
		SAYS(HELLO ACK, "does not speak NBD"),
		SAYS(HELLO REPLY "\0\0\0\3\0\0\0\1" "\0", "does not speak NBD"),
		SAYS(HELLO REPLY "\0\0\0\3\0\0\0\4" "\0\0\0\0", "does not speak NBD"),
		SAYS(HELLO REPLY "\0\0\0\3\0\0\0\14" "\0\0" "\x80\0\0\0\0\0\0\0" "\0\1", "no size of a disk"),
		SAYS(HELLO REPLY "\0\0\0\3\0\0\0\14" "\0\0" "\0\0\0\0\0\0\0\7" "\0\1", "no size of a disk"),
		SAYS(HELLO REPLY "\0\0\0\3\0\0\0\16" "\0\3" "\0\0\0\0\0\0\x10\0\0\x10\0\0", "wants blocks"),
		SAYS(HELLO REPLY "\0\0\0\3\0\0\0\16" "\0\3" "\0\1\0\0\0\0\x10\0\0\0\x10\0", "wants blocks"),
		SAYS(HELLO REPLY "\x80\0\0\1\0\0\0\3" "a\33b", "refuses: a?b"),
		SAYS(HELLO REPLY "\x80\0\0\5\0\0\0\0", "wants TLS"),
		SAYS(HELLO REPLY "\x80\0\0\6\0\0\0\0", "no such export"),
	};
#undef SAYS
	struct rig r;
	int other;

	rig_begin(&r, 950);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct blk_job_args a = job(&r, "backup", fake(bad[i].bytes, bad[i].len, &other));

		CHECK_EQ(shutdown(other, SHUT_WR), 0);
		CHECK_HAS(rig_start_fails(&r, &a), bad[i].says);
		close(a.target.fd);
		close(other);
	}
	rig_end(&r);
}

TEST(replies_that_make_no_sense_fail_the_job)
{
#define BEGIN HELLO EXPORT ACK
	static const struct { const char *bytes; size_t len; const char *says; } bad[] = {
		{ BEGIN "\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x63", sizeof(BEGIN) + 15, "Protocol error" },
		{ BEGIN "\x66\x8e\x33\xef\0\0\0\0\0\0\0\0\0\0\0\1", sizeof(BEGIN) + 15, "Protocol error" },
		{ BEGIN "\x67\x44", sizeof(BEGIN) + 1, "reset" },
	};
	struct rig r;
	int other;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_begin(&r, 960 + i);
		struct blk_job_args a = job(&r, "mirror", fake(bad[i].bytes, bad[i].len, &other));

		CHECK_EQ(shutdown(other, SHUT_WR), 0);
		rig_start(&r, &a, 1);
		close(a.target.fd);
		rig_until(&r, &r.n_failed, 1, 20);
		CHECK_HAS(r.why, bad[i].says);
		close(other);
		rig_end(&r);
	}
}

/* The end of the machine does not wait for it, in the handshake or later. */
TEST(a_server_that_says_nothing_holds_nobody_up)
{
	struct rig r;
	int other;

	rig_begin(&r, 970);
	struct blk_job_args a = job(&r, "mirror", fake(BEGIN, sizeof(BEGIN) - 1, &other));

	rig_settle(&r);
	rig_start(&r, &a, 1);
	close(a.target.fd);
	for (unsigned i = 0; i < 50; i++)
		rig_turn(&r);
	rig_end(&r);
	close(other);
}

static void never_started(void *arg, const struct err *err)
{
	FAIL("%s", err ? err->msg : "it has begun");
}

TEST(a_server_that_does_not_greet_holds_nobody_up)
{
	struct err e = ERR_INIT;
	struct rig r;
	int other;

	rig_begin(&r, 971);
	struct blk_job_args a = job(&r, "mirror", fake("NBD", 3, &other));

	rig_settle(&r);
	CHECK_EQ(blk_jobs_start(&r.jobs, &a, 1, never_started, NULL, &e), 0);
	close(a.target.fd);
	rig_end(&r);
	close(other);
}
