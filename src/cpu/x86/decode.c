/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder: prefixes, opcode and ModRM pick a row of the table (optable.def), the row says
 * where the operands come from. Intel SDM vol. 2 chapter 2. */
#include "cpu/x86/insn.h"

#include "cpu/x86/decode_priv.h"
#include "cpu/x86/state.h"

/* What has been read of an instruction so far. */
struct x86_cursor {
	const uint8_t *bytes;
	unsigned pos, end;      /* next byte, first byte that may not be read (15 at most) */
	bool is_short;          /* ran into END before X86_INSN_MAX */
	bool is_long;           /* ran into X86_INSN_MAX */
	enum x86_mode mode;
	bool has_66;
	uint8_t rep;            /* the last of F2 and F3, or 0 */
	uint8_t rex;            /* 0: none; only directly before the opcode does it count. With VEX:
				 * its bits W, R, X, B in the places that REX has them */
	uint8_t vl;             /* vector length of VEX; 0: no VEX */
	uint8_t vvvv;           /* register that VEX names */
	bool is_bad;            /* a prefix that is #UD whatever follows */
	uint8_t seg;            /* override, or X86_NO_REG */
	uint8_t map, opcode;
	uint8_t modrm;
};

struct x86_spec_desc {
	uint8_t from, size, mem_size, arg;
};

static const struct x86_spec_desc specs[] = {
#define X(name, from, size, mem_size, arg) { X86_FROM_##from, size, mem_size, arg },
	X86_SPECS(X)
#undef X
};

/* Legacy prefixes (SDM vol. 2, 2.1.1). */
enum x86_prefix_class { PFX_NO, PFX_SEG, PFX_66, PFX_67, PFX_LOCK, PFX_REP, PFX_REX };

static const uint8_t prefix_class[256] = {
	[0x26] = PFX_SEG, [0x2e] = PFX_SEG, [0x36] = PFX_SEG, [0x3e] = PFX_SEG,
	[0x64] = PFX_SEG, [0x65] = PFX_SEG, [0x66] = PFX_66, [0x67] = PFX_67,
	[0xf0] = PFX_LOCK, [0xf2] = PFX_REP, [0xf3] = PFX_REP,
	[0x40] = PFX_REX, [0x41] = PFX_REX, [0x42] = PFX_REX, [0x43] = PFX_REX,
	[0x44] = PFX_REX, [0x45] = PFX_REX, [0x46] = PFX_REX, [0x47] = PFX_REX,
	[0x48] = PFX_REX, [0x49] = PFX_REX, [0x4a] = PFX_REX, [0x4b] = PFX_REX,
	[0x4c] = PFX_REX, [0x4d] = PFX_REX, [0x4e] = PFX_REX, [0x4f] = PFX_REX,
};

static bool decode_have(struct x86_cursor *c, unsigned n)
{
	if (c->pos + n <= c->end)
		return true;
	if (c->end == X86_INSN_MAX)
		c->is_long = true;
	else
		c->is_short = true;
	return false;
}

static enum x86_decode_result decode_ended(const struct x86_cursor *c)
{
	if (c->is_bad)
		return X86_DECODE_UD;
	return c->is_long ? X86_DECODE_LONG : X86_DECODE_SHORT;
}

/* Read SIZE bytes (1, 2, 4, 8), zero-extended. The caller has checked with decode_have(). */
static uint64_t decode_take(struct x86_cursor *c, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)c->bytes[c->pos + i] << (8 * i);
	c->pos += size;
	return v;
}

static int64_t decode_sign(uint64_t v, unsigned size)
{
	unsigned unused = 64 - 8 * size;        /* SIZE is 1 to 8: operand tables have no other */

	return (int64_t)(v << unused) >> unused; /* NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult) */
}

static bool decode_read(struct x86_cursor *c, uint64_t *v, unsigned size)
{
	if (!decode_have(c, size))
		return false;
	*v = decode_take(c, size);
	return true;
}

/* In 64-bit mode ES, CS, SS and DS overrides are null prefixes (SDM vol. 2, 2.1.1 group 2): they
 * do not even cancel an FS or GS that came before. */
static void decode_segment(struct x86_cursor *c, uint8_t byte)
{
	if (byte >= 0x64)
		c->seg = byte == 0x64 ? X86_FS : X86_GS;
	else if (c->mode != X86_MODE_64)
		c->seg = (byte >> 3) & 3;
}

/* C4 and C5 are LES and LDS, or, in 64-bit mode and where those would have a register operand, the
 * first byte of a VEX prefix (2.3.5). Then the opcode follows. */
static bool decode_vex(struct x86_cursor *c, struct x86_insn *x)
{
	unsigned n = c->opcode == 0xc4 ? 2 : 1;
	const uint8_t *p = c->bytes + c->pos;

	if (!decode_have(c, 1))
		return false;
	if (c->mode != X86_MODE_64 && p[0] < 0xc0)
		return true;
	/* The other prefixes that change an opcode are part of it (2.3.2, 2.3.3). */
	c->is_bad = c->has_66 || c->rep || c->rex || x->prefixes & X86_P_LOCK;
	if (c->is_bad || !decode_have(c, n + 1))
		return false;
	uint8_t last = p[n - 1];

	c->map = n == 1 ? 1 : p[0] & 0x1f;
	c->is_bad = c->map < 1 || c->map > X86_N_VEX_MAPS;
	if (c->is_bad)
		return false;
	c->map += X86_MAP_VEX_0F - 1;
	c->rex = (~p[0] >> 5 & (n == 1 ? 4 : 7)) | (n == 1 ? 0 : last >> 4 & 8);
	c->vvvv = ~last >> 3 & 15;
	c->vl = last & 4 ? 32 : 16;
	c->has_66 = (last & 3) == 1;
	c->rep = (last & 3) == 2 ? 0xf3 : (last & 3) == 3 ? 0xf2 : 0;
	if (c->mode != X86_MODE_64)             /* eight registers: the fourth bits do not count */
		c->rex &= 8;
	c->opcode = p[n];
	c->pos += n + 1;
	return true;
}

/* Prefixes and opcode. In each legacy group the last one counts. A REX that is not the last
 * prefix is ignored (2.2.1). */
static bool decode_opcode(struct x86_cursor *c, struct x86_insn *x)
{
	for (;;) {
		if (!decode_have(c, 1))
			return false;
		uint8_t b = c->bytes[c->pos];
		uint8_t class = prefix_class[b];
		if (class == PFX_NO || (class == PFX_REX && c->mode != X86_MODE_64))
			break;
		c->pos++;
		c->rex = class == PFX_REX ? b : 0;
		switch (class) {
		case PFX_SEG:
			decode_segment(c, b);
			break;
		case PFX_66:
			c->has_66 = true;
			break;
		case PFX_67:
			x->prefixes |= X86_P_ADSIZE;
			break;
		case PFX_LOCK:
			x->prefixes |= X86_P_LOCK;
			break;
		case PFX_REP:
			c->rep = b;
			break;
		}
	}
	c->opcode = c->bytes[c->pos++];
	if (c->opcode == 0xc4 || c->opcode == 0xc5)
		return decode_vex(c, x);
	if (c->opcode != 0x0f)
		return true;
	c->map = 1;
	if (!decode_have(c, 1))
		return false;
	c->opcode = c->bytes[c->pos++];
	if (c->opcode != 0x38 && c->opcode != 0x3a)
		return true;
	c->map = c->opcode == 0x38 ? 2 : 3;
	if (!decode_have(c, 1))
		return false;
	c->opcode = c->bytes[c->pos++];
	return true;
}

static bool row_has_prefix(const struct x86_row *r, const struct x86_cursor *c)
{
	switch (r->pfx) {
	case 0:
		return true;
	case X86_PFX_NONE:
		return !c->rep && !c->has_66;
	case X86_PFX_NOREP:
		return !c->rep;
	case 0x66:
		return !c->rep && c->has_66;
	default:
		return c->rep == r->pfx;
	}
}

static bool row_has_modrm(const struct x86_row *r, uint8_t modrm)
{
	bool is_reg = modrm >= 0xc0;

	if (r->reg >= 0 && r->reg != ((modrm >> 3) & 7))
		return false;
	if (r->rm >= 0 && (!is_reg || r->rm != (modrm & 7)))
		return false;
	if (r->flags & X86_R_NOMOD)
		return true;
	return !(r->flags & (is_reg ? X86_R_MEMONLY : X86_R_REGONLY));
}

static bool row_has_mode(const struct x86_row *r, const struct x86_cursor *c)
{
	uint32_t forbidden = c->mode == X86_MODE_64 ? X86_R_NO64 : X86_R_ONLY64;

	forbidden |= c->rex & 8 ? X86_R_W0 : X86_R_W1;
	if (c->rex & 1)
		forbidden |= X86_R_B0;
	if (c->vl)
		forbidden |= c->vl == 16 ? X86_R_L1 : X86_R_L0;
	return !(r->flags & forbidden);
}

/* The row of the opcode, or NULL. All rows of an opcode agree on having a modrm byte, save
 * those for different modes (C4, C5, 62), which is why each row looks for itself. */
static const struct x86_row *decode_row(struct x86_cursor *c)
{
	unsigned i = c->vl ? x86_last_vex_row[c->map - X86_MAP_VEX_0F][c->opcode] :
			     x86_last_row[c->map][c->opcode];
	bool have_modrm = false;

	for (; i > 0; i--) {
		const struct x86_row *r = &x86_rows[i - 1];
		if (r->opcode != c->opcode || r->map != c->map)
			break;
		if (!row_has_mode(r, c))
			continue;
		if (r->flags & X86_R_MODRM) {
			if (!have_modrm && !decode_have(c, 1))
				return NULL;
			have_modrm = true;
			if (!row_has_modrm(r, c->bytes[c->pos]))
				continue;
		}
		if (!row_has_prefix(r, c))
			continue;
		if (r->flags & X86_R_MODRM)
			c->modrm = c->bytes[c->pos++];
		return r;
	}
	return NULL;
}

static void decode_sizes(struct x86_cursor *c, struct x86_insn *x)
{
	const struct x86_row *r = x->row;
	bool has_66 = c->has_66 && r->pfx != 0x66;
	bool has_67 = x->prefixes & X86_P_ADSIZE;

	if (has_66)
		x->prefixes |= X86_P_OPSIZE;
	if (c->rep && c->rep != r->pfx)
		x->prefixes |= c->rep == 0xf2 ? X86_P_REPNE : X86_P_REP;
	if (c->seg != X86_NO_REG)
		x->prefixes |= X86_P_SEG;
	if (c->rex && !c->vl)
		x->prefixes |= X86_P_REX;
	if (c->rex & 8 && c->mode == X86_MODE_64)
		x->prefixes |= X86_P_REXW;

	switch (c->mode) {
	case X86_MODE_16:
		x->opsize = has_66 ? 4 : 2;
		x->adsize = has_67 ? 4 : 2;
		break;
	case X86_MODE_32:
		x->opsize = has_66 ? 2 : 4;
		x->adsize = has_67 ? 2 : 4;
		break;
	case X86_MODE_64:
		/* Near branches ignore 66 as Intel's processors do; AMD's take 16 bits. */
		if ((c->rex & 8) || (r->flags & X86_R_FORCE64))
			x->opsize = 8;
		else if (has_66)
			x->opsize = 2;
		else
			x->opsize = r->flags & X86_R_DEF64 ? 8 : 4;
		x->adsize = has_67 ? 4 : 8;
		break;
	}
}

/* 16-bit addressing forms (SDM vol. 2 table 2-1). */
static bool decode_mem16(struct x86_cursor *c, struct x86_insn *x)
{
	static const uint8_t base[8] = { X86_RBX, X86_RBX, X86_RBP, X86_RBP, X86_RSI, X86_RDI,
					 X86_RBP, X86_RBX };
	static const uint8_t index[8] = { X86_RSI, X86_RDI, X86_RSI, X86_RDI, X86_NO_REG,
					  X86_NO_REG, X86_NO_REG, X86_NO_REG };
	unsigned mod = c->modrm >> 6, rm = c->modrm & 7;
	unsigned disp_size = mod;
	uint64_t disp;

	if (mod == 0 && rm == 6) {
		disp_size = 2;
	} else {
		x->base = base[rm];
		x->index = index[rm];
	}
	if (disp_size) {
		if (!decode_read(c, &disp, disp_size))
			return false;
		x->disp = decode_sign(disp, disp_size);
	}
	return true;
}

/* 32- and 64-bit addressing forms (tables 2-2, 2-3, 2-5). The special cases of rm and base look
 * at the three bits without REX.B; "no index" is 4 with REX.X. */
static bool decode_mem32(struct x86_cursor *c, struct x86_insn *x)
{
	unsigned mod = c->modrm >> 6, rm = c->modrm & 7;
	unsigned disp_size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
	uint64_t disp;

	if (rm == 4) {
		if (!decode_have(c, 1))
			return false;
		uint8_t sib = c->bytes[c->pos++];
		unsigned index = ((sib >> 3) & 7) | (c->rex & 2) << 2;
		if (index != 4 || x->vsib) {
			x->index = index;
			x->scale = sib >> 6;
		}
		rm = sib & 7;
		if (rm == 5 && mod == 0)
			disp_size = 4;
		else
			x->base = rm | (c->rex & 1) << 3;
	} else if (rm == 5 && mod == 0) {
		disp_size = 4;
		if (c->mode == X86_MODE_64)
			x->base = X86_REG_RIP;
	} else {
		x->base = rm | (c->rex & 1) << 3;
	}
	if (disp_size) {
		if (!decode_read(c, &disp, disp_size))
			return false;
		x->disp = decode_sign(disp, disp_size);
	}
	return true;
}

static bool decode_modrm(struct x86_cursor *c, struct x86_insn *x)
{
	x->modrm = c->modrm;
	if (!(x->row->flags & X86_R_MODRM) || (x->row->flags & X86_R_NOMOD) || c->modrm >= 0xc0)
		return true;
	if (x->row->flags & X86_R_VSIB) {
		c->is_bad = (c->modrm & 7) != 4 || x->adsize == 2;
		if (c->is_bad)
			return false;
		/* Doubleword indices of quadwords are half as many. */
		x->vsib = !(c->opcode & 1) && c->rex & 8 ? 16 : c->vl;
	}
	bool ok = x->adsize == 2 ? decode_mem16(c, x) : decode_mem32(c, x);
	if (c->seg == X86_NO_REG && (x->base == X86_RSP || x->base == X86_RBP))
		x->seg = X86_SS;
	return ok;
}

static unsigned decode_size(const struct x86_cursor *c, const struct x86_insn *x, uint8_t size)
{
	switch (size) {
	case X86_SZ_V:
		return x->opsize;
	case X86_SZ_Z:
		return x->opsize == 2 ? 2 : 4;
	case X86_SZ_Y:
		return c->rex & 8 && c->mode == X86_MODE_64 ? 8 : 4;
	case X86_SZ_M:
		return c->mode == X86_MODE_64 ? 8 : 4;
	case X86_SZ_P:
		return x->opsize + 2;
	case X86_SZ_A:
		return x->opsize * 2;
	case X86_SZ_L:
		return c->vl;
	case X86_SZ_L2:
		return c->vl / 2;
	case X86_SZ_L4:
		return c->vl / 4;
	case X86_SZ_L8:
		return c->vl / 8;
	default:
		return size;
	}
}

static void set_gpr(struct x86_opnd *o, const struct x86_cursor *c, unsigned reg)
{
	o->kind = X86_O_REG;
	o->reg = reg;
	if (o->size == 1 && !c->rex && reg >= 4) {
		o->reg = reg - 4;
		o->high = 1;
	}
}

/* Register or memory of modrm.rm; KIND for the register form. MMX and x87 ignore REX.B. */
static void set_rm(struct x86_opnd *o, const struct x86_cursor *c, const struct x86_insn *x,
		   const struct x86_spec_desc *s, enum x86_opnd_kind kind)
{
	bool is_reg = c->modrm >= 0xc0 || (x->row->flags & X86_R_NOMOD);
	unsigned low = c->modrm & 7;

	o->size = decode_size(c, x, is_reg ? s->size : s->mem_size);
	if (!is_reg) {
		o->kind = X86_O_MEM;
	} else if (kind == X86_O_REG) {
		set_gpr(o, c, low | (c->rex & 1) << 3);
	} else {
		o->kind = kind;
		o->reg = kind == X86_O_XMM ? low | (c->rex & 1) << 3 : low;
	}
}

/* The register whose number stands in an immediate's upper half. */
static bool set_is4(struct x86_opnd *o, struct x86_cursor *c)
{
	uint64_t v;

	if (!decode_read(c, &v, 1))
		return false;
	o->kind = X86_O_XMM;
	o->reg = v >> 4 & (c->mode == X86_MODE_64 ? 15 : 7);
	return true;
}

static void set_reg(struct x86_opnd *o, enum x86_opnd_kind kind, unsigned reg)
{
	o->kind = kind;
	o->reg = reg;
}

/* Immediates, displacements of branches, absolute offsets: what follows modrm. */
static bool set_imm(struct x86_opnd *o, struct x86_cursor *c, struct x86_insn *x,
		    enum x86_spec_from from)
{
	uint64_t v;

	if (from == X86_FROM_MOFFS) {
		o->kind = X86_O_MOFFS;
		if (!decode_read(c, &v, x->adsize))
			return false;
		x->disp = (int64_t)v;
		return true;
	}
	if (!decode_read(c, &v, o->size))
		return false;
	if (from == X86_FROM_IMM2) {
		o->kind = X86_O_IMM2;
		x->imm2 = (int64_t)v;
		return true;
	}
	o->kind = from == X86_FROM_REL ? X86_O_REL : X86_O_IMM;
	x->imm = from == X86_FROM_IMM ? (int64_t)v : decode_sign(v, o->size);
	return true;
}

/* Fill operand O as the row's specifier S says. False: bytes ran out, or *UD. */
static bool decode_operand(struct x86_cursor *c, struct x86_insn *x, struct x86_opnd *o,
			   const struct x86_spec_desc *s, bool *ud)
{
	unsigned reg = (c->modrm >> 3) & 7;
	unsigned reg_r = reg | (c->rex & 4) << 1;

	o->size = decode_size(c, x, s->size ? s->size : s->mem_size);
	switch (s->from) {
	case X86_FROM_RM:
		set_rm(o, c, x, s, X86_O_REG);
		break;
	case X86_FROM_REG:
		set_gpr(o, c, reg_r);
		break;
	case X86_FROM_OPCODE:
		set_gpr(o, c, (c->opcode & 7) | (c->rex & 1) << 3);
		break;
	case X86_FROM_FIXED:
		set_reg(o, X86_O_REG, s->arg);
		break;
	case X86_FROM_MMX_RM:
		set_rm(o, c, x, s, X86_O_MMX);
		break;
	case X86_FROM_MMX_REG:
		set_reg(o, X86_O_MMX, reg);
		break;
	case X86_FROM_XMM_RM:
		set_rm(o, c, x, s, X86_O_XMM);
		break;
	case X86_FROM_XMM_REG:
		set_reg(o, X86_O_XMM, reg_r);
		break;
	case X86_FROM_XMM_FIXED:
		set_reg(o, X86_O_XMM, s->arg);
		break;
	case X86_FROM_XMM_VVVV:
		set_reg(o, X86_O_XMM, c->vvvv & (c->mode == X86_MODE_64 ? 15 : 7));
		break;
	case X86_FROM_XMM_IS4:
		return set_is4(o, c);
	case X86_FROM_VVVV:
		set_reg(o, X86_O_REG, c->vvvv & (c->mode == X86_MODE_64 ? 15 : 7));
		break;
	case X86_FROM_ST_RM:
		set_rm(o, c, x, s, X86_O_ST);
		break;
	case X86_FROM_ST_FIXED:
		set_reg(o, X86_O_ST, s->arg);
		break;
	case X86_FROM_SREG_REG:         /* REX.R is ignored; loading CS this way is #UD */
		set_reg(o, X86_O_SREG, reg);
		*ud = reg >= X86_N_SEGS || (reg == X86_CS && o == &x->opnd[0]);
		return !*ud;
	case X86_FROM_SREG_FIXED:
		set_reg(o, X86_O_SREG, s->arg);
		break;
	case X86_FROM_CREG:             /* CR0, 2, 3, 4, 8 exist */
		set_reg(o, X86_O_CREG, reg_r);
		*ud = !(0x11d >> reg_r & 1);
		return !*ud;
	case X86_FROM_DREG:
		set_reg(o, X86_O_DREG, reg_r);
		*ud = reg_r >= 8;
		return !*ud;
	case X86_FROM_ONE:
		o->kind = X86_O_IMM;
		x->imm = 1;
		break;
	case X86_FROM_SI:
		o->kind = X86_O_STR_SI;
		break;
	case X86_FROM_DI:
		o->kind = X86_O_STR_DI;
		break;
	default:
		return set_imm(o, c, x, s->from);
	}
	return true;
}

/* What VEX rows demand of register numbers: an unused vvvv is 1111b, which names register 0; index,
 * mask and destination of a gather are three registers. */
static bool decode_vex_ok(const struct x86_cursor *c, const struct x86_insn *x)
{
	if (c->vl && !(x->row->flags & X86_R_NDS))
		return !c->vvvv;
	if (x->vsib)
		return x->opnd[0].reg != x->opnd[2].reg && x->index != x->opnd[0].reg && x->index != x->opnd[2].reg;
	return true;
}

enum x86_decode_result x86_decode(struct x86_insn *out, const uint8_t *bytes, size_t len,
				  enum x86_mode mode)
{
	struct x86_cursor c = {
		.bytes = bytes,
		.end = len < X86_INSN_MAX ? len : X86_INSN_MAX,
		.mode = mode,
		.seg = X86_NO_REG,
	};
	struct x86_insn x = { .base = X86_NO_REG, .index = X86_NO_REG };

	if (!decode_opcode(&c, &x))
		return decode_ended(&c);
	x.row = decode_row(&c);
	if (!x.row)
		return c.is_long || c.is_short ? decode_ended(&c) : X86_DECODE_UD;
	x.op = x.row->op;
	x.vl = c.vl;
	decode_sizes(&c, &x);
	x.seg = c.seg == X86_NO_REG ? X86_DS : c.seg;
	if (!decode_modrm(&c, &x))
		return decode_ended(&c);
	for (unsigned i = 0; i < X86_MAX_OPNDS && x.row->opnd[i]; i++) {
		bool ud = false;
		if (!decode_operand(&c, &x, &x.opnd[i], &specs[x.row->opnd[i]], &ud))
			return ud ? X86_DECODE_UD : decode_ended(&c);
		x.n_opnds++;
	}
	if ((x.prefixes & X86_P_LOCK) &&
	    (!(x.row->flags & X86_R_LOCK) || x.opnd[0].kind != X86_O_MEM))
		return X86_DECODE_UD;
	if (!decode_vex_ok(&c, &x))
		return X86_DECODE_UD;
	x.len = c.pos;
	*out = x;
	return X86_DECODE_OK;
}
