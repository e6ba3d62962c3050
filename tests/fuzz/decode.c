/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder and the disassembler, over any bytes in each mode. Input: mode, then bytes that
 * are decoded from each offset. */
#include "cpu/x86/insn.h"
#include "fuzz.h"

/* The decoder says the same whatever follows the instruction, and asks for more when a byte is
 * missing. */
static void decode_check(const uint8_t *p, size_t len, enum x86_mode mode)
{
	struct x86_insn insn, again;
	uint8_t copy[X86_INSN_MAX];

	if (x86_decode(&insn, p, len, mode) != X86_DECODE_OK)
		return;
	FUZZ_CHECK(insn.len >= 1 && insn.len <= X86_INSN_MAX && insn.len <= len);
	FUZZ_CHECK(insn.n_opnds <= X86_MAX_OPNDS);
	FUZZ_CHECK(insn.row >= x86_rows && insn.row < x86_rows + x86_n_rows && insn.row->op == insn.op);
	FUZZ_CHECK(insn.opsize == 2 || insn.opsize == 4 || insn.opsize == 8);
	FUZZ_CHECK(insn.adsize == 2 || insn.adsize == 4 || insn.adsize == 8);
	memcpy(copy, p, insn.len);
	FUZZ_CHECK(x86_decode(&again, copy, insn.len, mode) == X86_DECODE_OK);
	FUZZ_CHECK(again.op == insn.op && again.len == insn.len && again.imm == insn.imm && again.disp == insn.disp);
	FUZZ_CHECK(x86_decode(&again, copy, insn.len - 1u, mode) != X86_DECODE_OK);

	for (size_t cap = 0; cap <= 160; cap += cap < 4 ? 1 : 52) {
		char *text = malloc(cap + 1);   /* of its own, so that a byte too many is seen */

		FUZZ_CHECK(text);
		text[cap] = 0x55;
		int n = x86_format(&insn, 0xffffffff80001000u, text, cap);

		FUZZ_CHECK(text[cap] == 0x55 && n > 0);
		FUZZ_CHECK(!cap || memchr(text, '\0', cap));
		free(text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	enum x86_mode mode = (enum x86_mode)(fuzz_u8(&f) % 3);
	struct x86_insn insn;

	FUZZ_CHECK(x86_decode(&insn, f.at, 0, mode) == X86_DECODE_SHORT);
	for (; f.left; f.at++, f.left--) {
		/* in memory of its own: reading past the end is seen */
		uint8_t *p = malloc(f.left < 20 ? f.left : 20);

		FUZZ_CHECK(p);
		memcpy(p, f.at, f.left < 20 ? f.left : 20);
		decode_check(p, f.left < 20 ? f.left : 20, mode);
		free(p);
	}
	return 0;
}
