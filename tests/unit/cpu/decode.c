/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include <stdlib.h>
#include "cpu/x86/insn.h"
#include "cpu/x86/state.h"

#define M16 X86_MODE_16
#define M32 X86_MODE_32
#define M64 X86_MODE_64

struct text_case {
	enum x86_mode mode;
	const char *hex;        /* the instruction, to its last byte */
	const char *text;       /* NULL: #UD */
};

static size_t parse_hex(uint8_t *out, const char *hex)
{
	size_t n = 0;
	char *end;

	for (unsigned long v = strtoul(hex, &end, 16); end != hex; v = strtoul(hex, &end, 16)) {
		out[n++] = v;
		hex = end;
	}
	return n;
}

static enum x86_decode_result decode_hex(struct x86_insn *x, enum x86_mode mode, const char *hex)
{
	uint8_t bytes[64];
	size_t n = parse_hex(bytes, hex);

	return x86_decode(x, bytes, n, mode);
}

static struct x86_insn decode_ok(enum x86_mode mode, const char *hex)
{
	struct x86_insn x;
	uint8_t bytes[64];

	if (decode_hex(&x, mode, hex) != X86_DECODE_OK)
		FAIL("%s does not decode", hex);
	if (x.len != parse_hex(bytes, hex))
		FAIL("%s has length %u", hex, x.len);
	return x;
}

static void check_texts(const struct text_case *c, size_t n)
{
	for (; n > 0; n--, c++) {
		struct x86_insn x;
		char text[128];
		if (!c->text) {
			if (decode_hex(&x, c->mode, c->hex) != X86_DECODE_UD)
				FAIL("%s in mode %d is not #UD", c->hex, c->mode);
			continue;
		}
		x = decode_ok(c->mode, c->hex);
		int len = x86_format(&x, 0x1000, text, sizeof(text));
		if (strcmp(text, c->text))
			FAIL("%s in mode %d is \"%s\", not \"%s\"", c->hex, c->mode, text, c->text);
		CHECK_EQ(len, strlen(text));
	}
}
#define CHECK_TEXTS(cases) check_texts(cases, sizeof(cases) / sizeof((cases)[0]))

TEST(addressing_forms_follow_the_tables_of_the_manual)
{
	static const struct text_case cases[] = {
		{ M16, "8b 00", "mov ax, word ptr [bx+si]" },
		{ M16, "d6", "salc" },
		{ M16, "8b 46 fe", "mov ax, word ptr [bp-0x2]" },
		{ M16, "8b 06 34 12", "mov ax, word ptr [0x1234]" },
		{ M16, "8b 87 34 12", "mov ax, word ptr [bx+0x1234]" },
		{ M16, "66 67 8b 04 88", "mov eax, dword ptr [eax+ecx*4]" },
		{ M32, "67 8b 42 10", "mov eax, dword ptr [bp+si+0x10]" },
		{ M32, "8b 05 78 56 34 12", "mov eax, dword ptr [0x12345678]" },
		{ M32, "8b 04 25 78 56 34 12", "mov eax, dword ptr [0x12345678]" },
		{ M32, "8b 04 24", "mov eax, dword ptr [esp]" },
		{ M32, "8b 44 65 00", "mov eax, dword ptr [ebp]" },
		{ M64, "8b 05 10 00 00 00", "mov eax, dword ptr [rip+0x10]" },
		{ M64, "41 8b 05 10 00 00 00", "mov eax, dword ptr [rip+0x10]" },
		{ M64, "67 8b 05 10 00 00 00", "mov eax, dword ptr [eip+0x10]" },
		{ M64, "8b 04 25 00 00 00 80", "mov eax, dword ptr [0xffffffff80000000]" },
		{ M64, "8b 04 60", "mov eax, dword ptr [rax]" },
		{ M64, "42 8b 04 60", "mov eax, dword ptr [rax+r12*2]" },
		{ M64, "41 8b 04 24", "mov eax, dword ptr [r12]" },
		{ M64, "41 8b 45 00", "mov eax, dword ptr [r13]" },
		{ M64, "43 8b 44 ed 00", "mov eax, dword ptr [r13+r13*8]" },
		{ M64, "8b 04 ad 04 00 00 00", "mov eax, dword ptr [rbp*4+0x4]" },
		{ M64, "64 48 8b 04 25 28 00 00 00", "mov rax, qword ptr fs:[0x28]" },
	};
	CHECK_TEXTS(cases);
}

TEST(the_default_segment_is_ss_for_stack_and_frame_pointer_bases)
{
	CHECK_EQ(decode_ok(M16, "8b 46 00").seg, X86_SS);
	CHECK_EQ(decode_ok(M16, "8b 02").seg, X86_SS);
	CHECK_EQ(decode_ok(M16, "8b 06 00 00").seg, X86_DS);
	CHECK_EQ(decode_ok(M32, "8b 04 24").seg, X86_SS);
	CHECK_EQ(decode_ok(M32, "8b 45 00").seg, X86_SS);
	CHECK_EQ(decode_ok(M32, "8b 04 28").seg, X86_DS);       /* EBP is the index */
	CHECK_EQ(decode_ok(M32, "8b 04 2d 00 00 00 00").seg, X86_DS);
	CHECK_EQ(decode_ok(M64, "41 8b 45 00").seg, X86_DS);    /* R13 */
	CHECK_EQ(decode_ok(M32, "3e 8b 45 00").seg, X86_DS);
	CHECK_EQ(decode_ok(M16, "26 d7").seg, X86_ES);
}

TEST(in_64_bit_mode_only_fs_and_gs_override)
{
	struct x86_insn x = decode_ok(M64, "2e 8b 00");

	CHECK_EQ(x.seg, X86_DS);
	CHECK_EQ(x.prefixes, 0);
	x = decode_ok(M64, "64 26 8b 45 00");
	CHECK_EQ(x.seg, X86_FS);
	CHECK_EQ(x.prefixes, X86_P_SEG);
	CHECK_EQ(decode_ok(M64, "3e 8b 45 00").seg, X86_SS);
	CHECK_EQ(decode_ok(M64, "64 65 8b 00").seg, X86_GS);
	CHECK_EQ(decode_ok(M32, "65 26 8b 00").seg, X86_ES);
}

TEST(a_rex_counts_only_directly_before_the_opcode)
{
	static const struct text_case cases[] = {
		{ M64, "48 89 d8", "mov rax, rbx" },
		{ M64, "48 66 89 d8", "mov ax, bx" },
		{ M64, "66 48 89 d8", "mov rax, rbx" },
		{ M64, "48 41 89 d8", "mov r8d, ebx" },
		{ M64, "48 64 8b 00", "mov eax, dword ptr fs:[rax]" },
		{ M64, "48 f3 0f b8 c1", "popcnt eax, ecx" },
		{ M64, "f3 48 0f b8 c1", "popcnt rax, rcx" },
		{ M64, "88 e0", "mov al, ah" },
		{ M64, "40 88 e0", "mov al, spl" },
		{ M64, "44 88 e0", "mov al, r12b" },
		{ M64, "b7 01", "mov bh, 0x1" },
		{ M64, "41 b7 01", "mov r15b, 0x1" },
	};
	CHECK_TEXTS(cases);
	struct x86_insn x;
	CHECK_EQ(decode_hex(&x, M32, "48 89 d8"), X86_DECODE_OK);
	CHECK_EQ(x.op, X86_OP_DEC);
	CHECK_EQ(x.len, 1);
}

TEST(mandatory_prefixes_select_the_row_and_f2_f3_win_over_66)
{
	static const struct text_case cases[] = {
		{ M64, "0f 10 c1", "movups xmm0, xmm1" },
		{ M64, "66 0f 10 c1", "movupd xmm0, xmm1" },
		{ M64, "66 f2 0f 10 c1", "movsd xmm0, xmm1" },
		{ M64, "f2 66 0f 10 c1", "movsd xmm0, xmm1" },
		{ M64, "f2 f3 0f 10 c1", "movss xmm0, xmm1" },
		{ M64, "f3 f2 0f 10 c1", "movsd xmm0, xmm1" },
		{ M64, "f3 0f d1 c1", NULL },
		{ M64, "f2 0f 38 f1 c1", "crc32 eax, ecx" },
		{ M64, "66 f2 0f 38 f1 c1", "crc32 eax, cx" },
		{ M64, "f2 48 0f 38 f0 c1", "crc32 rax, cl" },
		{ M64, "66 0f 38 f1 01", "movbe word ptr [rcx], ax" },
		{ M64, "f3 0f 38 f1 01", NULL },
		{ M64, "0f 38 f0 c1", NULL },
		{ M64, "66 f3 0f b8 c1", "popcnt ax, cx" },
		{ M64, "0f b8 c1", NULL },
		{ M64, "0f bc c1", "bsf eax, ecx" },
		{ M64, "f3 0f bc c1", "tzcnt eax, ecx" },
		{ M64, "f2 0f bc c1", "bsf eax, ecx" },
		{ M64, "f3 0f bd c1", "lzcnt eax, ecx" },
		{ M64, "66 0f 38 f6 c1", "adcx eax, ecx" },
		{ M64, "f3 48 0f 38 f6 c1", "adox rax, rcx" },
		{ M64, "66 0f 6e c0", "movd xmm0, eax" },
		{ M64, "66 48 0f 6e c0", "movq xmm0, rax" },
		{ M64, "66 49 0f 3a 22 c0 01", "pinsrq xmm0, r8, 0x1" },
	};
	CHECK_TEXTS(cases);
	/* a mandatory prefix is no operand size and no REP */
	struct x86_insn x = decode_ok(M64, "66 0f 6e c0");
	CHECK_EQ(x.prefixes, 0);
	CHECK_EQ(x.opsize, 4);
	x = decode_ok(M64, "66 f2 0f 38 f1 c1");
	CHECK_EQ(x.prefixes, X86_P_OPSIZE);
	CHECK_EQ(x.opsize, 2);
	CHECK_EQ(decode_ok(M16, "66 0f 6f c1").opsize, 2);
}

TEST(nop_pause_and_xchg_share_opcode_90)
{
	static const struct text_case cases[] = {
		{ M64, "90", "nop" },
		{ M64, "48 90", "nop" },
		{ M64, "f3 90", "pause" },
		{ M64, "41 90", "xchg r8d, eax" },
		{ M64, "49 90", "xchg r8, rax" },
		{ M16, "91", "xchg cx, ax" },
		{ M32, "f0 90", NULL },
	};
	CHECK_TEXTS(cases);
}

TEST(operand_sizes_default_to_64_bits_for_stack_and_near_branches)
{
	CHECK_EQ(decode_ok(M64, "50").opsize, 8);
	CHECK_EQ(decode_ok(M64, "66 50").opsize, 2);
	CHECK_EQ(decode_ok(M64, "6a ff").imm, -1);
	CHECK_EQ(decode_ok(M64, "68 00 00 00 80").imm, INT32_MIN);
	CHECK_EQ(decode_ok(M64, "66 68 00 80").imm, INT16_MIN);
	CHECK_EQ(decode_ok(M64, "ff e0").opnd[0].size, 8);
	CHECK_EQ(decode_ok(M64, "66 ff e0").opsize, 8);
	CHECK_EQ(decode_ok(M64, "66 e8 fb ff ff ff").imm, -5);
	CHECK_EQ(decode_ok(M32, "66 e8 fb ff").imm, -5);
	CHECK_EQ(decode_ok(M64, "c9").opsize, 8);
	CHECK_EQ(decode_ok(M64, "cf").opsize, 4);
	CHECK_EQ(decode_ok(M64, "48 cf").opsize, 8);
	CHECK_EQ(decode_ok(M64, "0f 20 c0").opnd[0].size, 8);
	CHECK_EQ(decode_ok(M32, "66 0f 20 c0").opnd[0].size, 4);
	CHECK_EQ(decode_ok(M64, "67 e3 00").adsize, 4);
}

TEST(immediates_and_offsets_have_their_manual_width)
{
	struct x86_insn x = decode_ok(M64, "48 b8 88 77 66 55 44 33 22 11");

	CHECK_EQ(x.imm, 0x1122334455667788);
	CHECK_EQ(decode_ok(M64, "48 c7 c0 ff ff ff ff").imm, -1);
	CHECK_EQ(decode_ok(M64, "48 83 c0 80").imm, -128);
	CHECK_EQ(decode_ok(M64, "cd 80").imm, 0x80);
	CHECK_EQ(decode_ok(M64, "c2 00 80").imm, 0x8000);
	x = decode_ok(M64, "48 a1 88 77 66 55 44 33 22 11");
	CHECK_EQ(x.opnd[1].kind, X86_O_MOFFS);
	CHECK_EQ(x.disp, 0x1122334455667788);
	x = decode_ok(M64, "67 a0 00 00 00 80");
	CHECK_EQ(x.disp, 0x80000000);
	CHECK_EQ(decode_ok(M16, "a0 00 80").disp, 0x8000);
	x = decode_ok(M16, "c8 34 12 1f");
	CHECK_EQ(x.imm, 0x1234);
	CHECK_EQ(x.imm2, 0x1f);
	x = decode_ok(M32, "ea 78 56 34 12 08 00");
	CHECK_EQ(x.imm, 0x12345678);
	CHECK_EQ(x.imm2, 8);
	CHECK_EQ(decode_ok(M64, "48 ff 28").opnd[0].size, 10);
	CHECK_EQ(decode_ok(M64, "d1 e0").imm, 1);
}

TEST(opcodes_mean_what_the_mode_says)
{
	static const struct text_case cases[] = {
		{ M64, "63 c8", "movsxd ecx, eax" },
		{ M64, "48 63 c8", "movsxd rcx, eax" },
		{ M32, "63 c8", "arpl ax, cx" },
		{ M32, "c4 00", "les eax, fword ptr [eax]" },
		{ M16, "c5 07", "lds ax, dword ptr [bx]" },
		{ M32, "62 00", "bound eax, qword ptr [eax]" },
		{ M64, "c4 00 00 00", NULL }, { M64, "c5 f8 77", "vzeroupper" }, { M64, "62 00", NULL },
		{ M32, "c5 f8 77", "vzeroupper" }, { M16, "c5 fc 77", "vzeroall" },
		{ M64, "06", NULL }, { M64, "27", NULL }, { M64, "60", NULL }, { M64, "9a", NULL },
		{ M64, "d4 0a", NULL }, { M64, "ce", NULL }, { M64, "82 c0 01", NULL },
		{ M32, "82 c0 01", "add al, 0x1" },
		{ M32, "0f 05", "syscall" }, { M64, "0f 05", "syscall" },
		{ M32, "0f 01 f8", NULL }, { M64, "0f 01 f8", "swapgs" },
		{ M32, "f3 0f ae c0", NULL }, { M64, "f3 48 0f ae d8", "wrgsbase rax" },
		{ M32, "60", "pusha" }, { M16, "61", "popa" },
		{ M16, "9a 34 12 00 f0", "call far 0xf000:0x1234" },
		{ M32, "d5 0a", "aad 0xa" },
	};
	CHECK_TEXTS(cases);
}

TEST(groups_split_by_modrm_and_prefix)
{
	static const struct text_case cases[] = {
		{ M64, "0f ae 00", "fxsave [rax]" }, { M64, "48 0f ae 08", "fxrstor64 [rax]" },
		{ M64, "0f ae 38", "clflush byte ptr [rax]" },
		{ M64, "66 0f ae 38", "clflushopt byte ptr [rax]" },
		{ M64, "66 0f ae 30", "clwb byte ptr [rax]" },
		{ M64, "0f ae 30", "xsaveopt [rax]" },
		{ M64, "0f ae e8", "lfence" }, { M64, "0f ae f7", "mfence" },
		{ M64, "0f ae f8", "sfence" }, { M64, "0f ae c0", NULL },
		{ M64, "0f c7 08", "cmpxchg8b qword ptr [rax]" },
		{ M64, "48 0f c7 08", "cmpxchg16b xmmword ptr [rax]" },
		{ M64, "0f c7 c8", NULL }, { M64, "0f c7 00", NULL },
		{ M64, "0f c7 f0", "rdrand eax" }, { M64, "66 0f c7 f8", "rdseed ax" },
		{ M64, "f3 0f c7 f8", "rdpid rax" }, { M64, "0f c7 20", "xsavec [rax]" },
		{ M64, "48 0f c7 28", "xsaves64 [rax]" },
		{ M64, "0f 01 d0", "xgetbv" }, { M64, "0f 01 ca", "clac" },
		{ M64, "0f 01 38", "invlpg [rax]" }, { M64, "0f 01 e0", "smsw eax" },
		{ M64, "0f 01 28", NULL }, { M64, "0f 01 c0", NULL },
		{ M64, "f3 0f 1e fa", "endbr64" }, { M64, "0f 1e fa", "nop edx" },
		{ M64, "0f 1f 84 00 00 00 00 00", "nop [rax+rax*1]" },
		{ M64, "0f 18 08", "prefetcht0 [rax]" }, { M64, "0f 0d 08", "prefetchw [rax]" },
		{ M64, "8f c0", "pop rax" }, { M64, "8f c8", NULL }, { M64, "c6 c8 00", NULL },
		{ M64, "fe d0", NULL }, { M64, "ff f8", NULL }, { M64, "ff d8", NULL },
		{ M64, "8d c0", NULL }, { M64, "0f 12 c1", "movhlps xmm0, xmm1" },
		{ M64, "0f 12 01", "movlps xmm0, qword ptr [rcx]" }, { M64, "66 0f 12 c1", NULL },
		{ M64, "d0 f0", "shl al, 0x1" }, { M64, "f6 c8 01", "test al, 0x1" },
		{ M64, "8e c8", NULL }, { M64, "8c f0", NULL }, { M64, "8e d0", "mov ss, ax" },
		{ M64, "0f 22 c8", NULL }, { M64, "44 0f 20 c0", "mov rax, cr8" },
		{ M64, "0f 20 18", "mov rax, cr3" }, { M64, "44 0f 21 c0", NULL },
	};
	CHECK_TEXTS(cases);
}

TEST(x87_forms_are_told_apart_by_the_whole_modrm)
{
	static const struct text_case cases[] = {
		{ M64, "d8 c1", "fadd st(0), st(1)" }, { M64, "dc c1", "fadd st(1), st(0)" },
		{ M64, "dc e1", "fsubr st(1), st(0)" }, { M64, "de e9", "fsubp st(1), st(0)" },
		{ M64, "d9 c9", "fxch st(1)" }, { M64, "d9 d0", "fnop" }, { M64, "d9 d1", NULL },
		{ M64, "d9 ef", NULL }, { M64, "d9 e8", "fld1" }, { M64, "da e9", "fucompp" },
		{ M64, "da e8", NULL }, { M64, "db 28", "fld tbyte ptr [rax]" },
		{ M64, "db 20", NULL }, { M64, "db e3", "fninit" }, { M64, "de d9", "fcompp" },
		{ M64, "df e0", "fnstsw ax" }, { M64, "df e1", NULL },
		{ M64, "df 28", "fild qword ptr [rax]" }, { M64, "d9 30", "fnstenv [rax]" },
		{ M64, "41 d8 c1", "fadd st(0), st(1)" },
	};
	CHECK_TEXTS(cases);
}

TEST(lock_needs_a_lockable_operation_and_a_memory_destination)
{
	static const struct text_case cases[] = {
		{ M64, "f0 01 08", "lock add dword ptr [rax], ecx" },
		{ M64, "f0 01 c8", NULL }, { M64, "f0 03 08", NULL }, { M64, "f0 39 08", NULL },
		{ M64, "f0 89 08", NULL }, { M64, "f0 85 08", NULL },
		{ M64, "f0 83 08 00", "lock or dword ptr [rax], 0x0" }, { M64, "f0 83 38 00", NULL },
		{ M64, "f0 0f b1 08", "lock cmpxchg dword ptr [rax], ecx" },
		{ M64, "f0 48 0f c7 08", "lock cmpxchg16b xmmword ptr [rax]" },
		{ M64, "f0 0f a3 08", NULL }, { M64, "f0 0f ab 08", "lock bts dword ptr [rax], ecx" },
		{ M64, "f0 0f ba 20 01", NULL }, { M64, "f0 0f ba 30 01", "lock btr dword ptr [rax], 0x1" },
		{ M64, "f0 87 08", "lock xchg dword ptr [rax], ecx" }, { M64, "f0 87 c8", NULL },
		{ M64, "f0 f7 18", "lock neg dword ptr [rax]" }, { M64, "f0 f7 20", NULL },
		{ M64, "f0 d1 20", NULL }, { M64, "f0 a4", NULL }, { M64, "f0 ff 30", NULL },
	};
	CHECK_TEXTS(cases);
}

TEST(string_operands_carry_size_and_source_segment)
{
	struct x86_insn x = decode_ok(M64, "f3 65 48 a5");

	CHECK_EQ(x.opnd[0].kind, X86_O_STR_DI);
	CHECK_EQ(x.opnd[1].kind, X86_O_STR_SI);
	CHECK_EQ(x.opnd[1].size, 8);
	CHECK_EQ(x.seg, X86_GS);
	CHECK_EQ(x.prefixes, X86_P_REP | X86_P_SEG | X86_P_REX | X86_P_REXW);
	x = decode_ok(M64, "f2 f3 ae");
	CHECK_EQ(x.prefixes, X86_P_REP);
	CHECK_EQ(decode_ok(M64, "48 6d").opnd[0].size, 4);
	CHECK_EQ(decode_ok(M16, "67 ab").adsize, 4);
}

TEST(fifteen_bytes_are_the_limit)
{
	struct x86_insn x;
	uint8_t b[20];

	memset(b, 0x66, sizeof(b));
	b[14] = 0x90;
	CHECK_EQ(x86_decode(&x, b, 20, M64), X86_DECODE_OK);
	CHECK_EQ(x.len, 15);
	CHECK_EQ(x86_decode(&x, b, 14, M64), X86_DECODE_SHORT);
	b[14] = 0x66;
	CHECK_EQ(x86_decode(&x, b, 20, M64), X86_DECODE_LONG);
	CHECK_EQ(x86_decode(&x, b, 15, M64), X86_DECODE_LONG);
	memcpy(b + 10, "\x81\x00\x01\x02\x03\x04", 6);  /* the immediate's last byte is the 16th */
	b[9] = 0x3e;
	CHECK_EQ(x86_decode(&x, b, 20, M32), X86_DECODE_OK);
	b[10] = 0x48;
	memcpy(b + 11, "\x81\x00\x01\x02\x03\x04", 6);
	CHECK_EQ(x86_decode(&x, b, 20, M64), X86_DECODE_LONG);
	CHECK_EQ(x86_decode(&x, b, 0, M64), X86_DECODE_SHORT);
}

/* Also for the sanitizers: each prefix lives in a heap block of its exact size. */
TEST(every_truncation_of_an_instruction_is_short_and_nothing_beyond_it_is_read)
{
	uint64_t s = 88172645463325252ull;
	unsigned decoded = 0;

	for (int i = 0; i < 60000; i++) {
		uint8_t b[15];
		for (unsigned k = 0; k < sizeof(b); k++) {
			s ^= s << 13;
			s ^= s >> 7;
			s ^= s << 17;
			b[k] = s;
		}
		if (i & 1)
			b[0] = 0x0f;
		struct x86_insn x, y;
		enum x86_mode mode = i % 3;
		if (x86_decode(&x, b, sizeof(b), mode) != X86_DECODE_OK)
			continue;
		decoded++;
		for (unsigned len = 0; len <= x.len; len++) {
			uint8_t *exact = malloc(len ? len : 1);
			memcpy(exact, b, len);
			CHECK_EQ(x86_decode(&y, exact, len, mode),
				 len < x.len ? X86_DECODE_SHORT : X86_DECODE_OK);
			free(exact);
		}
		CHECK_EQ(y.len, x.len);
		char text[8];
		CHECK(x86_format(&x, s, text, sizeof(text)) > 0);
	}
	CHECK(decoded > 20000);
}

TEST(rows_are_sorted_and_say_nothing_contradictory)
{
	for (unsigned i = 0; i < x86_n_rows; i++) {
		const struct x86_row *r = &x86_rows[i];
		if (i > 0)
			CHECK((r[-1].map << 8 | r[-1].opcode) <= (r->map << 8 | r->opcode));
		CHECK(r->op > X86_OP_INVALID && r->op < X86_N_OPS);
		CHECK(!(r->flags & X86_R_READS_DST) || !(r->flags & X86_R_NO_WRITE));
		CHECK(!(r->flags & X86_R_MEMONLY) || !(r->flags & X86_R_REGONLY));
		CHECK(!(r->flags & X86_R_NO64) || !(r->flags & X86_R_ONLY64));
		CHECK(!(r->flags & X86_R_W0) || !(r->flags & X86_R_W1));
		CHECK((r->reg < 0 && r->rm < 0) || (r->flags & X86_R_MODRM));
		CHECK_EQ(r->flags_written & r->flags_undefined, 0);
	}
	for (unsigned op = 1; op < X86_N_OPS; op++) {
		bool used = false;
		for (unsigned i = 0; i < x86_n_rows && !used; i++)
			used = x86_rows[i].op == op;
		if (!used)
			FAIL("no row for %s", x86_op_name(op));
		CHECK(x86_op_name(op)[0]);
	}
}

static const struct text_case vex_texts[] = {
	{ M64, "c5 ec 58 0c 25 10 00 00 00", "vaddps ymm1, ymm2, ymmword ptr [0x10]" },
	{ M64, "c4 41 31 fe c2", "vpaddd xmm8, xmm9, xmm10" },
	{ M32, "c4 c1 71 fe c2", "vpaddd xmm0, xmm1, xmm2" },           /* VEX.B does not count */
	{ M32, "c4 e1 31 fe c2", "vpaddd xmm0, xmm1, xmm2" },           /* nor does the fourth bit of vvvv */
	{ M64, "c5 fd 5a 08", "vcvtpd2ps xmm1, ymmword ptr [rax]" },
	{ M64, "c4 e2 7d 21 08", "vpmovsxbd ymm1, qword ptr [rax]" },
	{ M64, "c4 e3 71 4c d4 f0", "vpblendvb xmm2, xmm1, xmm4, xmm15" },
	{ M32, "c4 e3 71 4c d4 f0", "vpblendvb xmm2, xmm1, xmm4, xmm7" },
	{ M64, "c5 e9 71 d3 07", "vpsrlw xmm2, xmm3, 0x7" },
	{ M64, "c4 e1 f9 6e c0", "vmovq xmm0, rax" },
	{ M32, "c4 e1 f9 6e c0", "vmovd xmm0, eax" },                   /* VEX.W neither */
	{ M32, "c4 e3 f9 16 c0 01", "vpextrd eax, xmm0, 0x1" },
	{ M64, "f3 41 90", "pause" },                                   /* REX.B does not make it XCHG */
	{ M64, "c4 e2 6d 92 04 8f", "vgatherdps ymm0, dword ptr [rdi+ymm1*4], ymm2" },
	{ M64, "c4 e2 ed 92 04 e7", "vgatherdpd ymm0, qword ptr [rdi+xmm4*8], ymm2" },   /* 4 is an index */
	{ M64, "c4 e2 6d 93 04 8f", "vgatherqps xmm0, dword ptr [rdi+ymm1*4], xmm2" },
	{ M64, "c4 e2 78 f2 c1", "andn eax, eax, ecx" },
	{ M64, "c4 e2 f8 f7 c1", "bextr rax, rcx, rax" },
	{ M64, "c4 e3 fb f0 c1 07", "rorx rax, rcx, 0x7" },
	{ M64, "c4 e2 f0 f3 c8", "blsr rcx, rax" },
};

TEST(vex_instructions_have_up_to_four_operands_and_vector_lengths)
{
	check_texts(vex_texts, sizeof(vex_texts) / sizeof(vex_texts[0]));
}

TEST(vex_refuses_prefixes_and_fields_that_it_does_not_use)
{
	static const struct text_case cases[] = {
		{ M64, "66 c5 f8 77", NULL }, { M64, "f2 c5 f8 77", NULL }, { M64, "f3 c5 f8 77", NULL },
		{ M64, "f0 c5 f8 77", NULL }, { M64, "48 c5 f8 77", NULL },
		{ M64, "2e 67 c5 f8 77", "vzeroupper" },
		{ M64, "c5 f0 77", NULL },                      /* vvvv */
		{ M32, "c4 e1 38 77", NULL },                   /* its fourth bit, too */
		{ M64, "c5 f8 28 c1", "vmovaps xmm0, xmm1" }, { M64, "c5 f0 28 c1", NULL },
		{ M64, "c5 fc 12 c1", NULL },                   /* VMOVHLPS has VEX.L = 0 */
		{ M64, "c4 e2 f5 16 c1", NULL },                /* VPERMPS has VEX.W = 0 */
		{ M64, "c4 e4 78 28 c1", NULL },                /* there is no map 4 */
		{ M64, "c4 e0 78 28 c1", NULL },
		{ M64, "c4 e2 6d 92 c1", NULL },                /* a gather from a register */
		{ M64, "c4 e2 6d 92 07", NULL },                /* without SIB */
		{ M64, "c4 e2 75 92 04 8f", NULL },             /* mask = index */
		{ M64, "c4 e2 6d 92 14 8f", NULL },             /* mask = destination */
		{ M64, "c4 e2 6d 92 0c 8f", NULL },             /* index = destination */
	};

	check_texts(cases, sizeof(cases) / sizeof(cases[0]));
}

/* Build the plainest bytes of each row; they must find that row again: no row is hidden. */
static void check_vex_row(const struct x86_row *r)
{
	unsigned pp = r->pfx == 0x66 ? 1 : r->pfx == 0xf3 ? 2 : r->pfx == 0xf2 ? 3 : 0;
	/* vvvv names register 3: not the one of a gather's modrm.reg or index. */
	uint8_t b[24] = { 0xc4, 0xe0 | (r->map - X86_MAP_VEX_0F + 1),
			  (r->flags & X86_R_W1 ? 0x80 : 0) | (r->flags & X86_R_NDS ? 0x60 : 0x78) |
			  (r->flags & X86_R_L1 ? 4 : 0) | pp, r->opcode, 0, 0x08 };
	struct x86_insn x;

	for (unsigned modrm = 0; modrm < 256; modrm++) {
		b[4] = modrm;
		if (x86_decode(&x, b, sizeof(b), M64) == X86_DECODE_OK && x.row == r)
			return;
	}
	FAIL("row of %s, map %u opcode %02x, is never found", x86_op_name(r->op), r->map, r->opcode);
}

TEST(every_row_can_be_reached)
{
	for (unsigned i = 0; i < x86_n_rows; i++) {
		const struct x86_row *r = &x86_rows[i];
		uint8_t b[24] = { 0 };
		unsigned n = 0;
		enum x86_mode mode = r->flags & X86_R_NO64 ? M32 : M64;
		if (r->map >= X86_MAP_VEX_0F) {
			check_vex_row(r);
			continue;
		}
		if (r->pfx >= 0x66)
			b[n++] = r->pfx;
		/* XCHG in 90 stands behind NOP */
		bool is_xchg_90 = r->op == X86_OP_XCHG && r->opcode == 0x90;
		if ((r->flags & X86_R_W1) || is_xchg_90)
			b[n++] = is_xchg_90 ? 0x41 : 0x48;
		if (r->map)
			b[n++] = 0x0f;
		if (r->map > 1)
			b[n++] = r->map == 2 ? 0x38 : 0x3a;
		b[n++] = r->opcode;
		bool found = false;
		unsigned last = r->flags & X86_R_MODRM ? 255 : 0;
		for (unsigned modrm = 0; modrm <= last && !found; modrm++) {
			struct x86_insn x;
			b[n] = modrm;
			found = x86_decode(&x, b, sizeof(b), mode) == X86_DECODE_OK && x.row == r;
		}
		if (!found)
			FAIL("row %u (%s, map %u opcode %02x) is never found", i,
			     x86_op_name(r->op), r->map, r->opcode);
	}
}

TEST(text_is_cut_at_the_buffer_and_its_length_is_told)
{
	struct x86_insn x = decode_ok(M64, "48 8b 44 c8 10");
	char text[8];

	CHECK_EQ(x86_format(&x, 0, text, sizeof(text)), strlen("mov rax, qword ptr [rax+rcx*8+0x10]"));
	CHECK_STR(text, "mov rax");
	CHECK(x86_format(&x, 0, NULL, 0) > 0);
}
