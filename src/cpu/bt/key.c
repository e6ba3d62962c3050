/* SPDX-License-Identifier: Apache-2.0 */
/* key.c - the state that translated code depends on. Vcpu thread only. */
#include "cpu/bt/bt_priv.h"

/* May S be used like DS in 64-bit mode, but for its base? */
static bool is_whole(const struct x86_seg *s)
{
	uint32_t want = X86_SEG_P | X86_SEG_S | X86_SEG_RW;

	return s->limit == 0xffffffff && (s->attr & (want | X86_SEG_CODE | X86_SEG_DC | X86_SEG_UNUSABLE)) == want;
}

static bool is_flat(const struct x86_seg *s)
{
	return !s->base && is_whole(s);
}

static unsigned mode_key(const struct icpu *c)
{
	const struct x86_seg *seg = c->s.seg, *cs = &seg[X86_CS];

	if (c->mode == X86_MODE_64)
		return 0;
	if (c->mode != X86_MODE_32 || c->is_real_or_vm86 || cs->base || cs->limit != 0xffffffff || !is_flat(&seg[X86_SS]) ||
	    !(seg[X86_SS].attr & X86_SEG_DB) || !is_flat(&seg[X86_DS]) || !is_flat(&seg[X86_ES]))
		return BT_NO_KEY;
	return BT_KEY_32 | (is_whole(&seg[X86_FS]) ? BT_KEY_FS : 0) | (is_whole(&seg[X86_GS]) ? BT_KEY_GS : 0);
}

/* Floating point runs natively when it may run at all and cannot raise #XM or #MF. */
static unsigned fp_key(const struct icpu *c)
{
	uint32_t mxcsr, masks = 0x1f80;
	uint16_t fcw;
	bool is_on = !(c->s.cr0 & (X86_CR0_EM | X86_CR0_TS)) && (c->s.cr4 & X86_CR4_OSFXSR);

	memcpy(&mxcsr, c->s.xsave + X86_FX_MXCSR, sizeof(mxcsr));
	memcpy(&fcw, c->s.xsave + X86_FX_FCW, sizeof(fcw));
	if (!is_on || (mxcsr & masks) != masks)
		return 0;
	if ((fcw & 0x3f) != 0x3f)
		return BT_KEY_SSE;
	return c->s.cr4 & X86_CR4_OSXSAVE && (c->s.xcr0 & 6) == 6 ? BT_KEY_AVX : BT_KEY_X87;
}

unsigned bt_key_now(const struct icpu *c)
{
	unsigned mode = mode_key(c);

	return mode == BT_NO_KEY ? BT_NO_KEY : icpu_priv(c) | fp_key(c) | mode;
}

enum bt_policy bt_policy_now(const struct icpu *c, unsigned key)
{
	bool is_user_64 = (key & (BT_KEY_PRIV | BT_KEY_32)) == BT_KEY_USER;

	return is_user_64 && c->space->window.set ? BT_POLICY_WINDOW : BT_POLICY_SOFT;
}

bool bt_policy_is_offered(enum bt_policy policy)
{
	return policy == BT_POLICY_SOFT || policy == BT_POLICY_WINDOW;
}
