/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hlt_machine.h"
#include "util/endian.h"
#include "util/frames.h"
#include "util/loop.h"
#include "vm/control_priv.h"
#include "vm/machine_priv.h"

struct rig {
	struct hlt_machine h;
	struct control *control;
};

static void rig_init(struct rig *r)
{
	struct err e = ERR_INIT;

	hlt_machine_init(&r->h);
	hlt_machine_build(&r->h);
	struct control_config cc = { .loop = r->h.loop, .cfg = &r->h.cfg };
	CHECK_EQ(control_open(&r->control, &cc, &e), 0);
	CHECK_EQ(control_serve(r->control, r->h.m, &e), 0);
	machine_start(r->h.m);
}

static void rig_fini(struct rig *r)
{
	machine_stop(r->h.m);
	control_close(r->control);
	hlt_machine_fini(&r->h);
}

static int rig_connect(struct rig *r)
{
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	if (control_add_client(r->control, sv[1], NULL) < 0) {
		close(sv[0]);
		return -1;
	}
	return sv[0];
}

static bool has_input(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* The next message to the client FD; NULL: closed. */
static json_t *rig_receive(struct rig *r, int fd)
{
	char *text = NULL;
	size_t len;

	hlt_machine_run_until(&r->h, has_input, &fd);
	int rc = frames_receive(fd, 1 << 20, &text, &len);
	json_t *doc = rc > 0 ? json_loadb(text, len, 0, NULL) : NULL;

	free(text);
	return doc;
}

/* Send TEXT; the answer's error sentence, "" for none. */
static const char *rig_ask(struct rig *r, int fd, const char *text)
{
	static char message[600];

	CHECK_EQ(frames_send(fd, text, strlen(text), NULL, 0), 0);
	json_t *doc = rig_receive(r, fd);
	CHECK(doc);
	json_t *error = json_object_get(doc, "error");

	snprintf(message, sizeof(message), "%s", error ? json_string_value(json_object_get(error, "message")) : "");
	if (!error)
		CHECK(json_is_object(json_object_get(doc, "result")));
	json_decref(doc);
	return message;
}

TEST(pause_and_resume_are_answered_and_told_to_those_who_listen)
{
	struct rig r;

	rig_init(&r);
	int a = rig_connect(&r), b = rig_connect(&r);

	CHECK_STR(rig_ask(&r, b, "{\"request\":\"events\"}"), "");
	CHECK_STR(rig_ask(&r, a, "{\"request\":\"pause\"}"), "");
	CHECK_EQ(machine_get_state(r.h.m), MACHINE_PAUSED);
	CHECK_STR(rig_ask(&r, a, "{\"request\":\"pause\"}"), "");
	CHECK_STR(rig_ask(&r, a, "{\"request\":\"resume\"}"), "");
	CHECK_EQ(machine_get_state(r.h.m), MACHINE_RUNNING);
	static const char *const want[] = { "paused", "resumed" };
	for (int i = 0; i < 2; i++) {
		json_t *e = rig_receive(&r, b);

		CHECK_STR(json_string_value(json_object_get(e, "event")), want[i]);
		json_decref(e);
	}
	CHECK_STR(rig_ask(&r, b, "{\"request\":\"events\",\"params\":{\"on\":false}}"), "");
	CHECK_STR(rig_ask(&r, a, "{\"request\":\"quit\"}"), "");
	CHECK(!has_input(&b));
	close(a);
	close(b);
	rig_fini(&r);
}

TEST(an_answer_carries_the_id_of_its_request)
{
	struct rig r;

	rig_init(&r);
	int a = rig_connect(&r);

	for (int i = 0; i < 2; i++) {
		const char *text = i ? "{\"id\":\"x\",\"request\":\"nonsense\"}" : "{\"id\":42,\"request\":\"info\"}";

		CHECK_EQ(frames_send(a, text, strlen(text), NULL, 0), 0);
	}
	json_t *doc = rig_receive(&r, a);
	CHECK_EQ(json_integer_value(json_object_get(doc, "id")), 42);
	CHECK_STR(json_string_value(json_object_get(json_object_get(doc, "result"), "state")), "running");
	json_decref(doc);
	doc = rig_receive(&r, a);
	CHECK_STR(json_string_value(json_object_get(doc, "id")), "x");
	CHECK_STR(json_string_value(json_object_get(json_object_get(doc, "error"), "code")), "EOPNOTSUPP");
	json_decref(doc);
	close(a);
	rig_fini(&r);
}

TEST(what_is_no_request_is_refused_with_a_sentence)
{
	static const struct { const char *text, *says; } bad[] = {
		{ "", "must be a JSON object" },
		{ "[1]", "must be a JSON object" },
		{ "{\"request\":1}", "request: must be a string" },
		{ "{\"request\":\"pauze\"}", "did you mean 'pause'?" },
		{ "{\"request\":\"frobnicate\"}", "unknown request 'frobnicate'" },
		{ "{\"request\":\"info\",\"request\":\"quit\"}", "must be a JSON object" },
		{ "{\"request\":\"info\",\"extra\":1}", "no key 'extra'" },
		{ "{\"request\":\"info\",\"id\":null}", "id: must be" },
		{ "{\"request\":\"info\",\"params\":[]}", "params: must be an object" },
		{ "{\"request\":\"info\",\"params\":{\"x\":1}}", "'info' has no parameter 'x'" },
		{ "{\"request\":\"events\",\"params\":{\"on\":1}}", "on: must be true or false" },
	};
	struct rig r;

	rig_init(&r);
	int a = rig_connect(&r);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_HAS(rig_ask(&r, a, bad[i].text), bad[i].says);
	close(a);
	rig_fini(&r);
}

TEST(descriptors_that_a_request_does_not_take_are_refused_and_closed)
{
	static const char text[] = "{\"request\":\"info\"}";
	struct rig r;
	int pipe_fds[2];
	char c;

	rig_init(&r);
	int a = rig_connect(&r);

	CHECK_EQ(pipe(pipe_fds), 0);
	CHECK_EQ(frames_send(a, text, sizeof(text) - 1, &pipe_fds[1], 1), 0);
	close(pipe_fds[1]);
	json_t *doc = rig_receive(&r, a);
	CHECK_HAS(json_string_value(json_object_get(json_object_get(doc, "error"), "message")), "takes 0 descriptors, not 1");
	json_decref(doc);
	CHECK_EQ(read(pipe_fds[0], &c, 1), 0);  /* nobody holds the other end */
	close(a);
	rig_fini(&r);
}

TEST(a_passphrase_comes_from_a_regular_file_and_nobody_waits_for_it)
{
	static const char text[] = "{\"request\":\"save\",\"params\":{\"packing\":\"lz4\"}}";
	static const char *const says[] = { "key-file: must be a regular file", "there is no passphrase in it", NULL };
	int pipe_fds[2], file = memfd_create("state", MFD_CLOEXEC), key = memfd_create("key", MFD_CLOEXEC);
	struct rig r;

	rig_init(&r);
	CHECK_EQ(pipe(pipe_fds), 0);
	int a = rig_connect(&r);
	for (int i = 0; i < 3; i++) {
		int fds[] = { file, i ? key : pipe_fds[0] };

		if (i == 2)
			CHECK_EQ(pwrite(key, "correct horse", 13, 0), 13);
		CHECK_EQ(frames_send(a, text, sizeof(text) - 1, fds, 2), 0);
		json_t *doc = rig_receive(&r, a), *error = json_object_get(doc, "error");
		CHECK_EQ(!says[i], !error);
		if (error)
			CHECK_HAS(json_string_value(json_object_get(error, "message")), says[i]);
		json_decref(doc);
	}
	char magic[12] = "";
	CHECK_EQ(pread(file, magic, sizeof(magic), 0), sizeof(magic));
	CHECK_MEM(magic, "VIVSTATE\2\0\0", sizeof(magic));
	close(a);
	rig_fini(&r);
}

TEST(a_client_that_does_not_read_is_dropped_and_the_others_are_served)
{
	static const char text[] = "{\"request\":\"describe\"}";
	struct rig r;
	int small = 4096;

	rig_init(&r);
	int slow = rig_connect(&r), good = rig_connect(&r);

	CHECK_EQ(setsockopt(slow, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	CHECK_STR(rig_ask(&r, slow, "{\"request\":\"events\"}"), "");
	/* Its own requests wait for it to read: only events can fill its buffer. */
	CHECK_EQ(frames_send(slow, text, sizeof(text) - 1, NULL, 0), 0);
	for (int i = 0; i < 20000; i++) {
		machine_hold(r.h.m, MACHINE_HOLD_USER);
		machine_release(r.h.m, MACHINE_HOLD_USER);
	}
	CHECK_STR(rig_ask(&r, good, "{\"request\":\"pause\"}"), "");
	for (ssize_t n = 1; n > 0;) {
		static char buf[65536];

		n = recv(slow, buf, sizeof(buf), MSG_DONTWAIT);
		CHECK(n >= 0 || errno == ECONNRESET);   /* its end has been closed */
	}
	close(slow);
	close(good);
	rig_fini(&r);
}

TEST(a_request_that_is_too_long_ends_the_connection)
{
	uint8_t head[4];
	struct rig r;

	rig_init(&r);
	int a = rig_connect(&r), b = rig_connect(&r);

	put_le32(head, CONTROL_REQUEST_MAX + 1);
	CHECK_EQ(write(a, head, 4), 4);
	CHECK(!rig_receive(&r, a));
	CHECK_STR(rig_ask(&r, b, "{\"request\":\"info\"}"), "");
	close(a);
	close(b);
	rig_fini(&r);
}

TEST(there_is_room_for_sixteen_clients_and_again_when_one_goes)
{
	char told[256];
	struct rig r;
	int fd[17], sv[2];
	ssize_t n;

	rig_init(&r);
	for (int i = 0; i < 16; i++)
		CHECK((fd[i] = rig_connect(&r)) >= 0);
	CHECK_EQ(rig_connect(&r), -1);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	CHECK_EQ(control_add_client(r.control, sv[1], NULL), -EAGAIN);
	n = read(sv[0], told, sizeof(told) - 1);
	CHECK(n > 4);
	told[n] = '\0';
	CHECK(strstr(told + 4, "\"EAGAIN\"") && strstr(told + 4, "16 clients already"));
	close(sv[0]);
	close(fd[3]);
	for (int i = 0; i < 5; i++)
		CHECK(loop_run_once(r.h.loop, 10) >= 0);
	CHECK((fd[3] = rig_connect(&r)) >= 0);
	CHECK_STR(rig_ask(&r, fd[3], "{\"request\":\"stats\"}"), "");
	for (int i = 0; i < 16; i++)
		close(fd[i]);
	rig_fini(&r);
}

TEST(every_request_says_when_it_is_possible)
{
	const struct control_request *row;
	json_t *params = NULL;
	struct err e = ERR_INIT;
	json_t *doc = json_pack("{s:s}", "request", "pause");

	CHECK_EQ(control_check(doc, MACHINE_ENDED, 0, &row, &params, &e), -EBUSY);
	CHECK_HAS(e.msg, "'pause' is not possible while the machine is ended");
	CHECK_EQ(control_check(doc, MACHINE_RESETTING, 0, &row, &params, &e), 0);
	json_decref(params);
	json_decref(doc);
}

/* --- the line: a save that lasts as long as the test wants --- */

#define SET_VCPUS "{\"id\":1,\"request\":\"set\",\"params\":{\"setting\":\"vcpus=1\"}}"
#define SET_LIMIT "{\"id\":2,\"request\":\"set\",\"params\":{\"setting\":\"cpu-limit=1\"}}"

static void line_begin(struct rig *r)
{
	rig_init(r);
	r->h.m->save = (struct save *)r; /* nobody looks into it */
}

static void line_end(struct rig *r)
{
	r->h.m->save = NULL;
	machine_tell_ready(r->h.m);
}

static void rig_send(int fd, const char *text)
{
	CHECK_EQ(frames_send(fd, text, strlen(text), NULL, 0), 0);
}

/* The next answer is to ID; its error's code, "" for none. */
static const char *rig_code(struct rig *r, int fd, int id)
{
	static char code[40];
	json_t *doc = rig_receive(r, fd), *error = json_object_get(doc, "error");

	CHECK_EQ(json_integer_value(json_object_get(doc, "id")), id);
	snprintf(code, sizeof(code), "%s", error ? json_string_value(json_object_get(error, "code")) : "");
	json_decref(doc);
	return code;
}

/* How many wait, as a client of its own is told; the number of the first. */
static size_t rig_waiting(struct rig *r, int fd, json_int_t *first)
{
	rig_send(fd, "{\"request\":\"waiting\"}");
	json_t *doc = rig_receive(r, fd), *list = json_object_get(json_object_get(doc, "result"), "waiting"), *one = json_array_get(list, 0);
	size_t n = json_array_size(list);

	if (first)
		*first = json_integer_value(json_object_get(one, "number"));
	if (n)
		CHECK_STR(json_string_value(json_object_get(one, "for")), "a save");
	json_decref(doc);
	return n;
}

TEST(a_request_that_would_change_a_machine_being_saved_waits_and_others_overtake_it)
{
	struct rig r;

	line_begin(&r);
	int a = rig_connect(&r), b = rig_connect(&r);

	CHECK_STR(rig_ask(&r, b, "{\"request\":\"events\"}"), "");
	rig_send(a, SET_VCPUS);
	rig_send(a, SET_LIMIT);         /* a save does not mind */
	CHECK_STR(rig_code(&r, a, 2), "");
	json_t *e = rig_receive(&r, b);
	CHECK_STR(json_string_value(json_object_get(e, "event")), "waiting");
	CHECK_STR(json_string_value(json_object_get(e, "request")), "set");
	json_decref(e);
	CHECK_EQ(rig_waiting(&r, a, NULL), 1);
	CHECK(!has_input(&a));
	line_end(&r);
	CHECK_STR(rig_code(&r, a, 1), "");
	CHECK_EQ(rig_waiting(&r, a, NULL), 0);
	close(a);
	close(b);
	rig_fini(&r);
}

TEST(one_in_line_is_cancelled_by_its_number_and_when_its_client_goes)
{
	struct rig r;
	char text[100];
	json_int_t first;

	line_begin(&r);
	int a = rig_connect(&r), b = rig_connect(&r), c = rig_connect(&r);

	rig_send(a, SET_VCPUS);
	CHECK_EQ(rig_waiting(&r, a, &first), 1);
	rig_send(b, SET_VCPUS);
	CHECK_EQ(rig_waiting(&r, b, NULL), 2);
	CHECK_HAS(rig_ask(&r, c, "{\"request\":\"waiting-cancel\",\"params\":{\"number\":77}}"), "no request 77 waits");
	snprintf(text, sizeof(text), "{\"request\":\"waiting-cancel\",\"params\":{\"number\":%d}}", (int)first);
	CHECK_STR(rig_ask(&r, c, text), "");
	CHECK_STR(rig_code(&r, a, 1), "ECANCELED");
	CHECK_EQ(rig_waiting(&r, c, NULL), 1);
	close(b);
	for (int i = 0; rig_waiting(&r, c, NULL); i++)
		CHECK(i < 1000);
	close(a);
	close(c);
	line_end(&r);
	rig_fini(&r);
}

TEST(the_line_has_a_bound_and_is_done_in_its_order)
{
	struct rig r;
	char text[100];

	line_begin(&r);
	int a = rig_connect(&r);

	for (int i = 0; i <= CONTROL_WAITING_MAX; i++) {
		snprintf(text, sizeof(text), "{\"id\":%d,\"request\":\"set\",\"params\":{\"setting\":\"vcpus=%d\"}}", i, 1 + (i == 3));
		rig_send(a, text);
	}
	CHECK_STR(rig_code(&r, a, CONTROL_WAITING_MAX), "EBUSY");
	line_end(&r);
	for (int i = 0; i < CONTROL_WAITING_MAX; i++)
		CHECK_STR(rig_code(&r, a, i), i == 3 ? "EINVAL" : "");
	CHECK_EQ(rig_waiting(&r, a, NULL), 0);
	close(a);
	rig_fini(&r);
}

TEST(those_in_line_are_told_that_the_machine_goes_on_elsewhere)
{
	for (int has_moved = 0; has_moved < 2; has_moved++) {
		struct rig r;

		line_begin(&r);
		int a = rig_connect(&r);

		rig_send(a, SET_VCPUS);
		CHECK_EQ(rig_waiting(&r, a, NULL), 1);
		r.h.m->save = NULL;
		machine_quit(r.h.m, has_moved ? "migrated" : "power off");
		CHECK_STR(rig_code(&r, a, 1), has_moved ? "EREMCHG" : "ECANCELED");
		close(a);
		rig_fini(&r);
	}
}
