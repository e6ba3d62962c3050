/* SPDX-License-Identifier: Apache-2.0 */
/* lockstep_state.c - are the registers of the two processors the same? Vcpu thread.
 *
 * All of struct x86_state must be, except
 *	- arithmetic flags that the code at hand overwrites before it reads them, and all of them where an
 *	  instruction is left unfinished (a fault): the translator does not keep them (bt.md). They
 *	  are not repaired: were they wanted after all, something else would differ later
 *	- the x87 instruction and operand pointers, which not all hosts keep, and bytes of the
 *	  FXSAVE image that stand for nothing
 *	- XSTATE_BV, which counts only when the state leaves the engine */
#include "cpu/bt/lockstep_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "util/fields.h"
#include "util/log.h"

enum { FX_LEN = 416, YMMH_LEN = 256 };

static const size_t head_len = offsetof(struct x86_state, xsave);

static bool are_same_as_they_are(const struct x86_state *a, const struct x86_state *b)
{
	return !memcmp(a, b, head_len) && !memcmp(a->xsave, b->xsave, FX_LEN) &&
	       !memcmp(a->xsave + X86_XS_AVX, b->xsave + X86_XS_AVX, YMMH_LEN);
}

static void blank(struct x86_state *s)
{
	uint8_t *fx = s->xsave;

	fx[X86_FX_FTW + 1] = 0;
	memset(fx + X86_FX_FOP, 0, X86_FX_MXCSR - X86_FX_FOP);
	memset(fx + X86_FX_MXCSR_MASK, 0, 4);
	for (unsigned i = 0; i < 8; i++)
		memset(fx + X86_FX_ST + 16 * i + 10, 0, 6);
	memset(fx + FX_LEN, 0, X86_XS_AVX - FX_LEN);
}

/* Without the padding of structures. */
static bool are_same_in_fields(const struct x86_state *a, const struct x86_state *b)
{
	size_t len = fields_saved_size(&x86_state_desc);
	uint8_t *x = malloc(2 * len), *y = x + len;

	if (!x)
		return false;
	bool is_same = fields_save(&x86_state_desc, a, x, len) >= 0 && fields_save(&x86_state_desc, b, y, len) >= 0 &&
		       !memcmp(x, y, len);

	free(x);
	return is_same;
}

static void find_here(struct icpu *c)
{
	bt_find(bt_of(c), c->s.rip, false);
}

/* Arithmetic flags that the translation of what comes next may look at. It need not be there yet: the follower may
 * have stopped inside a fragment. */
static uint64_t live_flags(struct lockstep *l)
{
	struct icpu *c = &l->bt->i;
	const struct bt_frag *f = bt_frag_at(l->bt, c->s.rip);
	uint64_t cr2 = c->s.cr2;

	if (!f && bt_key_now(c) != BT_NO_KEY) {
		lockstep_go(c, find_here);
		c->s.cr2 = cr2;
		f = bt_frag_at(l->bt, c->s.rip);
	}
	return f ? f->live_flags & bt_live_flags(l->bt, f->page, f->va) : X86_FLAGS_ARITH;
}

bool lockstep_state_is_same(struct lockstep *l, bool is_unfinished)
{
	if (are_same_as_they_are(&l->lead->s, &l->bt->i.s))
		return true;
	struct x86_state a = l->lead->s, b = l->bt->i.s;
	uint64_t diff = a.rflags ^ b.rflags;

	if (diff && !(diff & ~(uint64_t)X86_FLAGS_ARITH) && (is_unfinished || !(diff & live_flags(l))))
		b.rflags = a.rflags;
	blank(&a);
	blank(&b);
	return are_same_as_they_are(&a, &b) || are_same_in_fields(&a, &b);
}

bool lockstep_state_is_untouched(const struct lockstep *l)
{
	const struct x86_state *a = &l->lead->s, *b = &l->bt->i.s;
	const size_t after = offsetof(struct x86_state, seg);

	return !memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && a->rip == b->rip &&
	       !((a->rflags ^ b->rflags) & ~(uint64_t)X86_FLAGS_ARITH) &&
	       !memcmp((const char *)a + after, (const char *)b + after, head_len - after) &&
	       !memcmp(a->xsave + FX_LEN - 256, b->xsave + FX_LEN - 256, 256) &&
	       !memcmp(a->xsave + X86_XS_AVX, b->xsave + X86_XS_AVX, YMMH_LEN);
}

/* --- telling ---------------------------------------------------------------------------------------- */

static const char *const gpr_names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9",
					   "r10", "r11", "r12", "r13", "r14", "r15" };

static void print64(const char *name, uint64_t is, uint64_t should)
{
	if (is != should)
		log_error("  %-6s is %016" PRIx64 ", should be %016" PRIx64, name, is, should);
}

struct lines {
	char (*line)[160];
	unsigned n;
};

enum { MAX_LINES = 512 };

static void keep_line(void *arg, const char *line)
{
	struct lines *k = arg;

	if (k->n < MAX_LINES)
		snprintf(k->line[k->n++], sizeof(k->line[0]), "%s", line);
}

/* The fields that have no short name. */
static void print_fields(struct x86_state *should, struct x86_state *is)
{
	char (*text)[160] = calloc(2 * MAX_LINES, sizeof(text[0]));
	struct lines a = { text, 0 }, b = { text + MAX_LINES, 0 };

	if (!text)
		return;
	fields_print(&x86_state_desc, should, keep_line, &a);
	fields_print(&x86_state_desc, is, keep_line, &b);
	for (unsigned i = 0; i < a.n && i < b.n; i++)
		if (strcmp(a.line[i], b.line[i]))
			log_error("  is %s, should be %s", b.line[i], a.line[i]);
	free(text);
}

static void print_vectors(const struct x86_state *should, const struct x86_state *is)
{
	for (unsigned i = 0; i < 16; i++) {
		uint64_t a[4], b[4];

		memcpy(a, should->xsave + X86_FX_XMM + 16 * i, 16);
		memcpy(a + 2, should->xsave + X86_XS_AVX + 16 * i, 16);
		memcpy(b, is->xsave + X86_FX_XMM + 16 * i, 16);
		memcpy(b + 2, is->xsave + X86_XS_AVX + 16 * i, 16);
		if (memcmp(a, b, sizeof(a)))
			log_error("  ymm%-3u is %016" PRIx64 "%016" PRIx64 "%016" PRIx64 "%016" PRIx64 ", should be %016" PRIx64
				  "%016" PRIx64 "%016" PRIx64 "%016" PRIx64, i, b[3], b[2], b[1], b[0], a[3], a[2], a[1], a[0]);
	}
	if (memcmp(should->xsave, is->xsave, X86_FX_XMM))
		log_error("  the x87 registers, their control words or MXCSR differ");
}

void lockstep_state_print(struct lockstep *l)
{
	struct x86_state a = l->lead->s, b = l->bt->i.s;

	blank(&a);
	blank(&b);
	for (unsigned i = 0; i < 16; i++)
		print64(gpr_names[i], b.gpr[i], a.gpr[i]);
	print64("rip", b.rip, a.rip);
	print64("rflags", b.rflags, a.rflags);
	print_vectors(&a, &b);
	memcpy(b.gpr, a.gpr, sizeof(a.gpr));
	memcpy(b.xsave, a.xsave, sizeof(a.xsave));
	b.rip = a.rip;
	b.rflags = a.rflags;
	print_fields(&a, &b);
}
