/* SPDX-License-Identifier: Apache-2.0 */
/* A whole machine, saved and continued in one process. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hlt_machine.h"
#include "mem/gmem.h"
#include "util/err.h"
#include "util/loop.h"
#include "vm/machine_priv.h"
#include "vm/save.h"

static uint64_t counter(const struct hlt_machine *h)
{
	uint64_t v;

	CHECK_EQ(gmem_read(h->m->mem, HLT_COUNTER, &v, 8), 0);
	return v;
}

static bool counts(void *arg)
{
	return counter(arg) > 0;
}

struct outcome {
	bool is_done;
	struct save_result result;
	struct err err;
};

static void saved(void *arg, const struct save_result *result, const struct err *err)
{
	struct outcome *o = arg;

	o->is_done = true;
	o->result = *result;
	if (err)
		o->err = *err;
}

static bool is_done(void *arg)
{
	return ((struct outcome *)arg)->is_done;
}

static int save_to_memfd(struct hlt_machine *h, enum state_packing packing, bool ends, struct outcome *o)
{
	int fd = memfd_create("state", 0);
	struct save_options so = { .fd = dup(fd), .packing = packing, .ends_machine = ends, .done = saved, .arg = o };
	struct err e = ERR_INIT;

	*o = (struct outcome){ .is_done = false };
	if (save_start(h->m, &so, &e) < 0)
		FAIL("%s", e.msg);
	hlt_machine_run_until(h, is_done, o);
	return fd;
}

/* A machine from the file FD; the first one's kernel is still there. */
static int restore(struct hlt_machine *h, int fd, const char *engine, struct err *e)
{
	char arg[16];

	memset(h, 0, sizeof(*h));
	snprintf(arg, sizeof(arg), "fd:%d", fd);
	CHECK_EQ(config_init(&h->cfg, e), 0);
	int r = config_load_saved(&h->cfg, arg, e);
	free(h->cfg.engine);
	h->cfg.engine = strdup(engine);
	h->cfg.has_jail = false;        /* the other machine of this process is not in one */
	if (!r)
		r = config_validate(&h->cfg, e);
	if (!r)
		r = loop_new(&h->loop, e);
	return r ? r : machine_new(&h->m, &h->cfg, h->loop, e);
}

static void drop(struct hlt_machine *h)
{
	if (h->m)
		machine_stop(h->m);
	machine_free(h->m);
	loop_free(h->loop);
	config_fini(&h->cfg);
}

TEST(a_machine_goes_on_after_it_was_saved_and_continues_elsewhere)
{
	struct hlt_machine h, other;
	struct err e = ERR_INIT;
	struct outcome o;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	hlt_machine_run_until(&h, counts, &h);
	int fd = save_to_memfd(&h, STATE_RAW, false, &o);
	CHECK_EQ(o.err.code, 0);
	CHECK(o.result.memory > 0 && o.result.pause_ns > 0);
	CHECK_EQ(machine_get_state(h.m), MACHINE_RUNNING);
	if (restore(&other, fd, "interp", &e) < 0)
		FAIL("%s", e.msg);
	uint64_t then = counter(&other), now = source_now_ns(&other.m->source.s);
	CHECK(then > 0 && now > 0 && now <= source_now_ns(&h.m->source.s));
	CHECK_EQ(source_now_ns(&other.m->source.s), now);       /* until it starts */
	machine_start(other.m);
	uint64_t end = loop_now_ns() + 5000000000u;
	while (counter(&other) == then)
		CHECK(loop_now_ns() < end);
	CHECK(source_now_ns(&other.m->source.s) >= now);
	drop(&other);
	machine_stop(h.m);
	hlt_machine_fini(&h);
}

TEST(memory_does_not_change_while_it_is_written)
{
	struct hlt_machine h, other;
	struct err e = ERR_INIT;
	struct outcome o;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	hlt_machine_run_until(&h, counts, &h);
	machine_hold(h.m, MACHINE_HOLD_USER);
	uint64_t at = counter(&h);
	int fd = save_to_memfd(&h, STATE_ZSTD, false, &o);
	CHECK_EQ(machine_get_state(h.m), MACHINE_PAUSED);       /* the user still holds it */
	CHECK_EQ(counter(&h), at);
	CHECK_EQ(restore(&other, fd, "interp", &e), 0);
	CHECK_EQ(counter(&other), at);
	drop(&other);
	machine_stop(h.m);
	hlt_machine_fini(&h);
}

TEST(a_reset_during_a_save_happens_after_it)
{
	struct hlt_machine h;
	struct outcome o;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	hlt_machine_run_until(&h, counts, &h);
	machine_hold(h.m, MACHINE_HOLD_USER);
	machine_freeze(h.m);
	machine_request_reset(h.m);
	for (int i = 0; i < 3; i++)
		CHECK(loop_run_once(h.loop, 5) >= 0);
	CHECK(!machine_is_at_rest(h.m));
	CHECK(counter(&h) > 0);
	machine_thaw(h.m);
	CHECK(machine_is_at_rest(h.m));
	CHECK_EQ(machine_get_state(h.m), MACHINE_PAUSED);
	close(save_to_memfd(&h, STATE_RAW, false, &o));
	CHECK_EQ(o.err.code, 0);
	machine_stop(h.m);
	hlt_machine_fini(&h);
}

TEST(stopping_saves_end_the_machine_when_the_file_is_whole)
{
	struct hlt_machine h;
	struct outcome o;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	close(save_to_memfd(&h, STATE_RAW, true, &o));
	CHECK_EQ(o.err.code, 0);
	CHECK_EQ(machine_get_state(h.m), MACHINE_ENDED);
	machine_stop(h.m);
	hlt_machine_fini(&h);
}

TEST(a_second_save_and_a_file_that_is_not_empty_are_refused)
{
	int fd = memfd_create("state", 0);
	struct save_options so = { .fd = fd, .packing = STATE_RAW, .done = saved };
	struct err e = ERR_INIT;
	struct hlt_machine h;
	struct outcome o = { .is_done = false };

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	CHECK_EQ(write(fd, "x", 1), 1);
	CHECK_EQ(save_start(h.m, &so, &e), -EINVAL);
	CHECK_HAS(e.msg, "empty regular file");
	CHECK_EQ(machine_get_state(h.m), MACHINE_RUNNING);
	CHECK_EQ(ftruncate(fd, 0), 0);
	so.arg = &o;
	CHECK_EQ(save_start(h.m, &so, &e), 0);
	CHECK_EQ(save_start(h.m, &so, &e), -EBUSY);
	hlt_machine_run_until(&h, is_done, &o);
	machine_stop(h.m);
	hlt_machine_fini(&h);
}

TEST(a_machine_may_end_in_the_middle_of_a_save)
{
	for (int rounds = 0; rounds < 6; rounds++) {
		struct outcome o = { .is_done = false };
		struct save_options so = { .fd = memfd_create("state", 0), .packing = STATE_ZSTD, .done = saved, .arg = &o };
		struct hlt_machine h;

		hlt_machine_init(&h);
		hlt_machine_build(&h);
		machine_start(h.m);
		CHECK_EQ(save_start(h.m, &so, NULL), 0);
		for (int i = 0; i < rounds; i++)
			loop_run_once(h.loop, 1);
		machine_stop(h.m);
		hlt_machine_fini(&h);
	}
}

TEST(what_does_not_fit_to_the_saved_machine_is_refused)
{
	struct hlt_machine h, other;
	struct err e = ERR_INIT;
	struct outcome o;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	int fd = save_to_memfd(&h, STATE_RAW, false, &o);
	machine_stop(h.m);
	/* Its word about CPUID features: take one of them that no software engine has. */
	CHECK_EQ(restore(&other, fd, "interp", &e), 0);
	struct x86_features none = { .xcr0 = 0 };
	CHECK_EQ(x86_cpuid_check(&other.m->cpuid, &none, &e), -ENOTSUP);
	CHECK_HAS(e.msg, "features that are missing here: sse3, pclmulqdq, ");
	drop(&other);
	e = (struct err)ERR_INIT;
	CHECK(restore(&other, fd, "kvm", &e) < 0);
	CHECK(e.msg[0]);
	drop(&other);
	hlt_machine_fini(&h);
}
