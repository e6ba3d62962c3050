/* SPDX-License-Identifier: Apache-2.0 */
/* What a short pause of a migration is made of: what is ready before, what is told without waiting, and who decides that there is no way
 * back. */
#include "test.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hlt_machine.h"
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/loop.h"
#include "vm/machine_priv.h"
#include "vm/migrate_priv.h"

/* --- is it here? --- */

static void put_head(int fd, uint32_t type, uint32_t len, size_t n)
{
	struct migrate_head h = { le32_of(type), le32_of(len), le32_of(0) };

	CHECK_EQ(write(fd, &h, n), (ssize_t)n);
}

/* Is a COMMIT found when N bytes of a head of TYPE and LEN have come? */
static bool is_found(uint32_t type, uint32_t len, size_t n)
{
	struct migrate_link l;
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	migrate_link_init(&l, sv[0]);
	if (n)
		put_head(sv[1], type, len, n);
	bool found = migrate_link_has(&l, MIGRATE_COMMIT, 0);
	close(sv[1]);
	migrate_link_fini(&l);
	return found;
}

TEST(a_record_is_waited_for_only_if_it_is_whole_and_the_one)
{
	CHECK(is_found(MIGRATE_COMMIT, 0, sizeof(struct migrate_head)));
	CHECK(!is_found(MIGRATE_COMMIT, 0, 0));
	CHECK(!is_found(MIGRATE_COMMIT, 0, sizeof(struct migrate_head) - 1));
	CHECK(!is_found(MIGRATE_COMMIT, 1, sizeof(struct migrate_head)));
	CHECK(!is_found(MIGRATE_FAIL, 0, sizeof(struct migrate_head)));
}

TEST(looking_for_a_record_leaves_it_where_it_is)
{
	struct migrate_link a, b;
	struct migrate_record rec;
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	migrate_link_init(&a, sv[0]);
	migrate_link_init(&b, sv[1]);
	CHECK_EQ(migrate_send(&a, MIGRATE_COMMIT, NULL, 0, NULL, 0, NULL), 0);
	CHECK(migrate_link_has(&b, MIGRATE_COMMIT, 1000) && migrate_link_has(&b, MIGRATE_COMMIT, 0));
	CHECK_EQ(migrate_recv(&b, MIGRATE_BIT(MIGRATE_COMMIT), &rec, NULL), 0);
	CHECK(!migrate_link_has(&b, MIGRATE_COMMIT, 0));
	migrate_link_fini(&a);
	CHECK(!migrate_link_has(&b, MIGRATE_COMMIT, 1000));     /* the end of the stream is none */
	migrate_link_fini(&b);
}

/* --- the way back --- */

TEST(who_is_first_decides_whether_the_guest_comes_back)
{
	struct migration kept = { .m = NULL }, gone = { .m = NULL };

	CHECK(migration_decide(&kept, MIGRATION_CANCELLED) && migration_decide(&kept, MIGRATION_CANCELLED));
	CHECK(!migration_decide(&kept, MIGRATION_COMMITTED) && !migration_is_committed(&kept));
	CHECK(migration_decide(&gone, MIGRATION_COMMITTED) && migration_is_committed(&gone));
	CHECK(!migration_decide(&gone, MIGRATION_CANCELLED) && migration_is_committed(&gone));
}

/* --- memory for the state --- */

TEST(sections_that_have_room_do_not_move)
{
	struct state_sections s = { .len = 0 };
	uint8_t data[1000] = { 7 };

	state_sections_add(&s, "first", data, sizeof(data));
	size_t had = s.len;
	state_sections_reserve(&s, 100 << 10);
	const uint8_t *at = s.buf;
	CHECK(s.len == had && s.cap >= had + (100 << 10));
	for (unsigned i = 0; i < 50; i++)
		state_sections_add(&s, "more", data, sizeof(data));
	CHECK(s.buf == at && !s.is_broken && s.buf[0] == 5 && !memcmp(s.buf + 1, "first", 5));
	size_t cap = s.cap;
	state_sections_reserve(&s, 1);
	CHECK(s.cap == cap);
	state_sections_fini(&s);
}

/* --- standing still --- */

struct still {
	struct quiesce q;
	unsigned n;             /* times that it was told */
	int code;
};

static void told(struct quiesce *q, int code, const char *why)
{
	struct still *s = container_of(q, struct still, q);

	s->n++;
	s->code = code;
}

static bool is_told(void *arg)
{
	return ((struct still *)arg)->n;
}

TEST(a_machine_runs_while_its_stand_is_prepared_and_stands_at_once)
{
	struct still s = { .q = { .done = told, .is_prompt = true } };
	struct hlt_machine h;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	quiesce_prepare(&s.q, h.m);
	CHECK(s.n == 1 && !s.code && machine_get_state(h.m) == MACHINE_RUNNING);
	CHECK_EQ(quiesce_end(&s.q), 0);
	quiesce_start(&s.q, h.m, MACHINE_HOLD_MIGRATION);
	CHECK(s.n == 2 && !s.code && machine_get_state(h.m) == MACHINE_PAUSED);
	CHECK(quiesce_end(&s.q) > 0);
	CHECK_EQ(machine_get_state(h.m), MACHINE_RUNNING);
	machine_stop(h.m);
	hlt_machine_fini(&h);
}

TEST(who_does_not_ask_for_it_is_not_told_from_inside)
{
	struct still s = { .q = { .done = told } };
	struct hlt_machine h;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	quiesce_start(&s.q, h.m, MACHINE_HOLD_SAVE);
	CHECK_EQ(s.n, 0);
	hlt_machine_run_until(&h, is_told, &s);
	CHECK(!s.code && quiesce_end(&s.q) > 0);
	machine_stop(h.m);
	hlt_machine_fini(&h);
}

/* --- processors --- */

static bool counts(struct hlt_machine *h)
{
	uint64_t then, now, end = loop_now_ns() + 5000000000u;

	CHECK_EQ(gmem_read(h->m->mem, HLT_COUNTER, &then, 8), 0);
	do
		CHECK_EQ(gmem_read(h->m->mem, HLT_COUNTER, &now, 8), 0);
	while (now == then && loop_now_ns() < end);
	return now != then;
}

TEST(processors_that_are_ready_or_prompt_run_as_others_do)
{
	struct hlt_machine h;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	vcpus_get_ready(h.m->vcpus);
	machine_start(h.m);
	CHECK(counts(&h));
	vcpus_be_prompt(h.m->vcpus, true);
	CHECK(counts(&h));
	vcpus_pause(h.m->vcpus);
	vcpus_be_prompt(h.m->vcpus, false);
	vcpus_resume(h.m->vcpus);
	CHECK(counts(&h));
	machine_stop(h.m);
	hlt_machine_fini(&h);
}
