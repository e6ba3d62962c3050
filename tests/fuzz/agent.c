/* SPDX-License-Identifier: Apache-2.0 */
/* What a hostile guest agent says: every call ends once, whatever comes and whenever. */
#include "vm/agent.h"
#include "fake_loop.h"
#include "fuzz.h"
#include "util/loop.h"

enum { CALLS = 64 };

static unsigned ends[CALLS], n_calls;
static long long sync_id;
static size_t room;

static size_t take(void *arg, const uint8_t *buf, size_t len)
{
	const char *id = memmem(buf, len, "\"id\":", 5);
	size_t n = len < room ? len : room;

	if (id)
		sync_id = atoll(id + 5);
	room -= n;
	return n;
}

static void on_done(void *arg, json_t *result, const struct err *err)
{
	ends[*(unsigned *)arg]++;
}

static void step(struct fuzz *f, struct agent *a)
{
	static unsigned number[CALLS];
	uint8_t op = fuzz_u8(f), buf[256];
	char text[64];

	switch (op & 7) {
	case 0:
		if (n_calls == CALLS)
			break;
		number[n_calls] = n_calls;
		struct agent_call c = {
			.command = "guest-ping", .timeout_ms = op >> 4, .after_ms = fuzz_u8(f) & 3, .has_no_answer = op & 8,
			.arguments = op & 0x10 ? json_object() : NULL, .done = on_done, .arg = &number[n_calls],
		};
		if (agent_call(a, &c, NULL) == 0)
			n_calls++;
		break;
	case 1:
		snprintf(text, sizeof(text), "\xff{\"return\":%lld}\n", sync_id);
		agent_receive(a, (const uint8_t *)text, strlen(text));
		break;
	case 2: agent_receive(a, (const uint8_t *)"{\"return\":{\"a\":[1]}}\n", 21); break;
	case 3:
	case 4: {
		size_t n = fuzz_u8(f);

		fuzz_fill(f, buf, n);
		agent_receive(a, buf, n);
		break;
	}
	case 5: fake_loop_advance((uint64_t)fuzz_u8(f) << (op >> 3)); break;
	case 6: agent_set_open(a, op & 0x18); break;
	default:
		room += op;
		agent_go_on(a);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	struct loop *loop;
	struct agent *a;

	fake_loop_reset();
	memset(ends, 0, sizeof(ends));
	n_calls = 0;
	room = 100;
	FUZZ_CHECK(loop_new(&loop, NULL) == 0 && agent_new(&a, loop, take, NULL, NULL) == 0);
	agent_set_open(a, true);
	while (f.left) {
		step(&f, a);
		fake_loop_advance(1);
	}
	agent_cancel(a);
	for (unsigned i = 0; i < n_calls; i++)
		FUZZ_CHECK(ends[i] == 1);
	agent_free(a);
	loop_free(loop);
	return 0;
}
