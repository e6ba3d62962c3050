/* SPDX-License-Identifier: Apache-2.0 */
/* prog.c - a random program. Every piece follows from its own seed and from where the others lie, so any can be
 * left out. Programs end: jumps go forward, except at the end of a loop, which counts R15 down and goes
 * back only while it is above 0. */
#include <cpuid.h>
#include <string.h>
#include "cpu/x86/state.h"
#include "rand.h"

enum kind { K_INSN, K_JCC, K_JMP, K_LOOP, K_LOOP_END, K_CALL, K_JUMP_REG, K_CALL_REG, K_RET_TO, K_CHANGED, K_CHANGE,
	    K_STACK, K_FLAGS, K_RIP_DATA, K_RET, K_END };
_Static_assert((int)K_RET == RAND_KIND_KEPT, "what the shrinker keeps");

enum { MAIN_PIECES = 52, FUNC_PIECES = (RAND_PIECES - MAIN_PIECES) / 2, EXTRA = 16 };

static uint64_t next(uint64_t *s)
{
	uint64_t z = *s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static unsigned below(uint64_t *s, unsigned n) { return (unsigned)(next(s) % n); }

/* --- emitting ------------------------------------------------------------------------------- */

struct out {
	uint8_t *p;
	unsigned n, n_insns;
};

static void put(struct out *o, const void *p, unsigned n) { memcpy(o->p + o->n, p, n); o->n += n; }
static void put8(struct out *o, unsigned v) { o->p[o->n++] = (uint8_t)v; }
static void put32(struct out *o, uint32_t v) { put(o, &v, 4); }

static void put_mov64(struct out *o, unsigned reg, uint64_t v)
{
	put8(o, 0x48 | reg >> 3);
	put8(o, 0xb8 | (reg & 7));
	put(o, &v, 8);
	o->n_insns++;
}

/* A register that pieces may write. */
static unsigned any_reg(uint64_t *s)
{
	static const uint8_t regs[] = { 0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14 };

	return regs[below(s, sizeof(regs))];
}

/* --- one instruction from the decode table --------------------------------------------------- */

static bool is_reserved(unsigned reg) { return reg == X86_RSP || reg == X86_R15; }

/* What leaves the program, has results that are a processor's own, or writes the reserved registers. */
static bool insn_is_fit(const struct x86_insn *x)
{
	bool is_sha = x->row->feature == X86_F_SHA;

	if (x->row->flags & (X86_R_BRANCH | X86_R_END))
		return false;
	switch (x->op) {
	case X86_OP_ENTER: case X86_OP_LEAVE: case X86_OP_PUSH: case X86_OP_POP: case X86_OP_PUSHF: case X86_OP_POPF:
	case X86_OP_FXSAVE: case X86_OP_FXRSTOR: case X86_OP_XSAVE: case X86_OP_XSAVEOPT: case X86_OP_XSAVEC: case X86_OP_XRSTOR:
	case X86_OP_FNSTENV: case X86_OP_FLDENV: case X86_OP_FNSAVE: case X86_OP_FRSTOR: case X86_OP_FLDCW: case X86_OP_LDMXCSR:
	case X86_OP_MASKMOVQ: case X86_OP_MASKMOVDQU: case X86_OP_RDFSBASE: case X86_OP_RDGSBASE: case X86_OP_WRFSBASE:
	case X86_OP_WRGSBASE: case X86_OP_MOVSXD: case X86_OP_PREFETCH: case X86_OP_PERMQ: case X86_OP_PERMPD: case X86_OP_HLT:
		return false;
	default:
		break;
	}
	/* Not aligned and not canonical: #GP or #SS, as the processor likes. */
	if (x->seg == X86_SS && x->row->flags & X86_R_ALIGN16)
		return false;
	for (unsigned i = 0; i < x->n_opnds; i++)
		if ((x->opnd[i].kind == X86_O_REG && is_reserved(x->opnd[i].reg)) || x->opnd[i].kind == X86_O_SREG ||
		    x->opnd[i].kind == X86_O_MOFFS || (x->opnd[i].kind == X86_O_MEM && is_sha))
			return false;
	return x->base != X86_REG_RIP && !(x->base < 16 && is_reserved(x->base)) && !(x->index < 16 && !x->vsib && is_reserved(x->index));
}

/* Instructions that leave something behind when they fault which is a processor's own (tests/cpu_diff/accept.c). */
static bool insn_leaves_traces(const struct x86_insn *x)
{
	bool stores = x->n_opnds && x->opnd[0].kind == X86_O_MEM;

	return (x->row->flags & X86_R_MMX && stores) || x->op == X86_OP_CVTPS2PH || (x->row->feature == X86_F_AVX2 && stores) ||
	       x->op == X86_OP_MASKMOVPS || x->op == X86_OP_MASKMOVPD || (stores && x->opnd[0].size == 10);
}

static bool is_inside(uint64_t la) { return la >= DIFF_DATA && la < DIFF_DATA + DIFF_RW_LEN - 64; }

/* A gather that faults has done with its mask what Intel's SDM says, or what AMD says. */
static bool host_gathers_as_intel(void)
{
	unsigned a, b = 0, c, d;

	return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
}

static bool case_is_fit(const struct diff_case *c)
{
	const struct x86_insn *x = &c->insn;

	if (c->is_32 || !c->is_valid || !insn_is_fit(x))
		return false;
	/* An address of 32 bits clears upper halves of registers before a repeated instruction faults, or after. */
	if (x->prefixes & (X86_P_REP | X86_P_REPNE) && x->adsize == 4)
		return false;
	/* Of two operands that both fault either is the first. */
	if (x->op == X86_OP_CMPS && (x->seg >= X86_FS || !is_inside(c->in.gpr[X86_RSI]) || !is_inside(c->in.gpr[X86_RDI])))
		return false;
	for (unsigned i = 0; i < x->n_opnds; i++)
		if (x->opnd[i].kind == X86_O_MEM && insn_leaves_traces(x) && !is_inside(c->ea))
			return false;
	return !x->vsib || host_gathers_as_intel();
}

/* With the registers that its address depends on set so that it falls on the data, or just beside. */
static void put_insn(struct out *o, const struct diff_gen *g, uint64_t *s)
{
	struct diff_case c;

	do {
		gen_case(g, &c, next(s));
	} while (!case_is_fit(&c));
	const struct x86_insn *x = &c.insn;
	uint16_t set = 0;

	for (unsigned i = 0; i < x->n_opnds; i++) {
		if (x->opnd[i].kind == X86_O_STR_SI || x->opnd[i].kind == X86_O_STR_DI)
			set |= 1 << X86_RSI | 1 << X86_RDI | 1 << X86_RCX;
		if (x->opnd[i].kind == X86_O_MEM && x->base < 16)
			set |= (uint16_t)(1u << x->base);
		if (x->opnd[i].kind == X86_O_MEM && x->index < 16 && !x->vsib)
			set |= (uint16_t)(1u << x->index);
	}
	if (x->op == X86_OP_XLAT)
		set |= 1 << X86_RBX;
	for (unsigned r = 0; r < 16; r++)
		if (set >> r & 1)
			put_mov64(o, r, c.in.gpr[r]);
	put(o, c.code, c.len);
	o->n_insns++;
}

/* --- the other pieces --------------------------------------------------------------------------- */

static void put_stack(struct out *o, uint64_t *s)
{
	unsigned a = any_reg(s), b = any_reg(s);

	put8(o, 0x40 | a >> 3); put8(o, 0x50 | (a & 7));        /* push a */
	switch (below(s, 4)) {
	case 0:                                                 /* add [rsp], b */
		put8(o, 0x48 | (b & 8) >> 1); put8(o, 0x01); put8(o, 0x04 | (b & 7) << 3); put8(o, 0x24);
		break;
	case 1:                                                 /* push imm32; pop b */
		put8(o, 0x68); put32(o, (uint32_t)next(s));
		put8(o, 0x40 | b >> 3); put8(o, 0x58 | (b & 7));
		o->n_insns++;
		break;
	case 2:                                                 /* mov b, [rsp] */
		put8(o, 0x48 | (b & 8) >> 1); put8(o, 0x8b); put8(o, 0x04 | (b & 7) << 3); put8(o, 0x24);
		break;
	default:                                                /* push qword [rsp]; lea rsp, [rsp+8] */
		put8(o, 0xff); put8(o, 0x34); put8(o, 0x24);
		put8(o, 0x48); put8(o, 0x8d); put8(o, 0x64); put8(o, 0x24); put8(o, 8);
		o->n_insns++;
		break;
	}
	put8(o, 0x40 | b >> 3); put8(o, 0x58 | (b & 7));        /* pop b */
	o->n_insns += 3;
}

static void put_flags(struct out *o, uint64_t *s)
{
	static const uint8_t small[] = { 0xf5, 0xf8, 0xf9, 0x9f, 0x9e, 0xfc, 0x98, 0x99 };
	unsigned r = any_reg(s);

	switch (below(s, 4)) {
	case 0:                                                 /* pushf; pop r */
		put8(o, 0x9c);
		put8(o, 0x40 | r >> 3); put8(o, 0x58 | (r & 7));
		o->n_insns += 2;
		break;
	case 1:                                                 /* push flags; popf */
		put8(o, 0x68);
		put32(o, X86_FLAGS_FIXED | X86_IF | ((uint32_t)next(s) & (X86_FLAGS_ARITH | (below(s, 4) ? 0 : X86_DF))));
		put8(o, 0x9d);
		o->n_insns += 2;
		break;
	case 2:                                                 /* setcc r; cmovcc */
		put8(o, 0x40 | r >> 3); put8(o, 0x0f); put8(o, 0x90 | below(s, 16)); put8(o, 0xc0 | (r & 7));
		put8(o, 0x48); put8(o, 0x0f); put8(o, 0x40 | below(s, 16)); put8(o, 0xc1);
		o->n_insns += 2;
		break;
	default:
		put8(o, small[below(s, sizeof(small))]);
		o->n_insns++;
		break;
	}
}

/* op r, [rip + x] on the data. */
static void put_rip_data(struct out *o, uint64_t *s, uint64_t here)
{
	static const uint8_t ops[] = { 0x8b, 0x89, 0x03, 0x01, 0x3b, 0x31, 0x87, 0x63 };
	unsigned r = any_reg(s);
	uint64_t to = DIFF_DATA + below(s, DIFF_DATA_LEN);

	put8(o, 0x48 | (r & 8) >> 1);
	put8(o, ops[below(s, sizeof(ops))]);
	put8(o, 5 | (r & 7) << 3);
	put32(o, (uint32_t)(to - (here + 7)));
	o->n_insns++;
}

static void put_loop_end(struct out *o, uint64_t here, uint64_t to)
{
	put8(o, 0x41); put8(o, 0xff); put8(o, 0xcf);            /* dec r15d; jg to */
	put8(o, 0x0f); put8(o, 0x8f); put32(o, (uint32_t)(to - (here + 9)));
	o->n_insns += 2;
}

/* By a register, through memory, or as a return. */
static void put_indirect(struct out *o, uint64_t *s, enum kind kind, uint64_t to)
{
	unsigned r = any_reg(s), ext = kind == K_CALL_REG ? 2 : 4;

	put_mov64(o, r, to);
	if (kind == K_RET_TO) {
		put8(o, 0x40 | r >> 3); put8(o, 0x50 | (r & 7));
		put8(o, 0xc3);
		o->n_insns += 2;
	} else if (below(s, 2)) {
		put8(o, 0x40 | r >> 3); put8(o, 0xff); put8(o, 0xc0 | ext << 3 | (r & 7));
		o->n_insns++;
	} else {                                                /* mov [rsp-64], r; jmp or call [rsp-64] */
		put8(o, 0x48 | (r & 8) >> 1); put8(o, 0x89); put8(o, 0x44 | (r & 7) << 3); put8(o, 0x24); put8(o, 0xc0);
		put8(o, 0xff); put8(o, 0x44 | ext << 3); put8(o, 0x24); put8(o, 0xc0);
		o->n_insns += 2;
	}
}

/* Store to the constant of a K_CHANGED piece: some bytes of it. */
static void put_change(struct out *o, uint64_t *s, uint64_t to)
{
	if (below(s, 2)) {                                      /* mov dword [abs], imm32 */
		put8(o, 0xc7); put8(o, 0x04); put8(o, 0x25); put32(o, (uint32_t)to + 1); put32(o, (uint32_t)next(s));
	} else {                                                /* add byte [abs], imm8 */
		put8(o, 0x80); put8(o, 0x04); put8(o, 0x25); put32(o, (uint32_t)to + 1 + below(s, 4)); put8(o, (unsigned)next(s));
	}
	o->n_insns++;
}

/* PIECE at HERE. The others are where the last round has put them. */
static void put_piece(struct out *o, const struct rand_prog *p, const struct rand_piece *piece, uint64_t here)
{
	uint64_t seed = piece->seed, *s = &seed, to = RAND_CODE + p->piece[piece->to].at;

	switch ((enum kind)piece->kind) {
	case K_INSN: put(o, piece->bytes, piece->n_bytes); o->n_insns += piece->n_insns; break;
	case K_JCC: put8(o, 0x0f); put8(o, 0x80 | below(s, 16)); put32(o, (uint32_t)(to - (here + 6))); o->n_insns++; break;
	case K_JMP: put8(o, 0xe9); put32(o, (uint32_t)(to - (here + 5))); o->n_insns++; break;
	case K_LOOP: put8(o, 0x41); put8(o, 0xbf); put32(o, 1 + below(s, 6)); o->n_insns++; break;
	case K_LOOP_END: put_loop_end(o, here, to); break;
	case K_CALL: put8(o, 0xe8); put32(o, (uint32_t)(to - (here + 5))); o->n_insns++; break;
	case K_JUMP_REG: case K_CALL_REG: case K_RET_TO: put_indirect(o, s, piece->kind, to); break;
	case K_CHANGED: put8(o, 0xb8 | below(s, 3)); put32(o, (uint32_t)next(s)); o->n_insns++; break;
	case K_CHANGE: put_change(o, s, to); break;
	case K_STACK: put_stack(o, s); break;
	case K_FLAGS: put_flags(o, s); break;
	case K_RIP_DATA: put_rip_data(o, s, here); break;
	case K_RET: put8(o, 0xc3); o->n_insns++; break;
	case K_END: put8(o, 0xf4); break;
	}
}

/* --- the program ---------------------------------------------------------------------------------- */

static bool is_changed(const struct rand_prog *p, unsigned i)
{
	return p->piece[i].kind == K_CHANGED && !p->piece[i].is_removed;
}

/* Twice: the second time all know where the others are. Lengths do not depend on it. */
void rand_lay_out(struct rand_prog *p)
{
	for (unsigned round = 0; round < 2; round++) {
		struct out o = { p->code, p->start, 0 };

		memset(p->code, 0xf4, sizeof(p->code));
		for (unsigned i = 0; i < RAND_PIECES; i++) {
			struct rand_piece *q = &p->piece[i];

			q->at = (uint16_t)o.n;
			if (!q->is_removed && (q->kind != K_CHANGE || is_changed(p, q->to)))
				put_piece(&o, p, q, RAND_CODE + o.n);
			q->len = (uint16_t)(o.n - q->at);
		}
		p->n_insns = o.n_insns;
	}
	p->end = p->piece[MAIN_PIECES - 1].at;
}

/* Piece I of a part that ends with piece LAST. */
static void choose(struct rand_prog *p, uint64_t *s, unsigned i, unsigned last, int *loop)
{
	struct rand_piece *q = &p->piece[i];
	bool is_main = last == MAIN_PIECES - 1;
	unsigned what = below(s, 100);

	q->seed = next(s);
	q->to = (uint8_t)(i + 1 + below(s, last - i < 6 ? last - i : 6));
	if (what < 56)
		q->kind = K_INSN;
	else if (what < 66)
		q->kind = K_JCC;
	else if (what < 68)
		q->kind = K_JMP;
	else if (what < 74 && is_main && *loop < 0)
		q->kind = K_LOOP, *loop = (int)i;
	else if (what < 74 && is_main)
		q->kind = K_LOOP_END, q->to = (uint8_t)(*loop + 1), *loop = -1;
	else if (what < 78 && is_main)
		q->kind = below(s, 2) ? K_CALL : K_CALL_REG, q->to = (uint8_t)(MAIN_PIECES + (below(s, 2) ? FUNC_PIECES : 0));
	else if (what < 81)
		q->kind = K_JUMP_REG;
	else if (what < 83)
		q->kind = K_RET_TO;
	else if (what < 87)
		q->kind = K_CHANGED;
	else if (what < 90)
		q->kind = K_CHANGE, q->to = (uint8_t)below(s, RAND_PIECES);
	else if (what < 94)
		q->kind = K_STACK;
	else if (what < 97)
		q->kind = K_FLAGS;
	else
		q->kind = K_RIP_DATA;
}

void rand_make(struct rand_prog *p, const struct diff_gen *g, uint64_t seed)
{
	uint64_t s = seed * 0x2545f4914f6cdd1d;
	struct diff_case c;
	int loop = -1;

	memset(p, 0, sizeof(*p));
	p->seed = seed;
	for (unsigned i = 0; i < RAND_PIECES; i++) {
		unsigned last = i < MAIN_PIECES ? MAIN_PIECES - 1 : i < MAIN_PIECES + FUNC_PIECES ? MAIN_PIECES + FUNC_PIECES - 1 :
				RAND_PIECES - 1;

		if (i == last)
			p->piece[i].kind = i < MAIN_PIECES ? K_END : K_RET;
		else
			choose(p, &s, i, last, &loop);
	}
	for (unsigned i = 0; i < RAND_PIECES; i++) {
		struct rand_piece *q = &p->piece[i];
		struct out o = { q->bytes, 0, 0 };
		uint64_t own = q->seed;

		if (q->kind == K_INSN)
			put_insn(&o, g, &own);
		q->n_bytes = (uint8_t)o.n;
		q->n_insns = (uint8_t)o.n_insns;
	}
	/* A change changes something that is there. */
	for (unsigned i = 0; i < RAND_PIECES; i++)
		for (unsigned n = 0; p->piece[i].kind == K_CHANGE && n < RAND_PIECES && p->piece[p->piece[i].to].kind != K_CHANGED; n++)
			p->piece[i].to = (uint8_t)((p->piece[i].to + 1) % RAND_PIECES);
	p->start = (uint16_t)below(&s, 0x1000);
	gen_case(g, &c, next(&s));
	p->in = c.in;
	p->in.rip = RAND_CODE + p->start;
	p->in.rflags = X86_FLAGS_FIXED | X86_IF | (next(&s) & X86_FLAGS_ARITH);
	p->in.gpr[X86_RSP] = RAND_STACK + RAND_STACK_LEN / 2 + (below(&s, 4) ? 8 * below(&s, 8) : below(&s, 64));
	p->in.gpr[X86_R15] = 0;
	/* Exceptions of floating point are cpu_diff's: their order in a processor's own steps is its own. */
	uint16_t fcw = 0x37f, fsw = 0;
	uint32_t mxcsr = 0x1f80 | (next(&s) & 0x6000);

	memcpy(p->in.fx + X86_FX_FCW, &fcw, 2);
	memcpy(p->in.fx + X86_FX_FSW, &fsw, 2);
	memcpy(p->in.fx + X86_FX_MXCSR, &mxcsr, 4);
	rand_lay_out(p);
}

uint64_t rand_resume(const struct rand_prog *p, uint64_t rip)
{
	uint64_t off = rip - RAND_CODE;

	if (off == p->end)
		return 0;
	for (unsigned i = 0; i + 1 < RAND_PIECES; i++)
		if (off >= p->piece[i].at && off < (uint64_t)p->piece[i].at + p->piece[i].len)
			return RAND_CODE + p->piece[i + 1].at;
	return 0;
}
