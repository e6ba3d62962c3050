/* SPDX-License-Identifier: Apache-2.0 */
/* The engine that compares the translator with the interpreter: it agrees with right code, lets devices happen
 * once, and finds what is made wrong on purpose. */
#include "../../../src/cpu/bt/lockstep_priv.h"

#include "cpu/interp_rig.h"
#include "test.h"
#include "util/err.h"

static const struct rig_engine engine = { &cpu_lockstep, interp_step, true };

static struct lockstep *start(struct rig *r)
{
	rig_init_on(r, &engine, 1);
	return lockstep_of(r->c);
}

static void must_agree(struct rig *r, unsigned n)
{
	struct err err = ERR_INIT;

	if (lockstep_run_some(r->v, n, &err) != CPU_EXIT_KICK)
		FAIL("%s", err.msg);
}

static void must_differ(struct rig *r, unsigned n, const char *why)
{
	struct err err = ERR_INIT;

	CHECK_EQ(lockstep_run_some(r->v, n, &err), CPU_EXIT_ERROR);
	if (!strstr(err.msg, why))
		FAIL("'%s' does not say '%s'", err.msg, why);
}

TEST(more_than_one_processor_is_refused)
{
	struct cpu_config cfg = { .n_vcpus = 2 };
	struct cpu_vm *vm;
	struct err err = ERR_INIT;

	CHECK(cpu_lockstep.vm_new(&vm, &cfg, &err) < 0);
	CHECK_STR(err.msg, "the engine lockstep compares one processor only, not 2");
}

TEST(it_runs_only_when_it_is_named)
{
	struct err err = ERR_INIT;

	CHECK(cpu_lockstep.probe(false, &err) < 0);
}

TEST(a_loop_with_calls_is_the_same_and_counted_exactly)
{
	struct rig r;

	start(&r);
	/* mov ecx, 1000; l: call f; dec ecx; jnz l; s: jmp s; f: add rax, rcx; push rax; pop rbx; ret */
	RIG_CODE_BYTES(&r, 0xb9, 0xe8, 3, 0, 0, 0xe8, 6, 0, 0, 0, 0xff, 0xc9, 0x75, 0xf7, 0xeb, 0xfe,
		       0x48, 0x01, 0xc8, 0x50, 0x5b, 0xc3);
	while (r.c->s.rip != RIG_CODE + 14)
		must_agree(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RBX], 1000 * 1001 / 2);
	/* The loop, and in the same step some jumps to itself. */
	CHECK(r.c->stats.insns >= 1 + 7 * 1000 && r.c->stats.insns <= 1 + 7 * 1000 + LOCKSTEP_FUEL);
	must_agree(&r, 20);
	rig_fini(&r);
}

TEST(a_device_is_reached_once_and_both_get_its_value)
{
	struct rig r;

	start(&r);
	/* mov ebx, MMIO; mov eax, [rbx]; mov [rbx+4], eax; add [rbx+8], eax; mov edx, eax; jmp $ */
	RIG_CODE_BYTES(&r, 0xbb, 0x00, 0x00, 0x1f, 0x00, 0x8b, 0x03, 0x89, 0x43, 0x04, 0x01, 0x43, 0x08, 0x89, 0xc2, 0xeb, 0xfe);
	r.mmio_value = 0x1122334455667788;
	must_agree(&r, 30);
	CHECK_EQ(r.n_mmio, 4);
	CHECK_EQ(r.c->s.gpr[X86_RDX], 0x55667788);
	CHECK_EQ(r.mmio_last, (uint32_t)(0x55667788 * 2ull));
	rig_fini(&r);
}

TEST(a_device_s_store_to_memory_is_seen_by_both)
{
	static const uint64_t v = 0x0123456789abcdef;
	struct rig r;
	uint64_t out;

	start(&r);
	/* mov ebx, DATA; l: mov rax, [rbx]; mov [rbx+8], rax; jmp l */
	RIG_CODE_BYTES(&r, 0xbb, 0x00, 0x00, 0x02, 0x00, 0x48, 0x8b, 0x03, 0x48, 0x89, 0x43, 0x08, 0xeb, 0xf7);
	must_agree(&r, 5);
	CHECK_EQ(gmem_write(r.mem, RIG_DATA, &v, 8), 0);
	must_agree(&r, 5);
	CHECK_EQ(gmem_read(r.mem, RIG_DATA + 8, &out, 8), 0);
	CHECK_EQ(out, v);
	rig_fini(&r);
}

TEST(a_fault_is_compared_and_then_delivered)
{
	struct rig r;

	start(&r);
	rig_gate(&r, X86_EXC_PF, RIG_CODE + 0x100);
	/* mov [0x5], eax: not mapped; at 0x100: pop rcx; jmp $ */
	RIG_CODE_BYTES(&r, 0x89, 0x04, 0x25, 0x05, 0x00, 0x00, 0x00);
	rig_code(&r, RIG_CODE + 0x100, "\x59\xeb\xfe", 3);
	r.c->s.rip = RIG_CODE;
	must_agree(&r, 10);
	CHECK_EQ(r.c->s.cr2, 5);
	CHECK_EQ(r.c->s.gpr[X86_RCX], X86_PF_W);
	CHECK_EQ(r.c->stats.exceptions, 1);
	rig_fini(&r);
}

/* Change a constant in the code that has been made of the guest's, which may have been made twice. */
static void spoil(struct lockstep *l, uint32_t from, uint32_t to)
{
	struct bt_cache *k = l->bt->cache;
	unsigned n = 0;

	for (uint8_t *p = k->code_start; p + 4 <= k->e.p; p++)
		if (!memcmp(p, &from, 4)) {
			memcpy(p, &to, 4);
			n++;
		}
	if (!n)
		FAIL("the code has no %#x", from);
}

TEST(a_wrong_translation_is_found)
{
	struct rig r;
	struct lockstep *l = start(&r);

	/* l: add eax, 0x12345678; jmp l */
	RIG_CODE_BYTES(&r, 0x05, 0x78, 0x56, 0x34, 0x12, 0xeb, 0xf9);
	must_agree(&r, 5);
	spoil(l, 0x12345678, 0x12345679);
	must_differ(&r, 5, "the engines bt and interp differ near 0x10000");
	rig_fini(&r);
}

TEST(a_stray_store_is_found)
{
	struct rig r;
	struct lockstep *l = start(&r);

	/* mov ebx, DATA; l: mov [rbx], eax; jmp l */
	RIG_CODE_BYTES(&r, 0xbb, 0x00, 0x00, 0x02, 0x00, 0x89, 0x03, 0xeb, 0xfc);
	must_agree(&r, 5);
	l->bt_mem->host[RIG_DATA + 0x800] ^= 1;
	must_differ(&r, 2000, "the engines bt and interp differ");
	rig_fini(&r);
}
