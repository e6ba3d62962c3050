/* SPDX-License-Identifier: Apache-2.0 */
/* thunk.c - the code between C and fragments: entering, leaving, calling out. It is
 * written once into the cache of each vcpu, because it knows the layout of struct bt_cpu.
 *
 * In C, all guest registers are in struct icpu: the general ones, the arithmetic flags in
 * flags_ax, and XMM. In fragments the general registers are the host's; R10 and R11 are in
 * memory whenever code leaves. XMM registers are loaded by the first fragment that wants them
 * (vec_live) and stored on the way to C (vec.c). */
#include "cpu/bt/bt_priv.h"

enum { R10 = 10, R11 = 11 };

/* Registers to memory, except R10 and R11, and RSP back to C's stack. The flags go to flags_ax
 * first when they are still in the host (FROM_HOST). */
static void thunk_save(struct bt_cache *k, bool from_host)
{
	struct emit *e = &k->e;

	emit_store(e, EMIT_RAX, BT_GPR(EMIT_RAX));
	if (from_host) {
		emit8(e, 0x9f);                                 /* lahf */
		emit8(e, 0x0f); emit8(e, 0x90); emit8(e, 0xc0); /* seto al */
		emit_store32(e, EMIT_RAX, BT_OFF(flags_ax));
	}
	for (unsigned r = 1; r < 16; r++)
		if (r != R10 && r != R11)
			emit_store(e, r, BT_GPR(r));
	emit_load(e, EMIT_RSP, BT_OFF(host_rsp));
	bt_vec_emit_save(e, k->has_avx);
}

/* Everything into the host, and go to b->target. */
static void thunk_resume(struct bt_cache *k)
{
	struct emit *e = &k->e;

	bt_vec_emit_resume(e, k->has_avx);
	emit_load32(e, EMIT_RAX, BT_OFF(flags_ax));
	emit8(e, 0x04); emit8(e, 0x7f);                         /* add al, 127: OF */
	emit8(e, 0x9e);                                         /* sahf */
	for (unsigned r = 0; r < 16; r++)
		emit_load(e, r, BT_GPR(r));
	emit_jmp_gs(e, BT_OFF(target));
}

static const uint8_t callee_saved[] = { EMIT_RBX, EMIT_RBP, 12, 13, 14, 15 };

/* Return from b->thunk.enter(). */
static void thunk_leave(struct emit *e)
{
	emit_alu_ri(e, true, EMIT_ADD, EMIT_RSP, 8);
	for (unsigned i = sizeof(callee_saved); i-- > 0; ) {
		emit_rex(e, false, 0, 0, callee_saved[i]);
		emit8(e, 0x58 | (callee_saved[i] & 7));
	}
	emit8(e, 0xc3);
}

static void thunk_enter(struct bt_cache *k)
{
	struct emit *e = &k->e;

	for (unsigned i = 0; i < sizeof(callee_saved); i++) {
		emit_rex(e, false, 0, 0, callee_saved[i]);
		emit8(e, 0x50 | (callee_saved[i] & 7));
	}
	emit_alu_ri(e, true, EMIT_SUB, EMIT_RSP, 8);            /* 16-byte alignment for calls */
	emit_store(e, EMIT_RSP, BT_OFF(host_rsp));
	thunk_resume(k);
}

/* FN(b); returns a jump for when it returns NULL. */
static uint8_t *thunk_ask(struct emit *e, const uint8_t *(*fn)(struct bt_cpu *b))
{
	emit_load(e, EMIT_RDI, BT_OFF(self));
	emit_mov_ri(e, EMIT_RAX, (uint64_t)(uintptr_t)fn);
	emit8(e, 0xff); emit8(e, 0xd0);                         /* call rax */
	emit_rr(e, true, 0x85, EMIT_RAX, EMIT_RAX);             /* test */
	return emit_jcc(e, EMIT_E, NULL);
}

/* bt_call_out() and on to where it says; registers have been saved. */
static void thunk_call(struct bt_cache *k)
{
	struct emit *e = &k->e;
	uint8_t *leave = thunk_ask(e, bt_call_out);

	emit_store(e, EMIT_RAX, BT_OFF(target));
	thunk_resume(k);
	emit_patch(leave, e->p);
	thunk_leave(e);
}

/* FN, which uses general registers alone, so that only those of them are saved that C functions may use. Going on
 * where it says, R10 and R11 are anything; what follows this is for when it says nothing, with all saved. */
static void thunk_try(struct bt_cache *k, const uint8_t *(*fn)(struct bt_cpu *b))
{
	static const uint8_t used[] = { EMIT_RAX, EMIT_RCX, EMIT_RDX, EMIT_RSI, EMIT_RDI, 8, 9, EMIT_RSP };
	struct emit *e = &k->e;

	for (unsigned i = 0; i < sizeof(used); i++)
		emit_store(e, used[i], BT_GPR(used[i]));
	emit_load(e, EMIT_RSP, BT_OFF(host_rsp));
	uint8_t *no = thunk_ask(e, fn);

	emit_store(e, EMIT_RAX, BT_OFF(target));
	for (unsigned i = 0; i < sizeof(used); i++)
		emit_load(e, used[i], BT_GPR(used[i]));
	emit_jmp_gs(e, BT_OFF(target));
	emit_patch(no, e->p);
	for (unsigned i = 0; i < sizeof(callee_saved); i++)
		emit_store(e, callee_saved[i], BT_GPR(callee_saved[i]));
	bt_vec_emit_save(e, k->has_avx);
}

/* First bt_refill(). When it can do something, R10 and R11 are the scratch registers of the check: nobody misses
 * them. */
static void thunk_cold(struct bt_cache *k)
{
	emit_store(&k->e, R10, BT_OFF(scratch[0]));
	emit_store(&k->e, R11, BT_OFF(scratch[1]));
	thunk_try(k, bt_refill);
	thunk_call(k);
}

static void thunk_miss(struct bt_cache *k)
{
	struct emit *e = &k->e;

	emit_store(e, R10, (uint32_t)offsetof(struct bt_cpu, i.s.rip));
	thunk_try(k, bt_indirect_again);
	emit_set_byte(e, BT_OFF(exit_indirect), 1);
	thunk_leave(e);
}

static void thunk_exit(struct bt_cache *k)
{
	thunk_save(k, false);
	thunk_leave(&k->e);
}

/* The flags to flags_ax. All registers stay. */
static void thunk_save_flags(struct emit *e)
{
	emit_store(e, EMIT_RAX, BT_GPR(EMIT_RAX));
	emit8(e, 0x9f);                                 /* lahf */
	emit8(e, 0x0f); emit8(e, 0x90); emit8(e, 0xc0); /* seto al */
	emit_store32(e, EMIT_RAX, BT_OFF(flags_ax));
	emit_load(e, EMIT_RAX, BT_GPR(EMIT_RAX));
}

static void thunk_links(struct bt_cache *k)
{
	struct emit *e = &k->e;

	k->thunk.link_host = bt_code_off(k, e->p);
	thunk_save_flags(e);
	k->thunk.link_slot = bt_code_off(k, e->p);
	emit_store32(e, R11, BT_OFF(exit_link));
	thunk_try(k, bt_link_again);
	thunk_leave(e);
}

void bt_thunks_emit(struct bt_cache *k)
{
	struct emit *e = &k->e;
	struct bt_thunks *t = &k->thunk;

	t->enter = (void (*)(struct bt_cpu *))(uintptr_t)(k->rx + bt_code_off(k, e->p));
	thunk_enter(k);
	t->call_host = bt_code_off(k, e->p);
	thunk_save(k, true);
	thunk_call(k);
	t->call_slot = bt_code_off(k, e->p);
	thunk_save(k, false);
	thunk_call(k);
	t->cold = bt_code_off(k, e->p);
	thunk_cold(k);
	thunk_links(k);
	t->miss = bt_code_off(k, e->p);
	thunk_miss(k);
	t->exit_slot = bt_code_off(k, e->p);
	thunk_exit(k);
	t->exit_head = bt_code_off(k, e->p);
	emit_store32(e, R11, BT_OFF(exit_frag));
	emit_jmp(e, k->rw + t->exit_slot);
	t->vec_load = bt_code_off(k, e->p);
	bt_vec_emit_load(e, R11, k->has_avx);
	emit8(e, 0x41); emit8(e, 0xff); emit8(e, 0xe2);         /* jmp r10 */
	t->x87_load = bt_code_off(k, e->p);
	bt_x87_emit_load(e, R11, k->has_avx);
	emit8(e, 0x41); emit8(e, 0xff); emit8(e, 0xe2);
}
