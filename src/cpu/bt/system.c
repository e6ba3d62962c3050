/* SPDX-License-Identifier: Apache-2.0 */
/* system.c - system instructions that fragments do themselves (Intel SDM vol. 2, each of them). Vcpu
 * thread only.
 *
 * Only the common case is here. What depends on state that changes at run time is checked where it
 * is used, and the interpreter has the rest: faults, traps, an interrupt that waits for IF. Code of
 * CPL 3 is translated apart, so privilege costs nothing. */
#include "cpu/bt/system.h"

enum bt_kind bt_system_kind(const struct x86_insn *x, unsigned key)
{
	bool is_user = key & BT_KEY_USER;
	const struct x86_opnd *o = x->opnd;

	switch (x->op) {
	case X86_OP_STI: case X86_OP_SWAPGS:
		return is_user ? BT_CALL_OUT : BT_SYSTEM;
	case X86_OP_PUSHF: case X86_OP_POPF:
		return x->opsize == 8 ? BT_SYSTEM : BT_CALL_OUT;
	case X86_OP_RDTSC: case X86_OP_RDTSCP: case X86_OP_RDPID: case X86_OP_PAUSE:
	case X86_OP_RDFSBASE: case X86_OP_RDGSBASE: case X86_OP_WRFSBASE: case X86_OP_WRGSBASE:
		return BT_SYSTEM;
	case X86_OP_MOV:
		return o[1].kind == X86_O_SREG && o[0].kind == X86_O_REG ? BT_SYSTEM : BT_CALL_OUT;
	case X86_OP_MOV_CR:
		if (is_user)
			return BT_CALL_OUT;
		return o[1].kind == X86_O_CREG ? o[1].reg != 1 && o[1].reg <= 4 ? BT_SYSTEM : BT_CALL_OUT :
		       o[0].reg == 2 ? BT_SYSTEM : BT_CALL_OUT;
	case X86_OP_STAC: case X86_OP_CLAC:
		if (is_user)
			return BT_CALL_OUT;
		return (x->op == X86_OP_STAC) == !!(key & BT_KEY_AC) ? BT_NOTHING : BT_SYSTEM_END;
	case X86_OP_SYSCALL:
		return is_user && !(key & BT_KEY_AC) ? BT_SYSTEM_END : BT_CALL_OUT;
	case X86_OP_SYSRET:
		return !(key & BT_KEY_PRIV) && x->opsize == 8 ? BT_SYSTEM_END : BT_CALL_OUT;
	case X86_OP_SERIALIZE:
		return BT_SYSTEM_END;
	default:
		return BT_CALL_OUT;
	}
}

bool bt_system_is_offered(const struct bt_cpu *b, const struct x86_insn *x)
{
	const struct cpu_config *cfg = &b->i.vm->cfg;

	switch (x->op) {
	case X86_OP_STAC: case X86_OP_CLAC:
		return x86_cpuid_has(cfg->cpuid, X86_W_7_EBX, 20);
	case X86_OP_RDTSC: case X86_OP_RDTSCP:
		return cfg->source->tsc_add;
	default:
		return true;
	}
}

void bt_system_effects(struct bt_effects *fx, const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_PUSHF:
		fx->fl_reads = X86_FLAGS_ARITH;
		fx->reads |= 1 << RSP;
		fx->writes |= 1 << RSP;
		break;
	case X86_OP_POPF:
		fx->fl_writes = fx->fl_kills = X86_FLAGS_ARITH;
		fx->reads |= 1 << RSP;
		fx->writes |= 1 << RSP;
		break;
	case X86_OP_RDTSC: case X86_OP_RDTSCP:
		fx->writes |= 1 << RAX | 1 << RDX | (x->op == X86_OP_RDTSCP ? 1 << RCX : 0);
		break;
	default:
		if (fx->kind == BT_SYSTEM_END)
			fx->fl_reads = X86_FLAGS_ARITH;         /* whoever comes next may */
		break;
	}
}

/* --- flags ------------------------------------------------------------------------------------ */

void tr_rflags_get(struct tr *t, unsigned dst, unsigned tmp)
{
	struct emit *e = &t->e;

	emit_load8(e, dst, BT_OFF(flags_ax) + 1);
	emit_load8(e, tmp, BT_OFF(flags_ax));
	emit_alu_ri(e, false, EMIT_AND, dst, 0xd5);
	emit_shift_ri(e, false, EMIT_SHL, tmp, 11);
	emit_alu_rr(e, false, EMIT_OR, dst, tmp);
	emit_load(e, tmp, BT_OFF(i.s.rflags));
	emit_alu_ri(e, true, EMIT_AND, tmp, ~X86_FLAGS_ARITH);
	emit_alu_rr(e, true, EMIT_OR, dst, tmp);
}

void tr_rflags_split(struct tr *t, unsigned src, unsigned tmp)
{
	struct emit *e = &t->e;

	emit_rr(e, false, 0x89, src, tmp);
	emit_alu_ri(e, false, EMIT_AND, tmp, 0xd5);
	emit_shift_ri(e, false, EMIT_SHL, tmp, 8);
	emit_shift_ri(e, false, EMIT_SHR, src, 11);
	emit_alu_ri(e, false, EMIT_AND, src, 1);
	emit_alu_rr(e, false, EMIT_OR, tmp, src);
	emit_store32(e, tmp, BT_OFF(flags_ax));
	t->fl_slot = true;
	t->fl_host = false;
}

void tr_unless_waiting(struct tr *t, struct tr_cold *c)
{
	emit_cmp8_imm(&t->e, BT_OFF(i.intr_maybe), 0);
	tr_give_up_if(t, c, EMIT_NE);
}

/* The instruction after STI runs before any interrupt is looked for: nobody looks within a fragment,
 * and tr_decode() lets none end with STI. What comes later finds its way through `req`. */
static void system_sti(struct tr *t, const struct tr_insn *i)
{
	uint16_t avoid = 0;

	if (tr_live_before(i) && !t->fl_slot)
		tr_save_flags(t, tr_scratch(t, &avoid, false));
	t->fl_host = false;
	tr_unless_waiting(t, tr_cold_new(t, i));
	emit_alu_gs_i(&t->e, EMIT_OR, BT_OFF(i.s.rflags), X86_IF);
}

static void system_pushf(struct tr *t, const struct tr_insn *i)
{
	uint16_t avoid = 1 << RSP;

	tr_need(t, 1 << RSP);
	unsigned s1 = i->group ? tr_group_host(t, i, &avoid) : tr_scratch(t, &avoid, false);
	unsigned s2 = tr_scratch(t, &avoid, false), s3 = tr_scratch(t, &avoid, false);
	struct tr_cold *c = NULL;

	tr_give_flags(t, i, s2);
	if (!i->group) {
		c = tr_cold_new(t, i);
		emit_lea(&t->e, true, s1, RSP, EMIT_NONE, 0, -8);
		tr_translate(t, c, s1, s2, 8, true, false);
	}
	tr_rflags_get(t, s2, s3);
	tr_track_access(t);
	emit_mem(&t->e, true, 0x89, s2, s1, EMIT_NONE, 0, i->group ? i->off : 0);
	emit_lea(&t->e, true, RSP, RSP, EMIT_NONE, 0, -8);
	tr_wrote(t, 1 << RSP);
	if (c)
		tr_resume_here(t, c);
}

/* Only the arithmetic flags change, and IF in the kernel: anything else may mean another key, or a
 * trap. After a cold path others look first. */
static void system_popf(struct tr *t, const struct tr_insn *i)
{
	uint32_t may_change = X86_FLAGS_ARITH | (t->key & BT_KEY_USER ? 0 : X86_IF);
	struct emit *e = &t->e;
	uint16_t avoid = 1 << RSP;

	tr_need(t, 1 << RSP);
	unsigned host = i->group ? tr_group_host(t, i, &avoid) : EMIT_NONE;
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	if (i->group) {
		tr_track_access(t);
		emit_mem(e, true, 0x8b, s1, host, EMIT_NONE, 0, i->off);
	} else {
		emit_mov_rr(e, s1, RSP);
		tr_translate(t, c, s1, s2, 8, false, false);
		emit_mem(e, true, 0x8b, s1, s1, EMIT_NONE, 0, 0);
	}
	emit_load(e, s2, BT_OFF(i.s.rflags));
	emit_alu_rr(e, true, EMIT_XOR, s2, s1);
	emit_test_ri(e, true, s2, ~may_change);
	tr_give_up_if(t, c, EMIT_NE);
	if (may_change & X86_IF) {
		tr_unless_waiting(t, c);
		emit_alu_ri(e, true, EMIT_AND, s2, X86_IF);
		emit_gs(e, true, EMIT_XOR << 3 | 1, s2, BT_OFF(i.s.rflags));
	}
	emit_lea(e, true, RSP, RSP, EMIT_NONE, 0, 8);
	tr_rflags_split(t, s1, s2);
	tr_wrote(t, 1 << RSP);
}

/* --- time --------------------------------------------------------------------------------------- */

/* All by instructions that leave the flags alone. */
static void system_rdtsc(struct tr *t, const struct tr_insn *i)
{
	struct tr_cold *c = NULL;
	struct emit *e = &t->e;

	if (t->key & BT_KEY_USER) {
		uint16_t avoid = i->fx.writes;

		tr_give_flags(t, i, tr_scratch(t, &avoid, false));
		c = tr_cold_new(t, i);
		emit_test_gs_i(e, BT_OFF(i.s.cr4), X86_CR4_TSD);
		tr_give_up_if(t, c, EMIT_NE);
	}
	if (i->x.op == X86_OP_RDTSCP) {
		emit8(e, 0x0f); emit8(e, 0xae); emit8(e, 0xe8);         /* lfence */
		emit_load32(e, RCX, BT_OFF(i.s.tsc_aux));
	}
	emit8(e, 0x0f); emit8(e, 0x31);
	emit_rorx(e, RDX, RDX, 32);
	emit_lea(e, true, RAX, RAX, RDX, 0, 0);
	emit_load(e, RDX, BT_OFF(i.s.tsc_offset));
	emit_lea(e, true, RAX, RAX, RDX, 0, 0);
	emit_mov_ri(e, RDX, (uintptr_t)t->b->i.vm->cfg.source->tsc_add);
	emit8(e, 0x48); emit8(e, 0x8b); emit8(e, 0x12);         /* mov (%rdx), %rdx: a pause moves it */
	emit_lea(e, true, RAX, RAX, RDX, 0, 0);
	emit_rorx(e, RDX, RAX, 32);
	emit_rr(e, false, 0x89, RDX, RDX);
	emit_rr(e, false, 0x89, RAX, RAX);
	tr_wrote(t, i->fx.writes);
	if (c)
		tr_resume_here(t, c);
}

/* A loop that spins gives its host processor away now and then: the interpreter does that. */
static void system_pause(struct tr *t, const struct tr_insn *i)
{
	uint16_t avoid = 0;

	tr_give_flags(t, i, tr_scratch(t, &avoid, false));
	struct tr_cold *c = tr_cold_new(t, i);

	emit_alu_gs_i(&t->e, EMIT_ADD, BT_OFF(i.pauses), 1);
	emit_test_gs_i(&t->e, BT_OFF(i.pauses), ICPU_PAUSES_PER_YIELD - 1);
	tr_give_up_if(t, c, EMIT_E);
	emit8(&t->e, 0xf3); emit8(&t->e, 0x90);
	tr_resume_here(t, c);
}

/* --- segments and control registers ----------------------------------------------------------- */

static void system_swapgs(struct tr *t, const struct tr_insn *i)
{
	uint16_t avoid = 0;
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);

	(void)i;
	emit_load(&t->e, s1, BT_OFF(i.s.seg[X86_GS].base));
	emit_load(&t->e, s2, BT_OFF(i.s.kernel_gs_base));
	emit_store(&t->e, s1, BT_OFF(i.s.kernel_gs_base));
	emit_store(&t->e, s2, BT_OFF(i.s.seg[X86_GS].base));
}

static void system_segment_base(struct tr *t, const struct tr_insn *i)
{
	bool is_fs = i->x.op == X86_OP_RDFSBASE || i->x.op == X86_OP_WRFSBASE;
	uint32_t base = is_fs ? BT_OFF(i.s.seg[X86_FS].base) : BT_OFF(i.s.seg[X86_GS].base);
	bool is_write = !i->fx.writes, is_64 = i->x.opnd[0].size == 8;
	unsigned reg = i->x.opnd[0].reg;
	uint16_t avoid = (uint16_t)(1u << reg);
	struct emit *e = &t->e;

	tr_need(t, i->fx.reads);
	unsigned s1 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s1);
	struct tr_cold *c = tr_cold_new(t, i);

	emit_test_gs_i(e, BT_OFF(i.s.cr4), X86_CR4_FSGSBASE);
	tr_give_up_if(t, c, EMIT_E);
	if (!is_write) {
		is_64 ? emit_load(e, reg, base) : emit_load32(e, reg, base);
		tr_wrote(t, i->fx.writes);
	} else {
		emit_rr(e, is_64, 0x89, reg, s1);
		if (is_64) {
			emit_shift_ri(e, true, EMIT_SHL, s1, 16);
			emit_shift_ri(e, true, EMIT_SAR, s1, 16);
			emit_alu_rr(e, true, EMIT_CMP, s1, reg);
			tr_give_up_if(t, c, EMIT_NE);
		}
		emit_store(e, s1, base);
	}
	tr_resume_here(t, c);
}

/* CR0, CR2, CR3, CR4 and selectors as they are; the only write is CR2's. */
static void system_move(struct tr *t, const struct tr_insn *i)
{
	static const uint32_t cr[] = { BT_OFF(i.s.cr0), 0, BT_OFF(i.s.cr2), BT_OFF(i.s.cr3), BT_OFF(i.s.cr4) };
	const struct x86_opnd *o = i->x.opnd;

	tr_need(t, i->fx.reads);
	if (o[1].kind == X86_O_SREG) {
		uint32_t sel = BT_OFF(i.s.seg) + (uint32_t)sizeof(struct x86_seg) * o[1].reg +
			       (uint32_t)offsetof(struct x86_seg, sel);

		if (o[0].size == 2) {                   /* the upper half stays */
			emit8(&t->e, 0x66);
			emit_gs(&t->e, false, 0x8b, o[0].reg, sel);
		} else {
			emit_load16(&t->e, o[0].reg, sel);
		}
	} else if (o[1].kind == X86_O_CREG) {
		if (t->word == 4)
			emit_load32(&t->e, o[0].reg, cr[o[1].reg]);
		else
			emit_load(&t->e, o[0].reg, cr[o[1].reg]);
	} else {
		emit_store(&t->e, o[1].reg, BT_OFF(i.s.cr2));
	}
	tr_wrote(t, i->fx.writes);
}

void tr_system(struct tr *t, const struct tr_insn *i)
{
	switch (i->x.op) {
	case X86_OP_STI: system_sti(t, i); break;
	case X86_OP_PUSHF: system_pushf(t, i); break;
	case X86_OP_POPF: system_popf(t, i); break;
	case X86_OP_RDTSC: case X86_OP_RDTSCP: system_rdtsc(t, i); break;
	case X86_OP_RDPID: emit_load32(&t->e, i->x.opnd[0].reg, BT_OFF(i.s.tsc_aux)); tr_wrote(t, i->fx.writes); break;
	case X86_OP_PAUSE: system_pause(t, i); break;
	case X86_OP_SWAPGS: system_swapgs(t, i); break;
	case X86_OP_MOV: case X86_OP_MOV_CR: system_move(t, i); break;
	default: system_segment_base(t, i); break;
	}
}
