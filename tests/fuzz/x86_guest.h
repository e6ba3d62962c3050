/* SPDX-License-Identifier: Apache-2.0 */
/* x86_guest.h - the machine around targets that run any bytes as guest code: eleven modes with their tables,
 * registers from the input, a device page, and disturbances from outside. A target defines GUEST_ENGINE
 * (struct cpu_ops) and GUEST_FEATURES before it includes this.
 *
 * Input: mode, options, control bits, registers, disturbances, patches of the tables, then code. */
#ifndef TESTS_FUZZ_X86_GUEST_H
#define TESTS_FUZZ_X86_GUEST_H

#include "cpu/interp/core.h"
#include "fuzz.h"
#include "util/checked.h"
#include "util/endian.h"

enum { /* guest memory */
	IVT = 0, PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, PDPT32 = 0x5000, PD32 = 0x6000, PT32 = 0x7000,
	GDT = 0x8000, IDT64 = 0x9000, IDT32 = 0xa000, TSS64 = 0xb000, TSS32 = 0xb100, LDT = 0xb800,
	CODE = 0x10000, CODE_LEN = 0x2000, DATA = 0x20000, STACK = 0x30000, RAM = 1 << 20,
	RO = 0x40000, SUPER_ONLY = 0x41000, ABSENT = 0x42000, NX = 0x43000, DEVICE = 0x44000,
	DEVICE_GPA = 0x40000000, TABLES = 0xc000,
};
enum { /* selectors */
	S_CODE64 = 0x08, S_DATA = 0x10, S_CODE32 = 0x18, S_CODE16 = 0x20, S_DATA16 = 0x28, S_UCODE32 = 0x33,
	S_UDATA = 0x3b, S_UCODE64 = 0x43, S_TSS64 = 0x48, S_LDT = 0x58, S_GATE = 0x68, S_TSS32 = 0x78, S_TASK = 0x80,
	GDT_LEN = 0x100,
};

struct guest {
	struct fuzz f;
	struct gmem *mem;
	struct cpu_vm *vm;
	struct vcpu *v;
	struct icpu *c;
	struct fuzz_source source;
	uint64_t disturb;               /* a shift register of what happens from outside */
	uint8_t intr_vector;
	bool is_long;
};
static struct guest g;
static struct x86_cpuid cpuid;

/* ---- the machine around it ---- */

static uint32_t pio_read(void *arg, unsigned cpu, uint16_t port, unsigned size)
{
	FUZZ_CHECK(size == 1 || size == 2 || size == 4);
	return 0x5a5a5a5a;
}

static void pio_write(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val)
{
	FUZZ_CHECK(size == 1 || size == 2 || size == 4);
}

static uint64_t mmio_read(void *arg, unsigned cpu, gpa_t gpa, unsigned size)
{
	FUZZ_CHECK(size == 1 || size == 2 || size == 4 || size == 8);
	return gpa * 0x9e3779b97f4a7c15u;
}

static void mmio_write(void *arg, unsigned cpu, gpa_t gpa, unsigned size, uint64_t val)
{
	FUZZ_CHECK(size == 1 || size == 2 || size == 4 || size == 8);
}

static int msr_read(void *arg, unsigned cpu, uint32_t msr, uint64_t *val)
{
	*val = 0xfee00900;
	return msr == 0x1b ? 0 : -1;
}

static int msr_write(void *arg, unsigned cpu, uint32_t msr, uint64_t val) { return msr == 0x1b ? 0 : -1; }
static unsigned cr8_read(void *arg, unsigned cpu) { return 3; }
static void cr8_write(void *arg, unsigned cpu, unsigned val) { FUZZ_CHECK(val < 16); }
static bool intr_pending(void *arg, unsigned cpu) { return g.intr_vector; }

static int intr_ack(void *arg, unsigned cpu)
{
	int v = g.intr_vector ? g.intr_vector : -1;

	g.intr_vector = 0;
	return v;
}

static const struct cpu_host host = {
	.pio_read = pio_read, .pio_write = pio_write, .mmio_read = mmio_read, .mmio_write = mmio_write,
	.msr_read = msr_read, .msr_write = msr_write, .intr_ack = intr_ack, .intr_pending = intr_pending,
	.cr8_read = cr8_read, .cr8_write = cr8_write,
};

/* ---- tables in guest memory ---- */

static void put64(gpa_t gpa, uint64_t v) { FUZZ_CHECK(gmem_write(g.mem, gpa, &v, 8) == 0); }
static void put32(gpa_t gpa, uint32_t v) { FUZZ_CHECK(gmem_write(g.mem, gpa, &v, 4) == 0); }

/* Rights of the page at LA, in the lower bits and bit 63 of its entry. */
static uint64_t page_entry(uint64_t la)
{
	switch (la) {
	case RO: return la | 5;
	case SUPER_ONLY: return la | 3;
	case ABSENT: return la | 6;
	case NX: return la | 7 | 1ull << 63;
	case DEVICE: return DEVICE_GPA | 7;
	default: return la | 7;
	}
}

static void put_paging(void)
{
	put64(PML4, PDPT | 7);
	put64(PML4 + 8 * 511, PDPT | 7);
	put64(PDPT, PD | 7);
	put64(PDPT + 8, 0x87);                  /* 1 GiB page, mostly beyond RAM */
	put64(PDPT32, PD | 1);
	put64(PD, PT | 7);
	put64(PD + 8, 0x87);                    /* 2 MiB page onto 0 */
	put32(PD32, PT32 | 7);
	put32(PD32 + 4, 0x87);
	for (unsigned i = 0; i < RAM >> 12; i++) {
		put64(PT + 8 * i, page_entry((uint64_t)i << 12));
		put32(PT32 + 4 * i, (uint32_t)page_entry((uint64_t)i << 12));
	}
}

static void put_descriptors(void)
{
	static const struct { uint16_t sel; uint64_t lo, hi; } table[] = {
		{ S_CODE64, 0x00af9b000000ffff, 0 }, { S_DATA, 0x00cf93000000ffff, 0 },
		{ S_CODE32, 0x00cf9b000000ffff, 0 }, { S_CODE16, 0x00009b010000ffff, 0 },
		{ S_DATA16, 0x000093020000ffff, 0 }, { S_UCODE32 & ~7, 0x00cffb000000ffff, 0 },
		{ S_UDATA & ~7, 0x00cff3000000ffff, 0 }, { S_UCODE64 & ~7, 0x00affb000000ffff, 0 },
		{ S_TSS64, 0x0000890000000067 | (uint64_t)TSS64 << 16, 0 },
		{ S_LDT, 0x000082000000007f | (uint64_t)LDT << 16, 0 },
		{ S_GATE, 0x0000ec0000000000 | (uint64_t)S_CODE64 << 16 | (uint64_t)(CODE >> 16) << 48 | 0x40, 0 },
		{ S_TSS32, 0x0000890000000067 | (uint64_t)TSS32 << 16, 0 },
		{ S_TASK, 0x0000e50000000000 | (uint64_t)S_TSS32 << 16, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		put64(GDT + table[i].sel, table[i].lo);
		if (table[i].hi)
			put64(GDT + table[i].sel + 8u, table[i].hi);
	}
	put64(LDT + 8, 0x00cff3000000ffff);
	put64(LDT + 16, 0x00cffb000000ffff);
	for (unsigned i = 0; i < 256; i++) {    /* handlers are places in the code */
		uint64_t to = CODE + 16 * i, dpl = i & 4 ? 0x60 : 0;

		put64(IDT64 + 16 * i, (to & 0xffff) | S_CODE64 << 16 | (0x8e | dpl) << 40 | (uint64_t)(i & 1) << 32 |
		      (to >> 16) << 48);
		put64(IDT32 + 8 * i, (to & 0xffff) | S_CODE32 << 16 | (0x8e | dpl) << 40 | (to >> 16) << 48);
		put32(IVT + 4 * i, (uint32_t)(CODE >> 4) << 16 | 16 * i);
	}
	put64(IDT32 + 8 * 9, 0x0000e50000000000 | (uint64_t)S_TSS32 << 16);     /* a task gate */
	for (unsigned i = 4; i < 0x64; i += 8)
		put64(TSS64 + i, STACK + 0x800);        /* RSP0..2, IST1..7 */
	put32(TSS64 + 0x64, 0x680000);
	put32(TSS32 + 4, STACK + 0x700);
	put32(TSS32 + 8, S_DATA);
	put32(TSS32 + 0x1c, PD32);
	put32(TSS32 + 0x20, CODE + 0x100);
	put32(TSS32 + 0x24, 2);
	for (unsigned i = 0; i < 6; i++)
		put32(TSS32 + 0x48 + 4 * i, i == 1 ? S_CODE32 : S_DATA);
	put32(TSS32 + 0x38, STACK + 0x600);
	put32(TSS32 + 0x64, 0x680000);
}

/* ---- the processor ---- */

enum mode { M_LONG0, M_LONG3, M_COMPAT0, M_COMPAT3, M_FLAT0, M_PAGED0, M_PAGED3, M_PAE3, M_PROT16, M_REAL, M_VM86, N_MODES };

static const struct {
	uint32_t cr0, cr3, cr4, efer;
	uint16_t cs, ds;
	uint32_t cs_attr, ds_attr;
} modes[N_MODES] = {
	[M_LONG0]   = { X86_CR0_PG | X86_CR0_PE, PML4, X86_CR4_PAE, 0xd01, S_CODE64, S_DATA, 0xa09b, 0xc093 },
	[M_LONG3]   = { X86_CR0_PG | X86_CR0_PE, PML4, X86_CR4_PAE, 0xd01, S_UCODE64, S_UDATA, 0xa0fb, 0xc0f3 },
	[M_COMPAT0] = { X86_CR0_PG | X86_CR0_PE, PML4, X86_CR4_PAE, 0xd01, S_CODE32, S_DATA, 0xc09b, 0xc093 },
	[M_COMPAT3] = { X86_CR0_PG | X86_CR0_PE, PML4, X86_CR4_PAE, 0xd01, S_UCODE32, S_UDATA, 0xc0fb, 0xc0f3 },
	[M_FLAT0]   = { X86_CR0_PE, 0, 0, 0, S_CODE32, S_DATA, 0xc09b, 0xc093 },
	[M_PAGED0]  = { X86_CR0_PG | X86_CR0_PE, PD32, X86_CR4_PSE, 0, S_CODE32, S_DATA, 0xc09b, 0xc093 },
	[M_PAGED3]  = { X86_CR0_PG | X86_CR0_PE, PD32, X86_CR4_PSE, 0, S_UCODE32, S_UDATA, 0xc0fb, 0xc0f3 },
	[M_PAE3]    = { X86_CR0_PG | X86_CR0_PE, PDPT32, X86_CR4_PAE, 0x800, S_UCODE32, S_UDATA, 0xc0fb, 0xc0f3 },
	[M_PROT16]  = { X86_CR0_PE, 0, 0, 0, S_CODE16, S_DATA16, 0x009b, 0x0093 },
	[M_REAL]    = { 0, 0, 0, 0, CODE >> 4, DATA >> 4, 0x009b, 0x0093 },
	[M_VM86]    = { X86_CR0_PG | X86_CR0_PE, PD32, X86_CR4_PSE | X86_CR4_VME, 0, CODE >> 4, DATA >> 4, 0x00fb, 0x00f3 },
};

static uint64_t interesting(struct fuzz *f)
{
	static const uint64_t values[] = {
		0, 1, 2, UINT64_MAX, 0x7f, 0x80, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, 1ull << 63,
		0x00007fffffffffff, 0x0000800000000000, 0xffff800000000000, CODE, CODE + 0x1ff8, DATA, DATA + 0xffd,
		DATA + 8, STACK + 0x800, RO, SUPER_ONLY, ABSENT, NX, DEVICE, DEVICE - 3, GDT, TSS64, PT, RAM - 4,
		0x200000 + DATA, 0x40000000, S_UDATA, S_GATE, S_TSS32, S_TASK, S_LDT, 12,
	};
	unsigned i = fuzz_u8(f);

	return i < 0xf0 ? values[i % ARRAY_LEN(values)] : fuzz_u64(f);
}

static struct x86_seg segment(uint16_t sel, uint32_t attr)
{
	bool is_16 = !(attr & 0xf000), is_real = is_16 && sel > GDT_LEN;

	return (struct x86_seg){
		.sel = sel, .attr = attr, .limit = is_16 ? 0xffff : 0xffffffff,
		.base = is_real ? (uint64_t)sel << 4 : is_16 ? (attr & X86_SEG_CODE ? CODE : DATA) : 0,
	};
}

static void put_state(struct fuzz *f, unsigned mode)
{
	struct x86_state s;
	uint8_t options = fuzz_u8(f);
	bool is_16 = mode >= M_PROT16;

	GUEST_ENGINE.get_state(g.v, &s, NULL);
	s.cr0 = modes[mode].cr0 | X86_CR0_ET | X86_CR0_NE | (fuzz_u32(f) & (X86_CR0_MP | X86_CR0_EM | X86_CR0_TS |
		X86_CR0_WP | X86_CR0_AM));
	s.cr3 = modes[mode].cr3;
	s.cr4 = modes[mode].cr4 | (fuzz_u32(f) & (X86_CR4_DE | X86_CR4_TSD | X86_CR4_PGE | X86_CR4_OSFXSR |
		X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_FSGSBASE | X86_CR4_OSXSAVE | X86_CR4_SMEP | X86_CR4_SMAP));
	s.efer = modes[mode].efer;
	s.xcr0 = 1 | (options & 2);
	s.rflags = X86_FLAGS_FIXED | (fuzz_u32(f) & 0x257fd5) | (mode == M_VM86 ? X86_VM : 0);
	if (mode != M_VM86)
		s.rflags &= ~(uint64_t)X86_VM;
	for (unsigned i = 0; i < X86_N_SEGS; i++)
		s.seg[i] = segment(modes[mode].ds, modes[mode].ds_attr);
	s.seg[X86_CS] = segment(modes[mode].cs, modes[mode].cs_attr);
	s.ldtr = (struct x86_seg){ .sel = S_LDT, .base = LDT, .limit = 0x7f, .attr = 0x82 };
	s.tr = (struct x86_seg){ .sel = S_TSS64, .base = g.is_long ? TSS64 : TSS32, .limit = 0x67, .attr = 0x8b };
	s.gdtr = (struct x86_dtab){ GDT, GDT_LEN - 1 };
	s.idtr = mode == M_REAL ? (struct x86_dtab){ IVT, 0x3ff } :
		 (struct x86_dtab){ g.is_long ? IDT64 : IDT32, g.is_long ? 0xfff : 0x7ff };
	s.rip = is_16 ? 0 : CODE;
	for (unsigned i = 0; i < 16; i++)
		s.gpr[i] = interesting(f);
	s.gpr[X86_RSP] = options & 4 ? s.gpr[X86_RSP] : is_16 ? 0x800 : STACK + 0x800;
	for (unsigned i = 0; options & 8 && i < 4; i++)
		s.dr[i] = interesting(f) & INT64_MAX;
	s.dr7 = options & 8 ? 0x400 | (fuzz_u32(f) & 0xffff03ff) : 0x400;
	s.star = (uint64_t)S_CODE64 << 32 | (uint64_t)(S_UCODE32 - 0) << 48;
	s.lstar = s.cstar = CODE + 0x80;
	s.sysenter_cs = S_CODE64;
	s.sysenter_eip = CODE + 0x90;
	s.sysenter_esp = STACK + 0x400;
	put_le16(s.xsave + X86_FX_FCW, fuzz_u16(f) & 0x1f3f);
	put_le16(s.xsave + X86_FX_FSW, options & 0x10 ? fuzz_u16(f) : 0);
	s.xsave[X86_FX_FTW] = options & 0x10 ? fuzz_u8(f) : 0;
	put_le32(s.xsave + X86_FX_MXCSR, fuzz_u16(f));
	for (unsigned i = 0; i < 24; i++)       /* 8 ST, 16 XMM */
		put_le64(s.xsave + X86_FX_ST + 16 * i + (i & 1) * 8, interesting(f));
	put_le64(s.xsave + X86_XS_BV, 3);
	s.mp_state = X86_MP_RUNNABLE;
	GUEST_ENGINE.set_state(g.v, &s, NULL);
}

/* ---- life ---- */

static void disturb(void)
{
	struct x86_state s;

	switch (g.disturb & 15) {
	case 1:
		g.intr_vector = 32 + (g.disturb >> 4 & 7);
		GUEST_ENGINE.interrupt(g.v);
		break;
	case 2:
		GUEST_ENGINE.nmi(g.v);
		break;
	case 3:         /* another processor or a device writes to the code */
		FUZZ_CHECK(gmem_write(g.mem, CODE + (g.disturb >> 4 & 0xff), "\x90\x0f", 2) == 0);
		break;
	case 4:
		GUEST_ENGINE.get_state(g.v, &s, NULL);
		GUEST_ENGINE.set_state(g.v, &s, NULL);
		break;
	case 5:
		if (g.disturb >> 4 == 5)
			GUEST_ENGINE.init(g.v);
		break;
	}
	g.disturb >>= 4;
	g.source.now_ns += 100;
}

static void guest_init(void)
{
	FUZZ_CHECK(gmem_new(&g.mem, RAM, NULL) == 0);
	fuzz_source_init(&g.source);
	x86_cpuid_build(&cpuid, &(struct x86_cpuid_params){
		.n_vcpus = 1, .engine = &GUEST_FEATURES, .tsc_hz = 1000000000, .phys_bits = 46 });

	struct cpu_config cfg = {
		.n_vcpus = 1, .mem = g.mem, .cpuid = &cpuid, .host = &host, .source = &g.source.s,
	};

	FUZZ_CHECK(GUEST_ENGINE.vm_new(&g.vm, &cfg, NULL) == 0);
	g.v = GUEST_ENGINE.vcpu(g.vm, 0);
	g.c = (struct icpu *)g.v;
}

/* The processor as new, but for its cache of decoded code, which is large. */
static void guest_renew(void)
{
	struct x86_state s = { 0 };

	x86_state_reset(&s, 1);
	atomic_store(&g.c->req, 0);
	g.c->in_delivery = g.c->stop_block = false;
	g.c->stats = (struct cpu_stats){ 0 };
	g.c->block = NULL;
	GUEST_ENGINE.set_state(g.v, &s, NULL);
	fuzz_source_init(&g.source);
	g.intr_vector = 0;
}

/* The input as a guest: nothing of the last one is left. */
static void guest_load(const uint8_t *data, size_t len)
{
	size_t got;

	if (!g.mem)
		guest_init();
	g.f = (struct fuzz){ data, len };

	unsigned mode = fuzz_u8(&g.f) % N_MODES;

	g.is_long = modes[mode].efer & X86_EFER_LMA;
	FUZZ_CHECK(gmem_fill(g.mem, 0, 0, RAM) == 0);
	guest_renew();
	put_paging();
	put_descriptors();
	put_state(&g.f, mode);
	g.disturb = fuzz_u64(&g.f);
	for (unsigned n = fuzz_u8(&g.f) % 16; n; n--) {
		uint16_t at = fuzz_u16(&g.f) % TABLES;

		put64(at & ~7u, fuzz_u64(&g.f));
	}
	const uint8_t *code = fuzz_take(&g.f, CODE_LEN, &got);

	FUZZ_CHECK(gmem_fill(g.mem, CODE, 0x90, CODE_LEN) == 0);
	FUZZ_CHECK(gmem_write(g.mem, CODE, code, got) == 0 && gmem_write(g.mem, DATA, code, got) == 0);
}

#endif
