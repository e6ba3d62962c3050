/* SPDX-License-Identifier: Apache-2.0 */
/* sys_msr.c - RDMSR and WRMSR (SDM vol. 4 chapter 2; AMD APM vol. 2 appendix A).
 *
 * One table: a register is a field of struct x86_state, a constant, a pair of functions, or the
 * platform's (struct cpu_host). What the table does not know raises #GP(0), so that a guest
 * probing for a feature learns that it is not there. */
#include <stddef.h>
#include "cpu/interp/sys_priv.h"

/* Not a field of the state. */
#define NO_FIELD 0xffffffffu

struct msr {
	uint32_t first, last;
	uint32_t field;         /* offset of a uint64_t in struct x86_state, or NO_FIELD */
	uint64_t value;         /* without a field: what it reads */
	uint64_t writable;      /* bits that a write may set, else #GP; dropped without a field */
	void (*check)(struct icpu *c, uint32_t msr, uint64_t v);        /* may raise; NULL: nothing */
	uint64_t (*read)(struct icpu *c, uint32_t msr);
	void (*write)(struct icpu *c, uint32_t msr, uint64_t v);        /* instead of the field */
	uint8_t word, bit;      /* CPUID feature that it needs; word MSR_ALWAYS: none */
};

enum { MSR_ALWAYS = 0xff };

static void msr_check_canonical(struct icpu *c, uint32_t msr, uint64_t v)
{
	if (!sys_is_canonical_base(c, v))
		icpu_gp0(c);
}

/* --- memory types (SDM vol. 3 11.11, 11.12) ------------------------------------------------------- */

static bool msr_is_mtrr_type(uint8_t t)
{
	return t == 0 || t == 1 || (t >= 4 && t <= 6);
}

static void msr_check_pat(struct icpu *c, uint32_t msr, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++, v >>= 8)
		if (!msr_is_mtrr_type(v & 0xff) && (v & 0xff) != 7)     /* 7: UC- */
			icpu_gp0(c);
}

static void msr_check_mtrr_fixed(struct icpu *c, uint32_t msr, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++, v >>= 8)
		if (!msr_is_mtrr_type(v & 0xff))
			icpu_gp0(c);
}

static void msr_check_mtrr_var(struct icpu *c, uint32_t msr, uint64_t v)
{
	bool is_mask = msr & 1;

	if (v >> sys_phys_bits(c) || (v & (is_mask ? 0x7ff : 0xf00)) || (!is_mask && !msr_is_mtrr_type(v & 0xff)))
		icpu_gp0(c);
}

static void msr_check_mtrr_def(struct icpu *c, uint32_t msr, uint64_t v)
{
	if (!msr_is_mtrr_type(v & 0xff))
		icpu_gp0(c);
}

/* --- time -------------------------------------------------------------------------------------- */

uint64_t sys_tsc(const struct icpu *c)
{
	return source_tsc(c->vm->cfg.source) + c->s.tsc_offset;
}

static uint64_t msr_read_tsc(struct icpu *c, uint32_t msr) { return sys_tsc(c); }

/* The thread of the LAPIC timer reads the offset: see interp_tsc_offset(). */
static void msr_move_tsc(struct icpu *c, uint64_t delta)
{
	__atomic_store_n(&c->s.tsc_offset, c->s.tsc_offset + delta, __ATOMIC_RELAXED);
	c->s.tsc_adjust += delta;
	if (c->host->tsc_changed)
		c->host->tsc_changed(c->host->arg, c->index);
}

/* Writing either register moves the other (SDM vol. 3 17.17.3). */
static void msr_write_tsc(struct icpu *c, uint32_t msr, uint64_t v)
{
	msr_move_tsc(c, v - sys_tsc(c));
}

static void msr_write_tsc_adjust(struct icpu *c, uint32_t msr, uint64_t v)
{
	msr_move_tsc(c, v - c->s.tsc_adjust);
}

/* Ratio of the TSC to the bus clock of 100 MHz, as the maximum without turbo and the present one
 * (PLATFORM_INFO, PERF_STATUS); in the first also as the most efficient. */
static uint64_t msr_read_ratio(struct icpu *c, uint32_t msr)
{
	uint64_t ratio = c->vm->cfg.source->tsc_hz / 100000000u & 0xff;

	return msr == 0xce ? ratio << 40 | ratio << 8 : ratio << 8;
}

/* CORE_THREAD_COUNT: cores, then threads; a core has one. */
static uint64_t msr_read_core_count(struct icpu *c, uint32_t msr)
{
	uint64_t n = c->vm->cfg.n_vcpus & 0xffff;

	return n << 16 | n;
}

/* --- segments, EFER, the platform's ------------------------------------------------------------- */

static struct x86_seg *msr_base_seg(struct icpu *c, uint32_t msr)
{
	return &c->s.seg[msr == 0xc0000100 ? X86_FS : X86_GS];
}

static uint64_t msr_read_base(struct icpu *c, uint32_t msr) { return msr_base_seg(c, msr)->base; }
static void msr_write_base(struct icpu *c, uint32_t msr, uint64_t v) { msr_base_seg(c, msr)->base = v; }
static void msr_write_efer(struct icpu *c, uint32_t msr, uint64_t v) { sys_set_efer(c, v); }

_Noreturn static uint64_t msr_read_refused(struct icpu *c, uint32_t msr)
{
	icpu_raise_code(c, X86_EXC_GP, 0);
}

static void msr_write_mcg_status(struct icpu *c, uint32_t msr, uint64_t v)
{
	if (v)
		icpu_gp0(c);
	c->s.mcg_status = 0;
}

static uint64_t msr_read_host(struct icpu *c, uint32_t msr)
{
	uint64_t v;

	if (c->host->msr_read(c->host->arg, c->index, msr, &v) < 0)
		icpu_gp0(c);
	return v;
}

static void msr_write_host(struct icpu *c, uint32_t msr, uint64_t v)
{
	if (c->host->msr_write(c->host->arg, c->index, msr, v) < 0)
		icpu_gp0(c);
	/* EOI, TPR, self IPI or a timer in the past: an interrupt may be due. */
	icpu_request(c, ICPU_REQ_INTR);
}

/* --- the table ---------------------------------------------------------------------------------- */

#define S(m) offsetof(struct x86_state, m)
#define ALL (~0ull)
#define NEED(w, b) .word = X86_W_##w, .bit = b
#define FREE .word = MSR_ALWAYS
/* A field with free contents; one with checked contents; a constant whose writes are dropped, or
 * refused; the platform's. */
#define FIELD_OF(n, m) { n, n, S(m), .writable = ALL, FREE }
#define CHECKED(n, m, fn) { n, n, S(m), .writable = ALL, .check = fn, FREE }
#define CONST(n, v, w) { n, n, NO_FIELD, v, w, FREE }
#define HOST(a, b) { a, b, NO_FIELD, .writable = ALL, .read = msr_read_host, .write = msr_write_host, FREE }
#define MTRR_FIXED(a, b, i) { a, b, S(mtrr.fixed[i]), .writable = ALL, .check = msr_check_mtrr_fixed, FREE }

enum {
	MTRRCAP = X86_N_MTRR_VAR | 1 << 8 | 1 << 10,    /* variable count, fixed ranges, WC */
	SPEC_CTRL_BITS = 7,                             /* IBRS, STIBP, SSBD */
};

/* Stored, without effect: also bit 34, "XD bit disable", which firmware and kernels only clear. */
#define MISC_ENABLE_BITS (0x1 | 0x8 | 0x80 | 0x800 | 0x1000 | 0x10000 | 0x40000 | 0x400000 | 0x800000 | 1ull << 34)

/* IA32_ARCH_CAPABILITIES: immune to everything known, with enhanced IBRS, so that guests leave
 * their mitigations off. RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO,
 * TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. */
#define ARCH_CAPS (1ull << 0 | 1ull << 1 | 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 8 | \
		   1ull << 13 | 1ull << 14 | 1ull << 15 | 1ull << 20 | 1ull << 24 | 1ull << 26 | \
		   1ull << 27 | 1ull << 62)

/* Ascending, for the search. Some are of one vendor's or of older processors, and what is in them is of no use
 * here; but systems read them without asking CPUID and do not expect a fault. */
static const struct msr msrs[] = {
	{ 0x0, 0x1, NO_FIELD, 0, ALL, FREE },           /* P5_MC_ADDR, P5_MC_TYPE */
	{ 0x10, 0x10, NO_FIELD, .writable = ALL, .read = msr_read_tsc, .write = msr_write_tsc, FREE },
	HOST(0x11, 0x12),                               /* kvmclock, old numbers */
	CONST(0x17, 0, 0),                              /* PLATFORM_ID */
	HOST(0x1b, 0x1b),                               /* APIC_BASE */
	CONST(0x2a, 0, ALL),                            /* EBL_CR_POWERON */
	CONST(0x2c, 1 << 24, 0),                        /* EBC_FREQUENCY_ID */
	CONST(0x34, 0, 0),                              /* SMI_COUNT */
	{ 0x35, 0x35, NO_FIELD, .read = msr_read_core_count, FREE },
	CONST(0x3a, 1, 0),                              /* FEATURE_CONTROL: locked, all off */
	{ 0x3b, 0x3b, S(tsc_adjust), .writable = ALL, .write = msr_write_tsc_adjust, NEED(7_EBX, 1) },
	{ 0x48, 0x48, S(spec_ctrl), .writable = SPEC_CTRL_BITS, NEED(7_EDX, 26) },
	{ 0x49, 0x49, NO_FIELD, 0, 1, .read = msr_read_refused, NEED(7_EDX, 26) },      /* PRED_CMD: IBPB */
	CONST(0x8b, 1ull << 32, ALL),                   /* BIOS_SIGN_ID: microcode revision 1 */
	CONST(0xcd, 3, 0),                              /* FSB_FREQ: 100 MHz */
	{ 0xce, 0xce, NO_FIELD, .read = msr_read_ratio, FREE },         /* PLATFORM_INFO */
	CONST(0xfe, MTRRCAP, 0),
	{ 0x10a, 0x10a, NO_FIELD, ARCH_CAPS, 0, NEED(7_EDX, 29) },
	CONST(0x11e, 0xbe702111, 0),                    /* BBL_CR_CTL3: there is a cache of the second level */
	FIELD_OF(0x174, sysenter_cs),
	CHECKED(0x175, sysenter_esp, msr_check_canonical),
	CHECKED(0x176, sysenter_eip, msr_check_canonical),
	CONST(0x179, 1 << 8, 0),                        /* MCG_CAP: MCG_CTL, no banks */
	{ 0x17a, 0x17a, S(mcg_status), .writable = ALL, .write = msr_write_mcg_status, FREE },
	FIELD_OF(0x17b, mcg_ctl),
	{ 0x198, 0x198, NO_FIELD, .read = msr_read_ratio, FREE },       /* PERF_STATUS */
	CONST(0x199, 0, ALL),                           /* PERF_CTL */
	{ 0x1a0, 0x1a0, S(misc_enable), .writable = MISC_ENABLE_BITS, FREE },
	CONST(0x1d9, 0, 3),                             /* DEBUGCTL: no LBR, BTF is dropped */
	{ 0x1db, 0x1de, NO_FIELD, 0, 0, FREE },         /* last branch and exception */
	{ 0x200, 0x200 + 2 * X86_N_MTRR_VAR - 1, S(mtrr.var), .writable = ALL, .check = msr_check_mtrr_var, FREE },
	MTRR_FIXED(0x250, 0x250, 0),
	MTRR_FIXED(0x258, 0x259, 1),
	MTRR_FIXED(0x268, 0x26f, 3),
	CHECKED(0x277, pat, msr_check_pat),
	{ 0x2ff, 0x2ff, S(mtrr.def_type), .writable = 0xcff, .check = msr_check_mtrr_def, FREE },
	CONST(0x606, 0, 0),                             /* RAPL_POWER_UNIT, and energy of package, DRAM and cores */
	CONST(0x611, 0, 0),
	CONST(0x619, 0, 0),
	CONST(0x639, 0, 0),
	CONST(0x641, 0, 0),
	HOST(0x6e0, 0x6e0),                             /* TSC_DEADLINE */
	HOST(0x800, 0x8ff),                             /* x2APIC */
	HOST(0x4b564d00, 0x4b564dff),                   /* KVM paravirtual */
	{ 0xc0000080, 0xc0000080, S(efer), .writable = ALL, .write = msr_write_efer, FREE },
	FIELD_OF(0xc0000081, star),
	CHECKED(0xc0000082, lstar, msr_check_canonical),
	CHECKED(0xc0000083, cstar, msr_check_canonical),
	{ 0xc0000084, 0xc0000084, S(fmask), .writable = 0xffffffff, FREE },
	{ 0xc0000100, 0xc0000101, NO_FIELD, .writable = ALL, .check = msr_check_canonical,
	  .read = msr_read_base, .write = msr_write_base, FREE },
	CHECKED(0xc0000102, kernel_gs_base, msr_check_canonical),
	{ 0xc0000103, 0xc0000103, S(tsc_aux), .writable = 0xffffffff, NEED(80000001_EDX, 27) },
	/* What Linux reads, and partly sets, on a processor that calls itself AMD's. */
	{ 0xc0010000, 0xc0010007, NO_FIELD, 0, ALL, FREE },             /* performance counters that never count */
	CONST(0xc0010010, 0, ALL),                      /* SYSCFG */
	CONST(0xc0010015, 0, ALL),                      /* HWCR */
	CONST(0xc001001f, 0, ALL),                      /* NB_CFG */
	CONST(0xc0010055, 0, ALL),                      /* interrupt pending and C1E */
	CONST(0xc0010058, 0, ALL),                      /* MMIO_CONF_BASE */
	{ 0xc0010112, 0xc0010113, NO_FIELD, 0, ALL, FREE },             /* SMM_ADDR, SMM_MASK */
	CONST(0xc0010117, 0, ALL),                      /* VM_HSAVE_PA */
	CONST(0xc0010140, 0, 0),                        /* OSVW: no errata listed */
	CONST(0xc0010141, 0, 0),
	CONST(0xc0011020, 0, ALL),                      /* LS_CFG */
	CONST(0xc0011022, 0, ALL),                      /* DC_CFG */
	CONST(0xc0011023, 0, ALL),                      /* TW_CFG */
	CONST(0xc0011029, 2, ALL),                      /* DE_CFG: LFENCE serializes */
	CONST(0xc001102a, 0, ALL),                      /* BU_CFG2 */
	CONST(0xc001102c, 0, ALL),                      /* EX_CFG */
};

static const struct msr *msr_find(struct icpu *c, uint32_t n)
{
	unsigned lo = 0, hi = sizeof(msrs) / sizeof(msrs[0]);

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct msr *m = &msrs[mid];

		if (n < m->first)
			hi = mid;
		else if (n > m->last)
			lo = mid + 1;
		else if (m->word == MSR_ALWAYS || sys_has(c, m->word, m->bit))
			return m;
		else
			break;
	}
	icpu_raise_code(c, X86_EXC_GP, 0);
}

/* The state's field behind register N; rows with several registers are arrays. */
static void *msr_field(struct icpu *c, const struct msr *m, uint32_t n)
{
	return (uint8_t *)&c->s + m->field + 8 * (n - m->first);
}

static uint64_t msr_read(struct icpu *c, uint32_t n)
{
	const struct msr *m = msr_find(c, n);
	uint64_t v = m->value;

	if (m->read)
		return m->read(c, n);
	if (m->field != NO_FIELD)
		memcpy(&v, msr_field(c, m, n), sizeof(v));
	return v;
}

static void msr_write(struct icpu *c, uint32_t n, uint64_t v)
{
	const struct msr *m = msr_find(c, n);

	if ((v & ~m->writable) || !m->writable)
		icpu_gp0(c);
	if (m->check)
		m->check(c, n, v);
	if (m->write)
		m->write(c, n, v);
	else if (m->field != NO_FIELD)
		memcpy(msr_field(c, m, n), &v, sizeof(v));
}

void sys_op_rdmsr(struct icpu *c, const struct iop *op)
{
	sys_need_cpl0(c);
	uint64_t v = msr_read(c, (uint32_t)c->s.gpr[X86_RCX]);
	c->s.gpr[X86_RAX] = (uint32_t)v;
	c->s.gpr[X86_RDX] = v >> 32;
}

void sys_op_wrmsr(struct icpu *c, const struct iop *op)
{
	sys_need_cpl0(c);
	msr_write(c, (uint32_t)c->s.gpr[X86_RCX], (uint32_t)c->s.gpr[X86_RAX] | c->s.gpr[X86_RDX] << 32);
}
