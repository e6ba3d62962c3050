/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "util/err.h"
#include "util/loop.h"
#include "vm/console.h"

/* A guest that takes input while it has room. */
struct guest {
	uint8_t got[70000];
	size_t len, room;
	int writable, quit, connected, disconnected;
};

static size_t guest_input(void *arg, const uint8_t *buf, size_t len)
{
	struct guest *g = arg;
	size_t n = len < g->room ? len : g->room;

	memcpy(g->got + g->len, buf, n);
	g->len += n;
	g->room -= n;
	return n;
}

static void guest_writable(void *arg)
{
	((struct guest *)arg)->writable++;
}

static void guest_connected(void *arg, bool is_connected)
{
	struct guest *who = arg;

	who->connected += is_connected;
	who->disconnected += !is_connected;
}

static void guest_quit(void *arg)
{
	((struct guest *)arg)->quit++;
}

static struct loop *loop;
static struct guest g = { .room = 1000 };

static struct console *open_console(const char *target)
{
	struct console_config cfg = {
		.target = target, .guest = { guest_input, guest_writable, guest_connected, &g }, .quit = guest_quit, .quit_arg = &g, .fd = -1,
	};
	struct console *c = NULL;
	struct err e = ERR_INIT;

	CHECK_EQ(loop_new(&loop, NULL), 0);
	if (console_open(&c, loop, &cfg, &e) < 0)
		FAIL("%s", e.msg);
	return c;
}

static void turn(int rounds)
{
	for (int i = 0; i < rounds; i++)
		loop_run_once(loop, 20);
}

static void say(struct console *c, const char *text)
{
	CHECK_EQ(console_write(c, (const uint8_t *)text, strlen(text)), strlen(text));
}

TEST(pipes_carry_both_directions_and_the_end_of_input_is_no_end)
{
	int in[2], out[2];
	char buf[16] = "";

	CHECK(!pipe(in) && !pipe(out));
	int real_out = dup(1);
	dup2(in[0], 0);
	dup2(out[1], 1);
	struct console *c = open_console("stdio");
	CHECK(write(in[1], "a\001xb", 4) == 4);         /* no terminal: Ctrl-a is data */
	say(c, "out");
	turn(3);
	CHECK_EQ(g.len, 4);
	CHECK_EQ(g.quit, 0);
	CHECK_EQ(read(out[0], buf, sizeof(buf)), 3);
	close(in[1]);
	turn(3);
	say(c, "more");
	turn(3);
	CHECK_EQ(read(out[0], buf, sizeof(buf)), 4);
	console_close(c);
	loop_free(loop);
	dup2(real_out, 1);
}

TEST(input_waits_for_room_in_the_guest_and_nothing_is_lost)
{
	enum { TOTAL = 20000 };
	int in[2];
	static uint8_t data[TOTAL];

	for (int i = 0; i < TOTAL; i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	CHECK(!pipe(in));
	CHECK_EQ(write(in[1], data, TOTAL), TOTAL);
	dup2(in[0], 0);
	g.room = 0;
	struct console *c = open_console("stdio");
	turn(5);
	CHECK_EQ(g.len, 0);
	for (int i = 0; i < 4000 && g.len < TOTAL; i++) {
		g.room = 16;                            /* as a UART */
		console_kick_input(c);
		turn(1);
	}
	CHECK_EQ(g.len, TOTAL);
	CHECK_MEM(g.got, data, TOTAL);
	console_close(c);
	loop_free(loop);
}

TEST(a_file_as_input_is_read_as_the_guest_takes_it)
{
	FILE *f = tmpfile();

	CHECK(f && fputs("from a file", f) > 0 && !fflush(f));
	rewind(f);
	dup2(fileno(f), 0);
	struct console *c = open_console("stdio");
	console_kick_input(c);
	turn(2);
	CHECK_EQ(g.len, 11);
	console_close(c);
	loop_free(loop);
}

TEST(a_stuck_reader_costs_output_only_beyond_the_buffer)
{
	static uint8_t big[1 << 20];
	static char sink[1 << 16];
	size_t total = 0;
	int out[2];

	CHECK(!pipe(out));
	int real_out = dup(1);
	dup2(out[1], 1);
	dup2(open("/dev/null", O_RDONLY), 0);
	struct console *c = open_console("stdio");
	CHECK_EQ(console_write(c, big, sizeof(big)), sizeof(big));
	CHECK_EQ(console_write(c, big, 10), 0);
	turn(3);                                        /* the pipe takes what it can; nobody blocks */
	CHECK(console_write(c, big, 10) == 10);
	(void)fcntl(out[0], F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 2000 && total < sizeof(big) + 10; i++) {
		ssize_t n = read(out[0], sink, sizeof(sink));

		if (n > 0)
			total += (size_t)n;
		turn(1);
	}
	CHECK_EQ(total, sizeof(big) + 10);
	CHECK(g.writable > 0);
	console_close(c);
	loop_free(loop);
	dup2(real_out, 1);
}

TEST(escape_keys_work_on_a_terminal)
{
	int master, slave;
	char buf[300];

	CHECK_EQ(openpty(&master, &slave, NULL, NULL, NULL), 0);
	struct termios t;
	CHECK_EQ(tcgetattr(slave, &t), 0);
	cfmakeraw(&t);
	CHECK_EQ(tcsetattr(slave, TCSANOW, &t), 0);
	int real_out = dup(1);
	dup2(slave, 0);
	dup2(slave, 1);
	struct console *c = open_console("stdio");
	CHECK_EQ(write(master, "a\001ab\001\001c\001hd", 10), 10);
	turn(4);
	CHECK_EQ(g.len, 6);
	CHECK_MEM(g.got, "a\001b\001cd", 6);
	ssize_t n = read(master, buf, sizeof(buf) - 1);
	CHECK(n > 0);
	buf[n] = '\0';
	CHECK_HAS(buf, "end the machine");
	g.room = 0;                                     /* a guest that hangs must not keep the user */
	for (int i = 0; i < 6000; i += 100) {
		char many[100];

		memset(many, 'z', sizeof(many));
		CHECK_EQ(write(master, many, sizeof(many)), 100);
		turn(1);
	}
	CHECK_EQ(write(master, "\001x", 2), 2);
	turn(3);
	CHECK_EQ(g.quit, 1);
	console_close(c);
	loop_free(loop);
	dup2(real_out, 1);
}

static int dial(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

TEST(a_socket_serves_one_client_after_the_other)
{
	char dir[] = "/tmp/viv-console-XXXXXX", target[64], buf[16];

	CHECK(mkdtemp(dir) != NULL);
	snprintf(target, sizeof(target), "socket:%s/s", dir);
	struct console *c = open_console(target);
	CHECK_EQ(g.disconnected, 1);
	say(c, "to nobody");
	turn(2);
	for (int i = 0; i < 2; i++) {
		int fd = dial(target + 7);

		turn(2);
		CHECK_EQ(g.connected, i + 1);
		CHECK_EQ(write(fd, "hi", 2), 2);
		say(c, "yes");
		turn(3);
		CHECK_EQ(read(fd, buf, sizeof(buf)), 3);
		close(fd);
		turn(3);
		CHECK_EQ(g.disconnected, i + 2);
	}
	CHECK_EQ(g.len, 4);
	console_close(c);
	CHECK(access(target + 7, F_OK) < 0);
	loop_free(loop);
	rmdir(dir);
}

TEST(a_socket_that_somebody_serves_is_refused_and_a_forgotten_one_replaced)
{
	char dir[] = "/tmp/viv-console-XXXXXX", target[64];
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct err err = ERR_INIT;
	struct console *other = NULL;

	CHECK(mkdtemp(dir) != NULL);
	snprintf(target, sizeof(target), "socket:%s/s", dir);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", target + 7);
	int forgotten = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_EQ(bind(forgotten, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(forgotten);

	struct console *c = open_console(target);
	struct console_config cfg = { .target = target, .fd = -1 };
	CHECK_EQ(console_open(&other, loop, &cfg, &err), -EADDRINUSE);
	CHECK_HAS(err.msg, "another process");
	int fd = dial(target + 7);      /* the first one still listens */
	close(fd);
	console_close(c);
	loop_free(loop);
	rmdir(dir);
}

TEST(a_file_gets_the_output_and_all_of_it_at_the_end)
{
	char name[] = "/tmp/viv-console-XXXXXX", target[64], buf[16];
	int fd = mkstemp(name);

	snprintf(target, sizeof(target), "file:%s", name);
	struct console *c = open_console(target);
	say(c, "all of it");
	console_close(c);                               /* without a turn of the loop */
	CHECK_EQ(read(fd, buf, sizeof(buf)), 9);
	unlink(name);
	loop_free(loop);
}

static void file_is(const char *path, const char *text)
{
	char got[64] = "";
	FILE *f = fopen(path, "r");

	CHECK(f);
	CHECK_EQ(fread(got, 1, sizeof(got) - 1, f), strlen(text));
	fclose(f);
	CHECK_STR(got, text);
}

TEST(a_file_is_emptied_when_the_machine_starts_and_not_when_it_is_opened)
{
	char path[] = "/tmp/viv-test-XXXXXX", target[64];
	int fd = mkstemp(path);

	CHECK_EQ(write(fd, "before", 6), 6);
	snprintf(target, sizeof(target), "file:%s", path);
	console_close(open_console(target));
	loop_free(loop);
	file_is(path, "before");
	struct console *c = open_console(target);
	console_start(c, true);
	say(c, "+more");
	console_close(c);
	loop_free(loop);
	file_is(path, "before+more");
	c = open_console(target);
	console_start(c, false);
	say(c, "new");
	console_start(c, false);        /* goes on after a pause */
	console_close(c);
	loop_free(loop);
	file_is(path, "new");
	unlink(path);
}
