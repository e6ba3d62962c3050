/* SPDX-License-Identifier: Apache-2.0 */
/* Random programs on the translator and on the interpreter: registers, flags, x87, YMM and memory must be
 * the same at the end. Single instructions are compared with a real processor by tests/cpu_diff;
 * this is about what lies between them: where registers and flags are kept, jumps, calls, the cold
 * paths. A program is a loop of a few rounds, so that later rounds find warm tables. RBX points to
 * data, R15 counts the rounds; the rest is anyone's. */
#include "cpu/bt/bt.h"
#include "cpu/bt_stepper.h"
#include "cpu/interp_rig.h"
#include "cpu/x86/cpuid.h"
#include "test.h"

enum {
	N_PROGRAMS = 4000, N_STEPPED = 6, N_PIECES = 40, CODE_MAX = 3800,
	/* Bytes beyond RIG_DATA: three pages, the second elsewhere in memory, the third missing. */
	ODD = 0x8000, ODD_PAGE = RIG_DATA + 0xc000,
};

/* What a program has most of. */
enum style { STYLE_INTEGER, STYLE_VEX, STYLE_FP, STYLE_MIXED, N_STYLES };

struct prog {
	uint64_t seed;
	enum style style;
	uint64_t features;      /* of the host */
	uint8_t code[CODE_MAX];
	unsigned n;
};

static uint32_t rnd(struct prog *p, uint32_t below)
{
	p->seed = p->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(p->seed >> 33) % below;
}

static void put(struct prog *p, unsigned byte) { p->code[p->n++] = (uint8_t)byte; }

static void put32(struct prog *p, uint32_t v)
{
	memcpy(p->code + p->n, &v, 4);
	p->n += 4;
}

/* A register that may be written. */
static unsigned any_reg(struct prog *p)
{
	static const uint8_t regs[] = { 0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 10, 11 };

	return regs[rnd(p, sizeof(regs))];
}

/* Opcode with a register and [rbx + disp] or [rsp + disp]; sometimes across the end of the page,
 * sometimes with a segment or a 32-bit address. IS_REG: a second register instead of memory. */
static void put_modrm(struct prog *p, unsigned pfx, unsigned w, unsigned esc, unsigned op, unsigned reg, bool is_reg)
{
	unsigned rm = is_reg ? any_reg(p) : rnd(p, 4) ? 3 : 4;

	if (!is_reg && !rnd(p, 8))
		put(p, rnd(p, 2) ? 0x64 : 0x67);
	if (pfx)
		put(p, pfx);
	put(p, 0x40 | w << 3 | (reg & 8) >> 1 | rm >> 3);
	if (esc)
		put(p, 0x0f);
	put(p, op);
	if (is_reg) {
		put(p, 0xc0 | (reg & 7) << 3 | (rm & 7));
		return;
	}
	put(p, 0x80 | (reg & 7) << 3 | rm);
	if (rm == 4)
		put(p, 0x24);
	/* The stack pointer points into the middle of its page. */
	put32(p, rm == 4 ? 8 * rnd(p, 60) : rnd(p, 30) ? 16 * rnd(p, 200) : 0xff0 + 4 * rnd(p, 4));
}

static void put_integer(struct prog *p)
{
	static const uint8_t alu[] = { 0x01, 0x03, 0x11, 0x13, 0x19, 0x21, 0x29, 0x2b, 0x31, 0x39, 0x3b, 0x85, 0x87, 0x89,
				       0x8b, 0x00, 0x02, 0x28, 0x38, 0x3a, 0x88, 0x8a, 0x84, 0x63 };
	static const uint8_t two[] = { 0xb6, 0xb7, 0xbe, 0xbf, 0xaf, 0xb1, 0xc1, 0x44, 0x4f, 0x42, 0x4a, 0xbc, 0xb0 };
	unsigned w = rnd(p, 2), pfx = rnd(p, 6) ? 0 : 0x66;

	if (rnd(p, 3))
		put_modrm(p, pfx, w, 0, alu[rnd(p, sizeof(alu))], any_reg(p), rnd(p, 2));
	else
		put_modrm(p, pfx, w, 1, two[rnd(p, sizeof(two))], any_reg(p), rnd(p, 2));
}

/* Shifts by an immediate and by CL, INC, DEC, NOT, NEG, MUL, IMUL, SETcc, BT with an immediate. */
static void put_unary(struct prog *p)
{
	bool is_reg = rnd(p, 2);

	switch (rnd(p, 7)) {
	case 6:                         /* cqo; or r, 3; idiv r; sometimes div: it may fault */
		put(p, 0x48); put(p, 0x99);
		put(p, 0x49); put(p, 0x83); put(p, 0xc9); put(p, rnd(p, 2) ? 3 : 0);
		put(p, 0x49); put(p, 0xf7); put(p, rnd(p, 8) ? 0xf9 : 0xf1);
		break;
	case 0: put_modrm(p, 0, rnd(p, 2), 0, 0xc1, rnd(p, 8), is_reg); put(p, rnd(p, 70)); break;
	case 1: put_modrm(p, 0, rnd(p, 2), 0, 0xd3, rnd(p, 8), is_reg); break;
	case 2: put_modrm(p, 0, rnd(p, 2), 0, 0xff, rnd(p, 2), is_reg); break;
	case 3: put_modrm(p, 0, rnd(p, 2), 0, 0xf7, 2 + rnd(p, 4), is_reg); break;
	case 4: put_modrm(p, 0, 0, 1, 0x90 + rnd(p, 16), 0, is_reg); break;
	default: put_modrm(p, 0, rnd(p, 2), 1, 0xba, 4 + rnd(p, 4), is_reg); put(p, rnd(p, 64)); break;
	}
}

static void put_sse(struct prog *p)
{
	static const uint8_t ops[] = { 0xfe, 0xef, 0xd4, 0x58, 0x59, 0x6f, 0x7f, 0x2e, 0x14, 0xdb };
	unsigned op = ops[rnd(p, sizeof(ops))];

	if (!rnd(p, 4)) {
		put_modrm(p, 0x66, 1, 1, rnd(p, 2) ? 0x6e : 0x7e, rnd(p, 16), rnd(p, 2));       /* movq */
		return;
	}
	put_modrm(p, op == 0x58 || op == 0x59 ? 0xf2 : 0x66, 0, 1, op, rnd(p, 16), rnd(p, 2));
}

/* Is X one that a program may contain? It must leave RBX, RSP and R15 alone, and load no control word from
 * anywhere. */
static bool is_fit(const struct x86_insn *x)
{
	for (unsigned i = 0; i < x->n_opnds; i++) {
		unsigned r = x->opnd[i].kind == X86_O_REG ? x->opnd[i].reg : 0;

		if (r == X86_RBX || r == X86_RSP || r == X86_R15)
			return false;
	}
	switch (x->op) {
	case X86_OP_LDMXCSR: case X86_OP_FLDCW: case X86_OP_FLDENV: case X86_OP_FRSTOR: case X86_OP_MASKMOVQ:
	case X86_OP_MASKMOVDQU:
		return false;
	default:
		return !x->vsib;
	}
}

/* If the host has it. */
static void put_fit(struct prog *p, const struct x86_row *row, const uint8_t *b, unsigned n)
{
	struct x86_insn x;

	if (!(p->features >> row->feature & 1) || x86_decode(&x, b, n, X86_MODE_64) != X86_DECODE_OK || !is_fit(&x))
		return;
	for (unsigned i = 0; i < x.len; i++)
		put(p, b[i]);
}

/* Where a memory operand is: relative to RBX, in the page or across its end; to RSP; at a fixed address. */
enum place { NO_MEM, BY_RBX, BY_RSP, FIXED };

static enum place pick_place(struct prog *p, const struct x86_row *row)
{
	static const enum place places[] = { BY_RBX, BY_RBX, BY_RBX, BY_RSP, FIXED };
	bool has_mem = row->flags & X86_R_MODRM && row->rm < 0 && !(row->flags & X86_R_REGONLY);

	return has_mem && (row->flags & X86_R_MEMONLY || rnd(p, 2)) ? places[rnd(p, 5)] : NO_MEM;
}

static int32_t pick_disp(struct prog *p, const struct x86_row *row, enum place place)
{
	switch (place) {
	case BY_RSP: return 32 * (int32_t)rnd(p, 16);
	case FIXED: return RIG_DATA + 32 * (int32_t)rnd(p, 120) + (rnd(p, 40) ? 0 : 8);
	default: break;
	}
	return rnd(p, 20) || row->flags & X86_R_ALIGN16 ? 32 * (int32_t)rnd(p, 120) : 0xfe8 + 4 * (int32_t)rnd(p, 6);
}

/* The modrm of ROW and what follows, with a byte for an immediate. */
static unsigned make_modrm(struct prog *p, const struct x86_row *row, enum place place, uint8_t *b)
{
	static const uint8_t mod_rm[] = { 0xc0, 0x83, 0x84, 0x04 }, sib[] = { 0, 0, 0x24, 0x25 };
	unsigned reg = row->reg >= 0 ? (unsigned)row->reg : rnd(p, 8), n = 0;
	int32_t disp = pick_disp(p, row, place);

	if (row->flags & X86_R_MODRM)
		b[n++] = (uint8_t)(mod_rm[place] | reg << 3 |
				   (row->rm >= 0 ? (unsigned)row->rm : place == NO_MEM ? rnd(p, 8) : 0));
	if (sib[place])
		b[n++] = sib[place];
	if (place != NO_MEM)
		memcpy(b + n, &disp, 4), n += 4;
	b[n++] = (uint8_t)rnd(p, 256);
	return n;
}

/* Any x87, MMX or SSE instruction. */
static void put_fp(struct prog *p)
{
	static const uint32_t kinds[] = { X86_R_X87, X86_R_X87, X86_R_MMX, X86_R_SSE };
	uint32_t kind = kinds[rnd(p, 4)];
	const struct x86_row *row;
	uint8_t b[2 * X86_INSN_MAX];
	unsigned n = 0;

	do
		row = &x86_rows[rnd(p, x86_first_vex_row)];
	while (!(row->flags & kind));
	enum place place = pick_place(p, row);

	if (place != NO_MEM && !rnd(p, 8))
		b[n++] = rnd(p, 2) ? 0x64 : 0x67;
	if (row->pfx > X86_PFX_NOREP)
		b[n++] = row->pfx;
	if (rnd(p, 2) || row->flags & X86_R_W1)
		b[n++] = (uint8_t)(0x40 | (row->flags & X86_R_W1 ? 1 : row->flags & X86_R_W0 ? 0 : rnd(p, 2)) << 3 |
				   rnd(p, 2) << 2 | (place != NO_MEM ? 0 : rnd(p, 2)));
	if (row->map)
		b[n++] = 0x0f;
	if (row->map > 1)
		b[n++] = row->map == 2 ? 0x38 : 0x3a;
	b[n++] = row->opcode;
	put_fit(p, row, b, n + make_modrm(p, row, place, b + n));
}

/* mov dword [rbx + 64], a control word; ldmxcsr or fldcw from there. Few unmask an exception. */
static void put_control(struct prog *p)
{
	static const uint16_t mxcsr[] = { 0x1f80, 0x9fc0, 0x7f80, 0x3fbf, 0x1fa0, 0x1f80, 0x0f80 };
	static const uint16_t fcw[] = { 0x37f, 0x27f, 0xf7f, 0x7f, 0xb7f, 0x37f, 0x35f };
	bool is_fcw = rnd(p, 2);
	unsigned i = rnd(p, rnd(p, 6) ? 6 : 7);

	put(p, 0xc7); put(p, 0x43); put(p, 64); put32(p, is_fcw ? fcw[i] : mxcsr[i]);
	if (is_fcw) {
		put(p, 0xd9); put(p, 0x6b); put(p, 64);
	} else {
		put(p, 0x0f); put(p, 0xae); put(p, 0x53); put(p, 64);
	}
}

static unsigned make_vex(struct prog *p, const struct x86_row *row, uint8_t *b)
{
	unsigned pp = row->pfx == 0x66 ? 1 : row->pfx == 0xf3 ? 2 : row->pfx == 0xf2 ? 3 : 0, n = 0;
	unsigned l = row->flags & X86_R_L1 ? 1 : row->flags & X86_R_L0 ? 0 : rnd(p, 2);
	unsigned w = row->flags & X86_R_W1 ? 1 : row->flags & X86_R_W0 ? 0 : rnd(p, 2);
	unsigned vvvv = row->flags & X86_R_NDS ? rnd(p, 16) : 0;
	enum place place = pick_place(p, row);

	if (place != NO_MEM && !rnd(p, 8))
		b[n++] = rnd(p, 2) ? 0x64 : 0x67;
	b[n++] = 0xc4;
	b[n++] = (uint8_t)(rnd(p, 2) << 7 | 0x40 | (place != NO_MEM ? 1 : rnd(p, 2)) << 5 | (row->map - X86_MAP_VEX_0F + 1));
	b[n++] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
	if (row->map == X86_MAP_VEX_0F && !w && (b[n - 2] & 0x60) == 0x60 && rnd(p, 2)) {
		b[n - 2] = (uint8_t)((b[n - 2] & 0x80) | (b[n - 1] & 0x7f));
		b[n - 3] = 0xc5;
		n--;
	}
	b[n++] = row->opcode;
	return n + make_modrm(p, row, place, b + n);
}

/* Any VEX instruction; often one on general registers, or what clears upper halves. */
static void put_vex(struct prog *p)
{
	const struct x86_row *row;
	uint8_t b[2 * X86_INSN_MAX];
	bool is_bmi = !rnd(p, 3);

	if (!rnd(p, 12)) {
		put(p, 0xc5); put(p, rnd(p, 4) ? 0xf8 : 0xfc); put(p, 0x77);
		return;
	}
	do
		row = &x86_rows[x86_first_vex_row + rnd(p, x86_n_rows - x86_first_vex_row)];
	while (is_bmi && row->flags & X86_R_AVX);
	put_fit(p, row, b, make_vex(p, row, b));
}

static void put_stack(struct prog *p)
{
	unsigned r = any_reg(p), t = any_reg(p);

	switch (rnd(p, 4)) {
	case 0:                         /* push r; pop t */
		put(p, 0x40 | r >> 3); put(p, 0x50 | (r & 7));
		put(p, 0x40 | t >> 3); put(p, 0x58 | (t & 7));
		break;
	case 1:                         /* pushf; pop t */
		put(p, 0x9c);
		put(p, 0x40 | t >> 3); put(p, 0x58 | (t & 7));
		break;
	case 2:                         /* call +2; jmp +1; ret */
		put(p, 0xe8); put32(p, 2);
		put(p, 0xeb); put(p, 1);
		put(p, 0xc3);
		break;
	default:                        /* lea t, [rip + 3]; jmp t (after it: the next) */
		put(p, 0x48 | (t & 8) >> 1); put(p, 0x8d); put(p, 5 | (t & 7) << 3); put32(p, 3);
		put(p, 0x40 | t >> 3); put(p, 0xff); put(p, 0xe0 | (t & 7));
		break;
	}
}

/* lea reg, [rbx + disp]. */
static void put_pointer(struct prog *p, unsigned reg)
{
	put(p, 0x48); put(p, 0x8d); put(p, 0x83 | reg << 3);
	put32(p, rnd(p, 12) ? rnd(p, 0xe00) : 0xfc0 + rnd(p, 64));
}

/* A string instruction of any size, repeated or not, short or beyond the page, seldom downwards. */
static void put_string(struct prog *p)
{
	static const uint8_t ops[] = { 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf };
	bool is_down = !rnd(p, 8);
	unsigned rep = rnd(p, 3), size = rnd(p, 4);

	put_pointer(p, 6);
	put_pointer(p, 7);
	put(p, 0xb9);                   /* mov ecx, imm32 */
	put32(p, rnd(p, 10) ? rnd(p, 24) : rnd(p, 2000));
	if (is_down)
		put(p, 0xfd);
	if (!rnd(p, 8))
		put(p, 0x3e);
	if (size == 0)
		put(p, 0x66);
	if (rep)
		put(p, 0xf1 + rep);
	if (size == 1)
		put(p, 0x48);
	put(p, ops[rnd(p, sizeof(ops))]);
	if (is_down)
		put(p, 0xfc);
}

/* and r, 0x3fff; sometimes neg r; bt, bts, btr or btc [rbx + disp], r. */
static void put_bit_string(struct prog *p)
{
	unsigned r = any_reg(p), op = rnd(p, 4), size = rnd(p, 3);

	put(p, 0x40 | r >> 3); put(p, 0x81); put(p, 0xe0 | (r & 7)); put32(p, 0x3fff);
	if (!rnd(p, 4)) {
		put(p, 0x48 | r >> 3); put(p, 0xf7); put(p, 0xd8 | (r & 7));
	}
	if (op && !rnd(p, 3))
		put(p, 0xf0);
	if (!size)
		put(p, 0x66);
	put(p, 0x40 | (size == 2) << 3 | (r & 8) >> 1);
	put(p, 0x0f); put(p, 0xa3 + 8 * op);
	put(p, 0x83 | (r & 7) << 3);
	put32(p, 0x800 + rnd(p, 64));
}

static void put_system(struct prog *p)
{
	unsigned r = any_reg(p);

	switch (rnd(p, 14)) {
	case 12:                                                /* mov r, cr3; mov cr3, r */
		put(p, 0x40 | r >> 3); put(p, 0x0f); put(p, 0x20); put(p, 0xd8 | (r & 7));
		put(p, 0x40 | r >> 3); put(p, 0x0f); put(p, 0x22); put(p, 0xd8 | (r & 7));
		break;
	case 13:                                                /* invlpg [rbx] or [rsp] */
		put(p, 0x0f); put(p, 0x01);
		if (rnd(p, 2)) {
			put(p, 0x3b);
		} else {
			put(p, 0x3c); put(p, 0x24);
		}
		break;
	case 0: put(p, 0xfb); break;                            /* sti */
	case 1: put(p, 0xfa); break;                            /* cli */
	case 2: put(p, 0x9c); put_integer(p); put(p, 0x9d); break;      /* pushf; ...; popf */
	case 3: put(p, 0x68); put32(p, rnd(p, 4) ? (rnd(p, 0x1000) & 0x8d5) | 2 : rnd(p, 0x10000) & ~0x100u);
		put(p, 0x9d); put(p, 0xfc);                     /* push imm; popf; cld; pushf; pop r */
		put(p, 0x9c); put(p, 0x40 | r >> 3); put(p, 0x58 | (r & 7));
		break;
	case 4: put(p, 0x0f); put(p, 0x01); put(p, 0xf8); break;        /* swapgs */
	case 5: case 6: {                                       /* mov r, sreg */
		unsigned size = rnd(p, 3);

		if (!size)
			put(p, 0x66);
		put(p, 0x40 | (size == 2) << 3 | r >> 3); put(p, 0x8c); put(p, 0xc0 | rnd(p, 6) << 3 | (r & 7));
		break;
	}
	case 7: {                                               /* mov r, cr; mov cr2, r */
		static const uint8_t cr[] = { 0, 2, 3, 4 };

		put(p, 0x40 | r >> 3); put(p, 0x0f);
		bool is_write = !rnd(p, 3);

		put(p, is_write ? 0x22 : 0x20);
		put(p, 0xc0 | (is_write ? 2u : cr[rnd(p, 4)]) << 3 | (r & 7));
		break;
	}
	case 8: case 9: {                                       /* rdfsbase, rdgsbase, wrgsbase; rdpid */
		unsigned op = rnd(p, 4);

		put(p, 0xf3); put(p, 0x40 | rnd(p, 2) << 3 | r >> 3); put(p, 0x0f);
		put(p, op == 3 ? 0xc7 : 0xae);
		put(p, (op == 3 ? 0xf8 : op == 2 ? 0xd8 : 0xc0 + 8 * op) | (r & 7));
		break;
	}
	case 10: put(p, 0xf3); put(p, 0x90); break;             /* pause */
	default:                                                /* lea r, [rsp - 16]; push r; pop rsp; push r; pop r */
		put(p, 0x48 | (r & 8) >> 1); put(p, 0x8d); put(p, 0x44 | (r & 7) << 3); put(p, 0x24); put(p, 0xf0);
		put(p, 0x40 | r >> 3); put(p, 0x50 | (r & 7));
		put(p, 0x5c);
		put(p, 0x40 | r >> 3); put(p, 0x50 | (r & 7));
		put(p, 0x40 | r >> 3); put(p, 0x58 | (r & 7));
		break;
	}
}

/* Opcode with a register and [t + 8 * n], where t has just become RBX plus a constant; or the same with an
 * index. All these are one group, and the loop's jumps lie between them. */
static void put_derived(struct prog *p)
{
	static const uint8_t ops[] = { 0x01, 0x03, 0x89, 0x8b, 0x8b, 0x39, 0x33 };
	unsigned t = 8 + rnd(p, 2), r = any_reg(p), is_indexed = rnd(p, 2);

	if (r == 8 || r == 9 || r == 14)
		r = 10;
	if (is_indexed) {               /* movzx r14d, r14b; mov t, rbx */
		put(p, 0x45); put(p, 0x0f); put(p, 0xb6); put(p, 0xf6);
		put(p, 0x49); put(p, 0x89); put(p, 0xd8 | (t & 7));
	} else {                        /* lea t, [rbx + disp] */
		put(p, 0x4c); put(p, 0x8d); put(p, 0x83 | (t & 7) << 3); put32(p, 8 * rnd(p, rnd(p, 4) ? 300 : 512));
	}
	for (unsigned n = 2 + rnd(p, 4); n-- > 0; ) {
		put(p, 0x49 | (r & 8) >> 1 | (is_indexed ? 2 : 0));
		put(p, ops[rnd(p, sizeof(ops))]);
		put(p, 0x40 | (r & 7) << 3 | (is_indexed ? 4 : t & 7));
		if (is_indexed)
			put(p, 3 << 6 | 6 << 3 | (t & 7));      /* r14 * 8 */
		put(p, 8 * rnd(p, 16));
		if (!rnd(p, 3)) {       /* jcc +3; add t, 16 */
			put(p, 0x70 | rnd(p, 16)); put(p, rnd(p, 2) ? 0 : 4);
			put(p, 0x49); put(p, 0x83); put(p, 0xc0 | (t & 7)); put(p, 16);
		}
	}
}

/* r14d = a byte, 7 bits, or the upper 5 to 8 of 32. */
static void put_index(struct prog *p)
{
	unsigned r = any_reg(p);

	switch (rnd(p, 3)) {
	case 0:                         /* movzx r14d, r */
		put(p, 0x44 | r >> 3); put(p, 0x0f); put(p, 0xb6); put(p, 0xc0 | 6 << 3 | (r & 7));
		break;
	case 1:                         /* and r14d, 0x7f */
		put(p, 0x41); put(p, 0x83); put(p, 0xe6); put(p, 0x7f);
		break;
	default:                        /* shr r14d, 24 to 27 */
		put(p, 0x41); put(p, 0xc1); put(p, 0xee); put(p, 24 + rnd(p, 4));
		break;
	}
}

/* Opcode with a register and an entry of a table in which a small number counts: in one page or two, which
 * follow each other in memory or do not, or of which the second is missing. */
static void put_table(struct prog *p)
{
	static const uint8_t ops[] = { 0x03, 0x8b, 0x33, 0x3b, 0x23, 0x8b, 0x2b, 0x89, 0x01, 0x8a };
	unsigned t = 8 + rnd(p, 2), scale = rnd(p, 4), where = rnd(p, 8);
	uint32_t at = where < 4 ? 8 * rnd(p, 256) : where < 7 ? 0x800 + 8 * rnd(p, 256) : ODD + 8 * rnd(p, 512);

	if (rnd(p, 5)) {                /* lea t, [rbx + at] */
		put(p, 0x4c); put(p, 0x8d); put(p, 0x83 | (t & 7) << 3); put32(p, at);
	} else {                        /* mov t, RIG_DATA + at */
		put(p, 0x41); put(p, 0xb8 | (t & 7)); put32(p, RIG_DATA + at);
	}
	for (unsigned n = 2 + rnd(p, 4); n-- > 0; ) {
		unsigned r = any_reg(p), op = ops[rnd(p, sizeof(ops) - (rnd(p, 4) ? 3 : 0))];
		bool is_sse = !rnd(p, 8), is_turned = !scale && rnd(p, 2);

		put_index(p);
		if (r == 8 || r == 9 || r == 14)
			r = 10;
		if (is_sse)             /* movd */
			put(p, 0x66);
		put(p, 0x43 | (r & 8) >> 1 | (rnd(p, 2) && !is_sse ? 8 : 0));
		if (is_sse)
			put(p, 0x0f);
		put(p, is_sse ? 0x6e : op);
		put(p, 0x40 | (r & 7) << 3 | 4);
		put(p, is_turned ? (t & 7) << 3 | 6 : scale << 6 | 6 << 3 | (t & 7));
		put(p, 8 * rnd(p, 3));
	}
}

static void put_small(struct prog *p)
{
	static const uint8_t ops[] = { 0xf5, 0xf8, 0xf9, 0x9f, 0x9e, 0xfc, 0x98, 0x99, 0x90 };

	put(p, ops[rnd(p, sizeof(ops))]);
}

static void put_style(struct prog *p)
{
	unsigned style = p->style == STYLE_MIXED ? rnd(p, STYLE_MIXED) : p->style;

	if (style == STYLE_VEX)
		put_vex(p);
	else if (rnd(p, 12))
		put_fp(p);
	else
		put_control(p);
}

static void put_piece(struct prog *p)
{
	if (!rnd(p, p->style == STYLE_INTEGER ? 8 : 2)) {
		put_style(p);
		return;
	}
	switch (rnd(p, 19)) {
	case 17: case 18: put_table(p); break;
	case 15: case 16: put_derived(p); break;
	case 12: put_string(p); break;
	case 13: put_bit_string(p); break;
	case 14: put_system(p); break;
	case 0: put_small(p); break;
	case 1: put_stack(p); break;
	case 2: case 3: put_unary(p); break;
	case 4: case 5: put_sse(p); break;
	case 6: {                       /* jcc over the next piece */
		unsigned at = p->n + 1;

		put(p, 0x70 | rnd(p, 16));
		put(p, 0);
		put_integer(p);
		p->code[at] = (uint8_t)(p->n - at - 1);
		break;
	}
	default: put_integer(p); break;
	}
}

static void make_prog(struct prog *p, uint64_t seed, uint64_t features)
{
	*p = (struct prog){ .seed = seed * 2654435761u + 12345, .style = seed % N_STYLES, .features = features };
	for (unsigned i = 0; i < N_PIECES; i++)
		put_piece(p);
	/* dec r15; jz hlt; jmp start; hlt */
	put(p, 0x49); put(p, 0xff); put(p, 0xcf);
	put(p, 0x74); put(p, 5);
	put(p, 0xe9); put32(p, (uint32_t)-(int32_t)(p->n + 4));
	put(p, 0xf4);
}

/* x87 registers 1.5, -3.0, 6.0 and so on; the usual control words. */
static void init_fx(uint8_t *fx)
{
	const uint64_t man = 0xc000000000000000;
	const uint32_t mxcsr = 0x1f80;
	const uint16_t fcw = 0x37f;

	memset(fx, 0, X86_FX_MXCSR_MASK);
	memcpy(fx + X86_FX_MXCSR, &mxcsr, 4);
	memcpy(fx + X86_FX_FCW, &fcw, 2);
	fx[X86_FX_FTW] = 0xf0;
	for (unsigned i = 0; i < 8; i++) {
		uint16_t exp = (uint16_t)((i & 1) << 15 | (0x3fff + i));

		memcpy(fx + X86_FX_ST + 16 * i, &man, 8);
		memcpy(fx + X86_FX_ST + 16 * i + 8, &exp, 2);
	}
}

/* R is at the beginning of P. */
static void set_prog(struct rig *r, const struct prog *p)
{
	struct icpu *c = r->c;

	rig_code(r, RIG_CODE, p->code, p->n);
	for (unsigned i = 0; i < 16; i++)
		c->s.gpr[i] = (i * 0x123456789abull) ^ p->seed >> (i & 7);
	/* Now and then not aligned, or not for 32 bytes. */
	c->s.gpr[X86_RBX] = RIG_DATA + (p->seed % 16 == 5 ? 16 : p->seed % 16 == 9 ? 8 : 0);
	c->s.gpr[X86_RSP] = RIG_STACK + 0x800;
	/* Often enough now and then for groups to be given up that lie in two pages. */
	c->s.gpr[X86_R15] = p->seed % 8 ? 3 : 60;
	c->s.rflags = X86_FLAGS_FIXED;
	c->s.cr2 = 0;
	c->s.cr4 |= X86_CR4_FSGSBASE;
	c->s.seg[X86_GS].base = p->seed;
	c->s.kernel_gs_base = 0x1234;
	c->s.tsc_aux = 0x56789abcdefull;
	c->s.mp_state = X86_MP_RUNNABLE;
	uint8_t *data = gmem_ptr(r->mem, RIG_DATA, 4096);

	for (unsigned i = 0; i < 4096; i++)
		data[i] = (uint8_t)(i * 7 + p->seed);
	memset(gmem_ptr(r->mem, RIG_STACK, 4096), 0x5a, 4096);
	memset(gmem_ptr(r->mem, ODD_PAGE, 4096), 0x77, 4096);
	memset(c->s.xsave + X86_FX_XMM, 0x41, 256);
	memset(c->s.xsave + X86_XS_AVX, p->seed & 1 ? 0x42 : 0, 256);
	c->s.xsave[X86_XS_BV] |= 4;
	c->s.cr4 |= X86_CR4_OSXSAVE;
	c->s.xcr0 = 7;
	init_fx(c->s.xsave);
	/* Halted, or a triple fault: there is no IDT. A kick is ready for the former. */
	r->engine->ops->set_state(r->v, &c->s, NULL);
	c->intr_maybe = false;          /* nobody asks for interrupts here: IF may rise without a look */
}

static void run_prog(struct rig *r, const struct prog *p)
{
	const struct icpu *c = r->c;

	set_prog(r, p);
	for (unsigned i = 0; i < 100000 && c->s.mp_state == X86_MP_RUNNABLE; i++) {
		struct icpu_event ev;

		if (r->engine == &rig_engine && i == 0) {
			/* All at once; a fault ends it as it does a step. */
			if (bt_run_to_fault(r->v, &ev))
				return;
			continue;
		}
		if (r->engine->step(r->v, &ev))
			return;
	}
}

static void compare_page(struct rig *a, struct rig *b, const struct prog *p, gpa_t gpa)
{
	const uint8_t *x = gmem_ptr(a->mem, gpa, 4096), *y = gmem_ptr(b->mem, gpa, 4096);

	for (unsigned i = 0; i < 4096; i++)
		if (x[i] != y[i])
			FAIL("program %" PRIx64 ": byte %#x of page %#" PRIx64 " is %x, not %x", p->seed, i, gpa, y[i], x[i]);
}

/* C gets its own floating-point environment back, whatever the program was doing. */
static void check_host_fp(void)
{
	uint32_t mxcsr;
	uint16_t env[14];

	__asm__ volatile("stmxcsr %0; fnstenv %1; fldenv %1" : "=m"(mxcsr), "=m"(env));
	CHECK_EQ(mxcsr & ~0x3fu, 0x1f80);
	CHECK_EQ(env[0], 0x37f);
	CHECK_EQ(env[4], 0xffff);               /* all empty */
}

static void compare(struct rig *a, struct rig *b, const struct prog *p)
{
	const struct x86_state *x = &a->c->s, *y = &b->c->s;
	bool has_halted = x->mp_state == X86_MP_HALTED;

	for (unsigned i = 0; i < 16; i++)
		if (x->gpr[i] != y->gpr[i])
			FAIL("program %" PRIx64 ": register %u is %" PRIx64 ", not %" PRIx64 "; rip %" PRIx64 ", not %" PRIx64,
			     p->seed, i, y->gpr[i], x->gpr[i], y->rip, x->rip);
	CHECK_EQ(y->rip, x->rip);
	/* At a fault, flags that nobody reads any more may be older ones. */
	if (has_halted)
		CHECK_EQ(y->rflags, x->rflags);
	CHECK_EQ(y->cr2, x->cr2);
	CHECK_EQ(y->seg[X86_GS].base, x->seg[X86_GS].base);
	CHECK_EQ(y->kernel_gs_base, x->kernel_gs_base);
	CHECK_EQ(memcmp(x->xsave, y->xsave, 416), 0);
	CHECK_EQ(memcmp(x->xsave + X86_XS_AVX, y->xsave + X86_XS_AVX, 256), 0);
	for (unsigned i = 0; i < 3; i++)
		compare_page(a, b, p, RIG_DATA + 4096 * i);
	compare_page(a, b, p, RIG_DATA + ODD);
	compare_page(a, b, p, ODD_PAGE);
	compare_page(a, b, p, RIG_STACK);
}

static void map_odd(struct rig *r)
{
	*rig_pte(r, RIG_DATA + ODD + 4096) = ODD_PAGE | 0x67;
	*rig_pte(r, RIG_DATA + ODD + 8192) = 0;
}

TEST(random_programs_end_as_they_do_on_the_interpreter)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	struct rig a, b;
	uint64_t features = x86_host_features();
	unsigned n_halted = 0;

	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	map_odd(&a);
	map_odd(&b);
	for (unsigned i = 0; i < N_PROGRAMS; i++) {
		struct prog p;

		make_prog(&p, i, features);
		run_prog(&a, &p);
		run_prog(&b, &p);
		check_host_fp();
		compare(&a, &b, &p);
		n_halted += a.c->s.mp_state == X86_MP_HALTED;
	}
	CHECK(n_halted > N_PROGRAMS / 4);
	rig_fini(&a);
	rig_fini(&b);
}

/* Once without, so that code is there and what is stepped through is code. */
TEST(each_host_instruction_is_described_as_the_interpreter_is_there)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	uint64_t features = x86_host_features();
	struct stepper s = { .next = 0 };
	struct rig a, b;

	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	map_odd(&a);
	map_odd(&b);
	for (unsigned i = 0; i < N_STEPPED; i++) {
		struct icpu_event ev;
		struct prog p;

		make_prog(&p, i * 97, features);
		run_prog(&b, &p);
		for (unsigned n = 0; n < 16; n++)       /* what it has left there */
			memcpy(gmem_ptr(a.mem, RIG_DATA + 4096 * n, 4096), gmem_ptr(b.mem, RIG_DATA + 4096 * n, 4096), 4096);
		set_prog(&a, &p);
		set_prog(&b, &p);
		s = (struct stepper){ .ref = &a, .bt = &b, .wants_flags = p.style <= STYLE_VEX, .n_exact = s.n_exact, .n_between = s.n_between };
		stepper_run(&s, &ev);
		if (s.wrong[0])
			FAIL("program %u: %s", i * 97, s.wrong);
	}
	/* Most of them are. */
	CHECK(s.n_exact > s.n_between);
	rig_fini(&a);
	rig_fini(&b);
}

/* Both stores need a low register for the address and find but RDX, which MUL writes in between. */
TEST(a_register_lent_to_a_store_of_a_high_byte_keeps_what_mul_writes_to_it)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	/* mov edi, RIG_DATA; xor esi, esi; mov [rdi + rsi], bh; mul edi; mov [rdi + rsi], bh; hlt */
	static const uint8_t code[] = { 0xbf, 0, 0, 2, 0, 0x31, 0xf6, 0x88, 0x3c, 0x37, 0xf7, 0xe7, 0x88, 0x3c, 0x37, 0xf4 };
	struct prog p = { .n = sizeof(code) };
	struct rig a, b;

	memcpy(p.code, code, sizeof(code));
	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	run_prog(&a, &p);
	run_prog(&b, &p);
	compare(&a, &b, &p);
	CHECK_EQ(a.c->s.mp_state, X86_MP_HALTED);
	rig_fini(&a);
	rig_fini(&b);
}

/* A group in the last bytes before OFF + 4096 of RIG_DATA and in the page after that, in a loop. Returns how often
 * the interpreter was asked. */
static uint64_t run_group_in_two_pages(uint32_t off)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	uint8_t code[] = {
		0x41, 0xbf, 0xe8, 3, 0, 0, 0x4c, 0x8d, 0x83, 0, 0, 0, 0,        /* mov r15d, 1000; lea r8, [rbx + off] */
		0x49, 0x03, 0x00, 0x49, 0x33, 0x40, 8, 0x49, 0x03, 0x40, 16,    /* loop: add rax, [r8]; xor ...; add ... */
		0x49, 0x89, 0x40, 4, 0x41, 0xff, 0xcf, 0x75, 0xec, 0xf4,        /* mov [r8 + 4], rax; dec r15d; jnz loop; hlt */
	};
	struct prog p = { .n = sizeof(code) };
	struct cpu_stats stats = { 0 };
	struct rig a, b;

	off += 0xff0;
	memcpy(code + 9, &off, 4);
	memcpy(p.code, code, sizeof(code));
	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	map_odd(&a);
	map_odd(&b);
	run_prog(&a, &p);
	run_prog(&b, &p);
	compare(&a, &b, &p);
	CHECK_EQ(a.c->s.mp_state, X86_MP_HALTED);
	b.engine->ops->stats(b.v, &stats);
	rig_fini(&a);
	rig_fini(&b);
	return stats.call_outs;
}

TEST(a_group_in_two_pages_is_found_in_both_or_given_up)
{
	CHECK(run_group_in_two_pages(0) < 500);
	CHECK(run_group_in_two_pages(ODD) < 500);
}

/* What a jump leads to overwrites the flags, so nobody keeps them; then it is rewritten and reads them. */
TEST(flags_are_kept_for_code_that_reads_them_only_after_it_has_been_rewritten)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	enum { LOOP = 15, T = LOOP + 6 };
	static const uint8_t code[] = {
		0xbe, 5, 0, 0, 0, 0xb9, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0,   /* mov esi, 5; mov ecx, 1; mov edi, 1 */
		0x39, 0xf9, 0x8b, 0x03, 0xeb, 0,                        /* loop: cmp ecx, edi; mov eax, [rbx]; jmp t */
		0x83, 0xe2, 0,                                          /* t: and edx, 0, later sete dl */
		0x83, 0xfe, 3, 0x75, 18,                                /* in the third round: */
		0x66, 0xc7, 0x04, 0x25, (RIG_CODE + T) & 0xff, (RIG_CODE + T) >> 8 & 0xff, RIG_CODE >> 16, 0, 0x0f, 0x94,
		0xc6, 0x04, 0x25, (RIG_CODE + T + 2) & 0xff, (RIG_CODE + T) >> 8 & 0xff, RIG_CODE >> 16, 0, 0xc2,
		0xff, 0xce, 0x75, 0xdc, 0xf4,                           /* dec esi; jnz loop; hlt */
	};
	struct prog p = { .n = sizeof(code) };
	struct rig a, b;

	memcpy(p.code, code, sizeof(code));
	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	run_prog(&a, &p);
	run_prog(&b, &p);
	compare(&a, &b, &p);
	CHECK_EQ(a.c->s.mp_state, X86_MP_HALTED);
	CHECK_EQ(b.c->s.gpr[X86_RDX] & 0xff, 1);
	rig_fini(&a);
	rig_fini(&b);
}

/* More code than fits: a chain of direct and indirect jumps through many pages, run three times, so that what
 * has been dropped is jumped to again from what has not. */
TEST(code_that_does_not_fit_is_dropped_by_parts_and_made_again)
{
	enum { FIRST = 0x60000, STEP = 128, N = (0x1e0000 - FIRST) / STEP, ROUNDS = 3 };
	uint64_t want = 1;
	struct rig r;

	rig_init_cached(&r, &rig_engine, 1, 1);
	for (unsigned i = 0; i < N; i++) {
		/* add rax, i; rol rax, 1; lea rdx, [rip + STEP - ...]; jmp rdx or jmp to it */
		uint8_t c[] = { 0x48, 0x05, 0, 0, 0, 0, 0x48, 0xd1, 0xc0, 0x48, 0x8d, 0x15, 0, 0, 0, 0, 0xff, 0xe2, 0, 0, 0 };
		/* the last: dec rcx; jz +5; jmp to the first; hlt */
		uint8_t last[] = { 0x48, 0xff, 0xc9, 0x74, 5, 0xe9, 0, 0, 0, 0, 0xf4 };
		uint32_t at = FIRST + i * STEP, by = STEP - 16;

		memcpy(c + 2, &i, 4);
		memcpy(c + 12, &by, 4);
		if (i % 4) {
			by = STEP - 21;
			c[16] = 0xe9;
			memcpy(c + 17, &by, 4);
		}
		rig_code(&r, at, c, sizeof(c));
		by = (uint32_t)(FIRST - (int32_t)(at + STEP + 10));
		memcpy(last + 6, &by, 4);
		if (i == N - 1)
			rig_code(&r, at + STEP, last, sizeof(last));
	}
	for (unsigned i = 0; i < N * ROUNDS; i++)
		want = (want + i % N) << 1 | (want + i % N) >> 63;
	rig_code(&r, RIG_CODE, (const uint8_t[]){ 0xff, 0xe3 }, 2);     /* jmp rbx */
	r.c->s.gpr[X86_RBX] = FIRST;
	r.c->s.gpr[X86_RAX] = 1;
	r.c->s.gpr[X86_RCX] = ROUNDS;
	r.engine->ops->set_state(r.v, &r.c->s, NULL);
	struct icpu_event ev;

	CHECK_EQ(bt_run_to_fault(r.v, &ev), 0);
	CHECK_EQ(r.c->s.mp_state, X86_MP_HALTED);
	CHECK_EQ(r.c->s.gpr[X86_RAX], want);
	CHECK(r.c->stats.blocks_decoded > N + N / 2);
	rig_fini(&r);
}
