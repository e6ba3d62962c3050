/* SPDX-License-Identifier: Apache-2.0 */
/* x87_control.c - x87 control instructions, done on the stored state: control and status words,
 * environment and state images (SDM vol. 1 8.1.8 to 8.1.10, figures 8-9 to 8-12), WAIT, EMMS. */
#include "cpu/interp/vec.h"
#include "util/endian.h"

enum { X87_ENV_MAX = 28, X87_REGS_LEN = 80, X87_IMAGE_MAX = X87_ENV_MAX + X87_REGS_LEN };

/* The full tag of a register that is not empty: 0 valid, 1 zero, 2 special. */
static unsigned x87_tag(const uint8_t st[16])
{
	uint64_t man = get_le64(st);
	unsigned exp = get_le16(st + 8) & 0x7fff;

	if (exp == 0 && man == 0)
		return 1;
	return exp == 0 || exp == 0x7fff || !(man >> 63) ? 2 : 0;
}

/* Tag word of 2 bits for each physical register from the abridged one (SDM vol. 1 10.5.1.1). */
static uint16_t x87_full_tags(const struct icpu *c)
{
	unsigned top = x87_top(c), tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		bool in_use = c->s.xsave[X86_FX_FTW] >> i & 1;

		tags |= (in_use ? x87_tag(c->s.xsave + X86_FX_ST + 16 * ((i - top) & 7)) : 3) << 2 * i;
	}
	return tags;
}

static uint8_t x87_abridged_tags(uint16_t tags)
{
	uint8_t ftw = 0;

	for (unsigned i = 0; i < 8; i++)
		if ((tags >> 2 * i & 3) != 3)
			ftw |= 1 << i;
	return ftw;
}

static unsigned x87_env_len(const struct iop *op)
{
	return op->x.opsize == 2 ? 14 : 28;
}

/* Write the environment in the layout of the operand size and mode; returns its length. */
static unsigned x87_env_put(struct icpu *c, const struct iop *op, uint8_t *p)
{
	uint32_t ip = get_le32(c->s.xsave + X86_FX_FIP), dp = get_le32(c->s.xsave + X86_FX_FDP);
	uint16_t fop = fx_get16(c, X86_FX_FOP) & 0x7ff;
	uint16_t fcw = fx_get16(c, X86_FX_FCW), fsw = fx_get16(c, X86_FX_FSW), ftw = x87_full_tags(c);

	if (x87_env_len(op) == 14) {
		put_le16(p, fcw);
		put_le16(p + 2, fsw);
		put_le16(p + 4, ftw);
		put_le16(p + 6, ip);
		put_le16(p + 8, c->is_real_or_vm86 ? (ip >> 16 & 0xf) << 12 | fop : 0);
		put_le16(p + 10, dp);
		put_le16(p + 12, c->is_real_or_vm86 ? (dp >> 16 & 0xf) << 12 : 0);
		return 14;
	}
	put_le32(p, 0xffff0000 | fcw);
	put_le32(p + 4, 0xffff0000 | fsw);
	put_le32(p + 8, 0xffff0000 | ftw);
	if (c->is_real_or_vm86) {
		put_le32(p + 12, 0xffff0000 | (ip & 0xffff));
		put_le32(p + 16, (ip >> 16) << 12 | fop);
		put_le32(p + 20, 0xffff0000 | (dp & 0xffff));
		put_le32(p + 24, (dp >> 16) << 12);
	} else {
		put_le32(p + 12, ip);
		put_le32(p + 16, (uint32_t)fop << 16);
		put_le32(p + 20, dp);
		put_le32(p + 24, 0xffff0000);
	}
	return 28;
}

static void x87_env_get(struct icpu *c, const struct iop *op, const uint8_t *p)
{
	uint64_t ip, dp;
	uint16_t fop = fx_get16(c, X86_FX_FOP), ftw;

	if (x87_env_len(op) == 14) {
		x87_set_words(c, get_le16(p), get_le16(p + 2));
		ftw = get_le16(p + 4);
		ip = get_le16(p + 6);
		dp = get_le16(p + 10);
		if (c->is_real_or_vm86) {
			fop = get_le16(p + 8) & 0x7ff;
			ip |= (uint32_t)(get_le16(p + 8) & 0xf000) << 4;
			dp |= (uint32_t)(get_le16(p + 12) & 0xf000) << 4;
		}
	} else {
		x87_set_words(c, get_le16(p), get_le16(p + 4));
		ftw = get_le16(p + 8);
		if (c->is_real_or_vm86) {
			fop = get_le32(p + 16) & 0x7ff;
			ip = get_le16(p + 12) | (get_le32(p + 16) >> 12 & 0xffff) << 16;
			dp = get_le16(p + 20) | (get_le32(p + 24) >> 12 & 0xffff) << 16;
		} else {
			fop = get_le32(p + 16) >> 16 & 0x7ff;
			ip = get_le32(p + 12);
			dp = get_le32(p + 20);
		}
	}
	c->s.xsave[X86_FX_FTW] = x87_abridged_tags(ftw);
	fx_set16(c, X86_FX_FOP, fop);
	memcpy(c->s.xsave + X86_FX_FIP, &ip, sizeof(ip));
	memcpy(c->s.xsave + X86_FX_FDP, &dp, sizeof(dp));
}

/* Write LEN bytes of IMG all or nothing. */
static void x87_image_write(struct icpu *c, const struct iop *op, const uint8_t *img, unsigned len)
{
	uint64_t la = icpu_ea(c, op, len, ICPU_WRITE);

	icpu_probe(c, la, len, ICPU_WRITE);
	for (unsigned i = 0, n; i < len; i += n) {
		n = len - i < 64 ? len - i : 64;
		icpu_write_slow(c, la + i, img + i, n, false);
	}
}

static void x87_image_read(struct icpu *c, const struct iop *op, uint8_t *img, unsigned len)
{
	uint64_t la = icpu_ea(c, op, len, ICPU_READ);

	for (unsigned i = 0, n; i < len; i += n) {
		n = len - i < 64 ? len - i : 64;
		icpu_read_slow(c, la + i, img + i, n, false);
	}
}

static void x87_fnstenv(struct icpu *c, const struct iop *op)
{
	uint8_t env[X87_ENV_MAX];

	icpu_fpu_check(c, op);
	x87_image_write(c, op, env, x87_env_put(c, op, env));
	/* "then masks all floating-point exceptions" (SDM vol. 2, FSTENV) */
	x87_set_words(c, fx_get16(c, X86_FX_FCW) | FSW_FLAGS, fx_get16(c, X86_FX_FSW));
}

static void x87_fldenv(struct icpu *c, const struct iop *op)
{
	uint8_t env[X87_ENV_MAX];

	icpu_fpu_check(c, op);
	x87_image_read(c, op, env, x87_env_len(op));
	x87_env_get(c, op, env);
}

static void x87_fnsave(struct icpu *c, const struct iop *op)
{
	uint8_t img[X87_IMAGE_MAX];
	unsigned len;

	icpu_fpu_check(c, op);
	len = x87_env_put(c, op, img);
	for (unsigned i = 0; i < 8; i++, len += 10)
		memcpy(img + len, c->s.xsave + X86_FX_ST + 16 * i, 10);
	x87_image_write(c, op, img, len);
	/* The registers keep their bits, tagged empty (SDM vol. 2, FINIT). */
	x87_init(c);
}

static void x87_frstor(struct icpu *c, const struct iop *op)
{
	uint8_t img[X87_IMAGE_MAX];
	unsigned env = x87_env_len(op);

	icpu_fpu_check(c, op);
	x87_image_read(c, op, img, env + X87_REGS_LEN);
	x87_env_get(c, op, img);
	memset(c->s.xsave + X86_FX_ST, 0, 8 * 16);
	for (unsigned i = 0; i < 8; i++)
		memcpy(c->s.xsave + X86_FX_ST + 16 * i, img + env + 10 * i, 10);
}

static void x87_fnstcw(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
	icpu_write16(c, icpu_ea(c, op, 2, ICPU_WRITE), fx_get16(c, X86_FX_FCW));
}

static void x87_fldcw(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
	x87_set_words(c, icpu_read16(c, icpu_ea(c, op, 2, ICPU_READ)), fx_get16(c, X86_FX_FSW));
}

/* To memory or AX. */
static void x87_fnstsw(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
	if (op->x.modrm >= 0xc0)
		icpu_reg_set(c, X86_RAX, 2, false, fx_get16(c, X86_FX_FSW));
	else
		icpu_write16(c, icpu_ea(c, op, 2, ICPU_WRITE), fx_get16(c, X86_FX_FSW));
}

static void x87_fninit(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
	x87_init(c);
}

static void x87_fnclex(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
	/* exception flags, stack fault, summary and busy */
	fx_set16(c, X86_FX_FSW, fx_get16(c, X86_FX_FSW) & 0x7f00);
}

/* WAIT, FNOP and the 8087's FENI, FDISI and FSETPM that are FNOP now */
static void x87_wait(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
}

static void x87_emms(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
	mmx_enter(c);
	c->s.xsave[X86_FX_FTW] = 0;
}

iop_fn x87_control_bind(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_FNSTENV: return x87_fnstenv;
	case X86_OP_FLDENV: return x87_fldenv;
	case X86_OP_FNSAVE: return x87_fnsave;
	case X86_OP_FRSTOR: return x87_frstor;
	case X86_OP_FNSTCW: return x87_fnstcw;
	case X86_OP_FLDCW: return x87_fldcw;
	case X86_OP_FNSTSW: return x87_fnstsw;
	case X86_OP_FNINIT: return x87_fninit;
	case X86_OP_FNCLEX: return x87_fnclex;
	case X86_OP_WAIT: case X86_OP_FNOP: return x87_wait;
	case X86_OP_EMMS: return x87_emms;
	default: return NULL;
	}
}
