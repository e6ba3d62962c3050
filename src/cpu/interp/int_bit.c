/* SPDX-License-Identifier: Apache-2.0 */
/* Bits: BT BTS BTR BTC, BSF BSR LZCNT TZCNT POPCNT, SETcc, CRC32, ADCX ADOX. Intel SDM vol. 2. */
#include "cpu/interp/alu.h"
#include "cpu/interp/mem.h"

/* BT family on the host: offset already within the operand. */
#define BIT_OP(name, sfx, bits)                                                                 \
	static uint64_t name##bits(uint64_t *rf, uint64_t a_, uint64_t n)                       \
	{                                                                                       \
		uint##bits##_t a = (uint##bits##_t)a_, b = (uint##bits##_t)n;                   \
		uint16_t ax = alu_flags_ax(*rf);                                                \
		__asm__(ALU_SET #name sfx " %[b], %[a]\n\t" ALU_GET                             \
			: [a] "+&r"(a), "+&a"(ax) : [b] "r"(b) : "cc");                         \
		alu_flags_put(rf, ax);                                                          \
		return a;                                                                       \
	}
#define BIT_OPS(name) BIT_OP(name, "w", 16) BIT_OP(name, "l", 32) BIT_OP(name, "q", 64)
BIT_OPS(bt)
BIT_OPS(bts)
BIT_OPS(btr)
BIT_OPS(btc)

typedef uint64_t (*bit_fn)(uint64_t *rf, uint64_t a, uint64_t b);

static const bit_fn bit_fns[4][3] = {   /* in the order of ops.def */
	{ bt16, bt32, bt64 }, { bts16, bts32, bts64 }, { btr16, btr32, btr64 }, { btc16, btc32, btc64 },
};

struct bit_lock {
	bit_fn fn;
	uint64_t bit, flags_in, flags_out;
};

static uint64_t bit_lock_step(uint64_t old, void *arg)
{
	struct bit_lock *l = arg;

	l->flags_out = l->flags_in;
	return l->fn(&l->flags_out, old, l->bit);
}

/* With a register offset a memory operand is a bit string: the operand that holds the bit may lie
 * anywhere around the address, in steps of the operand size. */
static uint64_t bit_address(struct icpu *c, const struct iop *op, uint64_t bit, enum icpu_access acc)
{
	unsigned size = op->x.opnd[0].size, up = 64 - 8 * size;
	uint64_t off = icpu_ea_offset(c, op);

	if (op->x.opnd[1].kind == X86_O_REG) {
		int64_t n = (int64_t)(bit << up) >> up;

		off += (uint64_t)(n >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size;
		off &= op->x.adsize == 8 ? ~0ull : op->x.adsize == 4 ? 0xffffffff : 0xffff;
	}
	return icpu_linear(c, op->x.seg, off, size, acc);
}

static void iop_bit(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[0].size;
	bit_fn fn = bit_fns[op->x.op - X86_OP_BT][isize_log(size) - 1];
	uint64_t bit = icpu_get(c, op, 1), rf = c->s.rflags;
	bool is_bt = op->x.op == X86_OP_BT;

	if (op->x.opnd[0].kind == X86_O_REG) {
		uint64_t v = fn(&c->s.rflags, icpu_get(c, op, 0), bit);

		if (!is_bt)
			icpu_set(c, op, 0, v);
		return;
	}
	uint64_t la = bit_address(c, op, bit, is_bt ? ICPU_READ : ICPU_WRITE);

	bit &= 8 * size - 1;
	if (is_bt) {
		fn(&c->s.rflags, icpu_read(c, la, size), bit);
	} else if (op->x.prefixes & X86_P_LOCK) {
		struct bit_lock l = { .fn = fn, .bit = bit, .flags_in = rf };

		iatomic_update(c, la, size, bit_lock_step, &l);
		c->s.rflags = l.flags_out;
	} else {
		icpu_probe(c, la, size, ICPU_WRITE);
		icpu_write(c, la, size, fn(&rf, icpu_read(c, la, size), bit));
		c->s.rflags = rf;
	}
}
_Static_assert(X86_OP_BTC - X86_OP_BT == 3 && X86_OP_BTS - X86_OP_BT == 1, "order of ops.def");

/* BSF and BSR leave the destination alone when the source is 0 (all of it: the host decides). */
#define SCAN_OP(name, sfx, reg, bits)                                                           \
	static uint64_t name##bits(uint64_t *rf, uint64_t dst, uint64_t src)                    \
	{                                                                                       \
		uint16_t ax = alu_flags_ax(*rf);                                                \
		__asm__(ALU_SET #name sfx " %" reg "[s], %" reg "[d]\n\t" ALU_GET               \
			: [d] "+&r"(dst), "+&a"(ax) : [s] "r"(src) : "cc");                     \
		alu_flags_put(rf, ax);                                                          \
		return dst;                                                                     \
	}
#define SCAN_OPS(name) SCAN_OP(name, "w", "w", 16) SCAN_OP(name, "l", "k", 32) SCAN_OP(name, "q", "q", 64)
SCAN_OPS(bsf)
SCAN_OPS(bsr)
SCAN_OPS(popcnt)
SCAN_OPS(lzcnt)         /* on a host without them these are BSR and BSF, as its guest expects */
SCAN_OPS(tzcnt)

static const bit_fn scan_fns[5][3] = {  /* in the order of ops.def */
	{ bsf16, bsf32, bsf64 }, { bsr16, bsr32, bsr64 }, { popcnt16, popcnt32, popcnt64 },
	{ lzcnt16, lzcnt32, lzcnt64 }, { tzcnt16, tzcnt32, tzcnt64 },
};

static void iop_scan(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[0].size, kind = op->x.op - X86_OP_BSF;
	uint64_t src = icpu_get(c, op, 1), *dst = &c->s.gpr[op->x.opnd[0].reg];
	uint64_t v = scan_fns[kind][isize_log(size) - 1](&c->s.rflags, *dst, src);

	/* The host's own register result holds the merge or the extension already. */
	*dst = v;
}
_Static_assert(X86_OP_TZCNT - X86_OP_BSF == 4, "order of ops.def");

static void iop_setcc(struct icpu *c, const struct iop *op)
{
	icpu_set(c, op, 0, icond(c->s.rflags, op->x.row->opcode & 15));
}

/* CRC-32C, reflected polynomial 0x82f63b78. */
static void iop_crc32(struct icpu *c, const struct iop *op)
{
	uint64_t v = icpu_get(c, op, 1);
	uint32_t crc = (uint32_t)icpu_get(c, op, 0);

	for (unsigned i = 0; i < op->x.opnd[1].size; i++, v >>= 8) {
		crc ^= (uint8_t)v;
		for (unsigned k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	c->s.gpr[op->x.opnd[0].reg] = crc;
}

static void iop_adx(struct icpu *c, const struct iop *op)
{
	unsigned bits = 8 * op->x.opnd[0].size, flag = op->x.op == X86_OP_ADCX ? X86_CF : X86_OF;
	unsigned __int128 sum = (unsigned __int128)icpu_get(c, op, 1) + icpu_get(c, op, 0) + !!(c->s.rflags & flag);

	icpu_set(c, op, 0, (uint64_t)sum);
	c->s.rflags = (c->s.rflags & ~(uint64_t)flag) | (sum >> bits ? flag : 0);
}

iop_fn interp_bind_bit(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_BT:
	case X86_OP_BTS:
	case X86_OP_BTR:
	case X86_OP_BTC: return iop_bit;
	case X86_OP_BSF:
	case X86_OP_BSR:
	case X86_OP_POPCNT:
	case X86_OP_LZCNT:
	case X86_OP_TZCNT: return iop_scan;
	case X86_OP_SETCC: return iop_setcc;
	case X86_OP_CRC32: return iop_crc32;
	case X86_OP_ADCX:
	case X86_OP_ADOX: return iop_adx;
	default: return NULL;
	}
}
