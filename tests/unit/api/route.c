/* SPDX-License-Identifier: Apache-2.0 */
/* The dispatcher behind a real server on a Unix socket. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "api/route.h"
#include "util/loop.h"

static const struct schema thing = {
	.name = "Thing", .help = "A thing.",
	.fields = (const struct schema_field[]){
		{ .name = "name", .type = SCHEMA_NAME, .is_required = true, .help = "its name" },
		{ .name = "size", .type = SCHEMA_SIZE, .dflt = "7", .help = "its size" },
		{ .name = NULL },
	},
};

static void get_thing(struct api_call *c)
{
	struct err err = ERR_INIT;

	if (!strcmp(c->param[1], "none"))
		api_fail(c, err_set(&err, -ENOENT, "there is no thing 'none'"), NULL, &err);
	else
		api_reply(c, 200, json_pack("{s:s, s:s}", "room", c->param[0], "name", c->param[1]));
}

static void put_thing(struct api_call *c)
{
	json_t *body = json_incref(c->body);

	json_object_set_new(body, "dry", json_boolean(c->is_dry_run));
	api_reply(c, 201, body);
}

static const struct route routes[] = {
	{ .method = HTTP_GET, .path = "/v1/rooms/{room}/things/{name}", .operation = "getThing", .summary = "One thing.",
	  .role = API_VIEWER, .out = &thing, .status = 200, .run = get_thing },
	{ .method = HTTP_POST, .path = "/v1/things", .operation = "makeThing", .summary = "Make it.", .role = API_ADMIN, .in = &thing,
	  .out = &thing, .status = 201, .query = "dry-run=only plan|wait=seconds", .run = put_thing },
	{ .path = NULL },
};

/* The bearer's token is the role. */
static int authorize(void *arg, struct api_call *c, struct err *err)
{
	const char *auth = http_get_header(c->rq, HTTP_AUTHORIZATION);

	(void)arg;
	if (!auth)
		return err_set(err, -EACCES, "say who you are");
	strcpy(c->user.name, auth + 7);
	c->user.role = !strcmp(c->user.name, "admin") ? API_ADMIN : API_VIEWER;
	if (c->user.role < c->route->role)
		return err_set(err, -EPERM, "'%s' may not do this: it needs a higher role", c->user.name);
	return 0;
}

static unsigned n_answered;
static int last_status;

static struct api_call *held;
static bool holds;

static bool answered(void *arg, struct api_call *c, int status)
{
	(void)arg;
	CHECK(!c->route || c->route->path);
	n_answered++;
	last_status = status;
	held = holds ? c : NULL;
	return holds;
}

static const struct api_config config = { .routes = routes, .title = "T", .version = "1", .authorize = authorize,
					.answered = answered };

struct rig {
	struct loop *l;
	struct http_server *s;
	char dir[64], path[96];
	char answer[4096];
	const char *question;
	bool is_done;
};

static void setup(struct rig *r)
{
	struct err err = ERR_INIT;

	memset(r, 0, sizeof(*r));
	strcpy(r->dir, "/tmp/viv-route-XXXXXX");
	CHECK(mkdtemp(r->dir));
	snprintf(r->path, sizeof(r->path), "%s/sock", r->dir);
	CHECK_EQ(loop_new(&r->l, NULL), 0);
	struct http_listen listen = { .unix_path = r->path, .mode = 0600 };
	struct http_config c = { .loop = r->l, .listen = &listen, .n_listen = 1, .arg = (void *)&config, .request = api_request };

	if (http_open(&r->s, &c, &err) < 0)
		FAIL("%s", err.msg);
}

static void teardown(struct rig *r)
{
	http_close(r->s);
	loop_free(r->l);
	CHECK(!rmdir(r->dir));
}

static void *client(void *arg)
{
	struct rig *r = arg;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t len = 0;
	ssize_t n;

	strcpy(sa.sun_path, r->path);
	CHECK(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	CHECK(write(fd, r->question, strlen(r->question)) > 0);
	while ((n = read(fd, r->answer + len, sizeof(r->answer) - 1 - len)) > 0) {
		len += (size_t)n;
		r->answer[len] = 0;
		if (strstr(r->answer, "\r\n\r\n") && r->answer[len - 1] == '}')
			break;
	}
	close(fd);
	__atomic_store_n(&r->is_done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* The status of the answer to METHOD PATH by WHO with BODY; r->answer is all of it. */
static int ask(struct rig *r, const char *method, const char *path, const char *who, const char *body)
{
	char question[1024], auth[64] = "";
	pthread_t t;

	if (who)
		snprintf(auth, sizeof(auth), "Authorization: Bearer %s\r\n", who);
	snprintf(question, sizeof(question), "%s %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n%s", method, path, auth,
		 strlen(body), body);
	r->question = question;
	r->answer[0] = 0;
	r->is_done = false;
	CHECK(!pthread_create(&t, NULL, client, r));
	while (!__atomic_load_n(&r->is_done, __ATOMIC_ACQUIRE))
		loop_run_once(r->l, 20);
	pthread_join(t, NULL);
	return !strncmp(r->answer, "HTTP/1.1 ", 9) ? atoi(r->answer + 9) : -1;
}

TEST(a_request_finds_its_route_and_its_parts)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan", "viewer", ""), 200);
	CHECK_HAS(r.answer, "{\"room\":\"kitchen\",\"name\":\"pan\"}");
	CHECK_EQ(ask(&r, "POST", "/v1/things?dry-run", "admin", "{\"name\": \"pot\", \"size\": \"1K\"}"), 201);
	CHECK_HAS(r.answer, "{\"name\":\"pot\",\"size\":1024,\"dry\":true}");
	CHECK_EQ(ask(&r, "POST", "/v1/things", "admin", "{\"name\": \"pot\"}"), 201);
	CHECK_HAS(r.answer, "\"size\":7,\"dry\":false");
	teardown(&r);
}

TEST(what_is_wrong_has_its_status_and_its_sentence)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/none", "viewer", ""), 404);
	CHECK_HAS(r.answer, "{\"error\":{\"code\":\"not_found\",\"message\":\"there is no thing 'none'\"}}");
	CHECK_EQ(ask(&r, "GET", "/v1/rooms//things/pan", "viewer", ""), 404);
	CHECK_EQ(ask(&r, "GET", "/v2", "viewer", ""), 404);
	CHECK_EQ(ask(&r, "DELETE", "/v1/things", "admin", ""), 405);
	CHECK_EQ(ask(&r, "POST", "/v1/things", "admin", "{\"name\": "), 400);
	CHECK_HAS(r.answer, "not JSON");
	CHECK_EQ(ask(&r, "POST", "/v1/things", "admin", "{\"name\": \"a\", \"name\": \"b\"}"), 400);
	CHECK_EQ(ask(&r, "POST", "/v1/things", "admin", "{\"size\": 1}"), 400);
	CHECK_HAS(r.answer, "\"field\":\"name\"");
	teardown(&r);
}

TEST(a_parameter_that_is_not_in_the_table_is_refused_with_those_that_are)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan?wait=1", "viewer", ""), 400);
	CHECK_HAS(r.answer, "'getThing' has no parameter 'wait'; it has none\",\"field\":\"wait\"");
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan?dry-run", "viewer", ""), 400);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan?", "viewer", ""), 200);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan?&&", "viewer", ""), 200);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan?=1", "viewer", ""), 400);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan?wait=1", NULL, ""), 401);
	CHECK_EQ(ask(&r, "POST", "/v1/things?wai=1&wait=2", "admin", "{\"name\": \"pot\"}"), 400);
	CHECK_HAS(r.answer, "no parameter 'wai'; there are: dry-run, wait");
	CHECK_EQ(ask(&r, "POST", "/v1/things?waits", "admin", "{\"name\": \"pot\"}"), 400);
	/* What follows an empty one counts, too: it would be done instead of being planned. */
	CHECK_EQ(ask(&r, "POST", "/v1/things?wait=2&&dry-run", "admin", "{\"name\": \"pot\"}"), 201);
	CHECK_HAS(r.answer, "\"dry\":true");
	/* What is no text is told as well as that goes. */
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan?w%ff%fe=1", "viewer", ""), 400);
	CHECK_HAS(r.answer, "no parameter 'w?\?'");
	CHECK_EQ(ask(&r, "GET", "/v1/rooms%ff", "viewer", ""), 404);
	CHECK_HAS(r.answer, "nothing at '/v1/rooms?'");
	teardown(&r);
}

TEST(who_may_not_is_refused_before_anything_is_looked_at)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/none", NULL, ""), 401);
	CHECK_HAS(r.answer, "www-authenticate: Bearer");
	CHECK_EQ(ask(&r, "POST", "/v1/things", "viewer", "{"), 403);
	CHECK_HAS(r.answer, "higher role");
	teardown(&r);
}

TEST(every_answer_is_told_with_its_status)
{
	struct rig r;

	setup(&r);
	n_answered = 0;
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan", "viewer", ""), 200);
	CHECK_EQ(last_status, 200);
	CHECK_EQ(ask(&r, "POST", "/v1/things", "viewer", "{}"), 403);
	CHECK_EQ(last_status, 403);
	CHECK_EQ(ask(&r, "GET", "/v2", "viewer", ""), 404);
	CHECK_EQ(n_answered, 3);
	CHECK_EQ(last_status, 404);
	teardown(&r);
}

static void look(struct loop_timer *t)
{
	if (held)
		api_go_on(take_ptr(&held));
	loop_timer_set(t, loop_after_ms(20));
}

TEST(an_answer_can_be_held_back)
{
	struct rig r;
	struct loop_timer t;

	setup(&r);
	holds = true;
	loop_timer_init(r.l, &t, look);
	look(&t);
	CHECK_EQ(ask(&r, "GET", "/v1/rooms/kitchen/things/pan", "viewer", ""), 200);
	CHECK_EQ(ask(&r, "POST", "/v1/things", "viewer", "{}"), 403);
	holds = false;
	loop_timer_cancel(&t);
	teardown(&r);
}

TEST(the_document_has_every_route)
{
	json_t *doc = api_openapi(&config), *post = NULL;

	CHECK(doc);
	CHECK_STR(json_string_value(json_object_get(doc, "openapi")), "3.1.0");
	post = json_object_get(json_object_get(json_object_get(doc, "paths"), "/v1/things"), "post");
	CHECK_STR(json_string_value(json_object_get(post, "operationId")), "makeThing");
	CHECK_EQ(json_array_size(json_object_get(post, "parameters")), 2);
	CHECK(json_object_get(json_object_get(json_object_get(doc, "components"), "schemas"), "Thing"));
	json_decref(doc);
}
