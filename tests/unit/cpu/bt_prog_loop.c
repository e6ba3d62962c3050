/* SPDX-License-Identifier: Apache-2.0 */
/* bt_prog_loop.c - parts of random programs: short loops that go along memory, which the translator unrolls. */
#include "cpu/bt_prog.h"

enum { MAX_OUT = 4 };

/* A loop in the making: R14 counts its turns, T goes along memory, and perhaps N is added to it. */
struct loop {
	unsigned t, n;                  /* N: 0, or R10, R12 or R13 */
	int8_t stride;                  /* of T, or of N */
	unsigned scale;
	uint8_t out[MAX_OUT], n_out;    /* where jumps behind the loop have their displacements, from BEGIN on */
	unsigned begin;
};

/* Where the loop's memory begins: anywhere, before the end of a page, or, seldom, before that of what there is. */
static uint32_t loop_where(struct prog *p)
{
	uint32_t by = prog_rnd(p, 2) ? 16 : 4;

	switch (prog_rnd(p, 5)) {
	case 0: case 1: return 0xf00 + by * prog_rnd(p, 240 / by);
	case 2: return PROG_ODD + (prog_rnd(p, 6) ? 0xf00 : 0x1f00) + by * prog_rnd(p, 280 / by);
	default: return by * prog_rnd(p, 3200 / by);
	}
}

/* T and N go on by the stride: add, lea or inc. */
static void put_step(struct prog *p, const struct loop *l)
{
	unsigned r = l->n ? l->n : l->t;

	switch (prog_rnd(p, 3)) {
	case 0:
		if (l->stride == 1) {
			prog_put(p, 0x49); prog_put(p, 0xff); prog_put(p, 0xc0 | (r & 7));
			break;
		}
		__attribute__((fallthrough));
	case 1:
		prog_put(p, 0x49); prog_put(p, 0x83); prog_put(p, 0xc0 | (r & 7)); prog_put(p, (uint8_t)l->stride);
		break;
	default:
		prog_put(p, 0x4d); prog_put(p, 0x8d); prog_put(p, 0x40 | (r & 7) << 3 | (r & 7));
		if ((r & 7) == 4)
			prog_put(p, 0x24);
		prog_put(p, (uint8_t)l->stride);
		break;
	}
}

/* An operand: [t + disp] or [t + n << scale + disp]. */
static void put_operand(struct prog *p, const struct loop *l, unsigned reg, unsigned disp)
{
	prog_put(p, 0x40 | (reg & 7) << 3 | (l->n ? 4 : l->t & 7));
	if (l->n)
		prog_put(p, l->scale << 6 | (l->n & 7) << 3 | (l->t & 7));
	prog_put(p, disp);
}

/* An opcode with a register, of 1 to 8 bytes, or of 16 that have to be aligned or not. */
static void put_access(struct prog *p, const struct loop *l)
{
	static const uint8_t ops[] = { 0x01, 0x03, 0x11, 0x13, 0x89, 0x8b, 0x8b, 0x39, 0x3b, 0x33, 0x85, 0x88, 0x8a, 0x02, 0x87 };
	static const uint8_t regs[] = { 0, 1, 2, 6, 7, 10, 11 };
	unsigned r = regs[prog_rnd(p, sizeof(regs))], size = prog_rnd(p, 4), n = l->n ? 2 : 0;

	if (r == l->t || r == l->n)
		r = 1;
	if (!prog_rnd(p, 5)) {          /* movdqa or movdqu */
		prog_put(p, prog_rnd(p, 8) ? 0xf3 : 0x66); prog_put(p, 0x41 | n); prog_put(p, 0x0f);
		prog_put(p, prog_rnd(p, 2) ? 0x6f : 0x7f);
		put_operand(p, l, prog_rnd(p, 8), 16 * prog_rnd(p, 4));
		return;
	}
	if (!size)
		prog_put(p, 0x66);
	prog_put(p, 0x41 | n | (r & 8) >> 1 | (size == 1) << 3);
	prog_put(p, ops[prog_rnd(p, sizeof(ops))]);
	put_operand(p, l, r, 4 * prog_rnd(p, 12));
}

/* What else there is in a turn: a way out, flags that live on, a word that is always the same, an address that no one
 * knows; and what cannot be unrolled. */
static void put_other(struct prog *p, struct loop *l)
{
	switch (prog_rnd(p, 8)) {
	case 0: case 1: case 7:
		if (l->n_out == MAX_OUT)
			break;
		prog_put(p, 0x70 | prog_rnd(p, 16));
		l->out[l->n_out++] = (uint8_t)(p->n - l->begin);
		prog_put(p, 0);
		break;
	case 2: prog_put(p, 0x48); prog_put(p, 0x83); prog_put(p, 0xd0); prog_put(p, 5); break;                /* adc rax, 5 */
	case 3: prog_put(p, 0x48); prog_put(p, 0x03); prog_put(p, 0x43); prog_put(p, 8 * prog_rnd(p, 4)); break;    /* add rax, [rbx + disp] */
	case 4: prog_put(p, 0x0f); prog_put(p, 0xb6); prog_put(p, 0xd0);                                    /* movzx edx, al */
		prog_put(p, 0x33); prog_put(p, 0x0c); prog_put(p, 0x93); break;                             /* xor ecx, [rbx + rdx * 4] */
	case 5: prog_put(p, 0x25); prog_put32(p, 0x1ff8); prog_put(p, 0x48); prog_put(p, 0x8b);                /* and eax, imm; mov rsi, [rbx + rax] */
		prog_put(p, 0x34); prog_put(p, 0x03); break;
	default: prog_put(p, 0x9c); prog_put(p, 0x5e); break;                                             /* pushf; pop rsi */
	}
}

void prog_put_loop(struct prog *p)
{
	static const int8_t strides[] = { 1, 4, 8, 8, 8, 16, 16, 24, 0, -4, -8, 64 };
	static const uint8_t pointers[] = { 8, 9, 11 }, indices[] = { 0, 0, 0, 0, 10, 12, 13 };
	struct loop l = { .t = pointers[prog_rnd(p, 3)], .n = indices[prog_rnd(p, sizeof(indices))], .scale = prog_rnd(p, 4),
			  .stride = strides[prog_rnd(p, sizeof(strides))] };
	unsigned n = 1 + prog_rnd(p, 4), step = prog_rnd(p, n + 1);

	prog_put(p, 0x4c); prog_put(p, 0x8d); prog_put(p, 0x83 | (l.t & 7) << 3); prog_put32(p, loop_where(p));       /* lea t, [rbx + where] */
	if (l.n) {                      /* mov n, few */
		prog_put(p, 0x41); prog_put(p, 0xb8 | (l.n & 7)); prog_put32(p, prog_rnd(p, 9));
	}
	prog_put(p, 0x41); prog_put(p, 0xbe); prog_put32(p, 1 + prog_rnd(p, 60));                                   /* mov r14d, turns */
	l.begin = p->n;
	for (unsigned i = 0; i < n; i++) {
		if (i == step)
			put_step(p, &l);
		put_access(p, &l);
		if (!prog_rnd(p, 3))
			put_other(p, &l);
	}
	if (step == n)
		put_step(p, &l);
	prog_put(p, 0x49); prog_put(p, 0xff); prog_put(p, 0xce);                                               /* dec r14 */
	prog_put(p, 0x75); prog_put(p, l.begin - p->n - 1);                                                  /* jnz */
	for (unsigned i = 0; i < l.n_out; i++)
		p->code[l.begin + l.out[i]] = (uint8_t)(p->n - l.begin - l.out[i] - 1);
}
