/* SPDX-License-Identifier: Apache-2.0 */
/* What is mapped in a window is what the guest's tables say, as far as it has flushed, and goes when somebody has to hear of stores. */
#include "cpu/bt/bt.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include "cpu/bt/bt_priv.h"
#include "cpu/bt/window.h"
#include "cpu/rig_on_bt.h"
#include "cpu/window_rig.h"
#include "mem/gmem.h"
#include "test.h"
#include "util/err.h"
#include "util/fatal.h"

enum {
	/* User code. */
	LOAD = RIG_CODE, STORE = RIG_CODE + 0x100,
	OTHER = RIG_DATA + 0x5000,      /* a page that may take the place of that at RIG_DATA */
	TABLES = 0x60000,               /* for more of them */
	A = 0x20, D = 0x40,
};

/* Kernel code. */
static struct code invlpg, reload_cr3, switch_cr3;

/* Code is put in place, the pages of RIG_DATA are all zero but for their first word, their number. */
static struct rig *start_with(struct window_rig *w, unsigned n_vcpus)
{
	static const uint8_t load[] = { 0x48, 0x8b, 0x03, 0xf4 }, store[] = { 0x48, 0x89, 0x03, 0xf4 };
	struct rig *r = &w->bt;

	window_rig_init_with(w, n_vcpus);
	ASSEMBLE(&invlpg, "invlpg [rbx]");
	ASSEMBLE(&reload_cr3, "mov rax, cr3; mov cr3, rax");
	ASSEMBLE(&switch_cr3, "mov cr3, rbx");
	rig_code(r, LOAD, load, sizeof(load));
	rig_code(r, STORE, store, sizeof(store));
	memset(gmem_ptr(r->mem, RIG_DATA, WR_PAGES * 4096), 0, WR_PAGES * 4096);
	for (unsigned i = 0; i < WR_PAGES; i++)
		*(uint64_t *)gmem_ptr(r->mem, RIG_DATA + 4096 * i, 8) = 100 + i;
	return r;
}

static struct rig *start(struct window_rig *w) { return start_with(w, 1); }

static struct icpu_event go(struct rig *r, uint64_t rip, uint64_t rbx, uint64_t rax)
{
	struct icpu *c = r->c;

	c->s.gpr[X86_RBX] = rbx;
	c->s.gpr[X86_RAX] = rax;
	c->s.rip = rip;
	return user_run(r);
}

/* What user code reads at LA. */
static uint64_t load(struct rig *r, uint64_t la)
{
	struct icpu_event ev = go(r, LOAD, la, 0);

	if (ev.vector != X86_EXC_GP || r->c->s.rip != LOAD + 3)
		FAIL("loading from %" PRIx64 ": exception %u, code %x at %" PRIx64, la, ev.vector, ev.code, r->c->s.rip);
	return r->c->s.gpr[X86_RAX];
}

static void store(struct rig *r, uint64_t la, uint64_t val)
{
	struct icpu_event ev = go(r, STORE, la, val);

	if (ev.vector != X86_EXC_GP || r->c->s.rip != STORE + 3)
		FAIL("storing to %" PRIx64 ": exception %u, code %x at %" PRIx64, la, ev.vector, ev.code, r->c->s.rip);
}

static void expect_pf(struct rig *r, uint64_t rip, uint64_t la, uint32_t code)
{
	struct icpu_event ev = go(r, rip, la, 77);

	CHECK_EQ(ev.vector, X86_EXC_PF);
	CHECK_EQ(ev.code, code);
	CHECK_EQ(r->c->s.cr2, la);
	CHECK_EQ(r->c->s.rip, rip);
	CHECK_EQ(r->c->s.gpr[X86_RAX], 77);
}

static uint64_t mem64(struct rig *r, uint64_t gpa)
{
	uint64_t val;

	memcpy(&val, gmem_ptr(r->mem, gpa, 8), 8);
	return val;
}

static void put64(struct rig *r, uint64_t gpa, uint64_t val) { memcpy(gmem_ptr(r->mem, gpa, 8), &val, 8); }

/* With RBX for it. */
static void kernel(struct rig *r, const struct code *code, uint64_t rbx)
{
	r->c->s.gpr[X86_RBX] = rbx;
	kernel_run(r, code);
}

/* There is a page for reading and writing at LA, mapped in the window. */
static void touch(struct rig *r, uint64_t la)
{
	unsigned before = icpu_window_mapped(r->c->space);
	uint64_t was = load(r, la);

	store(r, la, was + 1);
	store(r, la, was);
	CHECK_EQ(load(r, la), was);
	CHECK(icpu_window_mapped(r->c->space) > before);
	CHECK(rig_window_frags(r));
}

TEST(a_page_that_is_elsewhere_is_found_there_after_invlpg)
{
	struct window_rig w;
	struct rig *r = start(&w);

	touch(r, RIG_DATA);
	touch(r, 3 * TIB + RIG_DATA);
	*rig_pte(r, RIG_DATA) = OTHER | 7;
	kernel(r, &invlpg, RIG_DATA + 0x123);
	CHECK_EQ(load(r, RIG_DATA), 105);
	store(r, RIG_DATA, 1);
	CHECK_EQ(mem64(r, OTHER), 1);
	kernel(r, &invlpg, 3 * TIB + RIG_DATA);
	CHECK_EQ(load(r, 3 * TIB + RIG_DATA), 1);
	CHECK_EQ(mem64(r, RIG_DATA), 100);
	window_rig_fini(&w);
}

TEST(a_page_that_is_elsewhere_is_found_there_after_a_load_of_cr3)
{
	struct window_rig w;
	struct rig *r = start(&w);

	touch(r, RIG_DATA);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t to = i % 2 ? RIG_DATA : OTHER;

		*rig_pte(r, RIG_DATA) = to | 7;
		kernel(r, &reload_cr3, 0);
		CHECK_EQ(load(r, RIG_DATA), i % 2 ? 100 : 105);
		store(r, RIG_DATA + 8, i);
		CHECK_EQ(mem64(r, to + 8), i);
	}
	window_rig_fini(&w);
}

TEST(what_an_upper_entry_led_to_is_gone_after_a_load_of_cr3)
{
	struct window_rig w;
	struct rig *r = start(&w);

	touch(r, RIG_DATA);
	touch(r, 3 * TIB + RIG_DATA);
	touch(r, 3 * TIB + RIG_DATA + 0x1000);
	put64(r, RIG_PML4 + 6 * 8, 0);
	kernel(r, &reload_cr3, 0);
	expect_pf(r, LOAD, 3 * TIB + RIG_DATA, X86_PF_U);
	expect_pf(r, STORE, 3 * TIB + RIG_DATA + 0x1000, X86_PF_U | X86_PF_W);
	CHECK_EQ(load(r, RIG_DATA), 100);
	put64(r, RIG_PML4 + 6 * 8, RIG_PDPT | 5);
	kernel(r, &reload_cr3, 0);
	CHECK_EQ(load(r, 3 * TIB + RIG_DATA), 100);
	expect_pf(r, STORE, 3 * TIB + RIG_DATA, X86_PF_U | X86_PF_W | X86_PF_P);
	window_rig_fini(&w);
}

TEST(a_page_that_another_table_maps_alike_goes_when_that_changes)
{
	struct window_rig w;
	struct rig *r = start(&w);

	touch(r, RIG_DATA);
	memcpy(gmem_ptr(r->mem, TABLES, 4096), gmem_ptr(r->mem, RIG_PT, 4096), 4096);
	put64(r, RIG_PD, TABLES | 7);
	kernel(r, &reload_cr3, 0);
	CHECK_EQ(load(r, RIG_DATA), 100);
	put64(r, TABLES + RIG_DATA / 4096 * 8, OTHER | 7);
	kernel(r, &reload_cr3, 0);
	CHECK_EQ(load(r, RIG_DATA), 105);
	put64(r, TABLES + RIG_DATA / 4096 * 8, 0);
	kernel(r, &reload_cr3, 0);
	expect_pf(r, LOAD, RIG_DATA, X86_PF_U);
	window_rig_fini(&w);
}

static void lose_rights(bool by_cr3)
{
	struct window_rig w;
	struct rig *r = start(&w);
	const struct code *flush = by_cr3 ? &reload_cr3 : &invlpg;

	touch(r, RIG_DATA);
	*rig_pte(r, RIG_DATA) &= ~2ull;
	kernel(r, flush, RIG_DATA);
	CHECK_EQ(load(r, RIG_DATA), 100);
	expect_pf(r, STORE, RIG_DATA, X86_PF_U | X86_PF_W | X86_PF_P);
	CHECK_EQ(mem64(r, RIG_DATA), 100);
	*rig_pte(r, RIG_DATA) |= 2;             /* found without a flush */
	store(r, RIG_DATA, 5);
	*rig_pte(r, RIG_DATA) &= ~4ull;
	kernel(r, flush, RIG_DATA);
	expect_pf(r, LOAD, RIG_DATA, X86_PF_U | X86_PF_P);
	*rig_pte(r, RIG_DATA) = 0;
	kernel(r, flush, RIG_DATA);
	expect_pf(r, STORE, RIG_DATA, X86_PF_U | X86_PF_W);
	CHECK_EQ(mem64(r, RIG_DATA), 5);
	window_rig_fini(&w);
}

TEST(rights_that_a_page_has_lost_are_gone_after_invlpg) { lose_rights(false); }
TEST(rights_that_a_page_has_lost_are_gone_after_a_load_of_cr3) { lose_rights(true); }

static void clear_marks(bool by_cr3)
{
	struct window_rig w;
	struct rig *r = start(&w);
	const struct code *flush = by_cr3 ? &reload_cr3 : &invlpg;

	touch(r, RIG_DATA);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(*rig_pte(r, RIG_DATA) & (A | D), A | D);
		*rig_pte(r, RIG_DATA) &= ~(uint64_t)D;
		kernel(r, flush, RIG_DATA);
		CHECK_EQ(load(r, RIG_DATA), 100);
		CHECK_EQ(*rig_pte(r, RIG_DATA) & (A | D), A);
		store(r, RIG_DATA, 100);
		CHECK_EQ(*rig_pte(r, RIG_DATA) & (A | D), A | D);
		*rig_pte(r, RIG_DATA) &= ~(uint64_t)(A | D);
		kernel(r, flush, RIG_DATA);
		CHECK_EQ(*rig_pte(r, RIG_DATA) & (A | D), 0);
		CHECK_EQ(load(r, RIG_DATA), 100);
		CHECK_EQ(*rig_pte(r, RIG_DATA) & (A | D), A);
		store(r, RIG_DATA, 100);
		/* Of a table: by the next access below it. */
		put64(r, RIG_PML4 + 6 * 8, RIG_PDPT | 7);
		kernel(r, &reload_cr3, 0);
		CHECK_EQ(load(r, 3 * TIB + RIG_DATA), 100);
		CHECK_EQ(mem64(r, RIG_PML4 + 6 * 8), RIG_PDPT | 7 | A);
	}
	window_rig_fini(&w);
}

TEST(accessed_and_dirty_bits_that_are_cleared_are_set_again_after_invlpg) { clear_marks(false); }
TEST(accessed_and_dirty_bits_that_are_cleared_are_set_again_after_a_load_of_cr3) { clear_marks(true); }

/* The page does not know what is around it. */
TEST(neighbours_are_mapped_only_as_their_own_entries_say)
{
	struct window_rig w;
	struct rig *r = start(&w);

	for (unsigned i = 0; i < WR_PAGES; i++)
		*rig_pte(r, RIG_DATA + 4096 * i) = (RIG_DATA + 4096 * i) | 7 | (i % 3 ? A : 0) | (i % 4 ? D : 0);
	kernel(r, &reload_cr3, 0);
	load(r, RIG_DATA + 0x5000);
	for (unsigned i = 0; i < WR_PAGES; i++)
		CHECK_EQ(*rig_pte(r, RIG_DATA + 4096 * i) & (A | D), (i % 3 ? A : 0) | (i % 4 ? D : 0));
	for (unsigned i = 0; i < WR_PAGES; i++) {
		CHECK_EQ(load(r, RIG_DATA + 4096 * i), 100 + i);
		CHECK_EQ(*rig_pte(r, RIG_DATA + 4096 * i) & (A | D), A | (i % 4 ? D : 0));
		store(r, RIG_DATA + 4096 * i + 8, i);
		CHECK_EQ(*rig_pte(r, RIG_DATA + 4096 * i) & (A | D), A | D);
	}
	window_rig_fini(&w);
}

/* Tables for space N, in which OTHER and what follows is at RIG_DATA instead of that; returns its CR3. */
static uint64_t make_space(struct rig *r, unsigned n)
{
	uint64_t at = TABLES + 4 * 4096 * n, pt = at + 3 * 4096;

	for (unsigned level = 0; level < 3; level++)
		put64(r, at + 4096 * level, (at + 4096 * (level + 1)) | 7);
	memcpy(gmem_ptr(r->mem, pt, 4096), gmem_ptr(r->mem, RIG_PT, 4096), 4096);
	put64(r, pt + RIG_DATA / 4096 * 8, (RIG_DATA + 4096 * (n % 6 + 8)) | 7);
	return at;
}

static void switch_spaces(unsigned n_spaces, bool has_pcids)
{
	enum { MAX = 12 };
	struct window_rig w;
	struct rig *r = start(&w);
	uint64_t cr3[MAX];

	if (has_pcids) {
		r->c->s.cr4 |= X86_CR4_PCIDE;
		icpu_tlb_flush(r->c, false);
	}
	for (unsigned i = 0; i < n_spaces; i++)
		cr3[i] = make_space(r, i) | (has_pcids ? (i + 1) : 0);
	for (unsigned round = 0; round < 20; round++)
		for (unsigned i = 0; i < n_spaces; i++) {
			/* With PCIDs nothing is flushed most of the time. */
			kernel(r, &switch_cr3, cr3[i] | (has_pcids && round % 4 ? 1ull << 63 : 0));
			CHECK_EQ(load(r, RIG_DATA), 100 + i % 6 + 8);
			if (!r->c->space->window.set)
				CHECK(bt_window_now(bt_of(r->c)));
			store(r, RIG_DATA + 8, round * 100 + i);
			CHECK_EQ(mem64(r, RIG_DATA + 4096 * (i % 6 + 8) + 8), round * 100 + i);
			CHECK(!round || icpu_window_mapped(r->c->space));
		}
	CHECK_EQ(mem64(r, RIG_DATA + 8), 0);
	window_rig_fini(&w);
}

TEST(each_of_two_spaces_has_a_window_of_its_own) { switch_spaces(2, false); }
TEST(spaces_that_are_not_kept_lose_their_windows) { switch_spaces(12, false); }
TEST(each_of_some_pcids_has_a_window_of_its_own) { switch_spaces(3, true); }

TEST(a_space_that_was_flushed_while_it_was_not_in_use_is_looked_at_again)
{
	struct window_rig w;
	struct rig *r = start(&w);
	uint64_t other = make_space(r, 0);

	touch(r, RIG_DATA);
	kernel(r, &switch_cr3, other);
	CHECK_EQ(load(r, RIG_DATA), 108);
	*rig_pte(r, RIG_DATA) = OTHER | 7;
	kernel(r, &switch_cr3, RIG_PML4);
	CHECK_EQ(load(r, RIG_DATA), 105);
	window_rig_fini(&w);
}

TEST(spaces_that_have_to_give_memory_back_lose_their_windows)
{
	struct window_rig w;
	struct rig *r = start(&w);

	touch(r, RIG_DATA);
	r->c->max_chunks = 1;
	icpu_space_trim(r->c);
	CHECK(!r->c->space->window.set);
	*rig_pte(r, RIG_DATA) = OTHER | 7;
	CHECK_EQ(load(r, RIG_DATA), 105);
	CHECK(bt_window_now(bt_of(r->c)));
	store(r, RIG_DATA, 5);
	CHECK_EQ(load(r, RIG_DATA), 5);
	CHECK(icpu_window_mapped(r->c->space));
	window_rig_fini(&w);
}

/* Code that adds up what it loads as constants, and changes that by a store to FAR plus its own address. */
static void rewrite(uint64_t far)
{
	struct window_rig w;
	struct code code;

	window_rig_init(&w);
	ASSEMBLE(&code, "mov ecx, 300; xor edx, edx; lea r12, [rip + 7f]; add r12, rbx\n"
			"6: mov eax, 1\n7: add edx, eax; inc dword ptr [r12 - 4]; dec ecx; jnz 6b");
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = i ? &w.bt : &w.interp;

		user_set(r, &code, far, RIG_STACK + 0x800);
		user_run(r);
		CHECK_EQ(r->c->s.gpr[X86_RDX], 300 * 301 / 2);
		CHECK_EQ(r->c->s.gpr[X86_RCX], 0);
	}
	CHECK(rig_window_frags(&w.bt));
	window_rig_fini(&w);
}

TEST(code_that_rewrites_itself_is_what_it_has_become) { rewrite(0); }
TEST(code_that_rewrites_itself_by_an_alias_is_what_it_has_become) { rewrite(3 * TIB); }

/* mov eax, VAL; hlt */
static void put_constant(struct rig *r, uint64_t la, uint32_t val)
{
	store(r, la, 0xb8 | (uint64_t)val << 8 | 0xf4ull << 40);
}

static void run_constant(struct rig *r, uint64_t la, uint32_t want)
{
	struct icpu_event ev = go(r, la, 0, 0);

	CHECK_EQ(ev.vector, X86_EXC_GP);
	CHECK_EQ(r->c->s.gpr[X86_RAX], want);
}

TEST(data_that_becomes_code_is_watched)
{
	struct window_rig w;
	struct rig *r = start(&w);

	touch(r, RIG_DATA);
	touch(r, 3 * TIB + RIG_DATA);
	for (unsigned i = 0; i < 200; i++) {
		put_constant(r, (i % 2 ? 3 * TIB : 0) + RIG_DATA, 1000 + i);
		run_constant(r, (i % 3 ? 0 : 3 * TIB) + RIG_DATA, 1000 + i);
		/* Beside it. */
		store(r, RIG_DATA + 0x100, i);
		CHECK_EQ(load(r, RIG_DATA + 0x100), i);
		run_constant(r, RIG_DATA, 1000 + i);
	}
	window_rig_fini(&w);
}

TEST(each_store_is_in_the_dirty_log)
{
	struct window_rig w;
	struct rig *r = start(&w);
	static uint64_t log[RIG_RAM / 4096 / 64];
	struct err err = ERR_INIT;

	touch(r, RIG_DATA);
	touch(r, RIG_DATA + 0x5000);
	CHECK_EQ(gmem_log_start(r->mem, &err), 0);
	icpu_inline_recheck(r->c, UINT64_MAX);          /* as who runs after that does */
	for (unsigned i = 0; i < 3; i++) {
		gmem_log_fetch(r->mem, log);
		store(r, RIG_DATA, i);
		store(r, RIG_DATA, i);
		CHECK_EQ(load(r, RIG_DATA + 0x5000), 105);
		gmem_log_fetch(r->mem, log);
		CHECK_EQ(log[RIG_DATA / 4096 / 64] >> (RIG_DATA / 4096 % 64) & 0x21, 1);
		store(r, RIG_DATA + 0x5000, 105);
		gmem_log_fetch(r->mem, log);
		CHECK_EQ(log[RIG_DATA / 4096 / 64] >> (RIG_DATA / 4096 % 64) & 0x21, 0x20);
	}
	gmem_log_stop(r->mem);
	touch(r, 3 * TIB + RIG_DATA);
	window_rig_fini(&w);
}

/* What might have been written before it was noticed counts as written. */
TEST(a_page_that_could_be_written_when_the_log_began_counts_as_written)
{
	struct window_rig w;
	struct rig *r = start(&w);
	static uint64_t log[RIG_RAM / 4096 / 64];
	struct err err = ERR_INIT;

	touch(r, RIG_DATA);
	/* By the window alone: the entry for it is another page's. */
	put64(r, RIG_PD + 8 * 32, TABLES | 7);
	put64(r, TABLES + RIG_DATA / 4096 * 8, OTHER | 7);
	store(r, RIG_DATA + (uint64_t)ICPU_TLB_SIZE * 4096, 1);
	CHECK(!icpu_inline_has(r->c, RIG_DATA, ICPU_WRITE));
	CHECK_EQ(gmem_log_start(r->mem, &err), 0);
	icpu_inline_recheck(r->c, UINT64_MAX);
	gmem_log_fetch(r->mem, log);
	CHECK_EQ(log[RIG_DATA / 4096 / 64] >> (RIG_DATA / 4096 % 64) & 1, 1);
	gmem_log_stop(r->mem);
	window_rig_fini(&w);
}

TEST(more_pages_than_a_window_holds_are_all_what_they_are)
{
	enum { N_PAGES = ICPU_WINDOW_PAGES + 3000 };
	struct window_rig w;
	struct code code;

	window_rig_init(&w);
	/* Each page twice, once from the last to the first; every other step stores. */
	ASSEMBLE(&code, "xor edx, edx; mov ecx, r8d\n6: add rdx, [rbx]; add [rbx + 8], rcx; add rbx, 4096; dec ecx; jnz 6b\n"
			"mov ecx, r8d\n6: sub rbx, 4096; rol rdx, 1; add rdx, [rbx + 8]; dec ecx; jnz 6b");
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = i ? &w.bt : &w.interp;

		/* The same pages all over the first GiB at 3 TiB, by other tables than those of code: none follows the other. */
		put64(r, RIG_PML4 + 6 * 8, TABLES | 7);
		put64(r, TABLES, (TABLES + 4096) | 7);
		for (unsigned n = 0; n < 512; n++) {
			put64(r, TABLES + 4096 + 8 * n, (TABLES + 8192) | 7);
			put64(r, TABLES + 8192 + 8 * n, (0x100000 + 8192 * (n % 64)) | 7);
		}
		memset(gmem_ptr(r->mem, 0x100000, 1 << 19), 0x11, 1 << 19);
		icpu_tlb_flush(r->c, false);
		user_set(r, &code, 3 * TIB, RIG_STACK + 0x800);
		r->c->s.gpr[X86_R8] = N_PAGES;
		user_run(r);
		CHECK_EQ(r->c->s.gpr[X86_RCX], 0);
	}
	CHECK_EQ(w.bt.c->s.gpr[X86_RDX], w.interp.c->s.gpr[X86_RDX]);
	CHECK_MEM(gmem_ptr(w.bt.mem, 0x100000, 1 << 19), gmem_ptr(w.interp.mem, 0x100000, 1 << 19), 1 << 19);
	CHECK(icpu_window_mapped(w.bt.c->space) > 100);
	CHECK(icpu_window_mapped(w.bt.c->space) <= ICPU_WINDOW_PAGES);
	window_rig_fini(&w);
}

enum { FILLER_PAGES = 1 << 18 };

/* All areas of memory that the host allows a process are in use; but N. */
static void use_up_areas(uint8_t *filler, unsigned n)
{
	unsigned i = 0;

	CHECK_EQ(mprotect(filler, FILLER_PAGES * 4096ull, PROT_NONE), 0);
	while (i < FILLER_PAGES && mprotect(filler + i * 4096ull, 4096, PROT_READ) == 0)
		i += 2;
	if (i >= FILLER_PAGES)
		SKIP("the host allows a process more areas of memory than this test uses up");
	CHECK_EQ(errno, ENOMEM);
	for (; n >= 2; n -= 2, i -= 2)
		mprotect(filler + (i - 2) * 4096ull, 4096, PROT_NONE);
	if (n)                  /* now it is one too many for what there is */
		mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Pages that are far from each other, each moved and looked at. */
static void move_pages(struct rig *r, unsigned n)
{
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < n; i++) {
			uint64_t la = RIG_DATA + 0x10000 + 8192 * i, to = 0x100000 + 8192 * ((i + round) % n);

			*rig_pte(r, la) = to | 7;
			kernel(r, i % 5 ? &invlpg : &reload_cr3, la);
			if (!(i % 7))
				icpu_window_drop(r->c->space, la, i % 2 ? ICPU_WINDOW_1G : ICPU_WINDOW_4M);
			put64(r, to, i);
			CHECK_EQ(load(r, la), i);
			store(r, la, i + 100);
			store(r, la, i + 200);
			CHECK_EQ(load(r, la), i + 200);
			CHECK_EQ(mem64(r, to), i + 200);
		}
}

TEST_SLOW(windows_go_on_when_the_host_has_no_room_for_areas)
{
	uint8_t *filler = mmap(NULL, FILLER_PAGES * 4096ull, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct window_rig w;
	struct rig *r = start(&w);

	CHECK(filler != MAP_FAILED);
	memset(gmem_ptr(r->mem, 0x100000, 1 << 19), 0, 1 << 19);
	move_pages(r, 30);
	for (unsigned n = 0; n < 60; n++) {
		use_up_areas(filler, n);
		move_pages(r, 30);
	}
	mprotect(filler, FILLER_PAGES * 4096ull, PROT_NONE);
	move_pages(r, 30);
	CHECK(icpu_window_mapped(r->c->space));
	munmap(filler, FILLER_PAGES * 4096ull);
	window_rig_fini(&w);
}

TEST(a_large_page_goes_with_one_invlpg_anywhere_in_it)
{
	enum { LARGE = 2 << 20 };
	struct window_rig w;
	struct rig *r = start(&w);

	for (unsigned by_cr3 = 0; by_cr3 < 2; by_cr3++) {
		const struct code *flush = by_cr3 ? &reload_cr3 : &invlpg;

		touch(r, LARGE + RIG_DATA);
		store(r, LARGE + RIG_DATA + 0x5000, 105);
		CHECK_EQ(mem64(r, RIG_PD + 8) & (A | D), A | D);
		put64(r, LARGE + RIG_DATA, 55);
		put64(r, RIG_PD + 8, LARGE | 0x87);
		kernel(r, flush, LARGE + 0x1ff000);
		CHECK_EQ(load(r, LARGE + RIG_DATA), 55);
		CHECK_EQ(mem64(r, RIG_PD + 8) & (A | D), A);
		store(r, LARGE + RIG_DATA, 56);
		CHECK_EQ(mem64(r, RIG_PD + 8) & (A | D), A | D);
		CHECK_EQ(mem64(r, RIG_DATA), 100);
		put64(r, RIG_PD + 8, 0);
		kernel(r, flush, LARGE);
		expect_pf(r, LOAD, LARGE + RIG_DATA, X86_PF_U);
		expect_pf(r, STORE, LARGE + RIG_DATA + 0x5000, X86_PF_U | X86_PF_W);
		put64(r, RIG_PD + 8, 0x87);
	}
	window_rig_fini(&w);
}

TEST(a_data_breakpoint_on_a_page_that_is_mapped_is_met)
{
	struct window_rig w;
	struct rig *r = start(&w);
	struct icpu *c = r->c;

	rig_gate(r, X86_EXC_DB, RIG_CODE + 0x900);
	rig_code(r, RIG_CODE + 0x900, "\xf4", 1);
	put64(r, RIG_TSS + 4, RIG_STACK + 0xf00);
	touch(r, RIG_DATA);
	c->s.dr[0] = RIG_DATA + 8;
	c->s.dr7 = 1 | 1 << 16 | 3 << 18;       /* write, 4 bytes */
	icpu_debug_changed(c);
	CHECK_EQ(icpu_window_mapped(c->space), 0);
	c->s.gpr[X86_RBX] = RIG_DATA + 8;
	c->s.rip = STORE;
	rig_run_to_halt(r);
	CHECK_EQ(c->s.dr6 & 15, 1);
	CHECK_EQ(mem64(r, RIG_STACK + 0xf00 - 40), STORE + 3);  /* where it was met */
	window_rig_fini(&w);
}

/* The second begins to execute what the first has mapped for writing, who stores to it again and again. */
TEST(code_of_another_processor_that_is_written_in_a_window_is_what_it_has_become)
{
	struct window_rig w;
	struct rig *r = start_with(&w, 2), other = *r;

	other.v = r->engine->ops->vcpu(r->vm, 1);
	other.c = (struct icpu *)other.v;
	user_start(&other);
	touch(r, RIG_DATA);
	for (unsigned i = 0; i < 100; i++) {
		put_constant(r, RIG_DATA, 1000 + i);
		run_constant(&other, RIG_DATA, 1000 + i);
		store(r, RIG_DATA + 0x100, i);
		run_constant(&other, RIG_DATA, 1000 + i);
	}
	window_rig_fini(&w);
}

/* The same at the same time, by a thread for each. */
struct writer {
	struct rig *r;
	_Atomic bool is_over;
};

static void *write_constants(void *arg)
{
	struct writer *wr = arg;
	void *stack = fatal_stack_new();

	for (uint32_t i = 1; !wr->is_over; i++)
		put_constant(wr->r, RIG_DATA, i);
	fatal_stack_free(stack);
	return NULL;
}

TEST_SLOW(code_that_another_processor_writes_meanwhile_only_becomes_newer)
{
	struct window_rig w;
	struct rig *r = start_with(&w, 2), other = *r;
	struct writer wr = { .r = r };
	pthread_t t;
	uint64_t last = 0, n_news = 0;

	other.v = r->engine->ops->vcpu(r->vm, 1);
	other.c = (struct icpu *)other.v;
	user_start(&other);
	touch(r, RIG_DATA);
	put_constant(r, RIG_DATA, 0);
	CHECK_EQ(pthread_create(&t, NULL, write_constants, &wr), 0);
	while (n_news < 200) {
		go(&other, RIG_DATA, 0, 0);
		CHECK(other.c->s.gpr[X86_RAX] >= last);
		n_news += other.c->s.gpr[X86_RAX] > last;
		last = other.c->s.gpr[X86_RAX];
	}
	wr.is_over = true;
	pthread_join(t, NULL);
	put_constant(r, RIG_DATA, 0x7fffffff);
	run_constant(&other, RIG_DATA, 0x7fffffff);
	window_rig_fini(&w);
}
