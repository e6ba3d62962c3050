/* SPDX-License-Identifier: Apache-2.0 */
/* effects.c - how each instruction is translated, and what it reads and writes. Registers and flags
 * come from the decode table. What is not listed here is the interpreter's. */
#include "cpu/bt/bt_priv.h"

static bool is_reg_or_imm(const struct x86_opnd *o)
{
	return o->kind == X86_O_REG || o->kind == X86_O_IMM;
}

static enum bt_kind sse_kind(const struct x86_insn *x, unsigned key)
{
	if (!(key & BT_KEY_FP) || x->op == X86_OP_MASKMOVDQU)   /* memory by RDI */
		return BT_CALL_OUT;
	return x->op == X86_OP_LDMXCSR ? BT_LOAD_CONTROL : BT_COPY;
}

static bool is_copied(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_MOV: case X86_OP_MOVZX: case X86_OP_MOVSX: case X86_OP_MOVSXD: case X86_OP_XCHG:
	case X86_OP_CMOVCC: case X86_OP_LEA: case X86_OP_BSWAP: case X86_OP_MOVBE: case X86_OP_CBW:
	case X86_OP_CWD: case X86_OP_LAHF: case X86_OP_SAHF:
	case X86_OP_ADD: case X86_OP_OR: case X86_OP_ADC: case X86_OP_SBB: case X86_OP_AND: case X86_OP_SUB:
	case X86_OP_XOR: case X86_OP_CMP: case X86_OP_TEST: case X86_OP_INC: case X86_OP_DEC:
	case X86_OP_NEG: case X86_OP_NOT: case X86_OP_MUL: case X86_OP_IMUL:
	case X86_OP_ROL: case X86_OP_ROR: case X86_OP_RCL: case X86_OP_RCR:
	case X86_OP_SHL: case X86_OP_SHR: case X86_OP_SAR: case X86_OP_SHLD: case X86_OP_SHRD:
	case X86_OP_BSF: case X86_OP_BSR: case X86_OP_POPCNT: case X86_OP_LZCNT: case X86_OP_TZCNT:
	case X86_OP_SETCC: case X86_OP_XADD: case X86_OP_CMPXCHG: case X86_OP_CMPXCHG8B: case X86_OP_CMPXCHG16B:
	case X86_OP_CRC32: case X86_OP_ADCX: case X86_OP_ADOX: case X86_OP_CLC: case X86_OP_STC: case X86_OP_CMC:
	case X86_OP_MOVNTI: case X86_OP_LFENCE: case X86_OP_MFENCE: case X86_OP_SFENCE:
		return true;
	case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC:
		/* A register counts bits beyond the operand in memory. */
		return x->opnd[0].kind == X86_O_REG || x->opnd[1].kind == X86_O_IMM;
	default:
		return false;
	}
}

/* Is X, of 32-bit code, like one of 64-bit code with other widths? */
static bool is_plain_32(const struct x86_insn *x, unsigned key)
{
	bool has_mem = false;

	if (x->row->map == 0 && x->row->opcode == 0x82)         /* 80 by another name, which 64-bit code does not know */
		return false;
	for (unsigned i = 0; i < x->n_opnds; i++)
		has_mem |= x->opnd[i].kind == X86_O_MEM || x->opnd[i].kind == X86_O_MOFFS;
	if (!has_mem)
		return true;
	/* CS cannot be written, and perhaps not read. */
	return x->adsize == 4 && x->seg != X86_CS && (x->seg != X86_FS || key & BT_KEY_FS) && (x->seg != X86_GS || key & BT_KEY_GS);
}

/* Kinds that take their widths from the key. */
static bool is_kind_of_32(enum bt_kind kind)
{
	switch (kind) {
	case BT_COPY: case BT_NOTHING: case BT_LEA_RIP: case BT_PUSH: case BT_POP: case BT_LEAVE: case BT_CLEAR_RFLAG:
	case BT_DIV: case BT_X87: case BT_LOAD_CONTROL:
	case BT_JCC: case BT_JMP: case BT_CALL: case BT_RET: case BT_JMP_IND: case BT_CALL_IND:
		return true;
	default:
		return false;
	}
}

/* System instructions that are the same in 32-bit code, or narrower by themselves. */
static bool is_system_of_32(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_PAUSE: case X86_OP_RDTSC: case X86_OP_RDTSCP: case X86_OP_STI:
		return true;
	case X86_OP_MOV_CR:
		return x->opnd[1].kind == X86_O_CREG;
	default:
		return false;
	}
}

/* All operands are of kinds that a copied instruction can have. */
static bool has_plain_operands(const struct x86_insn *x)
{
	for (unsigned i = 0; i < x->n_opnds; i++) {
		const struct x86_opnd *o = &x->opnd[i];

		switch (o->kind) {
		case X86_O_REG: case X86_O_IMM: case X86_O_IMM2: case X86_O_XMM: case X86_O_MMX: case X86_O_ST:
			break;
		case X86_O_MEM: case X86_O_MOFFS:
			if (x->op != X86_OP_LEA && (o->size == 0 || o->size > 32 || (o->size == 10 && !(x->row->flags & X86_R_X87))))
				return false;
			break;
		default:
			return false;
		}
	}
	return true;
}

static enum bt_kind kind_of(const struct x86_insn *x, unsigned key)
{
	bool is_mem = x->opnd[0].kind == X86_O_MEM, is_rel = x->opnd[0].kind == X86_O_REL;
	enum bt_kind special = bt_system_kind(x, key);
	unsigned word = key & BT_KEY_32 ? 4 : 8;

	if (special == BT_CALL_OUT)
		special = bt_string_kind(x);
	if (special != BT_CALL_OUT)
		return special;
	if (x->row->map >= X86_MAP_VEX_0F)
		return has_plain_operands(x) ? bt_vex_kind(x, key) : BT_CALL_OUT;
	switch (x->op) {
	case X86_OP_NOP: case X86_OP_ENDBR: case X86_OP_PREFETCH:
		return BT_NOTHING;
	case X86_OP_LEA:
		if (x->base != X86_REG_RIP && (word == 8 || x->base != X86_NO_REG || x->index != X86_NO_REG))
			return BT_COPY;
		return x->opnd[0].size == word && x->adsize == word ? BT_LEA_RIP : BT_CALL_OUT;
	case X86_OP_PUSH:
		return x->opsize == word && (is_mem || is_reg_or_imm(&x->opnd[0])) ? BT_PUSH : BT_CALL_OUT;
	case X86_OP_POP:
		return x->opsize == word && x->opnd[0].kind == X86_O_REG ? BT_POP : BT_CALL_OUT;
	case X86_OP_LEAVE:
		return x->opsize == word ? BT_LEAVE : BT_CALL_OUT;
	case X86_OP_CLI:
		return key & BT_KEY_USER ? BT_CALL_OUT : BT_CLEAR_RFLAG;
	case X86_OP_CLD:
		return BT_CLEAR_RFLAG;
	case X86_OP_DIV:
	case X86_OP_IDIV:
		return x->opnd[0].size >= 4 ? BT_DIV : BT_CALL_OUT;
	case X86_OP_JCC:
		return x->opsize == word ? BT_JCC : BT_CALL_OUT;
	case X86_OP_JMP:
		return x->opsize != word ? BT_CALL_OUT : is_rel ? BT_JMP : BT_JMP_IND;
	case X86_OP_CALL:
		return x->opsize != word ? BT_CALL_OUT : is_rel ? BT_CALL : BT_CALL_IND;
	case X86_OP_RET:
		return x->opsize == word ? BT_RET : BT_CALL_OUT;
	default:
		break;
	}
	if (!has_plain_operands(x))
		return BT_CALL_OUT;
	if (x->row->flags & (X86_R_X87 | X86_R_MMX))
		return bt_x87_kind(x, key);
	if (x->row->flags & X86_R_SSE)
		return sse_kind(x, key);
	return is_copied(x) ? BT_COPY : BT_CALL_OUT;
}

/* The table's "written" may mean "written unless": only what surely is overwritten counts here. Flags
 * that the SDM leaves undefined may be kept by the host: only logic and shifts are known to write AF. */
static uint16_t flags_killed(const struct x86_insn *x)
{
	uint16_t all = (x->row->flags_written | (x->row->flags_undefined & X86_AF)) & X86_FLAGS_ARITH;
	unsigned mask = x->opnd[0].size == 8 ? 63 : 31;

	switch (x->op) {
	case X86_OP_RCL: case X86_OP_RCR:       /* counts that come to 0 modulo 9 or 17 */
		return x->opnd[1].kind == X86_O_IMM && x->imm == 1 ? all : 0;
	case X86_OP_MUL: case X86_OP_IMUL: case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC:
	case X86_OP_BSF: case X86_OP_BSR: case X86_OP_LZCNT: case X86_OP_TZCNT:
	case X86_OP_ANDN: case X86_OP_BEXTR: case X86_OP_BLSI: case X86_OP_BLSMSK: case X86_OP_BLSR: case X86_OP_BZHI:
		return x->row->flags_written & X86_FLAGS_ARITH;
	case X86_OP_ROL: case X86_OP_ROR:
	case X86_OP_SHL: case X86_OP_SHR: case X86_OP_SAR:
		return x->opnd[1].kind == X86_O_IMM && (x->imm & mask) ? all : 0;
	case X86_OP_SHLD: case X86_OP_SHRD:
		return x->opnd[2].kind == X86_O_IMM && (x->imm & mask) && x->opnd[0].size > 2 ? all : 0;
	default:
		return all;
	}
}

static void add_operands(struct bt_effects *fx, const struct x86_insn *x)
{
	for (unsigned i = 0; i < x->n_opnds; i++) {
		const struct x86_opnd *o = &x->opnd[i];
		uint32_t flags = x->row->flags;
		bool is_dst = i == 0 && !(flags & X86_R_NO_WRITE);

		if ((o->kind == X86_O_MEM || o->kind == X86_O_MOFFS) && x->op != X86_OP_LEA) {
			fx->mem_size = o->size;
			fx->mem_is_write = is_dst;
		}
		if (o->kind != X86_O_REG)
			continue;
		uint16_t bit = (uint16_t)(1u << o->reg);

		if (is_dst || x->op == X86_OP_XCHG || x->op == X86_OP_XADD || (x->op == X86_OP_MULX && i == 1))
			fx->writes |= bit;
		if (!is_dst || (flags & X86_R_READS_DST) || o->size < 4 || x->op == X86_OP_CMOVCC)
			fx->reads |= bit;
	}
	if (x->base < 16)
		fx->reads |= (uint16_t)(1u << x->base);
	if (x->index < 16)
		fx->reads |= (uint16_t)(1u << x->index);
}

void bt_effects(struct bt_effects *fx, const struct x86_insn *x, unsigned key)
{
	*fx = (struct bt_effects){ .kind = (uint8_t)kind_of(x, key) };
	if (key & BT_KEY_32 && (!is_plain_32(x, key) ||
			       !(is_kind_of_32(fx->kind) || (fx->kind == BT_SYSTEM && is_system_of_32(x)))))
		fx->kind = BT_CALL_OUT;
	add_operands(fx, x);
	switch (fx->kind) {
	case BT_CALL_OUT:
		*fx = (struct bt_effects){ .kind = BT_CALL_OUT, .fl_reads = X86_FLAGS_ARITH };
		break;
	case BT_COPY: case BT_X87: case BT_LOAD_CONTROL: case BT_BIT_STRING:
		fx->fl_reads = x->row->flags_read & X86_FLAGS_ARITH;
		fx->fl_writes = (x->row->flags_written | x->row->flags_undefined) & X86_FLAGS_ARITH;
		fx->fl_kills = flags_killed(x);
		break;
	case BT_SYSTEM: case BT_SYSTEM_END:
		bt_system_effects(fx, x);
		break;
	case BT_STRING:
		bt_string_effects(fx, x);
		break;
	case BT_DIV:                                    /* some it changes, some it keeps */
		fx->fl_writes = X86_FLAGS_ARITH;
		break;
	case BT_JCC: case BT_JMP: case BT_CALL: case BT_RET: case BT_JMP_IND: case BT_CALL_IND:
		fx->fl_reads = X86_FLAGS_ARITH;         /* whoever comes next may */
		break;
	default:
		break;
	}
}
