/* SPDX-License-Identifier: Apache-2.0 */
/* bt_prog.c - random programs: integer and system instructions, the stack, jumps; see bt_prog.h. */
#include "cpu/bt_prog.h"

#include <string.h>

enum { N_PIECES = 40 };

uint32_t prog_rnd(struct prog *p, uint32_t below)
{
	p->seed = p->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(p->seed >> 33) % below;
}

void prog_put(struct prog *p, unsigned byte) { p->code[p->n++] = (uint8_t)byte; }

void prog_put32(struct prog *p, uint32_t v)
{
	memcpy(p->code + p->n, &v, 4);
	p->n += 4;
}

/* A register that may be written. */
unsigned prog_any_reg(struct prog *p)
{
	static const uint8_t regs[] = { 0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 10, 11 };

	return regs[prog_rnd(p, sizeof(regs))];
}

/* Opcode with a register and [rbx + disp] or [rsp + disp]; sometimes across the end of the page,
 * sometimes with a segment or a 32-bit address. IS_REG: a second register instead of memory. */
static void put_modrm(struct prog *p, unsigned pfx, unsigned w, unsigned esc, unsigned op, unsigned reg, bool is_reg)
{
	unsigned rm = is_reg ? prog_any_reg(p) : prog_rnd(p, 4) ? 3 : 4;

	if (!is_reg && !prog_rnd(p, 8))
		prog_put(p, prog_rnd(p, 2) ? 0x64 : 0x67);
	if (pfx)
		prog_put(p, pfx);
	prog_put(p, 0x40 | w << 3 | (reg & 8) >> 1 | rm >> 3);
	if (esc)
		prog_put(p, 0x0f);
	prog_put(p, op);
	if (is_reg) {
		prog_put(p, 0xc0 | (reg & 7) << 3 | (rm & 7));
		return;
	}
	prog_put(p, 0x80 | (reg & 7) << 3 | rm);
	if (rm == 4)
		prog_put(p, 0x24);
	/* The stack pointer points into the middle of its page. */
	prog_put32(p, rm == 4 ? 8 * prog_rnd(p, 60) : prog_rnd(p, 30) ? 16 * prog_rnd(p, 200) : 0xff0 + 4 * prog_rnd(p, 4));
}

void prog_put_integer(struct prog *p)
{
	static const uint8_t alu[] = { 0x01, 0x03, 0x11, 0x13, 0x19, 0x21, 0x29, 0x2b, 0x31, 0x39, 0x3b, 0x85, 0x87, 0x89,
				       0x8b, 0x00, 0x02, 0x28, 0x38, 0x3a, 0x88, 0x8a, 0x84, 0x63 };
	static const uint8_t two[] = { 0xb6, 0xb7, 0xbe, 0xbf, 0xaf, 0xb1, 0xc1, 0x44, 0x4f, 0x42, 0x4a, 0xbc, 0xb0 };
	unsigned w = prog_rnd(p, 2), pfx = prog_rnd(p, 6) ? 0 : 0x66;

	if (prog_rnd(p, 3))
		put_modrm(p, pfx, w, 0, alu[prog_rnd(p, sizeof(alu))], prog_any_reg(p), prog_rnd(p, 2));
	else
		put_modrm(p, pfx, w, 1, two[prog_rnd(p, sizeof(two))], prog_any_reg(p), prog_rnd(p, 2));
}

/* Shifts by an immediate and by CL, INC, DEC, NOT, NEG, MUL, IMUL, SETcc, BT with an immediate. */
static void put_unary(struct prog *p)
{
	bool is_reg = prog_rnd(p, 2);

	switch (prog_rnd(p, 7)) {
	case 6:                         /* cqo; or r, 3; idiv r; sometimes div: it may fault */
		prog_put(p, 0x48); prog_put(p, 0x99);
		prog_put(p, 0x49); prog_put(p, 0x83); prog_put(p, 0xc9); prog_put(p, prog_rnd(p, 2) ? 3 : 0);
		prog_put(p, 0x49); prog_put(p, 0xf7); prog_put(p, prog_rnd(p, 8) ? 0xf9 : 0xf1);
		break;
	case 0: put_modrm(p, 0, prog_rnd(p, 2), 0, 0xc1, prog_rnd(p, 8), is_reg); prog_put(p, prog_rnd(p, 70)); break;
	case 1: put_modrm(p, 0, prog_rnd(p, 2), 0, 0xd3, prog_rnd(p, 8), is_reg); break;
	case 2: put_modrm(p, 0, prog_rnd(p, 2), 0, 0xff, prog_rnd(p, 2), is_reg); break;
	case 3: put_modrm(p, 0, prog_rnd(p, 2), 0, 0xf7, 2 + prog_rnd(p, 4), is_reg); break;
	case 4: put_modrm(p, 0, 0, 1, 0x90 + prog_rnd(p, 16), 0, is_reg); break;
	default: put_modrm(p, 0, prog_rnd(p, 2), 1, 0xba, 4 + prog_rnd(p, 4), is_reg); prog_put(p, prog_rnd(p, 64)); break;
	}
}

static void put_sse(struct prog *p)
{
	static const uint8_t ops[] = { 0xfe, 0xef, 0xd4, 0x58, 0x59, 0x6f, 0x7f, 0x2e, 0x14, 0xdb };
	unsigned op = ops[prog_rnd(p, sizeof(ops))];

	if (!prog_rnd(p, 4)) {
		put_modrm(p, 0x66, 1, 1, prog_rnd(p, 2) ? 0x6e : 0x7e, prog_rnd(p, 16), prog_rnd(p, 2));       /* movq */
		return;
	}
	put_modrm(p, op == 0x58 || op == 0x59 ? 0xf2 : 0x66, 0, 1, op, prog_rnd(p, 16), prog_rnd(p, 2));
}

static void put_stack(struct prog *p)
{
	unsigned r = prog_any_reg(p), t = prog_any_reg(p);

	switch (prog_rnd(p, 4)) {
	case 0:                         /* push r; pop t */
		prog_put(p, 0x40 | r >> 3); prog_put(p, 0x50 | (r & 7));
		prog_put(p, 0x40 | t >> 3); prog_put(p, 0x58 | (t & 7));
		break;
	case 1:                         /* pushf; pop t */
		prog_put(p, 0x9c);
		prog_put(p, 0x40 | t >> 3); prog_put(p, 0x58 | (t & 7));
		break;
	case 2:                         /* call +2; jmp +1; ret */
		prog_put(p, 0xe8); prog_put32(p, 2);
		prog_put(p, 0xeb); prog_put(p, 1);
		prog_put(p, 0xc3);
		break;
	default:                        /* lea t, [rip + 3]; jmp t (after it: the next) */
		prog_put(p, 0x48 | (t & 8) >> 1); prog_put(p, 0x8d); prog_put(p, 5 | (t & 7) << 3); prog_put32(p, 3);
		prog_put(p, 0x40 | t >> 3); prog_put(p, 0xff); prog_put(p, 0xe0 | (t & 7));
		break;
	}
}

static void put_system(struct prog *p)
{
	unsigned r = prog_any_reg(p), which = prog_rnd(p, 14);

	if (p->is_user && (which == 4 || which == 7 || which >= 12) && prog_rnd(p, 8))
		which = 2;              /* not what is privileged */
	switch (which) {
	case 12:                                                /* mov r, cr3; mov cr3, r */
		prog_put(p, 0x40 | r >> 3); prog_put(p, 0x0f); prog_put(p, 0x20); prog_put(p, 0xd8 | (r & 7));
		prog_put(p, 0x40 | r >> 3); prog_put(p, 0x0f); prog_put(p, 0x22); prog_put(p, 0xd8 | (r & 7));
		break;
	case 13:                                                /* invlpg [rbx] or [rsp] */
		prog_put(p, 0x0f); prog_put(p, 0x01);
		if (prog_rnd(p, 2)) {
			prog_put(p, 0x3b);
		} else {
			prog_put(p, 0x3c); prog_put(p, 0x24);
		}
		break;
	case 0: prog_put(p, 0xfb); break;                            /* sti */
	case 1: prog_put(p, 0xfa); break;                            /* cli */
	case 2: prog_put(p, 0x9c); prog_put_integer(p); prog_put(p, 0x9d); break;      /* pushf; ...; popf */
	case 3: prog_put(p, 0x68); prog_put32(p, prog_rnd(p, 4) ? (prog_rnd(p, 0x1000) & 0x8d5) | 2 : prog_rnd(p, 0x10000) & ~0x100u);
		prog_put(p, 0x9d); prog_put(p, 0xfc);                     /* push imm; popf; cld; pushf; pop r */
		prog_put(p, 0x9c); prog_put(p, 0x40 | r >> 3); prog_put(p, 0x58 | (r & 7));
		break;
	case 4: prog_put(p, 0x0f); prog_put(p, 0x01); prog_put(p, 0xf8); break;        /* swapgs */
	case 5: case 6: {                                       /* mov r, sreg */
		unsigned size = prog_rnd(p, 3);

		if (!size)
			prog_put(p, 0x66);
		prog_put(p, 0x40 | (size == 2) << 3 | r >> 3); prog_put(p, 0x8c); prog_put(p, 0xc0 | prog_rnd(p, 6) << 3 | (r & 7));
		break;
	}
	case 7: {                                               /* mov r, cr; mov cr2, r */
		static const uint8_t cr[] = { 0, 2, 3, 4 };

		prog_put(p, 0x40 | r >> 3); prog_put(p, 0x0f);
		bool is_write = !prog_rnd(p, 3);

		prog_put(p, is_write ? 0x22 : 0x20);
		prog_put(p, 0xc0 | (is_write ? 2u : cr[prog_rnd(p, 4)]) << 3 | (r & 7));
		break;
	}
	case 8: case 9: {                                       /* rdfsbase, rdgsbase, wrgsbase; rdpid */
		unsigned op = prog_rnd(p, 4);

		prog_put(p, 0xf3); prog_put(p, 0x40 | prog_rnd(p, 2) << 3 | r >> 3); prog_put(p, 0x0f);
		prog_put(p, op == 3 ? 0xc7 : 0xae);
		prog_put(p, (op == 3 ? 0xf8 : op == 2 ? 0xd8 : 0xc0 + 8 * op) | (r & 7));
		break;
	}
	case 10: prog_put(p, 0xf3); prog_put(p, 0x90); break;             /* pause */
	default:                                                /* lea r, [rsp - 16]; push r; pop rsp; push r; pop r */
		prog_put(p, 0x48 | (r & 8) >> 1); prog_put(p, 0x8d); prog_put(p, 0x44 | (r & 7) << 3); prog_put(p, 0x24); prog_put(p, 0xf0);
		prog_put(p, 0x40 | r >> 3); prog_put(p, 0x50 | (r & 7));
		prog_put(p, 0x5c);
		prog_put(p, 0x40 | r >> 3); prog_put(p, 0x50 | (r & 7));
		prog_put(p, 0x40 | r >> 3); prog_put(p, 0x58 | (r & 7));
		break;
	}
}

static void put_small(struct prog *p)
{
	static const uint8_t ops[] = { 0xf5, 0xf8, 0xf9, 0x9f, 0x9e, 0xfc, 0x98, 0x99, 0x90 };

	prog_put(p, ops[prog_rnd(p, sizeof(ops))]);
}

static void put_style(struct prog *p)
{
	unsigned style = p->style == STYLE_MIXED ? prog_rnd(p, STYLE_MIXED) : p->style;

	if (style == STYLE_VEX)
		prog_put_vex(p);
	else if (prog_rnd(p, 12))
		prog_put_fp(p);
	else
		prog_put_control(p);
}

static void put_piece(struct prog *p)
{
	if (!prog_rnd(p, p->style == STYLE_INTEGER ? 8 : 2)) {
		put_style(p);
		return;
	}
	switch (prog_rnd(p, 21)) {
	case 19: case 20: prog_put_loop(p); break;
	case 17: case 18: prog_put_table(p); break;
	case 15: case 16: prog_put_derived(p); break;
	case 12: prog_put_string(p); break;
	case 13: prog_put_bit_string(p); break;
	case 14: put_system(p); break;
	case 0: put_small(p); break;
	case 1: put_stack(p); break;
	case 2: case 3: put_unary(p); break;
	case 4: case 5: put_sse(p); break;
	case 6: {                       /* jcc over the next piece */
		unsigned at = p->n + 1;

		prog_put(p, 0x70 | prog_rnd(p, 16));
		prog_put(p, 0);
		prog_put_integer(p);
		p->code[at] = (uint8_t)(p->n - at - 1);
		break;
	}
	default: prog_put_integer(p); break;
	}
}

static void make(struct prog *p, uint64_t seed, uint64_t features, bool is_user)
{
	*p = (struct prog){ .seed = seed * 2654435761u + 12345, .style = seed % N_STYLES, .features = features, .is_user = is_user };
	for (unsigned i = 0; i < N_PIECES; i++)
		put_piece(p);
	/* dec r15; jz hlt; jmp start; hlt */
	prog_put(p, 0x49); prog_put(p, 0xff); prog_put(p, 0xcf);
	prog_put(p, 0x74); prog_put(p, 5);
	prog_put(p, 0xe9); prog_put32(p, (uint32_t)-(int32_t)(p->n + 4));
	prog_put(p, 0xf4);
}

void prog_make(struct prog *p, uint64_t seed, uint64_t features) { make(p, seed, features, false); }
void prog_make_user(struct prog *p, uint64_t seed, uint64_t features) { make(p, seed, features, true); }
