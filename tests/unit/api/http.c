/* SPDX-License-Identifier: Apache-2.0 */
/* The server against a client of plain sockets on a thread of its own. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "api/http.h"
#include "util/err.h"
#include "util/loop.h"

struct fixture {
	struct loop *l;
	struct http_server *s;
	char dir[64], path[96], file[96];
	/* what the handler saw */
	int n_requests;
	struct http_request *kept;
	int64_t received;
	int fd;
	bool is_held, is_failing;       /* what the sink does: wait, refuse */
	uint64_t kept_bytes;            /* atomic: and what it has taken */
	int n_ends;
	struct http_socket *ws;
	char said[64];
	int n_messages, n_closed;
	size_t last_len;
};

/* --- the handler: what it does is in the path ------------------------------------------------------------ */

static void on_message(void *arg, const void *data, size_t len, bool is_text)
{
	struct fixture *f = arg;

	f->n_messages++;
	f->last_len = len;
	if (len == 5 && !memcmp(data, "flood", 5)) {
		static char big[1 << 20];

		for (int i = 0; i < 20 && http_send(f->ws, big, sizeof(big), false) >= 0; i++)
			continue;
		return;
	}
	http_send(f->ws, data, len, is_text);
}

static void on_closed(void *arg)
{
	struct fixture *f = arg;

	f->n_closed++;
}

static int keep(void *arg, const void *data, size_t len)
{
	struct fixture *f = arg;

	while (__atomic_load_n(&f->is_held, __ATOMIC_ACQUIRE))
		usleep(1000);
	__atomic_add_fetch(&f->kept_bytes, len, __ATOMIC_ACQ_REL);
	if (f->is_failing)
		return -ENOSPC;
	return write(f->fd, data, len) == (ssize_t)len ? 0 : -EIO;
}

static int keep_end(void *arg)
{
	struct fixture *f = arg;

	f->n_ends++;
	return close(f->fd);
}

static void on_received(void *arg, struct http_request *rq, int64_t result)
{
	struct fixture *f = arg;

	f->received = result;
	http_reply(rq, result < 0 ? 507 : 201, NULL, "", 0);
}

static void reply_describing(struct http_request *rq)
{
	char text[512];
	const char *q = http_query(rq, "a"), *empty = http_query(rq, "b"), *auth = http_get_header(rq, HTTP_AUTHORIZATION);
	const struct http_peer *peer = http_get_peer(rq);
	size_t len;
	const char *body = http_body(rq, &len);

	snprintf(text, sizeof(text), "%d %s a=%s b=%s c=%s auth=%s unix=%d uid=%d body=%zu:%.20s", http_method(rq), http_path(rq),
		 q ? q : "-", empty ? empty : "-", http_query(rq, "c") ? "?" : "-", auth ? auth : "-", peer->is_unix,
		 (int)peer->uid, len, body);
	http_set_header(rq, "etag", "\"7\"");
	http_reply(rq, 200, "text/plain", text, strlen(text));
}

static void handle(void *arg, struct http_request *rq)
{
	static const struct http_socket_ops ops = { .message = on_message, .closed = on_closed };
	struct fixture *f = arg;
	const char *path = http_path(rq);

	f->n_requests++;
	if (!strcmp(path, "/ws")) {
		CHECK(http_wants_socket(rq));
		f->ws = http_accept(rq, &ops, f);
	} else if (!strcmp(path, "/no-ws")) {
		http_reply(rq, 403, NULL, "not you", 7);
	} else if (!strcmp(path, "/keep")) {
		f->kept = rq;
	} else if (!strcmp(path, "/big")) {
		http_reply_take(rq, 200, NULL, calloc(5, 1 << 20), 5 << 20);
	} else if (!strcmp(path, "/file")) {
		http_reply_file(rq, 200, NULL, open(f->file, O_RDONLY), 3, 7);
	} else if (!strcmp(path, "/upload")) {
		static const struct http_sink sink = { .write = keep, .end = keep_end, .done = on_received };

		f->fd = open(f->file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		CHECK_EQ(http_receive(rq, &sink, f), 0);
	} else if (http_is_long(rq)) {
		http_reply(rq, 413, "text/plain", "too long", 8);
	} else {
		reply_describing(rq);
	}
}

static void setup(struct fixture *f)
{
	struct err err = ERR_INIT;

	signal(SIGPIPE, SIG_IGN);
	memset(f, 0, sizeof(*f));
	strcpy(f->dir, "/tmp/viv-http-XXXXXX");
	CHECK(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/sock", f->dir);
	snprintf(f->file, sizeof(f->file), "%s/file", f->dir);
	CHECK_EQ(loop_new(&f->l, NULL), 0);
	struct http_listen listen = { .unix_path = f->path, .mode = 0600 };
	struct http_config c = { .loop = f->l, .listen = &listen, .n_listen = 1, .arg = f, .request = handle };

	if (http_open(&f->s, &c, &err) < 0)
		FAIL("%s", err.msg);
}

static void teardown(struct fixture *f)
{
	char cmd[128];

	http_close(f->s);
	CHECK(access(f->path, F_OK) < 0);
	loop_free(f->l);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", f->dir);
	CHECK_EQ(system(cmd), 0);
}

/* --- the client --------------------------------------------------------------------------------------------- */

struct client {
	struct fixture *f;
	void (*fn)(struct client *c);
	int fd;
	char buf[6 << 20];
	size_t len;
	bool is_done;
};

static void say(struct client *c, const void *data, size_t len)
{
	for (size_t at = 0; at < len; ) {
		ssize_t n = send(c->fd, (const char *)data + at, len - at, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		at += (size_t)n;
	}
}

static void says(struct client *c, const char *text) { say(c, text, strlen(text)); }

static bool hear(struct client *c)
{
	ssize_t n = recv(c->fd, c->buf + c->len, sizeof(c->buf) - 1 - c->len, 0);

	c->len += n > 0 ? (size_t)n : 0;
	c->buf[c->len] = 0;
	return n > 0;
}

/* Hear one whole answer, the only thing in buf then. */
static void hear_reply(struct client *c)
{
	char *body = NULL, *length;

	c->len = 0;
	c->buf[0] = 0;
	while (!body) {
		CHECK(hear(c));
		body = memmem(c->buf, c->len, "\r\n\r\n", 4);
	}
	length = strcasestr(c->buf, "content-length: ");
	size_t want = (size_t)(body + 4 - c->buf) + (length ? strtoul(length + 16, NULL, 10) : 0);

	while (c->len < want)
		CHECK(hear(c));
	CHECK_EQ(c->len, want);
}

static void dial(struct client *c)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(sa.sun_path, c->f->path);
	CHECK(!connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)));
}

static void *client_thread(void *arg)
{
	struct client *c = arg;

	dial(c);
	c->fn(c);
	close(c->fd);
	__atomic_store_n(&c->is_done, true, __ATOMIC_RELEASE);
	return NULL;
}

static struct client *run_client(struct fixture *f, void (*fn)(struct client *c))
{
	static struct client c;
	pthread_t t;

	memset(&c, 0, offsetof(struct client, buf));
	c.f = f;
	c.fn = fn;
	c.is_done = false;
	CHECK(!pthread_create(&t, NULL, client_thread, &c));
	while (!__atomic_load_n(&c.is_done, __ATOMIC_ACQUIRE))
		loop_run_once(f->l, 20);
	pthread_join(t, NULL);
	return &c;
}

static void two_requests(struct client *c)
{
	says(c, "GET /x/y%20z?a=1%262&b= HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n\r\n");
	hear_reply(c);
	CHECK_HAS(c->buf, "HTTP/1.1 200");
	CHECK_HAS(c->buf, "etag: \"7\"");
	CHECK_HAS(c->buf, "0 /x/y z a=1&2 b= c=- auth=Bearer t unix=1");
	says(c, "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
	hear_reply(c);
	CHECK_HAS(c->buf, "2 /p a=- b=- c=- auth=-");
	CHECK_HAS(c->buf, "body=5:hello");
	says(c, "DELETE /d HTTP/1.1\r\nHost: h\r\n\r\n");
	hear_reply(c);
	CHECK_HAS(c->buf, "5 /d");
	says(c, "GET /e HTTP/1.1\r\nHost: h\r\n\r\n");
	hear_reply(c);
	CHECK_HAS(c->buf, "0 /e");
}

TEST(requests_on_one_connection_are_answered_in_turn)
{
	struct fixture f;
	struct stat st;

	setup(&f);
	CHECK(!stat(f.path, &st));
	CHECK_EQ(st.st_mode & 0777, 0600);
	run_client(&f, two_requests);
	CHECK_EQ(f.n_requests, 4);
	teardown(&f);
}

static void post_without_length(struct client *c)
{
	says(c, "POST /p HTTP/1.1\r\nHost: h\r\n\r\n");
	says(c, "this is no body");
	hear_reply(c);
	CHECK_HAS(c->buf, "2 /p");
	CHECK_HAS(c->buf, "connection: close");
	CHECK_HAS(c->buf, "body=0:");
	shutdown(c->fd, SHUT_WR);
	CHECK(!hear(c));
}

TEST(what_is_posted_without_a_length_has_no_body_and_is_the_last_on_its_connection)
{
	struct fixture f;

	setup(&f);
	run_client(&f, post_without_length);
	CHECK_EQ(f.n_requests, 1);
	teardown(&f);
}

static void get_big(struct client *c)
{
	says(c, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
	hear_reply(c);
	CHECK_HAS(c->buf, "content-length: 5242880");
	says(c, "GET /file HTTP/1.1\r\nHost: h\r\n\r\n");
	hear_reply(c);
	CHECK(!memcmp(c->buf + c->len - 7, "defghij", 7));
	says(c, "HEAD /big HTTP/1.1\r\nHost: h\r\n\r\n");
	c->len = 0;
	CHECK(hear(c));
	CHECK_HAS(c->buf, "content-length: 5242880");
}

TEST(long_answers_and_parts_of_files_arrive_whole)
{
	struct fixture f;

	setup(&f);
	FILE *out = fopen(f.file, "w");

	CHECK(out && fputs("abcdefghijklm", out) >= 0 && !fclose(out));
	run_client(&f, get_big);
	teardown(&f);
}

enum { UPLOAD = 9 << 20 };

static void upload(struct client *c)
{
	static char part[UPLOAD];
	char head[128];

	for (size_t i = 0; i < sizeof(part); i++)
		part[i] = (char)(i * 7 >> 4);
	snprintf(head, sizeof(head), "PUT /upload HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", UPLOAD);
	says(c, head);
	say(c, part, sizeof(part));
	hear_reply(c);
	CHECK_HAS(c->buf, "HTTP/1.1 201");
}

TEST(a_long_body_goes_to_a_file)
{
	struct fixture f;

	setup(&f);
	run_client(&f, upload);
	CHECK_EQ(f.received, UPLOAD);
	FILE *in = fopen(f.file, "r");

	for (size_t i = 0; i < UPLOAD; i++)
		CHECK_EQ((char)getc(in), (char)(i * 7 >> 4));
	fclose(in);
	teardown(&f);
}

static void upload_part(struct client *c)
{
	says(c, "PUT /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\nonly this");
	usleep(100000);
}

static void upload_short(struct client *c)
{
	says(c, "PUT /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nshort");
	hear_reply(c);
	CHECK_HAS(c->buf, "HTTP/1.1 201");
	/* The connection goes on. */
	says(c, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
	hear_reply(c);
	CHECK_HAS(c->buf, "HTTP/1.1 200");
}

TEST(a_short_body_goes_to_a_sink_as_well)
{
	struct fixture f;

	setup(&f);
	run_client(&f, upload_short);
	CHECK_EQ(f.received, 5);
	CHECK_EQ(f.n_ends, 1);
	teardown(&f);
}

/* How much can be sent without waiting? */
static size_t push(struct client *c, size_t most)
{
	static const char zeroes[64 << 10];
	size_t sent = 0;

	for (int quiet = 0; sent < most && quiet < 50; ) {
		size_t left = most - sent;
		ssize_t n = send(c->fd, zeroes, left < sizeof(zeroes) ? left : sizeof(zeroes), MSG_NOSIGNAL | MSG_DONTWAIT);

		sent += n > 0 ? (size_t)n : 0;
		quiet = n > 0 ? 0 : quiet + 1;
		if (n <= 0)
			usleep(10000);
	}
	return sent;
}

static void upload_to_a_slow_sink(struct client *c)
{
	static const char zeroes[UPLOAD];
	struct client other = { .f = c->f };
	char head[128];

	snprintf(head, sizeof(head), "PUT /upload HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", UPLOAD);
	says(c, head);
	size_t sent = push(c, UPLOAD);
	/* What the sink does not take stays with the client, but for a little: and others are served meanwhile. */
	CHECK(sent < HTTP_RECEIVE_MAX + (2 << 20));
	CHECK_EQ(__atomic_load_n(&c->f->kept_bytes, __ATOMIC_ACQUIRE), 0);
	dial(&other);
	says(&other, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
	hear_reply(&other);
	CHECK_HAS(other.buf, "HTTP/1.1 200");
	close(other.fd);
	__atomic_store_n(&c->f->is_held, false, __ATOMIC_RELEASE);
	say(c, zeroes, UPLOAD - sent);
	hear_reply(c);
	CHECK_HAS(c->buf, "HTTP/1.1 201");
}

TEST(a_sink_that_waits_holds_up_its_client_and_nobody_else)
{
	struct fixture f;

	setup(&f);
	f.is_held = true;
	run_client(&f, upload_to_a_slow_sink);
	CHECK_EQ(f.received, UPLOAD);
	CHECK_EQ(f.n_ends, 1);
	teardown(&f);
}

static void upload_to_a_full_sink(struct client *c)
{
	says(c, "PUT /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\nthis is all that I send");
	hear_reply(c);
	CHECK_HAS(c->buf, "HTTP/1.1 507");
	CHECK_HAS(c->buf, "connection: close");
	while (hear(c))
		continue;
}

TEST(a_sink_that_fails_is_told_at_once)
{
	struct fixture f;

	setup(&f);
	f.is_failing = true;
	run_client(&f, upload_to_a_full_sink);
	CHECK_EQ(f.received, -ENOSPC);
	CHECK_EQ(f.n_ends, 1);
	teardown(&f);
}

TEST(an_upload_that_breaks_off_is_told)
{
	struct fixture f;

	setup(&f);
	f.received = 1;
	run_client(&f, upload_part);
	while (f.received == 1)
		loop_run_once(f.l, 20);
	CHECK_EQ(f.received, -ECONNRESET);
	teardown(&f);
}

static void post_too_much(struct client *c)
{
	static const char zeroes[3000000];

	/* It is answered at once, and the answer is there for those as well who send all before they look. */
	says(c, "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n");
	say(c, zeroes, sizeof(zeroes));
	hear_reply(c);
	CHECK_HAS(c->buf, "HTTP/1.1 413");
	while (hear(c))
		continue;
}

TEST(a_long_body_can_be_refused_unread)
{
	struct fixture f;

	setup(&f);
	run_client(&f, post_too_much);
	teardown(&f);
}

static void go_early(struct client *c)
{
	says(c, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
	while (!__atomic_load_n(&c->f->kept, __ATOMIC_ACQUIRE))
		usleep(1000);
}

TEST(an_answer_to_a_client_that_went_away_is_dropped)
{
	struct fixture f;

	setup(&f);
	run_client(&f, go_early);
	usleep(20000);
	http_reply(f.kept, 200, NULL, "x", 1);
	f.kept = NULL;
	run_client(&f, go_early);
	http_reply(f.kept, 200, NULL, "x", 1);
	teardown(&f);
}

static void junk(struct client *c)
{
	static char big[64 << 10];

	says(c, "\x16\x03\x01 nonsense\r\n\r\n");
	while (hear(c))
		continue;
	close(c->fd);
	dial(c);
	memset(big, 'x', sizeof(big));
	says(c, "GET /");
	say(c, big, sizeof(big));
	says(c, " HTTP/1.1\r\nHost: h\r\n\r\n");
	while (hear(c))
		continue;
	close(c->fd);
	dial(c);
	says(c, "GET /../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n");
	c->len = 0;
	hear(c);
	CHECK(!strstr(c->buf, "/.."));
}

TEST(junk_costs_the_connection_only)
{
	struct fixture f;

	setup(&f);
	run_client(&f, junk);
	run_client(&f, two_requests);
	teardown(&f);
}

/* --- WebSockets ------------------------------------------------------------------------------------------------ */

static void upgrade(struct client *c, const char *path)
{
	char head[256];

	snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path);
	says(c, head);
	c->len = 0;
	while (!memmem(c->buf, c->len, "\r\n\r\n", 4))
		CHECK(hear(c));
	CHECK_HAS(c->buf, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	char *end = (char *)memmem(c->buf, c->len, "\r\n\r\n", 4) + 4;

	c->len -= (size_t)(end - c->buf);
	memmove(c->buf, end, c->len);
}

/* A frame of less than 126 bytes, masked with zeroes. */
static void frame(struct client *c, unsigned first, const char *text)
{
	uint8_t head[6] = { (uint8_t)first, (uint8_t)(0x80 | strlen(text)) };

	say(c, head, 6);
	says(c, text);
}

static void hear_bytes(struct client *c, size_t n)
{
	while (c->len < n)
		CHECK(hear(c));
}

static void echo(struct client *c)
{
	upgrade(c, "/ws");
	frame(c, 0x81, "hi");
	hear_bytes(c, 4);
	CHECK(!memcmp(c->buf, "\x81\x02hi", 4));
	c->len = 0;
	frame(c, 0x01, "in two ");
	frame(c, 0x80, "parts");
	hear_bytes(c, 14);
	CHECK(!memcmp(c->buf, "\x81\x0cin two parts", 14));
}

TEST(messages_go_both_ways)
{
	struct fixture f;

	setup(&f);
	run_client(&f, echo);
	while (!f.n_closed)
		loop_run_once(f.l, 20);
	CHECK_EQ(f.n_messages, 2);
	CHECK_EQ(f.last_len, 12);
	teardown(&f);
	CHECK_EQ(f.n_closed, 1);
}

static void refused(struct client *c)
{
	upgrade(c, "/no-ws");
	hear_bytes(c, 11);
	CHECK(!memcmp(c->buf, "\x88\x09\x03\xf0not you", 11));
}

TEST(a_refused_socket_is_closed_with_the_reason)
{
	struct fixture f;

	setup(&f);
	run_client(&f, refused);
	teardown(&f);
}

static void ask_for_a_flood(struct client *c)
{
	upgrade(c, "/ws");
	frame(c, 0x81, "flood");
	while (!__atomic_load_n(&c->f->n_closed, __ATOMIC_ACQUIRE))
		usleep(1000);           /* without reading a byte */
}

TEST(a_client_too_slow_for_what_it_gets_is_dropped)
{
	struct fixture f;

	setup(&f);
	run_client(&f, ask_for_a_flood);
	CHECK_EQ(f.n_closed, 1);
	teardown(&f);
}

static void stay(struct client *c)
{
	upgrade(c, "/ws");
	frame(c, 0x81, "x");
	hear_bytes(c, 3);
}

TEST(closing_the_server_closes_what_is_open)
{
	struct fixture f;

	setup(&f);
	run_client(&f, stay);
	http_close(f.s);
	f.s = NULL;
	CHECK_EQ(f.n_closed, 1);
	teardown(&f);
}

/* --- listening -------------------------------------------------------------------------------------------------- */

TEST(where_it_cannot_listen_it_says_why)
{
	struct fixture f;
	struct err err = ERR_INIT;
	struct http_server *other = NULL;

	setup(&f);
	struct http_listen l = { .unix_path = f.path, .mode = 0600 };
	struct http_config c = { .loop = f.l, .listen = &l, .n_listen = 1, .arg = &f, .request = handle };

	CHECK_EQ(http_open(&other, &c, &err), -EADDRINUSE);
	CHECK_HAS(err.msg, "in use");
	l = (struct http_listen){ .address = "127.0.0.1", .cert = "/nonexistent", .key = "/nonexistent" };
	err = (struct err)ERR_INIT;
	CHECK_EQ(http_open(&other, &c, &err), -EINVAL);
	CHECK_HAS(err.msg, "certificate");
	teardown(&f);
}

TEST(a_stale_socket_is_replaced)
{
	struct fixture f;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct err err = ERR_INIT;

	setup(&f);
	http_close(f.s);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sa.sun_path, f.path);
	CHECK(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	close(fd);
	struct http_listen l = { .unix_path = f.path, .mode = 0660 };
	struct http_config c = { .loop = f.l, .listen = &l, .n_listen = 1, .arg = &f, .request = handle };

	if (http_open(&f.s, &c, &err) < 0)
		FAIL("%s", err.msg);
	run_client(&f, two_requests);
	teardown(&f);
}
