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

static struct blk_secret new_secret(void)
{
	struct blk_secret s = { 0 };

	CHECK_EQ(blk_secret_set(&s, "correct horse", 13, NULL), 0);
	return s;
}

TEST(a_machine_is_saved_encrypted_and_goes_on)
{
	AUTO(blk_secret_wipe) struct blk_secret secret = new_secret();
	struct outcome o = { .is_done = false };
	struct save_options so = { .fd = memfd_create("state", 0), .packing = STATE_LZ4, .secret = new_secret(), .done = saved, .arg = &o };
	int fd = dup(so.fd);
	struct hlt_machine h, other;
	struct err e = ERR_INIT;
	struct state_file *f = NULL;
	size_t len;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	hlt_machine_run_until(&h, counts, &h);
	CHECK_EQ(save_start(h.m, &so, &e), 0);
	CHECK_EQ(save_start(h.m, &so, &e), -EBUSY);     /* while its key is being made, too */
	hlt_machine_run_until(&h, is_done, &o);
	CHECK_EQ(o.err.code, 0);
	CHECK(o.result.memory > 0 && o.result.pause_ns > 0);
	CHECK_EQ(machine_get_state(h.m), MACHINE_RUNNING);
	CHECK_EQ(restore(&other, fd, "interp", &e), -ENOKEY);
	drop(&other);
	CHECK_EQ(state_file_open(&f, fd, &secret, "it", &e), 0);
	CHECK(state_file_get(f, "config", &len) && state_file_verify(f, &e) == 0);
	state_file_close(f);
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
		struct save_options so = { .fd = memfd_create("state", 0), .packing = STATE_ZSTD, .done = saved, .arg = &o,
					   .secret = rounds & 1 ? new_secret() : (struct blk_secret){ 0 } };
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

TEST(a_machine_with_any_model_of_processors_continues)
{
	static const char *const models[] = { "host", "base", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v2,vendor=intel",
					      "x86-64-v1,vendor=amd", "x86-64-v3,vendor=amd" };

	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		struct hlt_machine h, other;
		struct err e = ERR_INIT;
		struct outcome o;

		hlt_machine_init(&h);
		free(h.cfg.cpu);
		h.cfg.cpu = strdup(models[i]);
		hlt_machine_build(&h);
		machine_start(h.m);
		hlt_machine_run_until(&h, counts, &h);
		int fd = save_to_memfd(&h, STATE_LZ4, false, &o);
		CHECK_EQ(o.err.code, 0);
		if (restore(&other, fd, "interp", &e) < 0)
			FAIL("%s: %s", models[i], e.msg);
		drop(&other);
		close(fd);
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
	hlt_machine_fini(&h);
}

/* --- disks that belong to the memory --------------------------------------------------------------- */

static void add_disk(struct hlt_machine *h, const char *name, const char *format)
{
	char path[80], text[200];
	struct err e = ERR_INIT;

	snprintf(path, sizeof(path), "%s/%s", h->dir, name);
	struct blk_create c = { .path = path, .format = format, .size = 1 << 20 };

	if (blk_create(&c, &e) < 0)
		FAIL("%s", e.msg);
	snprintf(text, sizeof(text), "{\"disks\":[{\"path\":\"%s\",\"format\":\"%s\"}]}", path, format);
	CHECK_EQ(config_load_text(&h->cfg, text, strlen(text), &e), 0);
}

static uint8_t disk_byte(struct machine *m, unsigned i)
{
	uint8_t b = 0;

	CHECK_EQ(blk_pread(m->blk[i], 4096, &b, 1), 0);
	return b;
}

static void disk_write(struct machine *m, unsigned i, uint8_t b)
{
	CHECK_EQ(blk_pwrite(m->blk[i], 4096, &b, 1), 0);
	CHECK_EQ(blk_flush(m->blk[i]), 0);
}

static int save_with(struct hlt_machine *h, const char *snapshot, struct outcome *o, struct err *e)
{
	int fd = memfd_create("state", 0);
	struct save_options so = { .fd = dup(fd), .packing = STATE_RAW, .done = saved, .arg = o, .snapshot = snapshot };
	int r = save_start(h->m, &so, e);

	*o = (struct outcome){ .is_done = false };
	if (r < 0) {
		close(so.fd);
		close(fd);
		return r;
	}
	hlt_machine_run_until(h, is_done, o);
	return fd;
}

static void remove_disks(struct hlt_machine *h)
{
	char text[80];

	snprintf(text, sizeof(text), "rm -f %s/d?", h->dir);
	CHECK_EQ(system(text), 0);
}

TEST(disks_go_back_to_the_instant_of_the_memory)
{
	struct hlt_machine h, other;
	struct err e = ERR_INIT;
	struct outcome o;

	hlt_machine_init(&h);
	add_disk(&h, "d0", "qcow2");
	add_disk(&h, "d1", "qcow2");
	hlt_machine_build(&h);
	machine_start(h.m);
	disk_write(h.m, 0, 1);
	disk_write(h.m, 1, 2);
	int fd = save_with(&h, "then", &o, &e);

	CHECK(fd >= 0);
	CHECK_EQ(o.err.code, 0);
	disk_write(h.m, 0, 10);
	disk_write(h.m, 1, 20);
	/* The name is taken now: a second save fails, and takes none on any disk. */
	int again = save_with(&h, "then", &o, &e);

	CHECK_HAS(o.err.msg, "has a snapshot 'then' already");
	close(again);
	machine_stop(h.m);
	machine_free(h.m);
	h.m = NULL;
	CHECK_EQ(restore(&other, fd, "interp", &e), -ESTALE);
	CHECK_HAS(e.msg, "snapshot 'then' of that instant with --revert-disks");
	drop(&other);
	/* Looking is not going back. */
	for (int i = 0; i < 3; i++) {
		char arg[16];

		e = (struct err)ERR_INIT;
		memset(&other, 0, sizeof(other));
		snprintf(arg, sizeof(arg), "fd:%d", fd);
		CHECK_EQ(config_init(&other.cfg, &e), 0);
		CHECK_EQ(config_load_saved(&other.cfg, arg, &e), 0);
		free(other.cfg.engine);
		other.cfg.engine = strdup("interp");
		other.cfg.has_jail = false;
		other.cfg.reverts_disks = true;
		CHECK_EQ(config_validate(&other.cfg, &e), 0);
		CHECK_EQ(loop_new(&other.loop, &e), 0);
		if (machine_new(&other.m, &other.cfg, other.loop, &e) < 0)
			FAIL("%s", e.msg);
		CHECK_EQ(disk_byte(other.m, 0), 10);
		if (i) {
			CHECK_EQ(machine_revert_disks(other.m, &e), 0);
			CHECK_EQ(disk_byte(other.m, 0), 1);
			CHECK_EQ(disk_byte(other.m, 1), 2);
			disk_write(other.m, 0, 10);
			disk_write(other.m, 1, 20);
		}
		drop(&other);
	}
	close(fd);
	remove_disks(&h);
	hlt_machine_fini(&h);
}

TEST(a_save_with_a_snapshot_needs_disks_that_take_one)
{
	struct hlt_machine h;
	struct err e = ERR_INIT;
	struct outcome o;

	hlt_machine_init(&h);
	hlt_machine_build(&h);
	machine_start(h.m);
	CHECK_EQ(save_with(&h, "x", &o, &e), -EINVAL);
	CHECK_HAS(e.msg, "has no disk");
	machine_stop(h.m);
	hlt_machine_fini(&h);
	hlt_machine_init(&h);
	add_disk(&h, "d0", "qcow2");
	add_disk(&h, "d1", "raw");
	hlt_machine_build(&h);
	machine_start(h.m);
	e = (struct err)ERR_INIT;
	CHECK_EQ(save_with(&h, "x", &o, &e), -ENOTSUP);
	CHECK_HAS(e.msg, "takes no snapshots inside");
	e = (struct err)ERR_INIT;
	CHECK_EQ(save_with(&h, "", &o, &e), -EINVAL);
	machine_stop(h.m);
	remove_disks(&h);
	hlt_machine_fini(&h);
}
