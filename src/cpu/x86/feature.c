/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/x86/feature.h"

#include <string.h>
#include "util/str.h"

#define F(name, w, bit) { name, X86_W_##w, bit, false, NULL, NULL }
#define FIXED(name, w, bit) { name, X86_W_##w, bit, true, NULL, NULL }
#define NEEDS(name, w, bit, a) { name, X86_W_##w, bit, false, a, NULL }
#define NEEDS2(name, w, bit, a, b) { name, X86_W_##w, bit, false, a, b }

/* What is needed stands before what needs it. */
const struct x86_feature_row x86_feature_rows[] = {
	FIXED("fpu", 1_EDX, 0), F("vme", 1_EDX, 1), FIXED("de", 1_EDX, 2), FIXED("pse", 1_EDX, 3),
	FIXED("tsc", 1_EDX, 4), FIXED("msr", 1_EDX, 5), FIXED("pae", 1_EDX, 6), FIXED("mce", 1_EDX, 7),
	FIXED("cx8", 1_EDX, 8), FIXED("apic", 1_EDX, 9), FIXED("sep", 1_EDX, 11), FIXED("mtrr", 1_EDX, 12),
	FIXED("pge", 1_EDX, 13), FIXED("mca", 1_EDX, 14), FIXED("cmov", 1_EDX, 15), FIXED("pat", 1_EDX, 16),
	FIXED("pse36", 1_EDX, 17), FIXED("clflush", 1_EDX, 19), FIXED("mmx", 1_EDX, 23), FIXED("fxsr", 1_EDX, 24),
	FIXED("sse", 1_EDX, 25), FIXED("sse2", 1_EDX, 26), F("ss", 1_EDX, 27),
	FIXED("syscall", 80000001_EDX, 11), FIXED("nx", 80000001_EDX, 20), FIXED("lm", 80000001_EDX, 29),
	F("mmxext", 80000001_EDX, 22), F("fxsr_opt", 80000001_EDX, 25), F("pdpe1gb", 80000001_EDX, 26),
	F("rdtscp", 80000001_EDX, 27),
	F("lahf_lm", 80000001_ECX, 0), F("cr8_legacy", 80000001_ECX, 4), F("lzcnt", 80000001_ECX, 5),
	F("sse4a", 80000001_ECX, 6), F("misalignsse", 80000001_ECX, 7), F("prefetchw", 80000001_ECX, 8),
	F("topoext", 80000001_ECX, 22),

	F("sse3", 1_ECX, 0), F("pclmulqdq", 1_ECX, 1), NEEDS("ssse3", 1_ECX, 9, "sse3"), F("cx16", 1_ECX, 13),
	F("pcid", 1_ECX, 17), NEEDS("sse4_1", 1_ECX, 19, "ssse3"), NEEDS("sse4_2", 1_ECX, 20, "sse4_1"),
	F("x2apic", 1_ECX, 21), F("movbe", 1_ECX, 22), F("popcnt", 1_ECX, 23), F("tsc_deadline", 1_ECX, 24),
	F("aes", 1_ECX, 25), F("xsave", 1_ECX, 26), NEEDS("avx", 1_ECX, 28, "xsave"),
	NEEDS("fma", 1_ECX, 12, "avx"), NEEDS("f16c", 1_ECX, 29, "avx"), F("rdrand", 1_ECX, 30),
	F("hypervisor", 1_ECX, 31),

	F("fsgsbase", 7_EBX, 0), F("tsc_adjust", 7_EBX, 1), F("bmi1", 7_EBX, 3), NEEDS("avx2", 7_EBX, 5, "avx"),
	F("fdp_excptn_only", 7_EBX, 6), F("smep", 7_EBX, 7), F("bmi2", 7_EBX, 8), F("erms", 7_EBX, 9),
	NEEDS("invpcid", 7_EBX, 10, "pcid"), F("zero_fcs_fds", 7_EBX, 13), NEEDS("avx512f", 7_EBX, 16, "avx2"),
	NEEDS("avx512dq", 7_EBX, 17, "avx512f"), F("rdseed", 7_EBX, 18), F("adx", 7_EBX, 19), F("smap", 7_EBX, 20),
	NEEDS("avx512ifma", 7_EBX, 21, "avx512f"), F("clflushopt", 7_EBX, 23), F("clwb", 7_EBX, 24),
	NEEDS("avx512cd", 7_EBX, 28, "avx512f"), F("sha_ni", 7_EBX, 29), NEEDS("avx512bw", 7_EBX, 30, "avx512f"),
	NEEDS("avx512vl", 7_EBX, 31, "avx512f"),

	NEEDS("avx512vbmi", 7_ECX, 1, "avx512f"), F("umip", 7_ECX, 2), NEEDS("pku", 7_ECX, 3, "xsave"),
	NEEDS("avx512_vbmi2", 7_ECX, 6, "avx512f"), F("gfni", 7_ECX, 8), NEEDS2("vaes", 7_ECX, 9, "aes", "avx"),
	NEEDS2("vpclmulqdq", 7_ECX, 10, "pclmulqdq", "avx"), NEEDS("avx512_vnni", 7_ECX, 11, "avx512f"),
	NEEDS("avx512_bitalg", 7_ECX, 12, "avx512f"), NEEDS("avx512_vpopcntdq", 7_ECX, 14, "avx512f"),
	F("la57", 7_ECX, 16), F("rdpid", 7_ECX, 22), F("movdiri", 7_ECX, 27), F("movdir64b", 7_ECX, 28),

	F("fsrm", 7_EDX, 4), NEEDS("avx512_vp2intersect", 7_EDX, 8, "avx512f"), F("md_clear", 7_EDX, 10),
	F("serialize", 7_EDX, 14), NEEDS("avx512_fp16", 7_EDX, 23, "avx512bw"), F("spec_ctrl", 7_EDX, 26),
	F("stibp", 7_EDX, 27), F("arch_capabilities", 7_EDX, 29), F("ssbd", 7_EDX, 31),

	NEEDS("xsaveopt", D1_EAX, 0, "xsave"), NEEDS("xsavec", D1_EAX, 1, "xsave"), NEEDS("xgetbv1", D1_EAX, 2, "xsave"),
	{ .name = NULL },
};

static char fold(char c)
{
	return c == '-' || c == '.' ? '_' : c;
}

static bool is_name(const char *a, const char *b)
{
	while (*a && fold(*a) == fold(*b))
		a++, b++;
	return !*a && !*b;
}

const struct x86_feature_row *x86_feature_find(const char *name)
{
	for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++) {
		if (is_name(r->name, name))
			return r;
	}
	return NULL;
}

const char *x86_feature_suggest(const char *name)
{
	unsigned best = 3;
	const char *found = NULL;

	for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++) {
		unsigned d = str_distance(r->name, name);

		if (d < best) {
			best = d;
			found = r->name;
		}
	}
	return found;
}

void x86_features_put(struct x86_features *f, const struct x86_feature_row *r, bool is_on)
{
	uint32_t bit = 1u << r->bit;

	f->word[r->word] = is_on ? f->word[r->word] | bit : f->word[r->word] & ~bit;
}

const struct x86_feature_row *x86_features_missing(const struct x86_features *have, const struct x86_features *want)
{
	static const struct x86_feature_row unnamed = { .name = "unnamed feature" };
	bool is_less = (want->xcr0 & ~have->xcr0) != 0;

	for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++) {
		if (x86_features_has(want, r) && !x86_features_has(have, r))
			return r;
	}
	for (unsigned w = 0; w < X86_N_WORDS; w++)
		is_less |= (want->word[w] & ~have->word[w]) != 0;
	return is_less ? &unnamed : NULL;
}

static bool has_named(const struct x86_features *f, const char *name)
{
	return !name || x86_features_has(f, x86_feature_find(name));
}

/* XSAVE components (SDM vol. 1 13.1): a feature that is not there has no state to enable. */
static void features_fit_xcr0(struct x86_features *f)
{
	enum { X87_SSE = 3, YMM = 4, AVX512 = 0xe0, PKRU = 0x200 };

	if (!has_named(f, "xsave"))
		f->xcr0 = 0;
	if (!has_named(f, "avx"))
		f->xcr0 &= ~(uint64_t)(YMM | AVX512);
	if (!has_named(f, "avx512f") || (f->xcr0 & AVX512) != AVX512)
		f->xcr0 &= ~(uint64_t)AVX512;
	if (!has_named(f, "pku"))
		f->xcr0 &= ~(uint64_t)PKRU;
	if (!(f->xcr0 & X87_SSE))
		f->xcr0 = 0;
}

void x86_features_close(struct x86_features *f)
{
	for (const struct x86_feature_row *r = x86_feature_rows; r->name; r++) {
		if (!has_named(f, r->needs) || !has_named(f, r->needs_too))
			x86_features_put(f, r, false);
	}
	features_fit_xcr0(f);
}
