/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent's client against a guest that says what the test likes. */
#include "vm/agent.h"

#include <errno.h>
#include <stdlib.h>
#include "test.h"
#include "util/err.h"
#include "util/loop.h"

static struct loop *loop;
static struct agent *agent;
static char sent[4096];
static size_t n_sent, room;

struct got {
	unsigned n;
	int code;
	char text[512];
};

static size_t take(void *arg, const uint8_t *buf, size_t len)
{
	size_t n = len < room ? len : room;

	CHECK(n_sent + n < sizeof(sent));
	memcpy(sent + n_sent, buf, n);
	n_sent += n;
	sent[n_sent] = '\0';
	room -= n;
	return n;
}

static void on_done(void *arg, json_t *result, const struct err *err)
{
	struct got *g = arg;

	g->n++;
	g->code = err ? err->code : 0;
	char *text = err ? NULL : json_dumps(result, JSON_ENCODE_ANY | JSON_COMPACT);
	snprintf(g->text, sizeof(g->text), "%s", err ? err->msg : text ? text : "");
	free(text);
}

static void setup(void)
{
	CHECK_EQ(loop_new(&loop, NULL), 0);
	CHECK_EQ(agent_new(&agent, loop, take, NULL, NULL), 0);
	room = sizeof(sent);
	n_sent = 0;
	agent_set_open(agent, true);
}

static void spin(void)
{
	for (int i = 0; i < 20; i++)
		loop_run_once(loop, 0);
}

static void say(const char *text)
{
	agent_receive(agent, (const uint8_t *)text, strlen(text));
	spin();
}

static void ask(struct got *g, const char *command, unsigned timeout_ms)
{
	*g = (struct got){ .n = 0 };
	CHECK_EQ(agent_call(agent, &(struct agent_call){ .command = command, .timeout_ms = timeout_ms, .done = on_done, .arg = g }, NULL), 0);
	spin();
}

/* Answer the guest-sync-delimited that was sent last. */
static void answer_sync(void)
{
	const char *id = strstr(sent, "\"id\":");
	char text[100];

	CHECK(id && memmem(sent, n_sent, "\xff{\"execute\":\"guest-sync-delimited\"", 34));
	snprintf(text, sizeof(text), "\xff{\"return\": %lld}\n", atoll(id + 5));
	n_sent = 0;
	say(text);
}

static void teardown(void)
{
	agent_free(agent);
	loop_free(loop);
}

TEST(a_call_is_synchronised_asked_and_answered)
{
	struct got g, second;

	setup();
	ask(&g, "guest-ping", 0);
	CHECK_EQ(agent_call(agent, &(struct agent_call){ .command = "guest-info", .done = on_done, .arg = &second }, NULL), 0);
	second.n = 0;
	say("{\"return\": 1}\n half an old answer");         /* no sentinel: dropped */
	say("\xff{\"return\": 12345}\n");                     /* of an older call */
	CHECK_EQ(g.n, 0);
	answer_sync();
	CHECK_STR(sent, "{\"execute\":\"guest-ping\"}\n");
	say("{\"ret");
	CHECK_EQ(g.n, 0);
	n_sent = 0;
	say("urn\": {}}\n");
	CHECK_EQ(g.n, 1);
	CHECK_EQ(g.code, 0);
	CHECK_STR(g.text, "{}");
	answer_sync();
	CHECK_STR(sent, "{\"execute\":\"guest-info\"}\n");
	say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\nway\\u001b[2J\"}}\n");
	CHECK_EQ(second.n, 1);
	CHECK_EQ(second.code, -EREMOTEIO);
	CHECK_STR(second.text, "the guest agent says: no?way?[2J");
	teardown();
}

TEST(nonsense_and_floods_end_the_call_and_the_next_one_works)
{
	static const char *const bad[] = { "\n", "[]\n", "{}\n", "not json\n", "{\"return\"\n", "\"text\"\n", "{\"return\": 1, \"return\": 2}\n" };
	struct got g;

	setup();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		n_sent = 0;
		ask(&g, "guest-ping", 0);
		answer_sync();
		say(bad[i]);
		CHECK_EQ(g.n, 1);
		CHECK_EQ(g.code, -EPROTO);
	}
	static char flood[65536];

	memset(flood, 'x', sizeof(flood) - 1);
	n_sent = 0;
	ask(&g, "guest-ping", 0);
	answer_sync();
	for (int i = 0; i < 20 && !g.n; i++)
		say(flood);
	CHECK_EQ(g.n, 1);
	CHECK_EQ(g.code, -EMSGSIZE);
	for (int i = 0; i < 40; i++)
		say(flood);
	n_sent = 0;
	ask(&g, "guest-ping", 0);
	for (int i = 0; i < 40; i++)
		say(flood);
	answer_sync();
	say("{\"return\": {}}\n");
	CHECK_EQ(g.code, 0);
	CHECK_EQ(g.n, 1);
	teardown();
}

TEST(a_silent_agent_is_waited_for_no_longer_than_was_said)
{
	struct got g;

	setup();
	ask(&g, "guest-fsfreeze-freeze", 30);
	answer_sync();
	for (int i = 0; i < 500 && !g.n; i++)
		loop_run_once(loop, 10);
	CHECK_EQ(g.n, 1);
	CHECK_EQ(g.code, -ETIMEDOUT);
	n_sent = 0;
	g = (struct got){ .n = 0 };
	CHECK_EQ(agent_call(agent, &(struct agent_call){ .command = "guest-shutdown", .timeout_ms = 20, .has_no_answer = true,
							 .done = on_done, .arg = &g }, NULL), 0);
	spin();
	answer_sync();
	for (int i = 0; i < 500 && !g.n; i++)
		loop_run_once(loop, 10);
	CHECK_EQ(g.code, 0);
	teardown();
}

TEST(one_that_waits_for_its_time_keeps_nobody_waiting)
{
	struct got late = { .n = 0 }, g;

	setup();
	CHECK_EQ(agent_call(agent, &(struct agent_call){ .command = "guest-exec-status", .after_ms = 50, .done = on_done, .arg = &late }, NULL), 0);
	ask(&g, "guest-ping", 0);
	answer_sync();
	CHECK_STR(sent, "{\"execute\":\"guest-ping\"}\n");
	n_sent = 0;
	say("{\"return\": {}}\n");
	CHECK_EQ(g.n, 1);
	for (int i = 0; i < 500 && !n_sent; i++)
		loop_run_once(loop, 10);
	answer_sync();
	CHECK_STR(sent, "{\"execute\":\"guest-exec-status\"}\n");
	agent_set_open(agent, false);
	spin();
	CHECK_EQ(late.code, -ENOTCONN);
	teardown();
}

TEST(a_port_without_room_gets_the_rest_later_and_one_without_a_reader_nothing)
{
	struct err err = ERR_INIT;
	struct got g;

	setup();
	room = 10;
	ask(&g, "guest-ping", 0);
	CHECK_EQ(n_sent, 10);
	room = sizeof(sent) - n_sent;
	agent_go_on(agent);
	spin();
	answer_sync();
	say("{\"return\": {}}\n");
	CHECK_EQ(g.n, 1);
	agent_set_open(agent, false);
	CHECK_EQ(agent_call(agent, &(struct agent_call){ .command = "guest-ping", .done = on_done, .arg = &g }, &err), -ENOTCONN);
	agent_set_open(agent, true);
	for (int i = 0; i < AGENT_CALLS_MAX; i++)
		CHECK_EQ(agent_call(agent, &(struct agent_call){ .command = "guest-ping", .done = on_done, .arg = &g }, NULL), 0);
	CHECK_EQ(agent_call(agent, &(struct agent_call){ .command = "guest-ping", .done = on_done, .arg = &g,
							 .arguments = json_object() }, &err), -EBUSY);
	g.n = 0;
	agent_cancel(agent);
	CHECK_EQ(g.n, AGENT_CALLS_MAX);
	CHECK_EQ(g.code, -ECANCELED);
	CHECK_EQ(agent_call(NULL, &(struct agent_call){ .command = "guest-ping" }, NULL), -ENOTSUP);
	teardown();
}
