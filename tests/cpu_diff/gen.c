/* SPDX-License-Identifier: Apache-2.0 */
/* gen.c - random instructions and the state they run on. An instruction is made from its row:
 * prefixes, opcode, a modrm that fits and random bytes behind it; the decoder says how many of
 * them belong to it. Registers are then bent so that its memory operand usually falls on or
 * near the edges of the data pages. Everything follows from the case's seed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "diff.h"

struct rng { uint64_t s; };

/* splitmix64 */
static uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

static bool rng_percent(struct rng *r, unsigned p)
{
	return rng_below(r, 100) < p;
}

/* --- rows ------------------------------------------------------------------------------------- */

/* Rows that only a kernel can compare: descriptor tables, segments, and what user mode may or
 * may not do by configuration of the host. */
static bool gen_op_is_system(enum x86_op op)
{
	switch (op) {
	case X86_OP_SGDT: case X86_OP_SIDT: case X86_OP_SLDT: case X86_OP_STR: case X86_OP_SMSW:
	case X86_OP_LAR: case X86_OP_LSL: case X86_OP_VERR: case X86_OP_VERW: case X86_OP_ARPL:
	case X86_OP_LDS: case X86_OP_LES: case X86_OP_LSS: case X86_OP_LFS: case X86_OP_LGS:
	case X86_OP_XGETBV: case X86_OP_MONITOR: case X86_OP_MWAIT: case X86_OP_RDPMC:
	case X86_OP_SYSCALL: case X86_OP_SYSENTER: case X86_OP_INT: case X86_OP_INT3: case X86_OP_INT1:
	case X86_OP_INTO: case X86_OP_VMCALL: case X86_OP_VMMCALL: case X86_OP_XSAVES: case X86_OP_XRSTORS:
		return true;
	default:
		return false;
	}
}

/* Rows that are flagged for reasons that do not count here. */
static bool gen_op_is_harmless(enum x86_op op)
{
	switch (op) {
	case X86_OP_PUSHF: case X86_OP_POPF: case X86_OP_ENDBR: case X86_OP_RDFSBASE: case X86_OP_RDGSBASE:
	case X86_OP_WRFSBASE: case X86_OP_WRGSBASE:
		return true;
	default:
		return false;
	}
}

int gen_init(struct diff_gen *g, const char *name)
{
	uint64_t features = x86_host_features();

	g->rows = calloc(x86_n_rows, sizeof(*g->rows));
	g->n_rows = 0;
	g->use_32 = true;
	g->has_avx = features >> X86_F_AVX & 1;
	if (!g->rows)
		return -ENOMEM;
	for (unsigned i = 0; i < x86_n_rows; i++) {
		const struct x86_row *r = &x86_rows[i];

		if (!gen_op_is_harmless(r->op) &&
		    (r->flags & (X86_R_UNSAFE | X86_R_PRIV | X86_R_VARIES | X86_R_IOPL) ||
		     gen_op_is_system(r->op) || !(features >> r->feature & 1)))
			continue;
		if (name && !strstr(x86_op_name(r->op), name))
			continue;
		g->rows[g->n_rows++] = r;
	}
	return g->n_rows ? 0 : -ENOENT;
}

void gen_fini(struct diff_gen *g)
{
	free(g->rows);
}

/* --- values ------------------------------------------------------------------------------- */

static uint64_t gen_pointer(struct rng *r, unsigned align)
{
	static const int16_t edges[] = { 0, 0x1000, 0x2000, 0x3000 };
	uint64_t a;

	if (rng_percent(r, 50))
		a = DIFF_DATA + rng_below(r, DIFF_RW_LEN - 64);
	else
		a = DIFF_DATA + edges[rng_below(r, 4)] + rng_below(r, 80) - 64;
	return align ? a & ~(uint64_t)(align - 1) : a;
}

static uint64_t gen_int(struct rng *r)
{
	static const uint64_t nice[] = {
		0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff,
		0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, ~0ull, ~1ull,
		0x8000000000000001, 0x100000000, 0xffffffff80000000, 0xffffffffffff8000,
	};

	switch (rng_below(r, 8)) {
	case 0: case 1: return nice[rng_below(r, sizeof(nice) / sizeof(nice[0]))];
	case 2: return rng_below(r, 40);
	case 3: return gen_pointer(r, 0);
	case 4: return -rng_below(r, 40);
	default: return rng_next(r) >> rng_below(r, 64);
	}
}

/* Bits of a float with E exponent and M fraction bits, all kinds of number. */
static uint64_t gen_float(struct rng *r, unsigned e, unsigned m)
{
	uint64_t max_exp = (1ull << e) - 1, frac = rng_next(r) & ((1ull << m) - 1), exp;

	switch (rng_below(r, 12)) {
	case 0: exp = 0; frac = 0; break;                       /* zero */
	case 1: exp = 0; break;                                 /* denormal */
	case 2: exp = max_exp; frac = 0; break;                 /* infinity */
	case 3: exp = max_exp; break;                           /* some NaN */
	case 4: exp = 1 + rng_below(r, 4); break;
	case 5: exp = max_exp - 1 - rng_below(r, 4); break;
	case 6: exp = max_exp / 2; frac = 0; break;             /* 1.0 */
	case 7: exp = max_exp / 2 + rng_below(r, m + 2); frac &= ~0ull << rng_below(r, m); break;
	case 8: exp = rng_below(r, max_exp + 1); break;
	case 9: exp = max_exp / 2; frac = rng_below(r, 3) - 1; break;
	default: exp = max_exp / 2 - 8 + rng_below(r, 70); break;
	}
	frac &= (1ull << m) - 1;
	return rng_below(r, 2) << (e + m) | (exp & max_exp) << m | frac;
}

static void gen_vector(struct rng *r, uint8_t *p)
{
	unsigned kind = rng_below(r, 4);

	for (unsigned i = 0; i < 2; i++) {
		uint64_t v;

		if (kind == 0)
			v = gen_float(r, 8, 23) | gen_float(r, 8, 23) << 32;
		else if (kind == 1)
			v = gen_float(r, 11, 52);
		else
			v = kind == 2 ? rng_next(r) : gen_int(r);
		memcpy(p + 8 * i, &v, 8);
	}
}

static void gen_st(struct rng *r, uint8_t p[10])
{
	uint64_t f = gen_float(r, 15, 48), man = rng_next(r);
	uint16_t se = f >> 48;

	if (rng_percent(r, 40))
		man &= ~0ull << rng_below(r, 64);
	/* Leave the integer bit at odds with the exponent now and then: unnormal numbers. */
	if (!rng_percent(r, 4))
		man = se & 0x7fff ? man | 1ull << 63 : man & ~(1ull << 63);
	if ((se & 0x7fff) == 0 && rng_percent(r, 50))
		man = 0;
	if ((se & 0x7fff) == 0x7fff && rng_percent(r, 50))
		man = 1ull << 63;
	memcpy(p, &man, 8);
	memcpy(p + 8, &se, 2);
}

static void gen_ymmh(struct rng *r, uint8_t *p)
{
	for (unsigned i = 0; i < DIFF_YMMH_LEN; i += 16)
		gen_vector(r, p + i);
}

/* x87 and SSE state; also what FXRSTOR and XRSTOR find in memory. */
static void gen_fx(struct rng *r, uint8_t *fx)
{
	uint16_t fcw = 0x40 | (rng_percent(r, 80) ? 0x3f : rng_below(r, 64)) | rng_below(r, 4) << 8 | rng_below(r, 4) << 10;
	uint16_t fsw = rng_next(r) & (rng_percent(r, 50) ? 0x7f7f : 0x7f00);
	uint32_t mxcsr = (rng_percent(r, 80) ? 0x1f80 : rng_next(r) & 0x1f80) | (rng_next(r) & 0x6000) |
			 (rng_percent(r, 25) ? 0x8000 : 0) | (rng_percent(r, 25) ? 0x40 : 0) |
			 (rng_percent(r, 50) ? rng_next(r) & 0x3f : 0);

	if ((fcw & 0x300) == 0x100)
		fcw |= 0x200;                   /* reserved precision control */
	if (!rng_percent(r, 10))
		fsw &= ~(~fcw & 0x3f);          /* usually nothing is pending */
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	memset(fx, 0, DIFF_FX_LEN);
	memcpy(fx + X86_FX_FCW, &fcw, 2);
	memcpy(fx + X86_FX_FSW, &fsw, 2);
	fx[X86_FX_FTW] = rng_percent(r, 60) ? 0xff : rng_next(r);
	memcpy(fx + X86_FX_MXCSR, &mxcsr, 4);
	for (unsigned i = 0; i < 8; i++)
		gen_st(r, fx + X86_FX_ST + 16 * i);
	for (unsigned i = 0; i < 16; i++)
		gen_vector(r, fx + X86_FX_XMM + 16 * i);
}

void gen_pattern(uint8_t mem[DIFF_DATA_LEN])
{
	struct rng r = { 12345 };

	for (unsigned i = 0; i < DIFF_DATA_LEN; i += 16)
		gen_vector(&r, mem + i);
}

/* --- the instruction -------------------------------------------------------------------------- */

static unsigned gen_prefixes(struct rng *r, const struct x86_row *row, bool is_32, uint8_t *p)
{
	static const uint8_t segs[] = { 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65 };
	unsigned n = 0;
	/* Some processors let F2 and F3 decide what LOOPcc asks of ZF. */
	bool rep_ok = row->pfx == 0 && row->map < 2 && row->op != X86_OP_LOOPE && row->op != X86_OP_LOOPNE;
	/* 66 on a near branch in 64-bit mode: Intel ignores it, AMD cuts the target to 16 bits. */
	bool opsize_ok = is_32 || !(row->flags & X86_R_FORCE64);

	if (row->pfx == 0 || row->pfx == X86_PFX_NOREP) {
		if (opsize_ok && rng_percent(r, 20))
			p[n++] = 0x66;
	} else if (row->pfx != X86_PFX_NONE) {
		p[n++] = row->pfx;
		if (row->pfx != 0x66 && rng_percent(r, 3))
			p[n++] = 0x66;
	}
	if (rep_ok && rng_percent(r, row->flags & X86_R_REP ? 60 : 2))
		p[n++] = rng_percent(r, 50) ? 0xf2 : 0xf3;
	if (rng_percent(r, 10))
		p[n++] = 0x67;
	if (rng_percent(r, 10))
		p[n++] = segs[rng_below(r, is_32 ? 4 : 6)];
	if (rng_percent(r, row->flags & X86_R_LOCK ? 20 : 1))
		p[n++] = 0xf0;
	if (!is_32 && rng_percent(r, 50))
		p[n++] = 0x40 | rng_below(r, 16);
	return n;
}

/* Prefixes up to and including VEX; now and then what makes it #UD. */
static unsigned gen_vex(struct rng *r, const struct x86_row *row, bool is_32, uint8_t *p)
{
	static const uint8_t segs[] = { 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65 }, wrong[] = { 0x66, 0xf2, 0xf3, 0xf0, 0x48 };
	unsigned n = 0, rxb = is_32 ? rng_below(r, 2) : rng_below(r, 8);
	unsigned pp = row->pfx == 0x66 ? 1 : row->pfx == 0xf3 ? 2 : row->pfx == 0xf2 ? 3 : 0;
	unsigned l = row->flags & X86_R_L1 ? 1 : row->flags & X86_R_L0 ? 0 : rng_below(r, 2);
	unsigned w = row->flags & X86_R_W1 ? 1 : row->flags & X86_R_W0 ? 0 : rng_percent(r, 30);
	unsigned vvvv = row->flags & X86_R_NDS || rng_percent(r, 2) ? rng_below(r, 16) : 0;

	if (rng_percent(r, 10))
		p[n++] = 0x67;
	if (rng_percent(r, 10))
		p[n++] = segs[rng_below(r, is_32 ? 4 : 6)];
	if (rng_percent(r, 2))
		p[n++] = wrong[rng_below(r, is_32 ? 4 : 5)];
	l ^= rng_percent(r, 2);
	w ^= rng_percent(r, 2);
	if (row->map == X86_MAP_VEX_0F && !w && !(rxb & 3) && rng_percent(r, 70)) {
		if (is_32)
			vvvv &= 7;
		p[n++] = 0xc5;
		p[n++] = (~rxb & 4) << 5 | (~vvvv & 15) << 3 | l << 2 | pp;
	} else {
		p[n++] = 0xc4;
		p[n++] = (~rxb & 7) << 5 | (row->map - X86_MAP_VEX_0F + 1);
		p[n++] = w << 7 | (~vvvv & 15) << 3 | l << 2 | pp;
	}
	return n;
}

static uint8_t gen_modrm(struct rng *r, const struct x86_row *row)
{
	uint8_t m = rng_next(r);

	if (row->reg >= 0)
		m = (m & ~0x38) | row->reg << 3;
	if (row->flags & X86_R_VSIB && rng_percent(r, 97))
		return (m & 0x78) % 0xc0 | 4;
	if (row->rm >= 0)
		m = 0xc0 | (m & 0x38) | row->rm;
	else if (row->flags & X86_R_REGONLY)
		m |= 0xc0;
	else if (row->flags & X86_R_MEMONLY && m >= 0xc0)
		m &= 0x7f;
	return m;
}

static void gen_bytes(struct rng *r, const struct x86_row *row, struct diff_case *c)
{
	uint8_t buf[32];
	bool is_vex = row->map >= X86_MAP_VEX_0F;
	unsigned n = is_vex ? gen_vex(r, row, c->is_32, buf) : gen_prefixes(r, row, c->is_32, buf);

	if (row->map && !is_vex)
		buf[n++] = 0x0f;
	if (row->map > 1 && !is_vex)
		buf[n++] = row->map == 2 ? 0x38 : 0x3a;
	buf[n++] = row->opcode;
	if (row->flags & X86_R_MODRM)
		buf[n++] = gen_modrm(r, row);
	for (; n < sizeof(buf); n++)
		buf[n] = rng_percent(r, 20) ? gen_int(r) : rng_next(r);
	memcpy(c->code, buf, X86_INSN_MAX);
}

static bool gen_redecode(struct diff_case *c)
{
	return x86_decode(&c->insn, c->code, X86_INSN_MAX, c->is_32 ? X86_MODE_32 : X86_MODE_64) == X86_DECODE_OK;
}

/* Bytes that do not decode are a case only when LOCK is why, or something about VEX: others may be
 * instructions that the host has and the decoder does not. */
static bool gen_is_refused(const struct diff_case *c)
{
	if (c->row->map >= X86_MAP_VEX_0F)
		return true;
	return c->row->feature == X86_F_BASE && memchr(c->code, 0xf0, 4);
}

/* Would running it lead somewhere that the test cannot compare? */
static bool gen_is_unfit(const struct diff_case *c)
{
	const struct x86_insn *x = &c->insn;

	if (x->row->map == 1 && x->row->opcode == 0x0d && x->modrm >= 0xc0)
		return true;                    /* PREFETCHW of a register: NOP or #UD */
	for (unsigned i = 0; i < x->n_opnds; i++) {
		if (x->opnd[i].kind == X86_O_REL) {
			uint64_t to = DIFF_START + x->len + (uint64_t)x->imm;

			if (to > DIFF_START - 16 && to < DIFF_START + x->len)
				return true;    /* into itself: a loop, or garbage */
		}
		if (x->opnd[i].kind == X86_O_SREG && i == 0 && x->op != X86_OP_PUSH)
			return true;            /* loads a segment register */
	}
	return false;
}

/* --- bending registers -------------------------------------------------------------------------- */

static const struct x86_opnd *gen_mem_opnd(const struct x86_insn *x)
{
	for (unsigned i = 0; i < x->n_opnds; i++)
		if (x->opnd[i].kind == X86_O_MEM)
			return &x->opnd[i];
	return NULL;
}

static uint64_t gen_ea(const struct diff_case *c)
{
	const struct x86_insn *x = &c->insn;
	uint64_t ea = (uint64_t)x->disp;

	if (x->base == X86_REG_RIP)
		ea += DIFF_START + x->len;
	else if (x->base != X86_NO_REG)
		ea += c->in.gpr[x->base];
	if (x->index != X86_NO_REG && !x->vsib)
		ea += c->in.gpr[x->index] << x->scale;
	if (x->adsize < 8)
		ea &= x->adsize == 4 ? 0xffffffff : 0xffff;
	if (x->seg == X86_FS)
		ea += c->in.fs_base;
	else if (x->seg == X86_GS)
		ea += c->in.gs_base;
	return c->is_32 ? (uint32_t)ea : ea;
}

/* Change disp32 of a RIP-relative or absolute operand by DELTA. */
static void gen_bend_disp(struct diff_case *c, int64_t delta)
{
	int32_t old = (int32_t)c->insn.disp, now = (int32_t)(old + delta);

	for (unsigned i = c->len - 4; i > 0; i--) {
		if (memcmp(c->code + i, &old, 4))
			continue;
		memcpy(c->code + i, &now, 4);
		break;
	}
	gen_redecode(c);
}

/* Small indices, most of them, for a gather. */
static void gen_bend_indices(struct rng *r, struct diff_case *c)
{
	const struct x86_insn *x = &c->insn;
	unsigned size = x->row->opcode & 1 ? 8 : 4;

	for (unsigned i = 0; i < 32; i += size) {
		uint8_t *p = i < 16 ? c->in.fx + X86_FX_XMM + 16 * x->index + i : c->in.ymmh + 16 * x->index + i - 16;
		int64_t v = (int64_t)rng_below(r, 200) - 100;

		if (!rng_percent(r, 3))
			memcpy(p, &v, size);
	}
}

static void gen_bend(struct rng *r, struct diff_case *c)
{
	struct x86_insn *x = &c->insn;
	const struct x86_opnd *mem = gen_mem_opnd(x);
	unsigned align = rng_percent(r, 70) ? (mem && mem->size == 0 ? 64 : 16) : 0;
	uint64_t delta;

	if (c->row->opcode >= 0xa0 && c->row->opcode <= 0xa3 && c->row->map == 0 && x->adsize > 2) {
		uint64_t to = gen_pointer(r, align);    /* MOV with an absolute offset */

		memcpy(c->code + c->len - x->adsize, &to, x->adsize);
		gen_redecode(c);
	}
	if (!mem || !rng_percent(r, 92))
		return;
	delta = gen_pointer(r, align) - gen_ea(c);
	if (x->vsib)
		gen_bend_indices(r, c);
	if (x->base == X86_REG_RIP || (x->base == X86_NO_REG && (x->index == X86_NO_REG || x->vsib))) {
		if (x->adsize > 2)
			gen_bend_disp(c, (int64_t)delta);
	} else if (x->base != X86_NO_REG && (x->base != x->index || x->vsib)) {
		c->in.gpr[x->base] += delta;
	} else if (x->base == X86_NO_REG) {
		c->in.gpr[x->index] += (int64_t)delta >> x->scale;
	}
}

/* Implicit operands. */
static void gen_bend_implicit(struct rng *r, struct diff_case *c)
{
	const struct x86_insn *x = &c->insn;
	uint64_t *g = c->in.gpr;

	if (rng_percent(r, 90))
		g[X86_RSP] = gen_pointer(r, rng_percent(r, 70) ? 8 : 0);
	switch (x->op) {
	case X86_OP_MOVS: case X86_OP_CMPS: case X86_OP_STOS: case X86_OP_LODS: case X86_OP_SCAS:
	case X86_OP_MASKMOVDQU: case X86_OP_MASKMOVQ:
		g[X86_RSI] = gen_pointer(r, 0);
		g[X86_RDI] = gen_pointer(r, 0);
		if (rng_percent(r, 95))
			g[X86_RCX] = rng_below(r, 40);
		break;
	case X86_OP_XLAT:
		g[X86_RBX] = gen_pointer(r, 0);
		break;
	case X86_OP_ENTER: case X86_OP_LEAVE:
		g[X86_RBP] = gen_pointer(r, 8);
		break;
	case X86_OP_XSAVE: case X86_OP_XSAVEOPT: case X86_OP_XSAVEC: case X86_OP_XRSTOR:
		g[X86_RAX] &= 0xffff00000007ull;        /* only components that both sides have */
		g[X86_RDX] = 0;
		break;
	default:
		break;
	}
}

/* What the instruction finds in memory: a fitting value, or a whole state image. */
static void gen_patch(struct rng *r, struct diff_case *c)
{
	bool is_image = c->insn.op == X86_OP_FXRSTOR || c->insn.op == X86_OP_XRSTOR;
	unsigned len = is_image ? DIFF_PATCH_MAX : 32;

	if (c->ea < DIFF_DATA || c->ea > DIFF_DATA + DIFF_RW_LEN - len || (!is_image && rng_percent(r, 50)))
		return;
	c->patch_addr = c->ea;
	c->patch_len = len;
	if (is_image) {
		memset(c->patch, 0, len);
		gen_fx(r, c->patch);
		gen_ymmh(r, c->patch + X86_XS_AVX);
		c->patch[X86_XS_BV] = rng_below(r, 8);
		if (rng_percent(r, 40)) {
			c->patch[X86_XS_COMP_BV] = c->patch[X86_XS_BV] | rng_below(r, 8);
			c->patch[X86_XS_COMP_BV + 7] = 0x80;
		}
		if (rng_percent(r, 10))
			c->patch[X86_XS_BV + rng_below(r, 64)] ^= 1 << rng_below(r, 3);
	} else if (c->insn.op == X86_OP_LDMXCSR) {
		uint32_t v = rng_next(r) & (rng_percent(r, 90) ? 0xffff : 0xfffdffff);

		memset(c->patch, 0, len);
		memcpy(c->patch, &v, 4);
	} else if (c->insn.row->flags & X86_R_X87 && rng_percent(r, 60)) {
		memset(c->patch, 0, len);
		gen_st(r, c->patch);
	} else {
		gen_vector(r, c->patch);
		gen_vector(r, c->patch + 16);
	}
}

void gen_case(const struct diff_gen *g, struct diff_case *c, uint64_t seed)
{
	struct rng r = { seed * 0x2545f4914f6cdd1d };

	memset(c, 0, sizeof(*c));
	c->seed = seed;
	c->in.rip = DIFF_START;
	c->in.fs_base = DIFF_DATA + 0x800;
	c->in.gs_base = DIFF_DATA + 0x1000;
	do {
		c->row = g->rows[rng_below(&r, g->n_rows)];
		c->is_32 = g->use_32 && (c->row->flags & X86_R_NO64 || (!(c->row->flags & X86_R_ONLY64) && rng_percent(&r, 15)));
		gen_bytes(&r, c->row, c);
		c->is_valid = gen_redecode(c);
		c->len = c->is_valid ? c->insn.len : X86_INSN_MAX;
	} while (c->is_valid ? c->insn.row != c->row || gen_is_unfit(c) : !gen_is_refused(c));
	for (unsigned i = 0; i < 16; i++)
		c->in.gpr[i] = gen_int(&r);
	gen_fx(&r, c->in.fx);
	if (g->has_avx)
		gen_ymmh(&r, c->in.ymmh);
	c->in.rflags = X86_FLAGS_FIXED | X86_IF | (rng_next(&r) & (X86_FLAGS_ARITH | X86_DF));
	if (c->row->feature == X86_F_BASE && rng_percent(&r, 5))
		c->in.rflags |= X86_AC;         /* vector instructions check as the maker likes */
	if (c->is_valid) {
		gen_bend(&r, c);
		gen_bend_implicit(&r, c);
		c->ea = gen_mem_opnd(&c->insn) ? gen_ea(c) : 0;
		gen_patch(&r, c);
	}
	if (c->is_32)                           /* nothing to see above 32 bits */
		for (unsigned i = 0; i < 16; i++)
			c->in.gpr[i] = i < 8 ? (uint32_t)c->in.gpr[i] : 0;
}
