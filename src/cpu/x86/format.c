/* SPDX-License-Identifier: Apache-2.0 */
/* A decoded instruction as text, in Intel's notation, for logs and for comparing the decoder
 * with other disassemblers (tests/cpu_decode). */
#include "cpu/x86/insn.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include "cpu/x86/state.h"

/* Output buffer; LEN counts what would have been written, as snprintf() does. */
struct x86_text {
	char *buf;
	size_t cap;
	size_t len;
};

static const char *const op_names[X86_N_OPS] = {
	[X86_OP_INVALID] = "(bad)",
#define X(name, text) [X86_OP_##name] = text,
#include "cpu/x86/ops.def"
#undef X
};

static const char *const conditions[16] = { "o", "no", "b", "ae", "e", "ne", "be", "a",
					    "s", "ns", "p", "np", "l", "ge", "le", "g" };

const char *x86_op_name(enum x86_op op)
{
	return (unsigned)op < X86_N_OPS ? op_names[op] : op_names[X86_OP_INVALID];
}

__attribute__((format(printf, 2, 3)))
static void text_add(struct x86_text *t, const char *fmt, ...)
{
	size_t room = t->len < t->cap ? t->cap - t->len : 0;
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(room ? t->buf + t->len : NULL, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->len += n;
}

static uint64_t text_mask(int64_t v, unsigned size)
{
	return size >= 8 ? (uint64_t)v : (uint64_t)v & ((1ull << (8 * size)) - 1);
}

static void text_gpr(struct x86_text *t, unsigned reg, unsigned size)
{
	static const char *const low[8] = { "ax", "cx", "dx", "bx", "sp", "bp", "si", "di" };
	static const char *const bytes[8] = { "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil" };

	if (reg >= 8)
		text_add(t, "r%u%s", reg, size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "");
	else if (size == 1)
		text_add(t, "%s", bytes[reg]);
	else
		text_add(t, "%s%s", size == 2 ? "" : size == 4 ? "e" : "r", low[reg]);
}

static const char *text_sreg(unsigned reg)
{
	static const char *const names[X86_N_SEGS] = { "es", "cs", "ss", "ds", "fs", "gs" };

	return reg < X86_N_SEGS ? names[reg] : "?";
}

static void text_size(struct x86_text *t, unsigned size)
{
	static const char *const names[33] = { [1] = "byte ", [2] = "word ", [4] = "dword ",
					       [6] = "fword ", [8] = "qword ", [10] = "tbyte ",
					       [16] = "xmmword ", [32] = "ymmword " };

	if (size <= 32 && names[size])
		text_add(t, "%sptr ", names[size]);
}

static void text_mem(struct x86_text *t, const struct x86_insn *x)
{
	const char *sep = "";

	if (x->prefixes & X86_P_SEG)
		text_add(t, "%s:", text_sreg(x->seg));
	text_add(t, "[");
	if (x->base == X86_REG_RIP) {
		text_add(t, "%s", x->adsize == 8 ? "rip" : "eip");
		sep = "+";
	} else if (x->base != X86_NO_REG) {
		text_gpr(t, x->base, x->adsize);
		sep = "+";
	}
	if (x->index != X86_NO_REG) {
		text_add(t, "%s", sep);
		if (x->vsib)
			text_add(t, "%cmm%u", x->vsib == 32 ? 'y' : 'x', x->index);
		else
			text_gpr(t, x->index, x->adsize);
		if (x->adsize > 2)
			text_add(t, "*%u", 1u << x->scale);
		sep = "+";
	}
	if (!*sep)
		text_add(t, "0x%" PRIx64, text_mask(x->disp, x->adsize));
	else if (x->disp < 0)
		text_add(t, "-0x%" PRIx64, -(uint64_t)x->disp);
	else if (x->disp > 0 || x->base == X86_REG_RIP)
		text_add(t, "+0x%" PRIx64, (uint64_t)x->disp);
	text_add(t, "]");
}

/* An immediate is shown as wide as what it is combined with. */
static uint64_t text_imm(const struct x86_insn *x, const struct x86_opnd *o)
{
	unsigned size = o->size;

	if (x->op == X86_OP_PUSH || (x->imm < 0 && x->n_opnds == 1))
		size = x->opsize;
	else if (x->imm < 0)
		size = x->opnd[0].size;
	return text_mask(x->imm, size);
}

static void text_operand(struct x86_text *t, const struct x86_insn *x, const struct x86_opnd *o,
			 uint64_t rip)
{
	switch ((enum x86_opnd_kind)o->kind) {
	case X86_O_NONE:
		break;
	case X86_O_REG:
		if (o->high)
			text_add(t, "%ch", "acdb"[o->reg & 3]);
		else
			text_gpr(t, o->reg, o->size);
		break;
	case X86_O_MEM:
		text_size(t, o->size);
		text_mem(t, x);
		break;
	case X86_O_IMM:
		text_add(t, "0x%" PRIx64, text_imm(x, o));
		break;
	case X86_O_IMM2:
		text_add(t, "0x%" PRIx64, (uint64_t)x->imm2);
		break;
	case X86_O_REL:
		text_add(t, "0x%" PRIx64, text_mask(rip + x->len + x->imm, x->opsize));
		break;
	case X86_O_SREG:
		text_add(t, "%s", text_sreg(o->reg));
		break;
	case X86_O_CREG:
		text_add(t, "cr%u", o->reg);
		break;
	case X86_O_DREG:
		text_add(t, "dr%u", o->reg);
		break;
	case X86_O_ST:
		text_add(t, "st(%u)", o->reg);
		break;
	case X86_O_MMX:
		text_add(t, "mm%u", o->reg);
		break;
	case X86_O_XMM:
		text_add(t, "%cmm%u", o->size == 32 ? 'y' : 'x', o->reg);
		break;
	case X86_O_MOFFS:
		text_size(t, o->size);
		text_add(t, "%s:0x%" PRIx64, text_sreg(x->seg), (uint64_t)x->disp);
		break;
	case X86_O_STR_SI:
	case X86_O_STR_DI:
		text_size(t, o->size);
		text_add(t, "%s:[", o->kind == X86_O_STR_SI ? text_sreg(x->seg) : "es");
		text_gpr(t, o->kind == X86_O_STR_SI ? X86_RSI : X86_RDI, x->adsize);
		text_add(t, "]");
		break;
	}
}

/* Index 0, 1, 2, 3 for the sizes 1 (or none), 2, 4, 8. */
static unsigned size_index(unsigned size)
{
	return size == 8 ? 3 : size == 4 ? 2 : size == 2 ? 1 : 0;
}

/* Mnemonics that the manual splits by size, condition or modrm. */
static void text_name(struct x86_text *t, const struct x86_insn *x)
{
	static const char *const cbw[4] = { "cbw", "cbw", "cwde", "cdqe" };
	static const char *const cwd[4] = { "cwd", "cwd", "cdq", "cqo" };
	static const char *const iret[4] = { "iret", "iretw", "iretd", "iretq" };
	static const char *const jcxz[4] = { "jcxz", "jcxz", "jecxz", "jrcxz" };
	static const char *const hints[4] = { "nta", "t0", "t1", "t2" };
	const char *name = x86_op_name(x->op);

	if (x->row->flags & X86_R_AVX)
		text_add(t, "v");
	switch (x->op) {
	case X86_OP_CMOVCC:
	case X86_OP_SETCC:
	case X86_OP_JCC:
		text_add(t, "%s%s", name, conditions[x->row->opcode & 15]);
		break;
	case X86_OP_CBW:
		text_add(t, "%s", cbw[size_index(x->opsize)]);
		break;
	case X86_OP_CWD:
		text_add(t, "%s", cwd[size_index(x->opsize)]);
		break;
	case X86_OP_IRET:
		text_add(t, "%s", iret[size_index(x->opsize)]);
		break;
	case X86_OP_JCXZ:
		text_add(t, "%s", jcxz[size_index(x->adsize)]);
		break;
	case X86_OP_PREFETCH:
		if (x->row->opcode == 0x18)
			text_add(t, "%s%s", name, hints[(x->modrm >> 3) & 3]);
		else
			text_add(t, "%s%s", name, ((x->modrm >> 3) & 7) == 1 ? "w" : "");
		break;
	case X86_OP_ENDBR:
		text_add(t, "%s%s", name, x->modrm & 1 ? "32" : "64");
		break;
	case X86_OP_FXSAVE:
	case X86_OP_FXRSTOR:
	case X86_OP_XSAVE:
	case X86_OP_XSAVEOPT:
	case X86_OP_XSAVEC:
	case X86_OP_XSAVES:
	case X86_OP_XRSTOR:
	case X86_OP_XRSTORS:
		text_add(t, "%s%s", name, x->prefixes & X86_P_REXW ? "64" : "");
		break;
	case X86_OP_SYSRET:
	case X86_OP_SYSEXIT:
	case X86_OP_RETF:
		text_add(t, "%s%s", name, x->prefixes & X86_P_REXW ? "q" : "");
		break;
	default:
		text_add(t, "%s", name);
		break;
	}
}

int x86_format(const struct x86_insn *insn, uint64_t rip, char *buf, size_t cap)
{
	struct x86_text t = { .buf = buf, .cap = cap };

	if (insn->prefixes & X86_P_LOCK)
		text_add(&t, "lock ");
	if (insn->row->flags & X86_R_REP) {
		bool compares = insn->op == X86_OP_CMPS || insn->op == X86_OP_SCAS;
		if (insn->prefixes & X86_P_REPNE)
			text_add(&t, "repnz ");
		else if (insn->prefixes & X86_P_REP)
			text_add(&t, compares ? "repz " : "rep ");
	}
	text_name(&t, insn);
	if (insn->n_opnds == 2 && insn->opnd[1].kind == X86_O_IMM2 && insn->op != X86_OP_ENTER) {
		text_add(&t, " 0x%" PRIx64 ":0x%" PRIx64, (uint64_t)insn->imm2, (uint64_t)insn->imm);
		return (int)t.len;
	}
	for (unsigned i = 0; i < insn->n_opnds; i++) {
		text_add(&t, i ? ", " : " ");
		text_operand(&t, insn, &insn->opnd[i], rip);
	}
	return (int)t.len;
}
