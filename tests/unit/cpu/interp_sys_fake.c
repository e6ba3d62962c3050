/* SPDX-License-Identifier: Apache-2.0 */
#include "interp_sys_fake.h"

#include "test.h"

struct fake fake;
static struct itlb_table no_translations;
static int fake_vector;

/* --- run.c ----------------------------------------------------------------------------------- */

void icpu_raise(struct icpu *c, unsigned vector)
{
	fake_vector = (int)vector;
	fake.code = 0;
	siglongjmp(c->landing, 1);
}

void icpu_raise_code(struct icpu *c, unsigned vector, uint32_t code)
{
	fake_vector = (int)vector;
	fake.code = code;
	siglongjmp(c->landing, 1);
}

uint32_t icpu_request(struct icpu *c, uint32_t bits) { return atomic_fetch_or(&c->req, bits); }
void icpu_halt(struct icpu *c) { fake.n_halt++; }
void iop_ud(struct icpu *c, const struct iop *op) { icpu_raise(c, X86_EXC_UD); }

/* --- tlb.c: flat memory ------------------------------------------------------------------------ */

static uint8_t *fake_at(struct icpu *c, uint64_t la, unsigned len, unsigned code)
{
	if (la > FAKE_MEM - len || (fake.bad_page && la >> 12 == fake.bad_page >> 12)) {
		c->s.cr2 = la;
		icpu_raise_code(c, X86_EXC_PF, code);
	}
	return fake.mem + la;
}

void icpu_read_slow(struct icpu *c, uint64_t la, void *buf, unsigned len, bool super)
{
	memcpy(buf, fake_at(c, la, len, 0), len);
}

void icpu_write_slow(struct icpu *c, uint64_t la, const void *buf, unsigned len, bool super)
{
	memcpy(fake_at(c, la, len, X86_PF_W), buf, len);
}

void icpu_probe(struct icpu *c, uint64_t la, unsigned len, enum icpu_access acc)
{
	fake_at(c, la, len, acc == ICPU_WRITE ? X86_PF_W : 0);
}

uint64_t icpu_read(struct icpu *c, uint64_t la, unsigned size)
{
	uint64_t v = 0;

	icpu_read_slow(c, la, &v, size, false);
	return v;
}

void icpu_write(struct icpu *c, uint64_t la, unsigned size, uint64_t v) { icpu_write_slow(c, la, &v, size, false); }
void icpu_stored_flagged(struct icpu *c, const uint8_t *host, unsigned len) { }
void icpu_tlb_flush(struct icpu *c, bool keep_global) { fake.n_flush++; }
void icpu_tlb_flush_pcid(struct icpu *c, unsigned pcid) { fake.n_flush++; }
void icpu_tlb_flush_pcid_page(struct icpu *c, unsigned pcid, uint64_t la) { fake.n_flush_page++; }
void icpu_space_switch(struct icpu *c, bool is_kept) { fake.n_flush++; }
void icpu_tlb_flush_page(struct icpu *c, uint64_t la) { fake.n_flush_page++; }

/* --- operand.c: no segment checks -------------------------------------------------------------- */

uint64_t icpu_linear(struct icpu *c, enum x86_sreg seg, uint64_t off, unsigned size, enum icpu_access acc)
{
	return c->mode == X86_MODE_64 && seg < X86_FS ? off : c->s.seg[seg].base + off;
}

uint64_t icpu_ea_offset(struct icpu *c, const struct iop *op)
{
	const struct x86_insn *x = &op->x;
	uint64_t off = (uint64_t)x->disp;

	if (x->base != X86_NO_REG)
		off += x->base == X86_REG_RIP ? c->next_rip : c->s.gpr[x->base];
	if (x->index != X86_NO_REG)
		off += c->s.gpr[x->index] << x->scale;
	return x->adsize == 2 ? (uint16_t)off : x->adsize == 4 ? (uint32_t)off : off;
}

uint64_t icpu_ea(struct icpu *c, const struct iop *op, unsigned size, enum icpu_access acc)
{
	return icpu_linear(c, op->x.seg, icpu_ea_offset(c, op), size, acc);
}

uint64_t icpu_get(struct icpu *c, const struct iop *op, unsigned n)
{
	const struct x86_opnd *o = &op->x.opnd[n];

	if (o->kind == X86_O_REG)
		return icpu_reg_get(c, o->reg, o->size, o->high);
	if (o->kind == X86_O_MEM)
		return icpu_read(c, icpu_ea(c, op, o->size, ICPU_READ), o->size);
	return (uint64_t)op->x.imm;
}

void icpu_set(struct icpu *c, const struct iop *op, unsigned n, uint64_t v)
{
	const struct x86_opnd *o = &op->x.opnd[n];

	if (o->kind == X86_O_MEM)
		icpu_write(c, icpu_ea(c, op, o->size, ICPU_WRITE), o->size, v);
	else
		icpu_reg_set(c, o->reg, o->size, o->high, v);
}

void icpu_push(struct icpu *c, unsigned size, uint64_t v)
{
	icpu_write(c, icpu_linear(c, X86_SS, c->s.gpr[X86_RSP] - size, size, ICPU_WRITE), size, v);
	c->s.gpr[X86_RSP] -= size;
}

uint64_t icpu_pop(struct icpu *c, unsigned size)
{
	uint64_t v = icpu_read(c, icpu_linear(c, X86_SS, c->s.gpr[X86_RSP], size, ICPU_READ), size);

	c->s.gpr[X86_RSP] += size;
	return v;
}

/* --- host ------------------------------------------------------------------------------------- */

static uint32_t fake_pio_read(void *arg, unsigned cpu, uint16_t port, unsigned size)
{
	fake.n_pio++;
	return fake.pio_value++;
}

static void fake_pio_write(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val)
{
	fake.n_pio++;
	fake.pio_out = val;
}

static int fake_msr_read(void *arg, unsigned cpu, uint32_t msr, uint64_t *val)
{
	*val = fake.host_msr;
	return msr == 0x1b || msr == 0x808 ? 0 : -1;
}

static void fake_tsc_changed(void *arg, unsigned cpu)
{
	fake.tsc_changes++;
}

static int fake_msr_write(void *arg, unsigned cpu, uint32_t msr, uint64_t val)
{
	fake.host_msr = val;
	return msr == 0x1b || msr == 0x808 ? 0 : -1;
}

static unsigned fake_cr8_read(void *arg, unsigned cpu) { return (unsigned)fake.cr8; }
static void fake_cr8_write(void *arg, unsigned cpu, unsigned val) { fake.cr8 = val; }
static uint64_t fake_tsc(struct source *s) { return fake.tsc; }
static void fake_random(struct source *s, void *buf, size_t len) { memset(buf, 0x5a, len); }

/* --- machine ------------------------------------------------------------------------------------ */

uint64_t fake_desc(uint32_t base, uint32_t limit, uint32_t attr)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
	       (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)(base >> 24) << 56;
}

void fake_put64(uint64_t la, uint64_t v) { memcpy(fake.mem + la, &v, 8); }
void fake_put32(uint64_t la, uint32_t v) { memcpy(fake.mem + la, &v, 4); }
uint64_t fake_get64(uint64_t la) { uint64_t v; memcpy(&v, fake.mem + la, 8); return v; }
uint32_t fake_get32(uint64_t la) { return (uint32_t)fake_get64(la); }
uint16_t fake_get16(uint64_t la) { return (uint16_t)fake_get64(la); }

void fake_gate(unsigned vector, uint16_t sel, uint64_t off, unsigned attr, unsigned ist)
{
	uint64_t lo = (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 | (uint64_t)attr << 40 |
		      (off >> 16 & 0xffff) << 48;

	fake_put64(AT_IDT + vector * (fake.c.is_long ? 16 : 8), lo);
	if (fake.c.is_long)
		fake_put64(AT_IDT + vector * 16 + 8, off >> 32);
}

void fake_setup_real(void)
{
	const struct x86_cpuid_params p = {
		.n_vcpus = 2, .engine = &x86_features_interp, .tsc_hz = 2000000000, .phys_bits = 40, .has_kvmclock = true,
	};

	memset(&fake, 0, sizeof(fake));
	for (unsigned i = 0; i < ICPU_N_PRIV * ICPU_N_ACCESS; i++)
		fake.c.table[i / ICPU_N_ACCESS][i % ICPU_N_ACCESS] = &no_translations;
	x86_cpuid_build(&fake.cpuid, &p);
	fake.host = (struct cpu_host){ .pio_read = fake_pio_read, .pio_write = fake_pio_write, .msr_read = fake_msr_read,
		.msr_write = fake_msr_write, .cr8_read = fake_cr8_read, .cr8_write = fake_cr8_write,
		.tsc_changed = fake_tsc_changed };
	fake.source = (struct source){ .tsc = fake_tsc, .random = fake_random };
	fake.vm.cfg = (struct cpu_config){ .n_vcpus = 2, .cpuid = &fake.cpuid, .host = &fake.host, .source = &fake.source };
	fake.c.vm = &fake.vm;
	fake.c.host = &fake.host;
	fake.c.rep_budget = 4;
	x86_state_reset(&fake.c.s, 1);
	fake.c.s.seg[X86_CS].base = AT_CODE;
	fake.c.s.seg[X86_CS].sel = AT_CODE >> 4;
	fake.c.s.rip = 0;
	fake.c.s.gpr[X86_RSP] = KSTACK;
	icpu_mode_changed(&fake.c);
}

static void fake_build_gdt(bool is_long)
{
	const uint64_t g = AT_GDT;

	fake_put64(g + 0x08, fake_desc(0, 0xfffff, 0xc09b));
	fake_put64(g + 0x10, fake_desc(0, 0xfffff, 0xc093));
	fake_put64(g + 0x18, fake_desc(0, 0xfffff, 0xc0fb));
	fake_put64(g + 0x20, fake_desc(0, 0xfffff, 0xc0f3));
	fake_put64(g + 0x28, fake_desc(0, 0xfffff, 0xa09b));
	fake_put64(g + 0x30, fake_desc(0, 0xfffff, 0xa0fb));
	fake_put64(g + 0x38, fake_desc(AT_TSS, 0x67 + 0x21, 0x89));
	fake_put64(g + 0x58, fake_desc(AT_TSS2, 0x67, 0x89));
	fake_put64(g + 0x60, fake_desc(0, 0xffff, 0x9b));
	fake_put64(g + 0x68, 0x0000e50000580000ull);    /* task gate to SEL_TSS2, DPL 3 */
	fake_put64(g + 0x70, fake_desc(AT_LDT, 0xff, 0x82));
	fake_put64(g + 0x80, fake_desc(0, 0xfffff, is_long ? 0xa09f : 0xc09f));
	fake_put64(g + 0x88, fake_desc(0, 0xfffff, 0xc013));
	fake_put64(g + 0x90, fake_desc(AT_TSS16, 0x2b, 0x81));
	fake.c.s.gdtr = (struct x86_dtab){ .base = AT_GDT, .limit = GDT_LIMIT };
	fake.c.s.idtr = (struct x86_dtab){ .base = AT_IDT, .limit = 0xfff };
	fake.c.s.tr = (struct x86_seg){ .sel = SEL_TSS, .base = AT_TSS, .limit = 0x67 + 0x21, .attr = 0x8b };
	fake.mem[AT_GDT + SEL_TSS + 5] |= 2;
}

static void fake_seg(enum x86_sreg seg, uint16_t sel)
{
	struct sys_desc d;

	sys_desc_decode(&d, fake_get64(AT_GDT + (sel & ~7u)), 0, sel);
	sys_seg_from_desc(&fake.c.s.seg[seg], &d, sel);
}

static void fake_segs(uint16_t code, uint16_t data, unsigned cpl)
{
	for (unsigned i = 0; i < X86_N_SEGS; i++)
		fake_seg(i, i == X86_CS ? code : data);
	fake.c.s.rip = AT_CODE;
	fake.c.s.gpr[X86_RSP] = cpl ? USTACK : KSTACK;
	fake.c.s.rflags = X86_FLAGS_FIXED | X86_IF;
	icpu_mode_changed(&fake.c);
}

void fake_setup_prot(unsigned cpl)
{
	fake_setup_real();
	fake_build_gdt(false);
	fake.c.s.cr0 |= X86_CR0_PE;
	fake_put32(AT_TSS + 4, RSP0);
	fake_put32(AT_TSS + 8, SEL_KDATA);
	fake_segs(cpl ? SEL_UCODE : SEL_KCODE, cpl ? SEL_UDATA : SEL_KDATA, cpl);
}

void fake_setup_long(unsigned cpl)
{
	fake_setup_real();
	fake_build_gdt(true);
	fake.c.s.cr0 |= X86_CR0_PE | X86_CR0_PG;
	fake.c.s.cr4 = X86_CR4_PAE;
	fake.c.s.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
	fake_put64(AT_TSS + 4, RSP0);
	fake_put64(AT_TSS + 0x24, IST1);
	fake_segs(cpl ? SEL_UCODE64 : SEL_KCODE64, cpl ? SEL_UDATA : SEL_KDATA, cpl);
}

/* --- running ------------------------------------------------------------------------------------ */

int fake_exec_bytes(const uint8_t *bytes, unsigned len)
{
	struct icpu *c = &fake.c;
	struct iop op = { 0 };
	uint8_t buf[X86_INSN_MAX] = { 0 };

	memcpy(buf, bytes, len);
	enum x86_decode_result r = x86_decode(&op.x, buf, sizeof(buf), c->mode);
	if (r == X86_DECODE_UD)
		return X86_EXC_UD;
	CHECK_EQ(r, X86_DECODE_OK);
	CHECK_EQ(op.x.len, len);
	op.fn = interp_bind_system(&op.x);
	CHECK(op.fn);
	c->next_rip = (c->s.rip + len) & c->rip_mask;
	if (sigsetjmp(c->landing, 0))
		return fake_vector;
	op.fn(c, &op);
	c->s.rip = c->next_rip;
	return FAKE_OK;
}

int fake_deliver(struct icpu_event ev)
{
	if (sigsetjmp(fake.c.landing, 0))
		return fake_vector;
	icpu_deliver(&fake.c, &ev);
	return FAKE_OK;
}
