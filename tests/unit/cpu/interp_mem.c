/* SPDX-License-Identifier: Apache-2.0 */
/* Paging, memory, locked operations and strings of the interpreter. */
#include "cpu/interp_rig.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#include "cpu/interp/core.h"
#include "cpu/interp/tlb_priv.h"
#include "test.h"

enum { A = 1 << 5, D = 1 << 6, P = 1, W = 2, U = 4 };

static uint64_t mem64(struct rig *r, uint64_t gpa)
{
	uint64_t v;

	memcpy(&v, gmem_ptr(r->mem, gpa, 8), 8);
	return v;
}

static void expect_pf(struct rig *r, uint64_t cr2, unsigned code)
{
	struct icpu_event ev = rig_fault(r);

	CHECK_EQ(ev.vector, X86_EXC_PF);
	CHECK_EQ(ev.code, code);
	CHECK_EQ(r->c->s.cr2, cr2);
}

/* mov [rbx], rax ; mov rax, [rbx] at RIG_CODE */
#define STORE 0x48, 0x89, 0x03
#define LOAD 0x48, 0x8b, 0x03

TEST(page_faults_carry_the_right_error_code)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, STORE, LOAD);
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	*rig_pte(&r, RIG_DATA) = 0;
	expect_pf(&r, RIG_DATA, X86_PF_W);
	*rig_pte(&r, RIG_DATA) = RIG_DATA | P | U;
	expect_pf(&r, RIG_DATA, X86_PF_W | X86_PF_P);
	r.c->s.rip = RIG_CODE + 3;
	*rig_pte(&r, RIG_DATA) = RIG_DATA | P | 1ull << 51;
	expect_pf(&r, RIG_DATA, X86_PF_RSVD | X86_PF_P);
	r.c->s.seg[X86_SS].attr |= 3 << X86_SEG_DPL_SHIFT;
	r.c->s.seg[X86_CS].attr |= 3 << X86_SEG_DPL_SHIFT;
	icpu_mode_changed(r.c);
	*rig_pte(&r, RIG_DATA) = RIG_DATA | P | W;
	expect_pf(&r, RIG_DATA, X86_PF_U | X86_PF_P);
	*rig_pte(&r, RIG_CODE) = RIG_CODE | P | U | 1ull << 63;
	icpu_tlb_flush(r.c, false);
	expect_pf(&r, RIG_CODE + 3, X86_PF_U | X86_PF_P | X86_PF_I);
	rig_fini(&r);
}

TEST(supervisor_writes_to_read_only_pages_depend_on_wp)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, STORE);
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	*rig_pte(&r, RIG_DATA) = RIG_DATA | P;
	r.c->s.cr0 &= ~(uint64_t)X86_CR0_WP;
	rig_steps(&r, 1);
	r.c->s.cr0 |= X86_CR0_WP;
	icpu_tlb_flush(r.c, false);
	r.c->s.rip = RIG_CODE;
	expect_pf(&r, RIG_DATA, X86_PF_W | X86_PF_P);
	rig_fini(&r);
}

TEST(smap_lets_the_kernel_at_user_pages_only_with_ac)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, LOAD);
	*rig_pte(&r, RIG_CODE) = RIG_CODE | P | W;      /* SMEP later: not a user page */
	r.c->s.cr4 |= X86_CR4_SMAP | X86_CR4_SMEP;
	icpu_tlb_flush(r.c, false);
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	expect_pf(&r, RIG_DATA, X86_PF_P);
	r.c->s.rflags |= X86_AC;
	rig_steps(&r, 1);
	r.c->s.rflags &= ~(uint64_t)X86_AC;
	r.c->s.rip = RIG_CODE;
	expect_pf(&r, RIG_DATA, X86_PF_P);
	r.c->s.rip = RIG_DATA;
	expect_pf(&r, RIG_DATA, X86_PF_P | X86_PF_I);
	rig_fini(&r);
}

TEST(accessed_and_dirty_bits_are_set_as_accesses_happen)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, LOAD, STORE);
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	CHECK_EQ(*rig_pte(&r, RIG_DATA) & (A | D), 0);
	rig_steps(&r, 1);
	CHECK_EQ(*rig_pte(&r, RIG_DATA) & (A | D), A);
	rig_steps(&r, 1);
	CHECK_EQ(*rig_pte(&r, RIG_DATA) & (A | D), A | D);
	CHECK_EQ(mem64(&r, RIG_PD) & (A | D), A);
	rig_fini(&r);
}

TEST(a_faulting_walk_sets_no_accessed_bit_at_the_leaf)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, STORE);
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	*rig_pte(&r, RIG_DATA) = RIG_DATA | P | U;
	rig_fault(&r);
	CHECK_EQ(*rig_pte(&r, RIG_DATA), RIG_DATA | P | U);
	rig_fini(&r);
}

TEST(a_store_across_pages_faults_before_it_writes_anything)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, STORE);
	r.c->s.gpr[X86_RBX] = RIG_DATA + 0xffc;
	r.c->s.gpr[X86_RAX] = 0x1122334455667788;
	*rig_pte(&r, RIG_DATA + 0x1000) = 0;
	expect_pf(&r, RIG_DATA + 0x1000, X86_PF_W);
	CHECK_EQ(mem64(&r, RIG_DATA + 0xff8), 0);
	*rig_pte(&r, RIG_DATA + 0x1000) = (RIG_DATA + 0x5000) | P | W;
	rig_steps(&r, 1);
	CHECK_EQ(mem64(&r, RIG_DATA + 0xff8), 0x5566778800000000);
	CHECK_EQ(mem64(&r, RIG_DATA + 0x5000), 0x11223344);
	rig_fini(&r);
}

TEST(read_modify_write_of_a_read_only_page_reports_a_write)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0x48, 0x01, 0x03);   /* add [rbx], rax */
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	r.c->s.rflags = X86_FLAGS_FIXED | X86_OF;
	*rig_pte(&r, RIG_DATA) = RIG_DATA | P;
	expect_pf(&r, RIG_DATA, X86_PF_P | X86_PF_W);
	CHECK_EQ(r.c->s.rflags, X86_FLAGS_FIXED | X86_OF);
	rig_fini(&r);
}

TEST(non_canonical_addresses_are_gp_and_ss_for_the_stack)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, LOAD, 0x50);         /* ; push rax */
	r.c->s.gpr[X86_RBX] = 0x800000000000;
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_GP);
	r.c->s.gpr[X86_RBX] = 0x7ffffffffffc;
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_GP);
	r.c->s.rip += 3;
	r.c->s.gpr[X86_RSP] = 0x8000000000000000;
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_SS);
	CHECK_EQ(r.c->s.gpr[X86_RSP], 0x8000000000000000);
	rig_fini(&r);
}

/* Each is a search of whole tables when it is flushed. */
TEST(pages_of_programs_are_not_taken_for_large_ones_of_the_kernel)
{
	for (uint64_t gib = 0; gib < 600; gib++)
		for (uint64_t program = 0x5500; program < 0x5520; program++) {
			uint64_t la = program << 32 | (gib * 0x12345) << 12, kernel = 0xffff888000000000 + (gib << 30);

			CHECK(tlb_large_bit(la, true) != tlb_large_bit(kernel, true));
			CHECK(tlb_large_bit(la, true) != tlb_large_bit(kernel + la % 512 * (2 << 20), false));
			CHECK(tlb_large_bit(la, false) != tlb_large_bit(kernel + la % 512 * (2 << 20), false));
			CHECK(tlb_large_bit(la, false) != tlb_large_bit(la, true));
		}
}

TEST(a_large_page_goes_with_one_invlpg_anywhere_in_it)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, LOAD);
	r.c->s.gpr[X86_RBX] = 0x200000 + RIG_DATA;
	rig_steps(&r, 1);
	memset(gmem_ptr(r.mem, RIG_PD + 8, 8), 0, 8);
	icpu_tlb_flush_page(r.c, 0x3ff000);
	r.c->s.rip = RIG_CODE;
	expect_pf(&r, 0x200000 + RIG_DATA, 0);
	rig_fini(&r);
}

TEST(global_pages_survive_a_flush_that_keeps_them_and_others_do_not)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, LOAD);
	*rig_pte(&r, RIG_DATA) |= 1 << 8;
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	rig_steps(&r, 1);
	r.c->s.gpr[X86_RBX] = RIG_DATA + 0x1000;
	r.c->s.rip = RIG_CODE;
	rig_steps(&r, 1);
	*rig_pte(&r, RIG_DATA) = *rig_pte(&r, RIG_DATA + 0x1000) = 0;
	icpu_tlb_flush(r.c, true);
	r.c->s.rip = RIG_CODE;
	expect_pf(&r, RIG_DATA + 0x1000, 0);
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	rig_steps(&r, 1);
	icpu_tlb_flush(r.c, false);
	r.c->s.rip = RIG_CODE;
	expect_pf(&r, RIG_DATA, 0);
	rig_fini(&r);
}

/* --- address spaces --------------------------------------------------------------------------------- */

enum { PML4_2 = 0x5000, PDPT_2 = 0x6000, PD_2 = 0x7000, PT_2 = 0x8000, OTHER = 0x50000 };

/* A second set of tables like the first, in which RIG_DATA is the page OTHER. */
static uint64_t *second_tables(struct rig *r)
{
	uint8_t *ram = gmem_ptr(r->mem, 0, RIG_RAM);
	static const unsigned next[] = { PDPT_2, PD_2, PT_2 };

	memcpy(ram + PML4_2, ram + RIG_PML4, 0x4000);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t *e = (uint64_t *)(ram + PML4_2 + 0x1000 * i);

		*e = next[i] | (*e & 0xfff);
	}
	uint64_t *pte = (uint64_t *)(ram + PT_2) + RIG_DATA / 4096;

	*pte = OTHER | (*pte & 0xfff);
	return pte;
}

/* mov cr3, rax ; mov rax, [rbx] */
#define SWITCH 0x0f, 0x22, 0xd8

static void space_rig(struct rig *r, bool has_pcids)
{
	rig_init(r, 1);
	if (has_pcids)
		r->c->s.cr4 |= X86_CR4_PCIDE;
	icpu_tlb_flush(r->c, false);
	*(uint64_t *)gmem_ptr(r->mem, RIG_DATA, 8) = 1;
	*(uint64_t *)gmem_ptr(r->mem, OTHER, 8) = 2;
	r->c->s.gpr[X86_RBX] = RIG_DATA;
}

/* What [RIG_DATA] is after loading CR3. */
static uint64_t look(struct rig *r, uint64_t cr3)
{
	RIG_CODE_BYTES(r, SWITCH, LOAD);
	r->c->s.gpr[X86_RAX] = cr3;
	rig_steps(r, 2);
	return r->c->s.gpr[X86_RAX];
}

#define KEEP (1ull << 63)

TEST(each_address_space_has_its_own_translations)
{
	for (unsigned has_pcids = 0; has_pcids < 2; has_pcids++) {
		struct rig r;

		space_rig(&r, has_pcids);
		second_tables(&r);
		for (unsigned i = 0; i < 3; i++) {
			uint64_t keep = has_pcids && i ? KEEP : 0;

			CHECK_EQ(look(&r, (RIG_PML4 + has_pcids) | keep), 1);
			CHECK_EQ(look(&r, (PML4_2 + 2 * has_pcids) | keep), 2);
		}
		rig_fini(&r);
	}
}

TEST(a_flush_finds_what_has_changed_in_any_level)
{
	static const unsigned level_of[] = { RIG_PML4, RIG_PDPT, RIG_PD, RIG_PT + RIG_DATA / 4096 * 8 };

	for (unsigned level = 0; level < 4; level++) {
		struct rig r;

		space_rig(&r, false);
		second_tables(&r);
		CHECK_EQ(look(&r, RIG_PML4), 1);
		/* The other's tables from that level on. */
		memcpy(gmem_ptr(r.mem, level_of[level], 8), gmem_ptr(r.mem, level_of[level] + 0x4000, 8), 8);
		CHECK_EQ(look(&r, RIG_PML4), 2);
		rig_fini(&r);
	}
}

TEST(without_a_flush_a_pcid_keeps_its_translations)
{
	struct rig r;

	space_rig(&r, true);
	second_tables(&r);
	CHECK_EQ(look(&r, RIG_PML4 + 1), 1);
	*rig_pte(&r, RIG_DATA) = OTHER | P | W | U | A | D;
	CHECK_EQ(look(&r, PML4_2 + 2), 2);
	uint64_t was = look(&r, (RIG_PML4 + 1) | KEEP);

	CHECK(was == 1 || was == 2);            /* a processor may forget; it must not after a flush remember */
	CHECK_EQ(look(&r, RIG_PML4 + 1), 2);
	rig_fini(&r);
}

/* invpcid rcx, [rdx] */
#define INVPCID 0x66, 0x0f, 0x38, 0x82, 0x0a

static void invpcid(struct rig *r, unsigned type, uint64_t pcid, uint64_t la)
{
	uint64_t *d = gmem_ptr(r->mem, RIG_STACK, 16);

	RIG_CODE_BYTES(r, INVPCID);
	d[0] = pcid;
	d[1] = la;
	r->c->s.gpr[X86_RCX] = type;
	r->c->s.gpr[X86_RDX] = RIG_STACK;
	rig_steps(r, 1);
}

TEST(invpcid_reaches_spaces_that_are_not_in_use)
{
	for (unsigned type = 0; type < 4; type++) {
		struct rig r;

		space_rig(&r, true);
		second_tables(&r);
		CHECK_EQ(look(&r, RIG_PML4 + 1), 1);
		CHECK_EQ(look(&r, PML4_2 + 2), 2);
		*rig_pte(&r, RIG_DATA) = OTHER | P | W | U;
		invpcid(&r, type, type < 2 ? 1 : 0, RIG_DATA);
		CHECK_EQ(look(&r, (RIG_PML4 + 1) | KEEP), 2);
		rig_fini(&r);
	}
}

TEST(invlpg_reaches_global_pages_of_spaces_that_are_not_in_use)
{
	for (unsigned n_pages = 1; n_pages <= 12; n_pages += 11) {     /* more than are remembered one by one */
		struct rig r;

		space_rig(&r, true);
		uint64_t *second = second_tables(&r);

		*rig_pte(&r, RIG_DATA) |= 1 << 8;
		r.c->s.cr4 |= X86_CR4_SMAP;
		r.c->s.rflags |= X86_AC;
		icpu_tlb_flush(r.c, false);
		CHECK_EQ(look(&r, RIG_PML4 + 1), 1);
		CHECK_EQ(look(&r, PML4_2 + 2), 2);
		*rig_pte(&r, RIG_DATA) = *second | 1 << 8;
		for (unsigned i = 0; i < n_pages; i++)
			icpu_tlb_flush_page(r.c, RIG_DATA + 0x1000 * (uint64_t)i);
		CHECK_EQ(look(&r, (RIG_PML4 + 1) | KEEP), 2);
		rig_fini(&r);
	}
}

TEST(a_dirty_bit_that_was_cleared_is_set_again_after_a_flush)
{
	for (unsigned how = 0; how < 2; how++) {        /* MOV CR3; INVPCID from another space */
		struct rig r;

		space_rig(&r, how);
		second_tables(&r);
		look(&r, RIG_PML4 + how);
		RIG_CODE_BYTES(&r, STORE);
		rig_steps(&r, 1);
		CHECK(*rig_pte(&r, RIG_DATA) & D);
		if (how)
			look(&r, PML4_2 + 2);
		*rig_pte(&r, RIG_DATA) &= ~(uint64_t)(A | D);
		if (how)
			invpcid(&r, 1, 1, 0);
		look(&r, RIG_PML4 + how);
		CHECK(*rig_pte(&r, RIG_DATA) & A);
		RIG_CODE_BYTES(&r, STORE);
		rig_steps(&r, 1);
		CHECK(*rig_pte(&r, RIG_DATA) & D);
		rig_fini(&r);
	}
}

TEST(more_address_spaces_than_are_kept_are_each_right)
{
	enum { N = 3 * ICPU_N_SPACES, TABLES = 0x200000, EACH = 0x4000 };
	struct rig r;

	space_rig(&r, true);
	uint8_t *ram = gmem_ptr(r.mem, 0, RIG_RAM);

	second_tables(&r);
	for (unsigned n = 0; n < N; n++) {
		uint8_t *at = ram + TABLES + EACH * n;

		memcpy(at, ram + PML4_2, EACH);
		for (unsigned i = 0; i < 3; i++)
			*(uint64_t *)(at + 0x1000 * i) = (uint64_t)(TABLES + EACH * n + 0x1000 * (i + 1)) | 7;
		((uint64_t *)(at + 0x3000))[RIG_DATA / 4096] = (uint64_t)(OTHER + 0x1000 * n) | 7;
		*(uint64_t *)(ram + OTHER + 0x1000 * n) = 100 + n;
	}
	for (unsigned i = 0; i < 4 * N; i++) {
		unsigned n = i < 2 * N ? i % N : i * 7 % N;

		CHECK_EQ(look(&r, (uint64_t)(TABLES + EACH * n + n + 1) | (i > N ? KEEP : 0)), 100 + n);
	}
	rig_fini(&r);
}

/* All pages below RIG_MMIO, as far apart as they can be, read with AC set: those translations are an address space's. */
static void touch_all(struct rig *r)
{
	for (uint64_t la = RIG_CODE; la < RIG_MMIO; la += 0x1000)
		icpu_touch(r->c, la, ICPU_READ, false);
	for (uint64_t far = 1ull << 21; far < 1ull << 26; far += 1ull << 20)
		icpu_touch(r->c, far, ICPU_READ, false);
}

/* 64 MiB of linear memory, all onto the first large page. */
static void map_far(struct rig *r)
{
	uint64_t *pd = gmem_ptr(r->mem, RIG_PD, 0x1000);

	for (unsigned i = 2; i < 32; i++)
		pd[i] = pd[1];
}

TEST(tables_of_address_spaces_give_memory_back_before_they_use_too_much)
{
	enum { LIMIT = 64 * ICPU_CHUNK_BYTES };
	struct rig r;
	struct cpu_stats s;

	space_rig(&r, true);
	map_far(&r);
	second_tables(&r);
	icpu_space_limit(r.c, LIMIT);
	r.c->s.cr4 |= X86_CR4_SMAP;
	r.c->s.rflags |= X86_AC;
	for (unsigned i = 0; i < 8 * ICPU_N_SPACES; i++) {
		bool is_second = i & 1;
		uint64_t pcid = 1 + i % 13;

		CHECK_EQ(look(&r, ((is_second ? PML4_2 : RIG_PML4) + pcid) | (i > 20 ? KEEP : 0)), 1 + is_second);
		touch_all(&r);
		if (r.c->must_trim)
			icpu_space_trim(r.c);
		CHECK(r.c->n_chunks <= r.c->max_chunks);
		CHECK(r.c->n_chunks >= 32);     /* of the present one */
	}
	r.engine->ops->stats(r.v, &s);
	CHECK(s.tlb_trims > 4);
	CHECK(s.memory > 0 && s.memory < 16 << 20);
	rig_fini(&r);
}

TEST(memory_of_a_file_is_counted_without_looking_at_its_pages)
{
	enum { SIZE = 32 << 20 };
	int fd = memfd_create("counted", MFD_CLOEXEC);

	CHECK(fd >= 0 && !ftruncate(fd, SIZE));
	uint8_t *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK_EQ(icpu_file_resident(fd), 0);
	for (size_t at = 0; at < SIZE; at += SIZE / 8)
		p[at] = 1;
	CHECK(icpu_file_resident(fd) >= 8 * 4096);
	CHECK_EQ(icpu_file_resident(fd), icpu_resident(p, SIZE));
	munmap(p, SIZE);
	close(fd);
	CHECK_EQ(icpu_file_resident(fd), 0);
}

TEST(one_address_space_that_uses_too_much_begins_again)
{
	struct rig r;

	space_rig(&r, true);
	map_far(&r);
	icpu_space_limit(r.c, 0);
	r.c->max_chunks = 8;
	r.c->s.cr4 |= X86_CR4_SMAP;
	r.c->s.rflags |= X86_AC;
	CHECK_EQ(look(&r, RIG_PML4 + 1), 1);
	touch_all(&r);
	CHECK(r.c->must_trim && r.c->n_chunks > 8);
	icpu_space_trim(r.c);
	CHECK(!r.c->must_trim && r.c->n_chunks == 0);
	*(uint64_t *)gmem_ptr(r.mem, RIG_DATA, 8) = 7;
	CHECK_EQ(look(&r, (RIG_PML4 + 1) | KEEP), 7);
	rig_fini(&r);
}

/* mov eax, 0x11223344 whose first two bytes are the last of a device's page, as in a ROM. */
TEST(an_instruction_may_begin_outside_ram_and_end_in_another_page)
{
	static const uint8_t rest[] = { 0x33, 0x22, 0x11 };
	enum { NEXT = RIG_MMIO + 0x1000 };
	struct rig r;

	rig_init(&r, 1);
	r.mmio_value = 0x44b8000000000000;
	memcpy(gmem_ptr(r.mem, OTHER, sizeof(rest)), rest, sizeof(rest));
	r.c->s.rip = NEXT - 2;
	expect_pf(&r, NEXT, X86_PF_I);
	*rig_pte(&r, NEXT) = OTHER | P | W | U;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0x11223344);
	CHECK_EQ(r.c->s.rip, NEXT + 3);
	*rig_pte(&r, NEXT) = (RIG_MMIO_GPA + 0x1000ull) | P | W | U;
	icpu_tlb_flush_page(r.c, NEXT);
	r.c->s.rip = NEXT - 2;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0x44);
	rig_fini(&r);
}

/* A loop in a ROM reads what lies beside it and stores over itself: it is decoded as code in RAM is, once, and what it stores
 * goes to the bus. */
TEST(code_in_a_rom_is_kept_and_stores_to_it_reach_the_bus)
{
	enum { PAGE = RIG_MMIO - 0x1000, TIMES = 1000 };
	static const uint64_t base = 0xff000000;
	uint8_t rom[4096] = {
		0x48, 0x03, 0x05, 0x09, 0x00, 0x00, 0x00,       /* add rax, [rip + 9]: the number at 16 */
		0x88, 0x0b,                                     /* mov [rbx], cl */
		0xff, 0xc9,                                     /* dec ecx */
		0x75, 0xf3,                                     /* jnz 0 */
		0xf4,                                           /* hlt */
		[16] = 3,
	};
	struct rig r;

	rig_init(&r, 1);
	CHECK_EQ(gmem_set_rom(r.mem, base, rom, sizeof(rom), NULL), 0);
	*rig_pte(&r, PAGE) = base | P | W;
	r.c->s.gpr[X86_RBX] = PAGE;
	r.c->s.gpr[X86_RCX] = TIMES;
	r.c->s.rip = PAGE;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 3 * TIMES);
	CHECK_EQ(r.c->s.rip, PAGE + 14);
	CHECK_EQ(r.n_mmio, TIMES);
	CHECK_EQ(r.mmio_gpa, base);
	CHECK_EQ(r.mmio_last, 1);
	CHECK(!memcmp(r.mem->host + r.mem->size, rom, sizeof(rom)));
	CHECK(r.c->stats.blocks_decoded < 100);
	rig_fini(&r);
}

TEST(devices_see_naturally_aligned_pieces)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, STORE, LOAD);
	r.c->s.gpr[X86_RBX] = RIG_MMIO + 8;
	r.c->s.gpr[X86_RAX] = 0x1122334455667788;
	rig_steps(&r, 1);
	CHECK_EQ(r.n_mmio, 1);
	CHECK_EQ(r.mmio_size, 8);
	CHECK_EQ(r.mmio_last, 0x1122334455667788);
	r.c->s.rip = RIG_CODE;
	r.c->s.gpr[X86_RBX] = RIG_MMIO + 6;
	rig_steps(&r, 1);
	CHECK_EQ(r.n_mmio, 4);          /* 2 + 4 + 2 */
	CHECK_EQ(r.mmio_gpa, RIG_MMIO_GPA + 12);
	CHECK_EQ(r.mmio_last, 0x1122);
	r.mmio_value = 0xf0e0d0c0b0a09080;
	r.c->s.gpr[X86_RBX] = RIG_MMIO + 16;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0xf0e0d0c0b0a09080);
	rig_fini(&r);
}

/* --- locked ------------------------------------------------------------------------------ */

enum { LOCKED_LOOPS = 100000 };

static void *step_until_halt(void *arg)
{
	struct vcpu *v = arg;
	struct icpu *c = (struct icpu *)v;
	struct icpu_event ev;

	while (c->s.mp_state == X86_MP_RUNNABLE)
		if (rig_engine.step(v, &ev))
			break;
	return NULL;
}

/* Both vcpus add to ADDR; it must not lose one. */
static void locked_adds(uint64_t addr)
{
	/* l: lock inc qword [rbx]; lock xadd [rbx], rax (rax = 1 again); dec ecx; jnz l; hlt */
	struct rig r;
	pthread_t t[2];

	rig_init(&r, 2);
	RIG_CODE_BYTES(&r, 0xf0, 0x48, 0xff, 0x03, 0xb8, 1, 0, 0, 0, 0xf0, 0x48, 0x0f, 0xc1, 0x03,
		       0xff, 0xc9, 0x75, 0xee, 0xf4);
	for (unsigned i = 0; i < 2; i++) {
		struct icpu *c = (struct icpu *)rig_engine.ops->vcpu(r.vm, i);

		c->s.gpr[X86_RBX] = addr;
		c->s.gpr[X86_RCX] = LOCKED_LOOPS;
		CHECK_EQ(pthread_create(&t[i], NULL, step_until_halt, c), 0);
	}
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 0);
	uint64_t v;

	memcpy(&v, gmem_ptr(r.mem, addr, 8), 8);
	CHECK_EQ(v, 4 * LOCKED_LOOPS);
	rig_fini(&r);
}

TEST(locked_adds_of_two_vcpus_are_atomic)
{
	locked_adds(RIG_DATA);
}

TEST(locked_adds_across_a_page_are_atomic)
{
	locked_adds(RIG_DATA + 0xffd);
}

TEST(cmpxchg16b_needs_alignment_and_exchanges_whole)
{
	struct rig r;
	uint64_t *p;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0xf0, 0x48, 0x0f, 0xc7, 0x0f);       /* lock cmpxchg16b [rdi] */
	r.c->s.gpr[X86_RDI] = RIG_DATA + 8;
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_GP);
	p = gmem_ptr(r.mem, RIG_DATA, 16);
	p[0] = 1;
	p[1] = 2;
	r.c->s.gpr[X86_RDI] = RIG_DATA;
	r.c->s.gpr[X86_RAX] = 1;
	r.c->s.gpr[X86_RDX] = 3;
	r.c->s.gpr[X86_RBX] = 5;
	r.c->s.gpr[X86_RCX] = 6;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.rflags & X86_ZF, 0);
	CHECK_EQ(r.c->s.gpr[X86_RDX], 2);
	CHECK_EQ(p[1], 2);
	r.c->s.rip = RIG_CODE;
	rig_steps(&r, 1);
	CHECK(r.c->s.rflags & X86_ZF);
	CHECK_EQ(p[0], 5);
	CHECK_EQ(p[1], 6);
	rig_fini(&r);
}

/* --- strings ------------------------------------------------------------------------------- */

TEST(rep_movs_stops_at_the_faulting_element_and_goes_on_after_it)
{
	struct rig r;
	uint8_t *s, *d;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0xf3, 0xa5);         /* rep movsd */
	s = gmem_ptr(r.mem, RIG_DATA, 0x4000);
	d = s + 0x5000;
	for (unsigned i = 0; i < 0x3000; i++)
		s[i] = (uint8_t)(i * 7 + (i >> 8));
	r.c->s.gpr[X86_RSI] = RIG_DATA + 2;     /* elements cross pages on the source side */
	r.c->s.gpr[X86_RDI] = RIG_DATA + 0x5000;
	r.c->s.gpr[X86_RCX] = 0xa00;
	*rig_pte(&r, RIG_DATA + 0x7000) = 0;
	expect_pf(&r, RIG_DATA + 0x7000, X86_PF_W);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 0x200);
	CHECK_EQ(r.c->s.gpr[X86_RSI], RIG_DATA + 2 + 0x2000);
	CHECK_EQ(r.c->s.gpr[X86_RDI], RIG_DATA + 0x7000);
	CHECK_EQ(r.c->s.rip, RIG_CODE);
	*rig_pte(&r, RIG_DATA + 0x7000) = (RIG_DATA + 0x7000) | P | W;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 0);
	CHECK_MEM(d, s + 2, 0x2800);
	rig_fini(&r);
}

TEST(overlapping_rep_movs_repeats_the_pattern_as_byte_order_demands)
{
	static const struct { uint8_t op[3]; unsigned size; int distance; } cases[] = {
		{ { 0xf3, 0xa4 }, 1, 1 }, { { 0xf3, 0xa4 }, 1, 3 }, { { 0xf3, 0xa5 }, 4, 6 }, { { 0xf3, 0xa5 }, 4, 2 },
		{ { 0xf3, 0x48, 0xa5 }, 8, 8 }, { { 0xf3, 0x48, 0xa5 }, 8, -5 }, { { 0xf3, 0xa4 }, 1, -1 },
	};

	for (unsigned k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		static uint8_t want[0x3000];
		unsigned size = cases[k].size, n = 3000 / size;
		struct rig r;

		rig_init(&r, 1);
		uint8_t *m = gmem_ptr(r.mem, RIG_DATA, sizeof(want));

		for (unsigned i = 0; i < sizeof(want); i++)
			m[i] = want[i] = (uint8_t)(i * 13 + (i >> 8));
		for (unsigned i = 0; i < n; i++) {
			uint8_t e[8];

			memcpy(e, want + 0xe00 + i * size, size);
			memcpy(want + 0xe00 + cases[k].distance + (int)(i * size), e, size);
		}
		rig_code(&r, RIG_CODE, cases[k].op, 3);
		r.c->s.gpr[X86_RSI] = RIG_DATA + 0xe00;
		r.c->s.gpr[X86_RDI] = (uint64_t)(RIG_DATA + 0xe00 + cases[k].distance);
		r.c->s.gpr[X86_RCX] = n;
		rig_steps(&r, 1);
		CHECK_EQ(r.c->s.gpr[X86_RCX], 0);
		CHECK_MEM(m, want, sizeof(want));
		rig_fini(&r);
	}
}

TEST(backward_rep_stos_and_repne_scas_leave_exact_registers)
{
	struct rig r;

	rig_init(&r, 1);
	/* std; rep stosw; cld; repne scasb */
	RIG_CODE_BYTES(&r, 0xfd, 0xf3, 0x66, 0xab, 0xfc, 0xf2, 0xae);
	r.c->s.gpr[X86_RAX] = 0x4142;
	r.c->s.gpr[X86_RDI] = RIG_DATA + 0x1002;
	r.c->s.gpr[X86_RCX] = 4;
	rig_steps(&r, 2);
	CHECK_EQ(r.c->s.gpr[X86_RDI], RIG_DATA + 0xffa);
	CHECK_EQ(mem64(&r, RIG_DATA + 0xffc), 0x4142414241424142);
	r.c->s.gpr[X86_RCX] = 100;
	r.c->s.gpr[X86_RAX] = 0x41;
	rig_steps(&r, 2);
	CHECK_EQ(r.c->s.gpr[X86_RDI], RIG_DATA + 0xffe);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 96);
	CHECK(r.c->s.rflags & X86_ZF);
	rig_fini(&r);
}

TEST(rep_with_a_zero_count_touches_nothing)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0xf3, 0xa6);         /* repe cmpsb */
	r.c->s.rflags = X86_FLAGS_FIXED | X86_CF;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.rflags, X86_FLAGS_FIXED | X86_CF);
	CHECK_EQ(r.c->s.rip, RIG_CODE + 2);
	rig_fini(&r);
}

TEST(address_size_32_wraps_string_addresses_and_clears_upper_halves)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0x67, 0xf3, 0xaa);   /* rep stosb with edi, ecx */
	r.c->s.gpr[X86_RDI] = 0xffffffff00000000 | RIG_DATA;
	r.c->s.gpr[X86_RCX] = 0xffffffff00000005;
	r.c->s.gpr[X86_RAX] = 0x99;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RDI], RIG_DATA + 5);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 0);
	CHECK_EQ(mem64(&r, RIG_DATA), 0x9999999999);
	rig_fini(&r);
}
