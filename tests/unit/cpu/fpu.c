/* SPDX-License-Identifier: Apache-2.0 */
/* fpu.c - x87, MMX, SSE and XSAVE instructions of the interpreter where they are special:
 * exceptions, memory images, preconditions. Results of arithmetic are cpu_diff's business. */
#include <xmmintrin.h>
#include "cpu/interp/vec.h"
#include "cpu/x86/cpuid.h"
#include "util/endian.h"
#include "test.h"

/* --- an icpu with flat memory ----------------------------------------------------------------- */

enum { MEM = 0x10000, MEM_LEN = 0x2000, NO_FAULT = -1 };

struct rig {
	struct icpu *c;
	uint8_t mem[MEM_LEN];           /* at MEM; all else faults */
};

/* One case, one process: its processor, and what the fakes below work on. */
static struct icpu rig_cpu;
static struct itlb_table no_translations;
static struct rig *rig_of;

void icpu_raise(struct icpu *c, unsigned vector)
{
	siglongjmp(c->landing, 1 + (int)vector);
}

void icpu_raise_code(struct icpu *c, unsigned vector, uint32_t code)
{
	icpu_raise(c, vector);
}

void icpu_page_fault(struct icpu *c, uint64_t la, uint32_t code)
{
	icpu_raise(c, X86_EXC_PF);
}

void icpu_probe(struct icpu *c, uint64_t la, unsigned len, enum icpu_access acc)
{
	if (la < MEM || la > MEM + MEM_LEN - len)
		icpu_page_fault(c, la, 0);
}

void icpu_read_slow(struct icpu *c, uint64_t la, void *buf, unsigned len, bool super)
{
	icpu_probe(c, la, len, ICPU_READ);
	memcpy(buf, rig_of->mem + (la - MEM), len);
}

void icpu_write_slow(struct icpu *c, uint64_t la, const void *buf, unsigned len, bool super)
{
	icpu_probe(c, la, len, ICPU_WRITE);
	memcpy(rig_of->mem + (la - MEM), buf, len);
}

uint64_t icpu_read(struct icpu *c, uint64_t la, unsigned size)
{
	uint64_t v = 0;

	icpu_read_slow(c, la, &v, size, false);
	return v;
}

void icpu_write(struct icpu *c, uint64_t la, unsigned size, uint64_t v)
{
	icpu_write_slow(c, la, &v, size, false);
}

void icpu_stored_flagged(struct icpu *c, const uint8_t *host, unsigned len) {}

/* All operands here are [rdi + disp]. */
uint64_t icpu_ea_offset(struct icpu *c, const struct iop *op)
{
	return c->s.gpr[X86_RDI] + (uint64_t)op->x.disp;
}

uint64_t icpu_ea(struct icpu *c, const struct iop *op, unsigned size, enum icpu_access acc)
{
	return icpu_ea_offset(c, op);
}

uint64_t icpu_linear(struct icpu *c, enum x86_sreg seg, uint64_t off, unsigned size, enum icpu_access acc)
{
	return off;
}

uint64_t icpu_get(struct icpu *c, const struct iop *op, unsigned n)
{
	return icpu_reg_get(c, op->x.opnd[n].reg, op->x.opnd[n].size, false);
}

void iop_ud(struct icpu *c, const struct iop *op)
{
	icpu_raise(c, X86_EXC_UD);
}

static void rig_init(struct rig *r)
{
	r->c = &rig_cpu;
	for (unsigned i = 0; i < ICPU_N_PRIV * ICPU_N_ACCESS; i++)
		r->c->table[i / ICPU_N_ACCESS][i % ICPU_N_ACCESS] = &no_translations;
	memset(r->mem, 0, sizeof(r->mem));
	rig_of = r;
	r->c->mode = X86_MODE_64;
	r->c->s.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_NE;
	r->c->s.cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
	r->c->s.xcr0 = 7;
	r->c->s.rip = 0x400000;
	r->c->s.gpr[X86_RDI] = MEM;
	x87_init(r->c);
	icpu_set_mxcsr(r->c, MXCSR_INIT);
}

/* Execute CODE; the vector it faults with, or NO_FAULT. */
static int rig_run(struct rig *r, const char *code, unsigned len)
{
	struct iop op = { 0 };
	int v;

	CHECK_EQ(x86_decode(&op.x, (const uint8_t *)code, len, r->c->mode), X86_DECODE_OK);
	CHECK_EQ(op.x.len, len);
	op.fn = interp_bind_fpu(&op.x);
	CHECK(op.fn);
	v = sigsetjmp(r->c->landing, 0);
	if (v)
		return v - 1;
	op.fn(r->c, &op);
	return NO_FAULT;
}
#define RUN(r, code) rig_run((r), (code), sizeof(code) - 1)

static void set_ps(struct rig *r, unsigned reg, float a, float b, float c, float d)
{
	float v[4] = { a, b, c, d };

	memcpy(icpu_xmm(r->c, reg), v, 16);
}

static uint16_t fsw(const struct rig *r)
{
	return fx_get16(r->c, X86_FX_FSW);
}

/* --- SIMD exceptions ---------------------------------------------------------------------- */

TEST(an_unmasked_simd_exception_raises_xm_and_keeps_the_destination)
{
	struct rig r;

	rig_init(&r);
	set_ps(&r, 0, 1, 2, 3, 4);
	set_ps(&r, 1, 1, 0, 3, 4);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_ZE << 7));
	CHECK_EQ(RUN(&r, "\x0f\x5e\xc1"), X86_EXC_XM);          /* divps xmm0, xmm1 */
	CHECK_EQ(get_le32(icpu_xmm(r.c, 0) + 4), 0x40000000);
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, MXCSR_ZE);
}

TEST(an_unmasked_simd_exception_without_osxmmexcpt_is_an_invalid_opcode)
{
	struct rig r;

	rig_init(&r);
	set_ps(&r, 0, 1, 2, 3, 4);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_ZE << 7));
	r.c->s.cr4 &= ~(uint64_t)X86_CR4_OSXMMEXCPT;
	CHECK_EQ(RUN(&r, "\x0f\x5e\xc1"), X86_EXC_UD);
}

TEST(a_masked_simd_exception_sets_its_sticky_flag)
{
	struct rig r;

	rig_init(&r);
	set_ps(&r, 0, 1, 1, 1, 1);
	set_ps(&r, 1, 3, 1, 1, 1);
	icpu_set_mxcsr(r.c, MXCSR_INIT | MXCSR_ZE);
	CHECK_EQ(RUN(&r, "\x0f\x5e\xc1"), NO_FAULT);
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT | MXCSR_ZE | MXCSR_PE);
}

TEST(unmasked_underflow_is_reported_for_an_exact_tiny_result)
{
	struct rig r;

	rig_init(&r);
	set_ps(&r, 0, 0x1p-126f, 0, 0, 0);
	set_ps(&r, 1, 0.5f, 0, 0, 0);
	CHECK_EQ(RUN(&r, "\xf3\x0f\x59\xc1"), NO_FAULT);        /* mulss: exact, so nothing when masked */
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT);
	set_ps(&r, 0, 0x1p-126f, 0, 0, 0);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_UE << 7));
	CHECK_EQ(RUN(&r, "\xf3\x0f\x59\xc1"), X86_EXC_XM);
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, MXCSR_UE);
}

TEST(rounding_is_the_guests_and_the_hosts_mxcsr_survives)
{
	struct rig r;
	uint32_t host = _mm_getcsr();

	rig_init(&r);
	set_ps(&r, 1, 1.5f, 0, 0, 0);
	icpu_set_mxcsr(r.c, MXCSR_INIT | 1 << 13);              /* down */
	CHECK_EQ(RUN(&r, "\xf3\x0f\x2d\xc1"), NO_FAULT);        /* cvtss2si eax, xmm1 */
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1);
	icpu_set_mxcsr(r.c, MXCSR_INIT | 2 << 13);              /* up */
	CHECK_EQ(RUN(&r, "\xf3\x0f\x2d\xc1"), NO_FAULT);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 2);
	CHECK_EQ(_mm_getcsr() & ~MXCSR_FLAGS, host & ~MXCSR_FLAGS);
}

TEST(ldmxcsr_refuses_reserved_bits)
{
	struct rig r;

	rig_init(&r);
	put_le32(r.mem, 0x11f80);
	CHECK_EQ(RUN(&r, "\x0f\xae\x17"), X86_EXC_GP);
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT);
}

TEST(an_aligned_access_to_a_misaligned_address_is_a_protection_fault)
{
	struct rig r;

	rig_init(&r);
	r.c->s.gpr[X86_RDI] = MEM + 8;
	CHECK_EQ(RUN(&r, "\x0f\x28\x07"), X86_EXC_GP);          /* movaps xmm0, [rdi] */
	CHECK_EQ(RUN(&r, "\x0f\x29\x07"), X86_EXC_GP);
	CHECK_EQ(RUN(&r, "\x66\x0f\xfc\x07"), X86_EXC_GP);      /* paddb xmm0, [rdi] */
	CHECK_EQ(RUN(&r, "\x0f\x10\x07"), NO_FAULT);            /* movups xmm0, [rdi] */
}

/* --- preconditions ------------------------------------------------------------------------ */

TEST(control_bits_decide_which_exception_stops_an_instruction)
{
	static const struct {
		uint32_t cr0, cr4;
		int x87, mmx, sse;
	} rows[] = {
		{ 0, X86_CR4_OSFXSR, NO_FAULT, NO_FAULT, NO_FAULT },
		{ 0, 0, NO_FAULT, NO_FAULT, X86_EXC_UD },
		{ X86_CR0_TS, X86_CR4_OSFXSR, X86_EXC_NM, X86_EXC_NM, X86_EXC_NM },
		{ X86_CR0_EM, X86_CR4_OSFXSR, X86_EXC_NM, X86_EXC_UD, X86_EXC_UD },
		{ X86_CR0_EM | X86_CR0_TS, X86_CR4_OSFXSR, X86_EXC_NM, X86_EXC_UD, X86_EXC_UD },
		{ X86_CR0_TS, 0, X86_EXC_NM, X86_EXC_NM, X86_EXC_UD },
	};
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		r.c->s.cr0 = X86_CR0_PE | X86_CR0_NE | rows[i].cr0;
		r.c->s.cr4 = rows[i].cr4;
		CHECK_EQ(RUN(&r, "\xd9\xe8"), rows[i].x87);             /* fld1 */
		CHECK_EQ(RUN(&r, "\x0f\xef\xc0"), rows[i].mmx);         /* pxor mm0, mm0 */
		CHECK_EQ(RUN(&r, "\x66\x0f\xef\xc0"), rows[i].sse);     /* pxor xmm0, xmm0 */
		CHECK_EQ(RUN(&r, "\x0f\xc3\x07"), NO_FAULT);            /* movnti [rdi], eax */
	}
}

TEST(wait_looks_at_ts_only_with_mp)
{
	struct rig r;

	rig_init(&r);
	r.c->s.cr0 = X86_CR0_PE | X86_CR0_TS;
	CHECK_EQ(RUN(&r, "\x9b"), NO_FAULT);
	r.c->s.cr0 |= X86_CR0_MP;
	CHECK_EQ(RUN(&r, "\x9b"), X86_EXC_NM);
}

/* --- x87 ---------------------------------------------------------------------------------- */

TEST(an_x87_error_waits_for_the_next_waiting_instruction)
{
	struct rig r;

	rig_init(&r);
	fx_set16(r.c, X86_FX_FCW, 0x37f & ~4);                  /* unmask divide by zero */
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);                /* fld1 */
	CHECK_EQ(RUN(&r, "\xd9\xee"), NO_FAULT);                /* fldz */
	CHECK_EQ(RUN(&r, "\xd8\xf9"), NO_FAULT);                /* fdivr st0, st1 */
	CHECK(fsw(&r) & FSW_ES);
	CHECK_EQ(RUN(&r, "\xdf\xe0"), NO_FAULT);                /* fnstsw ax */
	CHECK_EQ(r.c->s.gpr[X86_RAX] & 0x80ff, 0x8084);
	CHECK_EQ(RUN(&r, "\x9b"), X86_EXC_MF);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), X86_EXC_MF);
	CHECK_EQ(RUN(&r, "\x0f\x77"), X86_EXC_MF);              /* emms */
	CHECK_EQ(RUN(&r, "\x66\x0f\xef\xc0"), NO_FAULT);        /* SSE does not care */
	CHECK_EQ(RUN(&r, "\xdb\xe2"), NO_FAULT);                /* fnclex */
	CHECK_EQ(RUN(&r, "\x9b"), NO_FAULT);
}

TEST(unmasking_a_recorded_error_with_fldcw_makes_it_pending)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(RUN(&r, "\xd9\xee"), NO_FAULT);
	CHECK_EQ(RUN(&r, "\xd8\xf0"), NO_FAULT);                /* 0 / 0: invalid, masked */
	CHECK_EQ(fsw(&r) & (FSW_ES | FSW_IE), FSW_IE);
	put_le16(r.mem, 0x37e);
	CHECK_EQ(RUN(&r, "\xd9\x2f"), NO_FAULT);                /* fldcw [rdi] */
	CHECK_EQ(fsw(&r) & (FSW_ES | FSW_IE), FSW_ES | FSW_IE);
	CHECK_EQ(RUN(&r, "\x9b"), X86_EXC_MF);
}

TEST(a_restored_state_with_a_wrong_error_summary_does_not_trap_the_host)
{
	struct rig r;

	rig_init(&r);
	fx_set16(r.c, X86_FX_FCW, 0x340);                       /* nothing masked */
	fx_set16(r.c, X86_FX_FSW, FSW_IE);                      /* set, but ES is not */
	CHECK_EQ(RUN(&r, "\xd9\xe8"), X86_EXC_MF);
	CHECK_EQ(RUN(&r, "\xd9\xd0"), X86_EXC_MF);              /* fnop */
	CHECK_EQ(RUN(&r, "\xdb\xe0"), NO_FAULT);                /* feni */
	fx_set16(r.c, X86_FX_FCW, 0x37f);
	fx_set16(r.c, X86_FX_FSW, FSW_ES | FSW_B);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);
}

TEST(a_store_with_unmasked_overflow_leaves_memory_and_stack_alone)
{
	static const uint8_t huge[10] = { 0, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0x70 };
	struct rig r;

	rig_init(&r);
	memcpy(r.mem, huge, 10);
	CHECK_EQ(RUN(&r, "\xdb\x2f"), NO_FAULT);                /* fld tbyte [rdi] */
	put_le32(r.mem, 0x12345678);
	fx_set16(r.c, X86_FX_FCW, 0x37f & ~8);
	CHECK_EQ(RUN(&r, "\xd9\x1f"), NO_FAULT);                /* fstp dword [rdi] */
	CHECK_EQ(get_le32(r.mem), 0x12345678);
	CHECK_EQ(x87_top(r.c), 7);
	CHECK(fsw(&r) & FSW_ES);
}

TEST(a_store_that_faults_does_not_pop)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);
	r.c->s.gpr[X86_RDI] = MEM + MEM_LEN - 4;
	CHECK_EQ(RUN(&r, "\xdd\x1f"), X86_EXC_PF);              /* fstp qword [rdi] */
	CHECK_EQ(x87_top(r.c), 7);
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0x80);
}

TEST(fnstenv_writes_the_layout_of_mode_and_operand_size_and_masks_all)
{
	struct rig r;

	rig_init(&r);
	fx_set16(r.c, X86_FX_FCW, 0x340);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);                /* fld1 at 0x400000 */
	CHECK_EQ(RUN(&r, "\xd9\x37"), NO_FAULT);                /* fnstenv [rdi] */
	CHECK_EQ(get_le32(r.mem), 0xffff0340);
	CHECK_EQ(get_le32(r.mem + 4), 0xffff3800);
	CHECK_EQ(get_le32(r.mem + 8), 0xffff3fff);              /* register 7 valid */
	CHECK_EQ(get_le32(r.mem + 12), 0x400000);
	CHECK_EQ(get_le32(r.mem + 16), 0x1e8 << 16);
	CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x37f);

	r.c->mode = X86_MODE_16;
	r.c->is_real_or_vm86 = true;
	put_le64(r.c->s.xsave + X86_FX_FIP, 0x54321);
	memset(r.mem, 0xee, 32);
	CHECK_EQ(RUN(&r, "\xd9\x75\x00"), NO_FAULT);            /* fnstenv [di] */
	CHECK_EQ(get_le16(r.mem + 6), 0x4321);
	CHECK_EQ(get_le16(r.mem + 8), 0x5000 | 0x1e8);
	CHECK_EQ(r.mem[14], 0xee);
}

TEST(fnsave_and_frstor_bring_back_registers_and_tags)
{
	struct rig r;
	uint8_t before[128];

	rig_init(&r);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);                /* fld1 */
	CHECK_EQ(RUN(&r, "\xd9\xee"), NO_FAULT);                /* fldz */
	CHECK_EQ(RUN(&r, "\xd9\xeb"), NO_FAULT);                /* fldpi */
	memcpy(before, r.c->s.xsave + X86_FX_ST, sizeof(before));
	CHECK_EQ(RUN(&r, "\xdd\x37"), NO_FAULT);                /* fnsave [rdi] */
	CHECK_EQ(get_le16(r.mem + 8), 0x13ff);                  /* valid, zero, valid, 5 empty */
	CHECK_EQ(fsw(&r), 0);
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0);
	CHECK_EQ(RUN(&r, "\xdd\x27"), NO_FAULT);                /* frstor [rdi] */
	CHECK_EQ(x87_top(r.c), 5);
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0xe0);
	CHECK_MEM(before, r.c->s.xsave + X86_FX_ST, sizeof(before));
}

TEST(an_mmx_instruction_renumbers_the_stack_and_validates_all_registers)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);                /* fld1: physical register 7 */
	r.c->s.gpr[X86_RAX] = 0x1122334455667788;
	CHECK_EQ(RUN(&r, "\x48\x0f\x6e\xd0"), NO_FAULT);        /* movq mm2, rax */
	CHECK_EQ(x87_top(r.c), 0);
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0xff);
	CHECK_EQ(get_le64(r.c->s.xsave + X86_FX_ST + 32), 0x1122334455667788);
	CHECK_EQ(get_le16(r.c->s.xsave + X86_FX_ST + 40), 0xffff);
	CHECK_EQ(RUN(&r, "\x48\x0f\x7e\xf8"), NO_FAULT);        /* movq rax, mm7: the 1.0 */
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1ull << 63);
	CHECK_EQ(RUN(&r, "\x0f\x77"), NO_FAULT);                /* emms */
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0);
}

/* --- FXSAVE, XSAVE ------------------------------------------------------------------------ */

TEST(fxsave_writes_what_the_mode_can_see)
{
	struct rig r;

	rig_init(&r);
	memset(r.mem, 0xee, 512);
	put_le64(r.c->s.xsave + X86_FX_FIP, 0x123456789abcdef0);
	CHECK_EQ(RUN(&r, "\x0f\xae\x07"), NO_FAULT);            /* fxsave */
	CHECK_EQ(get_le64(r.mem + X86_FX_FIP), 0x9abcdef0);
	CHECK_EQ(get_le32(r.mem + X86_FX_MXCSR_MASK), 0xffff);
	CHECK_EQ(r.mem[415], 0);
	CHECK_EQ(r.mem[416], 0xee);
	CHECK_EQ(RUN(&r, "\x48\x0f\xae\x07"), NO_FAULT);        /* fxsave64 */
	CHECK_EQ(get_le64(r.mem + X86_FX_FIP), 0x123456789abcdef0);
	r.c->mode = X86_MODE_32;
	memset(r.mem, 0xee, 512);
	CHECK_EQ(RUN(&r, "\x0f\xae\x07"), NO_FAULT);
	CHECK_EQ(r.mem[287], 0);
	CHECK_EQ(r.mem[288], 0xee);
}

TEST(fxrstor_loads_nothing_from_a_bad_image)
{
	struct rig r;

	rig_init(&r);
	memset(r.mem, 0x55, 512);
	CHECK_EQ(RUN(&r, "\x0f\xae\x0f"), X86_EXC_GP);          /* MXCSR 0x55555555 */
	CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x37f);
	CHECK_EQ(get_le64(icpu_xmm(r.c, 3)), 0);
	put_le32(r.mem + X86_FX_MXCSR, 0x1f80);
	CHECK_EQ(RUN(&r, "\x0f\xae\x0f"), NO_FAULT);
	CHECK_EQ(get_le64(icpu_xmm(r.c, 3)), 0x5555555555555555);
	r.c->s.gpr[X86_RDI] += 8;
	CHECK_EQ(RUN(&r, "\x0f\xae\x0f"), X86_EXC_GP);
}

static void xsave_area_init(struct rig *r, uint64_t bv, uint64_t comp)
{
	memset(r->mem, 0, 1024);
	put_le16(r->mem + X86_FX_FCW, 0x27f);
	put_le32(r->mem + X86_FX_MXCSR, 0x3f80);
	memset(r->mem + X86_FX_XMM, 0x77, 256);
	put_le64(r->mem + X86_XS_BV, bv);
	put_le64(r->mem + X86_XS_COMP_BV, comp);
	r->c->s.gpr[X86_RAX] = 3;
	r->c->s.gpr[X86_RDX] = 0;
}

TEST(xrstor_refuses_malformed_headers)
{
	static const struct {
		unsigned off;           /* of a 64-bit word in the header */
		uint64_t val, comp;
	} bad[] = {
		{ 0, 8, 0 },                                    /* component not in XCR0 */
		{ 0, 1ull << 63, 0 },
		{ 8, 1, 0 },                                    /* XCOMP_BV without bit 63 */
		{ 16, 1, 0 },
		{ 0, 2, 1ull << 63 | 1 },                       /* not in XCOMP_BV */
		{ 0, 1ull << 63 | 1, 1ull << 63 | 1 },
		{ 8, 1ull << 63 | 15, 1ull << 63 | 15 },        /* XCOMP_BV beyond XCR0 */
		{ 16, 1, 1ull << 63 | 3 },
		{ 24, 1, 1ull << 63 | 3 },
		{ 56, 1ull << 56, 1ull << 63 | 3 },
	};
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		xsave_area_init(&r, 0, bad[i].comp);
		put_le64(r.mem + 512 + bad[i].off, bad[i].val);
		CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), X86_EXC_GP);
		CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x37f);
	}
	xsave_area_init(&r, 3, 0);
	put_le64(r.mem + 512 + 24, 1);                          /* not looked at in the standard format */
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	r.c->s.gpr[X86_RDI] += 16;
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), X86_EXC_GP);          /* 64-byte alignment */
}

TEST(xrstor_initialises_components_that_the_image_leaves_out)
{
	struct rig r;

	rig_init(&r);
	memset(icpu_xmm(r.c, 0), 0x11, 16);
	xsave_area_init(&r, 1, 0);
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x27f);
	CHECK_EQ(get_le64(icpu_xmm(r.c, 0)), 0);
	CHECK_EQ(icpu_mxcsr(r.c), 0x3f80);                      /* standard format: always loaded */
	xsave_area_init(&r, 0, 1ull << 63 | 3);
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x37f);
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT);                  /* compacted: part of component 1 */
}

TEST(xsave_touches_only_what_is_asked_for)
{
	struct rig r;

	rig_init(&r);
	memset(r.mem, 0xee, 1024);
	put_le64(r.mem + X86_XS_BV, 2);
	r.c->s.gpr[X86_RAX] = 1;
	CHECK_EQ(RUN(&r, "\x0f\xae\x27"), NO_FAULT);            /* xsave [rdi] */
	CHECK_EQ(get_le64(r.mem + X86_XS_BV), 3);
	CHECK_EQ(r.mem[X86_FX_FCW], 0x7f);
	CHECK_EQ(r.mem[X86_FX_MXCSR], 0xee);
	CHECK_EQ(r.mem[X86_FX_XMM], 0xee);
	CHECK_EQ(get_le64(r.mem + X86_XS_COMP_BV), 0xeeeeeeeeeeeeeeee);
	r.c->s.gpr[X86_RAX] = 2;
	CHECK_EQ(RUN(&r, "\x0f\xc7\x27"), NO_FAULT);            /* xsavec [rdi] */
	CHECK_EQ(get_le64(r.mem + X86_XS_BV), 2);
	CHECK_EQ(get_le64(r.mem + X86_XS_COMP_BV), 1ull << 63 | 2);
	CHECK_EQ(get_le32(r.mem + X86_FX_MXCSR), MXCSR_INIT);
	r.c->s.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
	CHECK_EQ(RUN(&r, "\x0f\xae\x27"), X86_EXC_UD);
}

/* --- AVX ---------------------------------------------------------------------------------- */

enum { END = MEM + MEM_LEN };           /* from here on all faults */

static void need_host(uint64_t features)
{
	if (features & ~x86_host_features())
		SKIP("this host does not have the instructions");
}

static void set_ymm(struct rig *r, unsigned reg, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t v[4] = { a, b, c, d };

	ymm_set(r->c, reg, (const uint8_t *)v);
}

static uint64_t ymm64(struct rig *r, unsigned reg, unsigned i)
{
	uint8_t buf[32];

	ymm_get(r->c, reg, buf);
	return get_le64(buf + 8 * i);
}

TEST(vex_instructions_need_osxsave_and_both_components)
{
	static const struct {
		uint64_t cr4, xcr0;
		uint32_t cr0;
		bool is_real;
		int fault;
	} rows[] = {
		{ X86_CR4_OSXSAVE, 7, 0, false, NO_FAULT },
		{ X86_CR4_OSXSAVE, 7, X86_CR0_EM, false, NO_FAULT },
		{ 0, 7, 0, false, X86_EXC_UD },
		{ X86_CR4_OSXSAVE, 3, 0, false, X86_EXC_UD },
		{ X86_CR4_OSXSAVE, 7, 0, true, X86_EXC_UD },
		{ X86_CR4_OSXSAVE, 7, X86_CR0_TS, false, X86_EXC_NM },
		{ 0, 7, X86_CR0_TS, false, X86_EXC_UD },
	};
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		r.c->s.cr0 = X86_CR0_PE | X86_CR0_NE | rows[i].cr0;
		r.c->s.cr4 = rows[i].cr4;
		r.c->s.xcr0 = rows[i].xcr0;
		r.c->is_real_or_vm86 = rows[i].is_real;
		CHECK_EQ(RUN(&r, "\xc5\xfc\x28\xc1"), rows[i].fault);    /* vmovaps ymm0, ymm1 */
		CHECK_EQ(RUN(&r, "\xc5\xf8\x77"), rows[i].fault);        /* vzeroupper */
		CHECK_EQ(RUN(&r, "\xc5\xf8\xae\x1f"), rows[i].fault);    /* vstmxcsr [rdi] */
	}
}

TEST(a_vex_128_result_clears_the_upper_half_and_an_sse_result_keeps_it)
{
	struct rig r;

	need_host(X86_F_BIT(AVX));
	rig_init(&r);
	set_ymm(&r, 0, 1, 2, 3, 4);
	set_ymm(&r, 1, 5, 6, 7, 8);
	CHECK_EQ(RUN(&r, "\x66\x0f\xfe\xc1"), NO_FAULT);        /* paddd xmm0, xmm1 */
	CHECK_EQ(ymm64(&r, 0, 0), 6);
	CHECK_EQ(ymm64(&r, 0, 3), 4);
	CHECK_EQ(RUN(&r, "\xc5\xf9\xfe\xc1"), NO_FAULT);        /* vpaddd xmm0, xmm0, xmm1 */
	CHECK_EQ(ymm64(&r, 0, 0), 11);
	CHECK_EQ(ymm64(&r, 0, 2), 0);
	CHECK_EQ(ymm64(&r, 0, 3), 0);
}

TEST(an_unmasked_exception_of_the_upper_half_keeps_the_whole_destination)
{
	float a[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, b[8] = { 1, 1, 1, 1, 1, 1, 1, 0 };
	struct rig r;

	need_host(X86_F_BIT(AVX));
	rig_init(&r);
	set_ymm(&r, 0, 1, 2, 3, 4);
	ymm_set(r.c, 1, (const uint8_t *)a);
	ymm_set(r.c, 2, (const uint8_t *)b);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_ZE << 7));
	CHECK_EQ(RUN(&r, "\xc5\xf4\x5e\xc2"), X86_EXC_XM);      /* vdivps ymm0, ymm1, ymm2 */
	CHECK_EQ(ymm64(&r, 0, 0), 1);
	CHECK_EQ(ymm64(&r, 0, 3), 4);
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, MXCSR_ZE);
}

TEST(unmasked_underflow_of_a_half_is_reported_for_an_exact_tiny_result)
{
	struct rig r;

	need_host(X86_F_BIT(F16C));
	rig_init(&r);
	set_ps(&r, 1, 1, 0x1p-20f, 1, 1);
	CHECK_EQ(RUN(&r, "\xc4\xe3\x79\x1d\xc8\x04"), NO_FAULT);        /* vcvtps2ph xmm0, xmm1, 4 */
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_UE << 7));
	CHECK_EQ(RUN(&r, "\xc4\xe3\x79\x1d\xc8\x04"), X86_EXC_XM);
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, MXCSR_UE);
	r.c->s.gpr[X86_RDI] = END;
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_UE << 7));
	CHECK_EQ(RUN(&r, "\xc4\xe3\x79\x1d\x0f\x04"), X86_EXC_PF);      /* vcvtps2ph [rdi], xmm1, 4 */
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, 0);
}

TEST(only_the_aligned_vex_moves_ask_for_alignment)
{
	struct rig r;

	need_host(X86_F_BIT(AVX) | X86_F_BIT(AVX2));
	rig_init(&r);
	r.c->s.gpr[X86_RDI] = MEM + 16;
	CHECK_EQ(RUN(&r, "\xc5\xfc\x28\x07"), X86_EXC_GP);      /* vmovaps ymm0, [rdi] */
	CHECK_EQ(RUN(&r, "\xc5\xfd\xe7\x07"), X86_EXC_GP);      /* vmovntdq [rdi], ymm0 */
	CHECK_EQ(RUN(&r, "\xc5\xf8\x28\x07"), NO_FAULT);        /* vmovaps xmm0, [rdi] */
	r.c->s.gpr[X86_RDI] = MEM + 1;
	CHECK_EQ(RUN(&r, "\xc5\xfc\x10\x07"), NO_FAULT);        /* vmovups ymm0, [rdi] */
	CHECK_EQ(RUN(&r, "\xc5\xfd\xfe\x07"), NO_FAULT);        /* vpaddd ymm0, ymm0, [rdi] */
}

TEST(vzeroupper_clears_the_registers_that_the_mode_can_see)
{
	struct rig r;

	rig_init(&r);
	set_ymm(&r, 7, 1, 2, 3, 4);
	set_ymm(&r, 8, 5, 6, 7, 8);
	r.c->mode = X86_MODE_32;
	CHECK_EQ(RUN(&r, "\xc5\xfc\x77"), NO_FAULT);            /* vzeroall */
	CHECK_EQ(ymm64(&r, 7, 0) | ymm64(&r, 7, 3), 0);
	CHECK_EQ(ymm64(&r, 8, 0), 5);
	CHECK_EQ(ymm64(&r, 8, 3), 8);
	r.c->mode = X86_MODE_64;
	CHECK_EQ(RUN(&r, "\xc5\xf8\x77"), NO_FAULT);            /* vzeroupper */
	CHECK_EQ(ymm64(&r, 8, 1), 6);
	CHECK_EQ(ymm64(&r, 8, 2), 0);
}

TEST(a_masked_load_touches_only_selected_elements)
{
	struct rig r;

	rig_init(&r);
	put_le32(r.mem + MEM_LEN - 4, 0x1234);
	r.c->s.gpr[X86_RDI] = END - 8;
	set_ymm(&r, 0, ~0ull, ~0ull, ~0ull, ~0ull);
	set_ymm(&r, 1, 1ull << 63, 0, 0, 0);                    /* element 1: the last in reach */
	CHECK_EQ(RUN(&r, "\xc4\xe2\x75\x2c\x07"), NO_FAULT);    /* vmaskmovps ymm0, ymm1, [rdi] */
	CHECK_EQ(ymm64(&r, 0, 0), 0x1234ull << 32);
	CHECK_EQ(ymm64(&r, 0, 1) | ymm64(&r, 0, 2) | ymm64(&r, 0, 3), 0);
	set_ymm(&r, 0, 9, 9, 9, 9);
	set_ymm(&r, 1, 1ull << 63, 1ull << 31, 0, 0);
	CHECK_EQ(RUN(&r, "\xc4\xe2\x75\x2c\x07"), X86_EXC_PF);
	CHECK_EQ(ymm64(&r, 0, 0), 9);
}

TEST(a_masked_store_that_faults_writes_nothing)
{
	struct rig r;

	rig_init(&r);
	r.c->s.gpr[X86_RDI] = END - 16;
	set_ymm(&r, 0, 1, 2, 3, 4);
	set_ymm(&r, 1, 1ull << 63, 0, 1ull << 63, 0);
	CHECK_EQ(RUN(&r, "\xc4\xe2\xf5\x8e\x07"), X86_EXC_PF);  /* vpmaskmovq [rdi], ymm1, ymm0 */
	CHECK_EQ(get_le64(r.mem + MEM_LEN - 16), 0);
	set_ymm(&r, 1, 1ull << 63, 0, 0, 0);
	CHECK_EQ(RUN(&r, "\xc4\xe2\xf5\x8e\x07"), NO_FAULT);
	CHECK_EQ(get_le64(r.mem + MEM_LEN - 16), 1);
	CHECK_EQ(get_le64(r.mem + MEM_LEN - 8), 0);
}

TEST(a_gather_that_faults_keeps_what_it_has_and_goes_on_from_there)
{
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < 8; i++)
		put_le32(r.mem + MEM_LEN - 32 + 4 * i, 100 + i);
	r.c->s.gpr[X86_RDI] = END - 32;
	set_ymm(&r, 0, 1, 2, 3, 4);
	/* vgatherdps ymm0, [rdi + ymm1*4], ymm2: indices 0, 1, 2, 8 (beyond the end), -1, ... */
	set_ymm(&r, 1, 1ull << 32, 8ull << 32 | 2, 4ull << 32 | 3, 6ull << 32 | 5);
	set_ymm(&r, 2, 1ull << 63 | 1ull << 31, 1ull << 63, ~0ull, ~0ull);
	CHECK_EQ(RUN(&r, "\xc4\xe2\x6d\x92\x04\x8f"), X86_EXC_PF);
	CHECK_EQ(ymm64(&r, 0, 0), 101ull << 32 | 100);
	CHECK_EQ(ymm64(&r, 0, 1), 2);
	CHECK_EQ(ymm64(&r, 0, 3), 4);
	CHECK_EQ(ymm64(&r, 2, 0), 0);
	CHECK_EQ(ymm64(&r, 2, 1), 1ull << 63);
	CHECK_EQ(ymm64(&r, 2, 3), ~0ull);
	r.c->s.gpr[X86_RDI] -= 4;                               /* the page is there now, so to say */
	CHECK_EQ(RUN(&r, "\xc4\xe2\x6d\x92\x04\x8f"), NO_FAULT);
	CHECK_EQ(ymm64(&r, 0, 0), 101ull << 32 | 100);          /* not loaded again */
	CHECK_EQ(ymm64(&r, 0, 1), 107ull << 32 | 2);            /* element 2 was not selected */
	CHECK_EQ(ymm64(&r, 0, 3), 105ull << 32 | 104);
	CHECK_EQ(ymm64(&r, 2, 0) | ymm64(&r, 2, 1) | ymm64(&r, 2, 2) | ymm64(&r, 2, 3), 0);
}

TEST(a_gather_of_few_elements_clears_what_is_above_them)
{
	struct rig r;

	rig_init(&r);
	put_le32(r.mem + 4, 77);
	put_le32(r.mem, 66);
	set_ymm(&r, 0, 1, 2, 3, 4);
	set_ymm(&r, 1, 0, 1, 0, 0);
	set_ymm(&r, 2, ~0ull, ~0ull, ~0ull, ~0ull);
	CHECK_EQ(RUN(&r, "\xc4\xe2\x69\x93\x04\x8f"), NO_FAULT);        /* vgatherqps xmm0, [rdi+xmm1*4], xmm2 */
	CHECK_EQ(ymm64(&r, 0, 0), 77ull << 32 | 66);
	CHECK_EQ(ymm64(&r, 0, 1) | ymm64(&r, 0, 2) | ymm64(&r, 0, 3), 0);
	CHECK_EQ(ymm64(&r, 2, 1) | ymm64(&r, 2, 3), 0);
}

/* --- component 2 of XSAVE ----------------------------------------------------------------- */

TEST(xsave_and_xrstor_carry_the_upper_halves_in_both_formats)
{
	static const struct { const char *code; uint64_t comp; } forms[] = {
		{ "\x0f\xae\x27", 0 }, { "\x0f\xc7\x27", 1ull << 63 | 7 },   /* xsave, xsavec [rdi] */
	};
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < 2; i++) {
		memset(r.mem, 0, 1024);
		r.c->s.gpr[X86_RAX] = 7;
		set_ymm(&r, 15, 1, 2, 3, 4);
		CHECK_EQ(rig_run(&r, forms[i].code, 3), NO_FAULT);
		CHECK_EQ(get_le64(r.mem + X86_XS_BV), 7);
		CHECK_EQ(get_le64(r.mem + X86_XS_COMP_BV), forms[i].comp);
		CHECK_EQ(get_le64(r.mem + X86_XS_AVX + 16 * 15 + 8), 4);
		set_ymm(&r, 15, 9, 9, 9, 9);
		CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);  /* xrstor [rdi] */
		CHECK_EQ(ymm64(&r, 15, 0), 1);
		CHECK_EQ(ymm64(&r, 15, 2), 3);
		CHECK_EQ(ymm64(&r, 15, 3), 4);
	}
}

TEST(upper_halves_of_zero_are_saved_as_the_initial_state)
{
	struct rig r;

	rig_init(&r);
	memset(r.mem, 0xee, 1024);
	r.c->s.gpr[X86_RAX] = 7;
	CHECK_EQ(RUN(&r, "\x0f\xc7\x27"), NO_FAULT);            /* xsavec */
	CHECK_EQ(get_le64(r.mem + X86_XS_BV), 3);
	CHECK_EQ(r.mem[X86_XS_AVX], 0xee);
	memset(r.mem + X86_XS_BV, 0, 64);
	CHECK_EQ(RUN(&r, "\x0f\xae\x27"), NO_FAULT);            /* xsave writes them all the same */
	CHECK_EQ(get_le64(r.mem + X86_XS_BV), 3);
	CHECK_EQ(r.mem[X86_XS_AVX], 0);
	CHECK_EQ(r.mem[X86_XS_AVX + 255], 0);
	CHECK_EQ(r.mem[X86_XS_AVX + 256], 0xee);
	set_ymm(&r, 3, 1, 2, 3, 4);
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);            /* xrstor: XSTATE_BV[2] = 0 */
	CHECK_EQ(ymm64(&r, 3, 2) | ymm64(&r, 3, 3), 0);
}

TEST(xrstor_leaves_components_alone_that_are_not_asked_for)
{
	struct rig r;

	rig_init(&r);
	xsave_area_init(&r, 7, 0);
	memset(r.mem + X86_XS_AVX, 0x55, 256);
	set_ymm(&r, 3, 1, 2, 3, 4);
	r.c->s.gpr[X86_RAX] = 3;
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	CHECK_EQ(ymm64(&r, 3, 0), 0x7777777777777777);
	CHECK_EQ(ymm64(&r, 3, 3), 4);
	r.c->s.gpr[X86_RAX] = 4;
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	CHECK_EQ(ymm64(&r, 3, 3), 0x5555555555555555);
	r.c->s.xcr0 = 3;
	set_ymm(&r, 3, 1, 2, 3, 4);
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), X86_EXC_GP);          /* the area says AVX, XCR0 does not */
	CHECK_EQ(ymm64(&r, 3, 3), 4);
}
