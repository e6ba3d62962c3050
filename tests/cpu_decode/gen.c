/* SPDX-License-Identifier: Apache-2.0 */
/* gen.c - random instructions for every row of the decode table and for every opcode, and what our
 * decoder makes of them: one line "mode bytes length text" each, length 0 for #UD. `compare` sets
 * them against other disassemblers. Usage: gen SEED SAMPLES. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/x86/insn.h"

/* Random bytes that a sample has, and the distance between samples in the image that compare
 * builds: the NOPs between let a disassembler that took another length find its way back. */
enum { SAMPLE = 16, SLOT = 32 };

/* xorshift64*: the same samples for the same seed everywhere. */
static uint64_t gen_random(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull >> 16;
}

/* At most one prefix of each group, REX last: with other orders the disassemblers disagree among
 * themselves on what is one instruction; the unit tests cover those. */
static unsigned gen_prefixes(uint8_t *b, const struct x86_row *r, enum x86_mode mode, uint64_t *s)
{
	static const uint8_t segs[6] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	unsigned n = 0;

	if (gen_random(s) % 8 == 0)
		b[n++] = segs[gen_random(s) % 6];
	if (gen_random(s) % 8 == 0)
		b[n++] = 0x67;
	if (gen_random(s) % 16 == 0)
		b[n++] = 0xf0;
	if (r->pfx == 0x66 || gen_random(s) % 4 == 0)
		b[n++] = 0x66;
	if (r->pfx == 0xf2 || r->pfx == 0xf3)
		b[n++] = r->pfx;
	else if (gen_random(s) % 16 == 0)
		b[n++] = gen_random(s) & 1 ? 0xf2 : 0xf3;
	if (mode == X86_MODE_64 && gen_random(s) % 2)
		b[n++] = 0x40 | (gen_random(s) & 15);
	return n;
}

/* VEX, after what may stand before it; now and then with a bit that the row does not have. */
static unsigned gen_vex(uint8_t *b, const struct x86_row *r, enum x86_mode mode, uint64_t *s)
{
	static const uint8_t segs[6] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	unsigned n = 0, rxb = mode == X86_MODE_64 ? gen_random(s) % 8 : 0;
	unsigned pp = r->pfx == 0x66 ? 1 : r->pfx == 0xf3 ? 2 : r->pfx == 0xf2 ? 3 : 0;
	bool w = r->flags & X86_R_W1, l = r->flags & X86_R_L1;
	unsigned vvvv = r->flags & X86_R_NDS || gen_random(s) % 16 == 0 ? gen_random(s) % 8 : 0;

	if (!(r->flags & (X86_R_W0 | X86_R_W1)) || gen_random(s) % 16 == 0)
		w = gen_random(s) & 1;
	if (!(r->flags & (X86_R_L0 | X86_R_L1)) || gen_random(s) % 16 == 0)
		l = gen_random(s) & 1;
	if (mode == X86_MODE_64 && vvvv)
		vvvv |= gen_random(s) & 8;
	if (gen_random(s) % 8 == 0)
		b[n++] = segs[gen_random(s) % 6];
	if (gen_random(s) % 8 == 0)
		b[n++] = 0x67;
	if (r->map == X86_MAP_VEX_0F && !w && !(rxb & 3) && gen_random(s) & 1) {
		b[n++] = 0xc5;
		b[n++] = (~rxb & 4) << 5 | (~vvvv & 15) << 3 | l << 2 | pp;
		return n;
	}
	b[n++] = 0xc4;
	b[n++] = (~rxb & 7) << 5 | (r->map - X86_MAP_VEX_0F + 1);
	b[n++] = w << 7 | (~vvvv & 15) << 3 | l << 2 | pp;
	return n;
}

static void gen_bytes(uint8_t *b, const struct x86_row *r, enum x86_mode mode, uint64_t *s)
{
	bool is_vex = r->map >= X86_MAP_VEX_0F;
	unsigned n = is_vex ? gen_vex(b, r, mode, s) : gen_prefixes(b, r, mode, s);

	if (r->map > 0 && !is_vex)
		b[n++] = 0x0f;
	if (r->map > 1 && !is_vex)
		b[n++] = r->map == 2 ? 0x38 : 0x3a;
	b[n++] = r->opcode;
	unsigned modrm = n;
	while (n < SAMPLE)
		b[n++] = gen_random(s);
	if (!(r->flags & X86_R_MODRM))
		return;
	if (r->reg >= 0)
		b[modrm] = (b[modrm] & 0xc7) | r->reg << 3;
	if (r->rm >= 0)
		b[modrm] = 0xc0 | (b[modrm] & 0x38) | r->rm;
	if (r->flags & X86_R_REGONLY)
		b[modrm] |= 0xc0;
	else if (b[modrm] < 0xc0 && gen_random(s) % 4 == 0)
		b[modrm] = (b[modrm] & 0xf8) | 4;       /* more SIB forms */
}

/* One sample: decode, print. RIP is where compare puts it. */
static void gen_sample(const struct x86_row *r, enum x86_mode mode, uint64_t rip, uint64_t *s)
{
	uint8_t b[SAMPLE];
	char text[128] = "";
	struct x86_insn x = { 0 };

	gen_bytes(b, r, mode, s);
	if (x86_decode(&x, b, sizeof(b), mode) == X86_DECODE_OK)
		x86_format(&x, rip, text, sizeof(text));
	printf("%d ", mode == X86_MODE_16 ? 16 : mode == X86_MODE_32 ? 32 : 64);
	for (int i = 0; i < SAMPLE; i++)
		printf("%02x", b[i]);
	printf(" %d %s\n", x.len, text);
}

int main(int argc, char **argv)
{
	static const uint8_t prefixes[4] = { 0, 0x66, 0xf2, 0xf3 };

	if (argc != 3) {
		fprintf(stderr, "usage: gen SEED SAMPLES\n");
		return 2;
	}
	uint64_t s = strtoull(argv[1], NULL, 0) * 0x9e3779b97f4a7c15ull | 1;
	unsigned samples = strtoul(argv[2], NULL, 0);

	for (int mode = X86_MODE_16; mode <= X86_MODE_64; mode++) {
		uint64_t rip = 0;
		for (unsigned i = 0; i < x86_n_rows; i++)
			for (unsigned k = 0; k < samples; k++, rip += SLOT)
				gen_sample(&x86_rows[i], mode, rip, &s);
		/* and every opcode of the maps, whether it has rows or not */
		for (unsigned i = 0; i < 7 * 256; i++) {
			for (unsigned k = 0; k < samples; k++, rip += SLOT) {
				struct x86_row any = { .map = i / 256, .opcode = i % 256,
						       .pfx = prefixes[k % 4],
						       .reg = -1, .rm = -1 };
				gen_sample(&any, mode, rip, &s);
			}
		}
	}
	return 0;
}
