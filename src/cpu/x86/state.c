/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - the processor's state after RESET, INIT and SIPI, and its table for saving. */
#include "cpu/x86/state.h"

#include <errno.h>
#include <string.h>
#include "util/endian.h"
#include "util/err.h"

#define CR0_RESET (X86_CR0_CD | X86_CR0_NW | X86_CR0_ET)
#define PAT_RESET 0x0007040600070406ull
#define DR6_RESET 0xffff0ff0u
#define DR7_RESET 0x400u
#define FCW_RESET 0x40
#define MXCSR_RESET 0x1f80
#define MXCSR_VALID 0xffffu
#define MISC_ENABLE_FAST_STRING 1u

enum {
	ATTR_DATA = X86_SEG_P | X86_SEG_S | X86_SEG_RW | X86_SEG_ACCESSED,
	ATTR_CODE = ATTR_DATA | X86_SEG_CODE,
	ATTR_LDT = X86_SEG_P | 2,
	ATTR_TSS_BUSY = X86_SEG_P | 11,
	ATTR_KNOWN = 0xf0ff | X86_SEG_UNUSABLE,
};

/* What RESET and INIT have in common (SDM vol. 3 table 9-1). */
static void state_init_common(struct x86_state *s, int is_bsp)
{
	memset(s->gpr, 0, sizeof(s->gpr));
	s->gpr[X86_RDX] = 0x600;                /* family 6; the rest is model-specific */
	s->rip = 0xfff0;
	s->rflags = X86_FLAGS_FIXED;
	for (unsigned i = 0; i < X86_N_SEGS; i++)
		s->seg[i] = (struct x86_seg){ .limit = 0xffff, .attr = ATTR_DATA };
	s->seg[X86_CS] = (struct x86_seg){ .sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = ATTR_CODE };
	s->ldtr = (struct x86_seg){ .limit = 0xffff, .attr = ATTR_LDT };
	s->tr = (struct x86_seg){ .limit = 0xffff, .attr = ATTR_TSS_BUSY };
	s->gdtr = s->idtr = (struct x86_dtab){ .limit = 0xffff };
	s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
	memset(s->dr, 0, sizeof(s->dr));
	s->dr6 = DR6_RESET;
	s->dr7 = DR7_RESET;
	s->mp_state = is_bsp ? X86_MP_RUNNABLE : X86_MP_WAIT_SIPI;
	s->int_shadow = s->nmi_blocked = s->nmi_pending = s->sipi_vector = 0;
}

void x86_state_reset(struct x86_state *s, int is_bsp)
{
	uint64_t tsc_offset = s->tsc_offset;

	memset(s, 0, sizeof(*s));
	s->tsc_offset = tsc_offset;
	state_init_common(s, is_bsp);
	s->cr0 = CR0_RESET;
	s->xcr0 = 1;
	s->pat = PAT_RESET;
	s->misc_enable = MISC_ENABLE_FAST_STRING;
	put_le16(s->xsave + X86_FX_FCW, FCW_RESET);
	s->xsave[X86_FX_FTW] = 0xff;            /* tags 5555h: every register holds a zero */
	put_le32(s->xsave + X86_FX_MXCSR, MXCSR_RESET);
	put_le32(s->xsave + X86_FX_MXCSR_MASK, MXCSR_VALID);
	put_le64(s->xsave + X86_XS_BV, 3);      /* x87 and SSE are not in their XRSTOR-initial state */
}

void x86_state_init(struct x86_state *s, int is_bsp)
{
	uint64_t cache_bits = s->cr0 & (X86_CR0_CD | X86_CR0_NW);

	state_init_common(s, is_bsp);
	s->cr0 = X86_CR0_ET | cache_bits;
}

void x86_state_sipi(struct x86_state *s, uint8_t vector)
{
	s->seg[X86_CS].sel = (uint16_t)(vector << 8);
	s->seg[X86_CS].base = (uint64_t)vector << 12;
	s->rip = 0;
	s->sipi_vector = vector;
	s->mp_state = X86_MP_RUNNABLE;
}

/* --- saved form --------------------------------------------------------------------------------- */

static const struct field seg_fields[] = {
	FIELD(struct x86_seg, base, 1),
	FIELD(struct x86_seg, limit, 1),
	FIELD(struct x86_seg, attr, 1),
	FIELD(struct x86_seg, sel, 1),
};
static const struct state_desc seg_desc = {
	.name = "segment", .version = 1, .size = sizeof(struct x86_seg),
	.n_fields = sizeof(seg_fields) / sizeof(seg_fields[0]), .fields = seg_fields,
};

static const struct field dtab_fields[] = {
	FIELD(struct x86_dtab, base, 1),
	FIELD(struct x86_dtab, limit, 1),
};
static const struct state_desc dtab_desc = {
	.name = "table register", .version = 1, .size = sizeof(struct x86_dtab),
	.n_fields = sizeof(dtab_fields) / sizeof(dtab_fields[0]), .fields = dtab_fields,
};

static const struct field mtrr_fields[] = {
	FIELD(struct x86_mtrr, def_type, 1),
	FIELD_ARRAY(struct x86_mtrr, fixed, 1),
	FIELD_ARRAY(struct x86_mtrr, var, 1),
};
static const struct state_desc mtrr_desc = {
	.name = "memory types", .version = 1, .size = sizeof(struct x86_mtrr),
	.n_fields = sizeof(mtrr_fields) / sizeof(mtrr_fields[0]), .fields = mtrr_fields,
};

static const struct field state_fields[] = {
	FIELD_ARRAY(struct x86_state, gpr, 1),
	FIELD(struct x86_state, rip, 1),
	FIELD(struct x86_state, rflags, 1),
	FIELD_SUBS(struct x86_state, seg, 1, &seg_desc),
	FIELD_SUB(struct x86_state, ldtr, 1, &seg_desc),
	FIELD_SUB(struct x86_state, tr, 1, &seg_desc),
	FIELD_SUB(struct x86_state, gdtr, 1, &dtab_desc),
	FIELD_SUB(struct x86_state, idtr, 1, &dtab_desc),
	FIELD(struct x86_state, cr0, 1),
	FIELD(struct x86_state, cr2, 1),
	FIELD(struct x86_state, cr3, 1),
	FIELD(struct x86_state, cr4, 1),
	FIELD(struct x86_state, efer, 1),
	FIELD(struct x86_state, xcr0, 1),
	FIELD_ARRAY(struct x86_state, dr, 1),
	FIELD(struct x86_state, dr6, 1),
	FIELD(struct x86_state, dr7, 1),
	FIELD(struct x86_state, star, 1),
	FIELD(struct x86_state, lstar, 1),
	FIELD(struct x86_state, cstar, 1),
	FIELD(struct x86_state, fmask, 1),
	FIELD(struct x86_state, kernel_gs_base, 1),
	FIELD(struct x86_state, sysenter_cs, 1),
	FIELD(struct x86_state, sysenter_esp, 1),
	FIELD(struct x86_state, sysenter_eip, 1),
	FIELD(struct x86_state, pat, 1),
	FIELD(struct x86_state, tsc_aux, 1),
	FIELD(struct x86_state, misc_enable, 1),
	FIELD(struct x86_state, spec_ctrl, 1),
	FIELD(struct x86_state, mcg_status, 1),
	FIELD(struct x86_state, mcg_ctl, 1),
	FIELD(struct x86_state, tsc_adjust, 1),
	FIELD_SUB(struct x86_state, mtrr, 1, &mtrr_desc),
	FIELD(struct x86_state, tsc_offset, 1),
	FIELD(struct x86_state, mp_state, 1),
	FIELD(struct x86_state, int_shadow, 1),
	FIELD(struct x86_state, nmi_blocked, 1),
	FIELD(struct x86_state, nmi_pending, 1),
	FIELD(struct x86_state, sipi_vector, 1),
	FIELD_RAW(struct x86_state, xsave, 1),
};

static int state_check_seg(const struct x86_seg *s, const char *what, struct err *err)
{
	if (s->attr & ~(uint32_t)ATTR_KNOWN)
		return err_set(err, -EPROTO, "saved processor state: segment '%s' has impossible attributes 0x%x",
			       what, s->attr);
	return 0;
}

/* Only what a guest cannot bring about and an engine would trip over. */
static int state_check(void *state, struct err *err)
{
	static const char *const seg_names[X86_N_SEGS] = { "es", "cs", "ss", "ds", "fs", "gs" };
	const struct x86_state *s = state;
	const uint64_t long_on = X86_EFER_LME | X86_EFER_LMA;
	int r;

	for (unsigned i = 0; i < X86_N_SEGS; i++)
		if ((r = state_check_seg(&s->seg[i], seg_names[i], err)) < 0)
			return r;
	if ((r = state_check_seg(&s->ldtr, "ldtr", err)) < 0 || (r = state_check_seg(&s->tr, "tr", err)) < 0)
		return r;
	if (!(s->rflags & X86_FLAGS_FIXED) || s->rflags >> 22)
		return err_set(err, -EPROTO, "saved processor state: impossible flags 0x%llx",
			       (unsigned long long)s->rflags);
	if (((s->cr0 & X86_CR0_PG) && !(s->cr0 & X86_CR0_PE)) || s->cr0 >> 32)
		return err_set(err, -EPROTO, "saved processor state: impossible CR0 0x%llx", (unsigned long long)s->cr0);
	/* LMA is LME and PG (SDM vol. 3 2.2.1); long mode needs PAE. */
	if (((s->efer & long_on) == long_on) != ((s->efer & X86_EFER_LME) && (s->cr0 & X86_CR0_PG)) ||
	    ((s->efer & X86_EFER_LMA) && (!(s->efer & X86_EFER_LME) || !(s->cr4 & X86_CR4_PAE))))
		return err_set(err, -EPROTO, "saved processor state: EFER 0x%llx contradicts CR0 and CR4",
			       (unsigned long long)s->efer);
	if (!(s->xcr0 & 1) || get_le64(s->xsave + X86_XS_COMP_BV))
		return err_set(err, -EPROTO, "saved processor state: impossible XCR0 or compacted XSAVE area");
	if (get_le32(s->xsave + X86_FX_MXCSR) & ~MXCSR_VALID)
		return err_set(err, -EPROTO, "saved processor state: reserved bits in MXCSR");
	if (s->mp_state > X86_MP_SHUTDOWN || s->int_shadow > 2 || s->nmi_blocked > 1 || s->nmi_pending > 1)
		return err_set(err, -EPROTO, "saved processor state: impossible activity state");
	return 0;
}

const struct state_desc x86_state_desc = {
	.name = "cpu",
	.version = 1,
	.size = sizeof(struct x86_state),
	.n_fields = sizeof(state_fields) / sizeof(state_fields[0]),
	.fields = state_fields,
	.check = state_check,
};
