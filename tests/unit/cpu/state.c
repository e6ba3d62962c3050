/* SPDX-License-Identifier: Apache-2.0 */
/* Processor state: RESET, INIT, SIPI, and the table that saves it. */
#include "cpu/x86/state.h"

#include <stdlib.h>
#include "test.h"
#include "util/err.h"

TEST(reset_starts_at_the_top_of_memory_in_real_mode)
{
	struct x86_state s;

	memset(&s, 0xa5, sizeof(s));
	s.tsc_offset = 1234;
	x86_state_reset(&s, 1);
	CHECK_EQ(s.seg[X86_CS].base + s.rip, 0xfffffff0);
	CHECK_EQ(s.rflags, 2);
	CHECK_EQ(s.cr0, 0x60000010);
	CHECK_EQ(s.cr4 | s.efer | s.cr3, 0);
	CHECK_EQ(s.pat, 0x0007040600070406);
	CHECK_EQ(s.tsc_offset, 1234);
	CHECK_EQ(s.mp_state, X86_MP_RUNNABLE);
	CHECK_EQ(s.xsave[X86_FX_FCW], 0x40);
	x86_state_reset(&s, 0);
	CHECK_EQ(s.mp_state, X86_MP_WAIT_SIPI);
}

TEST(init_keeps_vector_state_memory_types_and_most_msrs)
{
	struct x86_state s;

	x86_state_reset(&s, 0);
	s.cr0 = 0x80050033;
	s.efer = X86_EFER_LME | X86_EFER_LMA;
	s.xsave[X86_FX_XMM] = 77;
	s.mtrr.def_type = 0xc06;
	s.lstar = 99;
	s.xcr0 = 3;
	s.gpr[X86_RAX] = 5;
	s.nmi_blocked = 1;
	x86_state_init(&s, 0);
	CHECK_EQ(s.xsave[X86_FX_XMM], 77);
	CHECK_EQ(s.mtrr.def_type, 0xc06);
	CHECK_EQ(s.lstar, 99);
	CHECK_EQ(s.xcr0, 3);
	CHECK_EQ(s.gpr[X86_RAX], 0);
	CHECK_EQ(s.efer, 0);
	CHECK_EQ(s.cr0, 0x10);          /* CD and NW were clear and stay so */
	CHECK_EQ(s.nmi_blocked, 0);
	CHECK_EQ(s.mp_state, X86_MP_WAIT_SIPI);
}

TEST(sipi_starts_at_its_page)
{
	struct x86_state s;

	x86_state_reset(&s, 0);
	x86_state_sipi(&s, 0x9a);
	CHECK_EQ(s.seg[X86_CS].sel, 0x9a00);
	CHECK_EQ(s.seg[X86_CS].base + s.rip, 0x9a000);
	CHECK_EQ(s.mp_state, X86_MP_RUNNABLE);
}

static size_t elem_size(const struct field *f)
{
	switch (f->kind) {
	case FIELD_U8: case FIELD_BYTES: return 1;
	case FIELD_U16: return 2;
	case FIELD_U32: return 4;
	case FIELD_U64: return 8;
	default: return f->elem_size;
	}
}

/* Mark the bytes that D describes; overlaps and overruns fail. */
static void cover(const struct state_desc *d, uint8_t *map, size_t base, size_t size)
{
	CHECK(d->version >= 1);
	for (unsigned i = 0; i < d->n_fields; i++) {
		const struct field *f = &d->fields[i];

		CHECK(f->since >= 1 && f->since <= d->version);
		for (unsigned j = 0; j < f->count; j++) {
			size_t at = base + f->offset + j * elem_size(f);

			CHECK(at + elem_size(f) <= size);
			if (f->kind == FIELD_STRUCT) {
				CHECK_EQ(f->sub->size, f->elem_size);
				cover(f->sub, map, at, size);
				continue;
			}
			for (size_t k = 0; k < elem_size(f); k++)
				CHECK_EQ(map[at + k]++, 0);
		}
	}
}

TEST(the_table_describes_every_byte_but_padding_exactly_once)
{
	static uint8_t map[sizeof(struct x86_state)];
	size_t holes = 0;

	cover(&x86_state_desc, map, 0, sizeof(map));
	for (size_t i = 0; i < sizeof(map); i++)
		holes += !map[i];
	/* 8 segments pad 6 bytes each, 2 tables pad 6 each, reserved[3], and what aligns xsave[] */
	size_t tail = offsetof(struct x86_state, xsave) - offsetof(struct x86_state, reserved);
	CHECK_EQ(holes, 8 * 6 + 2 * 6 + tail);
}

static int check_with(void (*spoil)(struct x86_state *s))
{
	struct err err = ERR_INIT;
	struct x86_state s;

	memset(&s, 0, sizeof(s));
	x86_state_reset(&s, 1);
	spoil(&s);
	return x86_state_desc.check(&s, &err);
}

static void spoil_nothing(struct x86_state *s) { }
static void spoil_flags(struct x86_state *s) { s->rflags = 0; }
static void spoil_cr0(struct x86_state *s) { s->cr0 = X86_CR0_PG; }
static void spoil_lma(struct x86_state *s) { s->efer = X86_EFER_LMA; }
static void spoil_no_pae(struct x86_state *s)
{
	s->cr0 = X86_CR0_PG | X86_CR0_PE;
	s->efer = X86_EFER_LME | X86_EFER_LMA;
}
static void spoil_seg(struct x86_state *s) { s->seg[X86_GS].attr = 0xf00; }
static void spoil_mxcsr(struct x86_state *s) { s->xsave[X86_FX_MXCSR + 2] = 1; }
static void spoil_mp(struct x86_state *s) { s->mp_state = 9; }
static void spoil_xcomp(struct x86_state *s) { s->xsave[X86_XS_COMP_BV + 7] = 0x80; }

TEST(a_restore_refuses_what_no_guest_could_have_produced)
{
	static void (*const bad[])(struct x86_state *s) = {
		spoil_flags, spoil_cr0, spoil_lma, spoil_no_pae, spoil_seg, spoil_mxcsr, spoil_mp, spoil_xcomp,
	};

	CHECK_EQ(check_with(spoil_nothing), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(check_with(bad[i]) < 0);
}
