/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid.c - the CPUID table of a machine (Intel SDM vol. 2, CPUID; AMD APM vol. 3 appendix E).
 *
 * Software engines show one synthetic processor on every host, so that a guest behaves the same
 * everywhere, but for the instructions that they leave to the host's own: GenuineIntel, family 6
 * and a model that no guest attaches quirks to, immune (by IA32_ARCH_CAPABILITIES) to what needs
 * mitigation. Hardware engines show the host's vendor, because SYSENTER, SYSRET and some faults are
 * the vendor's, and with the CPU model "host" its family, model and brand string; a named model has
 * neutral ones. Caches and topology are ours in all cases: N cores of one thread in one package, each
 * vCPU's number being its APIC id. */
#include "cpu/x86/cpuid.h"

#include <stdio.h>
#include <string.h>
#include "cpu/x86/feature.h"
#include "cpu/x86/model.h"
#include "cpu/x86/state.h"

#define B(n) (1u << (n))
#define EXT_BASE 0x80000000u

enum {
	SYNTH_FAMILY = 6,
	SYNTH_MODEL = 0xef,
	SYNTH_STEPPING = 1,
	SYNTH_AMD = 0x00a00f11,         /* family 25, model 1: what named models are where the vendor is AMD */
	CRYSTAL_KHZ = 1000000,          /* clock of LAPIC timers: KVM's, 1 GHz */
	HV_BASE = 0x40000000,
	HV_MAX = 0x40000010,
	XSAVE_LEGACY = 576,             /* legacy area and header */
};

const struct x86_features x86_features_interp = {
	.word = {
		/* SSE3, PCLMULQDQ, SSSE3, FMA, CX16, PCID, SSE4.1, SSE4.2, X2APIC, MOVBE, POPCNT,
		 * TSC-deadline, AES, XSAVE, AVX, F16C, RDRAND, hypervisor */
		[X86_W_1_ECX] = B(0) | B(1) | B(9) | B(12) | B(13) | B(17) | B(19) | B(20) | B(21) | B(22) | B(23) |
				B(24) | B(25) | B(26) | B(28) | B(29) | B(30) | B(31),
		/* FPU, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE, MCA, CMOV, PAT, PSE-36,
		 * CLFLUSH, MMX, FXSR, SSE, SSE2 */
		[X86_W_1_EDX] = B(0) | B(2) | B(3) | B(4) | B(5) | B(6) | B(7) | B(8) | B(9) | B(11) | B(12) |
				B(13) | B(14) | B(15) | B(16) | B(17) | B(19) | B(23) | B(24) | B(25) | B(26),
		/* FSGSBASE, TSC_ADJUST, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP,
		 * CLFLUSHOPT, CLWB, SHA */
		[X86_W_7_EBX] = B(0) | B(1) | B(3) | B(5) | B(7) | B(8) | B(9) | B(10) | B(18) | B(19) | B(20) |
				B(23) | B(24) | B(29),
		/* UMIP, VAES, VPCLMULQDQ, LA57, RDPID */
		[X86_W_7_ECX] = B(2) | B(9) | B(10) | B(16) | B(22),
		/* FSRM, SERIALIZE, IBRS/IBPB, STIBP, ARCH_CAPABILITIES */
		[X86_W_7_EDX] = B(4) | B(14) | B(26) | B(27) | B(29),
		/* XSAVEOPT, XSAVEC, XGETBV with ECX = 1 */
		[X86_W_D1_EAX] = B(0) | B(1) | B(2),
		/* LAHF in 64-bit mode, LZCNT, PREFETCHW */
		[X86_W_80000001_ECX] = B(0) | B(5) | B(8),
		/* SYSCALL, NX, 1 GiB pages, RDTSCP, long mode */
		[X86_W_80000001_EDX] = B(11) | B(20) | B(26) | B(27) | B(29),
	},
	.xcr0 = 7,
};

const struct x86_features x86_features_bt = {
	.word = {
		[X86_W_1_ECX] = B(0) | B(1) | B(9) | B(12) | B(13) | B(17) | B(19) | B(20) | B(21) | B(22) | B(23) |
				B(24) | B(25) | B(26) | B(28) | B(29) | B(30) | B(31),
		[X86_W_1_EDX] = B(0) | B(2) | B(3) | B(4) | B(5) | B(6) | B(7) | B(8) | B(9) | B(11) | B(12) |
				B(13) | B(14) | B(15) | B(16) | B(17) | B(19) | B(23) | B(24) | B(25) | B(26),
		[X86_W_7_EBX] = B(0) | B(1) | B(3) | B(5) | B(7) | B(8) | B(9) | B(10) | B(18) | B(19) | B(20) |
				B(23) | B(24) | B(29),
		/* - LA57 */
		[X86_W_7_ECX] = B(2) | B(9) | B(10) | B(22),
		[X86_W_7_EDX] = B(4) | B(14) | B(26) | B(27) | B(29),
		[X86_W_D1_EAX] = B(0) | B(1) | B(2),
		[X86_W_80000001_ECX] = B(0) | B(5) | B(8),
		[X86_W_80000001_EDX] = B(11) | B(20) | B(26) | B(27) | B(29),
	},
	.xcr0 = 7,
};

/* Left out: what the machine does not emulate (MONITOR, VMX, SMX, thermal and performance
 * monitoring, RTM) and state that struct x86_state does not carry (XSS, CET, AMX). */
const struct x86_features x86_features_allowed = {
	.word = {
		/* + PCLMULQDQ, FMA, AES, AVX, F16C */
		[X86_W_1_ECX] = B(0) | B(1) | B(9) | B(12) | B(13) | B(17) | B(19) | B(20) | B(21) | B(22) | B(23) |
				B(24) | B(25) | B(26) | B(28) | B(29) | B(30) | B(31),
		/* + VME, self-snoop */
		[X86_W_1_EDX] = B(0) | B(1) | B(2) | B(3) | B(4) | B(5) | B(6) | B(7) | B(8) | B(9) | B(11) | B(12) |
				B(13) | B(14) | B(15) | B(16) | B(17) | B(19) | B(23) | B(24) | B(25) | B(26) | B(27),
		/* + BMI1, AVX2, FDP_EXCPTN_ONLY, BMI2, no FCS/FDS, AVX512F/DQ/IFMA/CD/BW/VL, SHA */
		[X86_W_7_EBX] = B(0) | B(1) | B(3) | B(5) | B(6) | B(7) | B(8) | B(9) | B(10) | B(13) | B(16) | B(17) |
				B(18) | B(19) | B(20) | B(21) | B(23) | B(24) | B(28) | B(29) | B(30) | B(31),
		/* + AVX512_VBMI, PKU, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ, MOVDIRI,
		 * MOVDIR64B */
		[X86_W_7_ECX] = B(1) | B(2) | B(3) | B(6) | B(8) | B(9) | B(10) | B(11) | B(12) | B(14) | B(16) |
				B(22) | B(27) | B(28),
		/* + VP2INTERSECT, MD_CLEAR, FP16, SSBD */
		[X86_W_7_EDX] = B(4) | B(8) | B(10) | B(14) | B(23) | B(26) | B(27) | B(29) | B(31),
		[X86_W_D1_EAX] = B(0) | B(1) | B(2),
		/* + CR8 alias, SSE4A, misaligned SSE, TOPOEXT */
		[X86_W_80000001_ECX] = B(0) | B(4) | B(5) | B(6) | B(7) | B(8) | B(22),
		/* AMD repeats leaf 1 here; + MMXEXT, FXSR_OPT */
		[X86_W_80000001_EDX] = X86_AMD_REPEATED | B(11) | B(20) | B(22) | B(25) | B(26) | B(27) | B(29),
	},
	.xcr0 = 0x2e7,                  /* x87, SSE, AVX, AVX-512, PKRU */
};

const struct x86_word_place x86_word_places[X86_N_WORDS] = {
	[X86_W_1_ECX] = { 1, 0, 2 },
	[X86_W_1_EDX] = { 1, 0, 3 },
	[X86_W_7_EBX] = { 7, 0, 1 },
	[X86_W_7_ECX] = { 7, 0, 2 },
	[X86_W_7_EDX] = { 7, 0, 3 },
	[X86_W_D1_EAX] = { 0xd, 1, 0 },
	[X86_W_80000001_ECX] = { 0x80000001, 0, 2 },
	[X86_W_80000001_EDX] = { 0x80000001, 0, 3 },
};

/* Where the features of instructions are found; those that are not here every host has, or none. */
static const struct { uint8_t feature, word, bit; bool needs_ymm; } feature_bits[] = {
	{ X86_F_SSE3, X86_W_1_ECX, 0, false }, { X86_F_PCLMUL, X86_W_1_ECX, 1, false },
	{ X86_F_SSSE3, X86_W_1_ECX, 9, false }, { X86_F_FMA, X86_W_1_ECX, 12, true },
	{ X86_F_CX16, X86_W_1_ECX, 13, false }, { X86_F_SSE41, X86_W_1_ECX, 19, false },
	{ X86_F_SSE42, X86_W_1_ECX, 20, false }, { X86_F_MOVBE, X86_W_1_ECX, 22, false },
	{ X86_F_POPCNT, X86_W_1_ECX, 23, false }, { X86_F_AES, X86_W_1_ECX, 25, false },
	{ X86_F_XSAVE, X86_W_1_ECX, 27, false }, { X86_F_AVX, X86_W_1_ECX, 28, true },
	{ X86_F_F16C, X86_W_1_ECX, 29, true }, { X86_F_RDRAND, X86_W_1_ECX, 30, false },
	{ X86_F_FSGSBASE, X86_W_7_EBX, 0, false }, { X86_F_BMI1, X86_W_7_EBX, 3, false },
	{ X86_F_AVX2, X86_W_7_EBX, 5, true }, { X86_F_BMI2, X86_W_7_EBX, 8, false },
	{ X86_F_RDSEED, X86_W_7_EBX, 18, false }, { X86_F_ADX, X86_W_7_EBX, 19, false },
	{ X86_F_CLFLUSHOPT, X86_W_7_EBX, 23, false }, { X86_F_CLWB, X86_W_7_EBX, 24, false },
	{ X86_F_SHA, X86_W_7_EBX, 29, false }, { X86_F_VAES, X86_W_7_ECX, 9, true },
	{ X86_F_VPCLMUL, X86_W_7_ECX, 10, true }, { X86_F_XSAVEOPT, X86_W_D1_EAX, 0, false },
	{ X86_F_XSAVEC, X86_W_D1_EAX, 1, false }, { X86_F_LZCNT, X86_W_80000001_ECX, 5, false },
	{ X86_F_INVPCID, X86_W_7_EBX, 10, false }, { X86_F_SMAP, X86_W_7_EBX, 20, false },
	{ X86_F_RDPID, X86_W_7_ECX, 22, false }, { X86_F_RDTSCP, X86_W_80000001_EDX, 27, false },
};
enum { N_FEATURE_BITS = sizeof(feature_bits) / sizeof(feature_bits[0]) };
_Static_assert(X86_N_FEATURES <= 64, "sets of features are uint64_t");

/* The caches that every guest sees. A shared one is shared by all vCPUs. */
static const struct cache {
	uint8_t level, type;            /* type: 1 data, 2 code, 3 both */
	uint8_t ways;
	uint16_t sets;
	bool is_shared;
} caches[] = {
	{ 1, 1, 8, 64, false },         /* 32 KiB */
	{ 1, 2, 8, 64, false },
	{ 2, 3, 16, 1024, false },      /* 1 MiB */
	{ 3, 3, 16, 16384, true },      /* 16 MiB */
};
enum { N_CACHES = sizeof(caches) / sizeof(caches[0]), LINE = 64 };

/* --- building ------------------------------------------------------------------------------------ */

struct builder {
	struct x86_cpuid *t;
	const struct x86_cpuid_params *p;
	bool is_host;                   /* the vendor is the host's */
	bool is_like_host;              /* and so are signature and brand string */
	bool is_amd;
	uint32_t word[X86_N_WORDS];     /* to announce */
	uint64_t xcr0;
	unsigned id_bits;               /* of an APIC id */
};

/* The instruction itself: the compiler's <cpuid.h> is hidden by our header of that name. */
static void host_cpuid_raw(uint32_t leaf, uint32_t subleaf, uint32_t r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(subleaf));
}

/* Zeros beyond the host's last leaf. */
static void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t r[4])
{
	host_cpuid_raw(leaf & EXT_BASE, 0, r);
	if (leaf <= r[0])
		host_cpuid_raw(leaf, subleaf, r);
	else
		memset(r, 0, 4 * sizeof(*r));
}

/* The host's system keeps YMM registers. */
static bool host_has_ymm(void)
{
	uint32_t r[4], eax, edx;

	host_cpuid(1, 0, r);
	if (!(r[2] & B(27)))            /* OSXSAVE */
		return false;
	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return (eax & 6) == 6;
}

uint64_t x86_host_features(void)
{
	uint64_t found = X86_F_BIT(BASE) | X86_F_BIT(X87) | X86_F_BIT(MMX) | X86_F_BIT(SSE) | X86_F_BIT(SSE2) |
			 X86_F_BIT(FXSR) | X86_F_BIT(LM);
	bool has_ymm = host_has_ymm();
	uint32_t r[4];

	for (unsigned i = 0; i < N_FEATURE_BITS; i++) {
		unsigned w = feature_bits[i].word;

		host_cpuid(x86_word_places[w].leaf, x86_word_places[w].subleaf, r);
		if (r[x86_word_places[w].reg] >> feature_bits[i].bit & 1 && (has_ymm || !feature_bits[i].needs_ymm))
			found |= 1ull << feature_bits[i].feature;
	}
	return found;
}

uint64_t x86_cpuid_lacks(const struct x86_cpuid *t)
{
	uint64_t lacks = 0;

	for (unsigned i = 0; i < N_FEATURE_BITS; i++) {
		unsigned feature = feature_bits[i].feature;

		/* On the host it counts that the system has turned XSAVE on, in a guest that it may. */
		if (!x86_cpuid_has(t, feature_bits[i].word, feature == X86_F_XSAVE ? 26 : feature_bits[i].bit))
			lacks |= 1ull << feature;
	}
	return lacks;
}

static void add(struct builder *b, struct x86_cpuid_leaf l)
{
	if (b->t->n < X86_CPUID_MAX)
		b->t->leaf[b->t->n++] = l;
}

static void add_sub(struct builder *b, struct x86_cpuid_leaf l)
{
	l.has_subleaf = true;
	add(b, l);
}

enum { VENDOR_AUTH = 0x68747541, VENDOR_HYGO = 0x6f677948 };     /* EBX of leaf 0 */

static bool is_hardware(const struct x86_features *engine)
{
	return engine == &x86_features_allowed;
}

/* Features that software engines run by the host's own and that this host lacks. */
static void features_drop_borrowed(struct x86_features *f)
{
	uint64_t missing = X86_F_BORROWED & ~x86_host_features();

	for (unsigned i = 0; i < N_FEATURE_BITS; i++)
		if (missing >> feature_bits[i].feature & 1)
			f->word[feature_bits[i].word] &= ~B(feature_bits[i].bit);
}

void x86_features_usable(struct x86_features *out, const struct x86_features *engine)
{
	uint32_t r[4];

	*out = *engine;
	for (unsigned w = 0; is_hardware(engine) && w < X86_N_WORDS; w++) {
		host_cpuid(x86_word_places[w].leaf, x86_word_places[w].subleaf, r);
		out->word[w] &= r[x86_word_places[w].reg];
	}
	if (is_hardware(engine)) {
		host_cpuid(0xd, 0, r);
		out->xcr0 &= r[0];
	} else {
		features_drop_borrowed(out);
	}
	/* These are the machine's to offer, not the host's: the engine or we emulate them. */
	out->word[X86_W_1_ECX] |= engine->word[X86_W_1_ECX] & (B(21) | B(24) | B(31));
	x86_features_close(out);
}

static void build_words(struct builder *b)
{
	const struct x86_model *m = b->p->model;
	struct x86_features f;

	if (m)
		f = m->features;
	else
		x86_features_usable(&f, b->p->engine);
	memcpy(b->word, f.word, sizeof(b->word));
	b->xcr0 = f.xcr0;
	if (m)
		b->t->required = m->required;
	if (b->p->n_vcpus > 1)
		b->word[X86_W_1_EDX] |= B(28);          /* HTT: the package count in leaf 1 is valid */
}

static void build_identity(struct builder *b)
{
	uint32_t sig = (SYNTH_MODEL >> 4) << 16 | SYNTH_FAMILY << 8 | (SYNTH_MODEL & 15) << 4 | SYNTH_STEPPING;
	uint32_t vendor[4] = { 0, 0x756e6547, 0x6c65746e, 0x49656e69 };  /* GenuineIntel: b, c, d */
	uint32_t r[4];

	if (b->is_host)
		host_cpuid(0, 0, vendor);
	else if (b->p->model && b->p->model->is_amd)
		memcpy(vendor, "\0\0\0\0AuthcAMDenti", sizeof(vendor));
	b->is_amd = vendor[1] == VENDOR_AUTH || vendor[1] == VENDOR_HYGO;
	if (b->is_like_host) {
		host_cpuid(1, 0, r);
		sig = r[0];
	} else if (b->is_amd) {
		sig = SYNTH_AMD;
	}
	if (b->is_amd)          /* leaf 1 once more */
		b->word[X86_W_80000001_EDX] |= b->word[X86_W_1_EDX] & X86_AMD_REPEATED;
	b->t->max_basic = b->is_amd ? 0x10 : 0x1f;
	b->t->max_ext = b->is_amd ? 0x8000001e : 0x80000008;
	add(b, (struct x86_cpuid_leaf){ .leaf = 0, .eax = b->t->max_basic, .ebx = vendor[1], .ecx = vendor[2], .edx = vendor[3] });
	add(b, (struct x86_cpuid_leaf){ .leaf = 1, .eax = sig, .ebx = LINE / 8 << 8 | (1u << b->id_bits & 0xff) << 16,
		.ecx = b->word[X86_W_1_ECX], .edx = b->word[X86_W_1_EDX] });
}

/* Leaf 4, or AMD's 0x8000001d, in the same format. */
static void build_caches(struct builder *b, uint32_t leaf)
{
	for (unsigned i = 0; i < N_CACHES; i++) {
		const struct cache *c = &caches[i];
		uint32_t sharers = c->is_shared ? (1u << b->id_bits) - 1 : 0;
		uint32_t cores = leaf == 4 ? ((1u << b->id_bits) - 1) & 0x3f : 0;

		add_sub(b, (struct x86_cpuid_leaf){ .leaf = leaf, .subleaf = i,
			.eax = c->type | c->level << 5 | B(8) | sharers << 14 | cores << 26,
			.ebx = (LINE - 1) | (uint32_t)(c->ways - 1) << 22, .ecx = c->sets - 1u });
	}
}

/* Leaves 0xb and 0x1f: one thread per core, all cores in one package. EDX comes at run time. */
static void build_topology(struct builder *b, uint32_t leaf)
{
	enum { LEVEL_SMT = 1, LEVEL_CORE = 2 };

	add_sub(b, (struct x86_cpuid_leaf){ .leaf = leaf, .subleaf = 0, .eax = 0, .ebx = 1, .ecx = LEVEL_SMT << 8 });
	add_sub(b, (struct x86_cpuid_leaf){ .leaf = leaf, .subleaf = 1, .eax = b->id_bits, .ebx = b->p->n_vcpus,
		.ecx = LEVEL_CORE << 8 | 1 });
}

/* Size, offset and flags of an XSAVE component (SDM vol. 1 13.5). */
static void build_xsave(struct builder *b)
{
	uint32_t r[4];

	add_sub(b, (struct x86_cpuid_leaf){ .leaf = 0xd, .eax = (uint32_t)b->xcr0, .edx = b->xcr0 >> 32 });
	add_sub(b, (struct x86_cpuid_leaf){ .leaf = 0xd, .subleaf = 1, .eax = b->word[X86_W_D1_EAX] });
	for (unsigned i = 2; i < 63; i++) {
		if (!(b->xcr0 >> i & 1))
			continue;
		host_cpuid(0xd, i, r);
		add_sub(b, (struct x86_cpuid_leaf){ .leaf = 0xd, .subleaf = i, .eax = r[0], .ebx = r[1], .ecx = r[2] });
	}
}

/* TSC = crystal * ebx / eax. Linux multiplies the crystal's kHz by ebx in 32 bits, so eax is kept
 * small and the best fraction within that bound is taken. */
static void build_clock(struct builder *b)
{
	uint64_t tsc_khz = b->p->tsc_hz / 1000, best_num = 1, best_den = 1, best_err = UINT64_MAX;
	uint64_t max_den = tsc_khz ? UINT32_MAX / tsc_khz : 0;

	if (max_den > 1000)
		max_den = 1000;
	for (uint64_t den = 1; den <= max_den; den++) {
		uint64_t num = (tsc_khz * den + CRYSTAL_KHZ / 2) / CRYSTAL_KHZ;
		uint64_t got = num * CRYSTAL_KHZ / den;
		uint64_t err = got > tsc_khz ? got - tsc_khz : tsc_khz - got;

		if (num && err < best_err) {
			best_err = err;
			best_num = num;
			best_den = den;
		}
	}
	if (best_err != UINT64_MAX)
		add(b, (struct x86_cpuid_leaf){ .leaf = 0x15, .eax = (uint32_t)best_den, .ebx = (uint32_t)best_num,
			.ecx = CRYSTAL_KHZ * 1000u });
	add(b, (struct x86_cpuid_leaf){ .leaf = 0x16, .eax = (uint32_t)(tsc_khz / 1000), .ebx = (uint32_t)(tsc_khz / 1000), .ecx = 100 });
}

static void build_hypervisor(struct builder *b)
{
	enum {
		CLOCKSOURCE = B(0), NOP_IO_DELAY = B(1), CLOCKSOURCE2 = B(3), STEAL_TIME = B(5), PV_EOI = B(6),
		PV_UNHALT = B(7), PV_TLB_FLUSH = B(9), PV_SEND_IPI = B(11), PV_SCHED_YIELD = B(13), CLOCKSOURCE_STABLE = B(24),
	};
	uint32_t features = NOP_IO_DELAY;

	if (b->p->has_kvmclock)
		features |= CLOCKSOURCE | CLOCKSOURCE2 | CLOCKSOURCE_STABLE;
	if (b->p->has_pv)
		features |= STEAL_TIME | PV_EOI | PV_UNHALT | PV_TLB_FLUSH | PV_SEND_IPI | PV_SCHED_YIELD;
	add(b, (struct x86_cpuid_leaf){ .leaf = HV_BASE, .eax = HV_MAX,
		.ebx = 0x4b4d564b, .ecx = 0x564b4d56, .edx = 0x4d });           /* KVMKVMKVM */
	add(b, (struct x86_cpuid_leaf){ .leaf = HV_BASE + 1, .eax = features });
	add(b, (struct x86_cpuid_leaf){ .leaf = HV_MAX, .eax = (uint32_t)(b->p->tsc_hz / 1000), .ebx = CRYSTAL_KHZ });
}

static void build_brand(struct builder *b)
{
	const struct x86_model *m = b->p->model;
	char text[48] = "Vivarium virtual processor";
	uint32_t r[12];

	if (m && !m->is_host)
		snprintf(text, sizeof(text), "Vivarium %s processor", m->name);
	memcpy(r, text, sizeof(r));
	for (unsigned i = 0; i < 3; i++) {
		if (b->is_like_host)
			host_cpuid(0x80000002 + i, 0, r + 4 * i);
		add(b, (struct x86_cpuid_leaf){ .leaf = 0x80000002 + i, .eax = r[4 * i], .ebx = r[4 * i + 1],
			.ecx = r[4 * i + 2], .edx = r[4 * i + 3] });
	}
}

static void build_extended(struct builder *b)
{
	const uint32_t l1 = 32u << 24 | 8u << 16 | 1 << 8 | LINE, l2 = 1024u << 16 | 8u << 12 | 1 << 8 | LINE;
	/* IBPB, IBRS, STIBP, SSBD, where AMD has them */
	const uint32_t amd_spec = B(12) | B(14) | B(15) | B(24);
	unsigned virt_bits = b->word[X86_W_7_ECX] & B(16) ? 57 : 48;
	uint32_t r[4] = { 0 };

	add(b, (struct x86_cpuid_leaf){ .leaf = EXT_BASE, .eax = b->t->max_ext, .ebx = b->is_amd ? b->t->leaf[0].ebx : 0,
		.ecx = b->is_amd ? b->t->leaf[0].ecx : 0, .edx = b->is_amd ? b->t->leaf[0].edx : 0 });
	add(b, (struct x86_cpuid_leaf){ .leaf = 0x80000001, .eax = b->is_amd ? b->t->leaf[1].eax : 0,
		.ecx = b->word[X86_W_80000001_ECX], .edx = b->word[X86_W_80000001_EDX] });
	build_brand(b);
	if (b->is_amd)
		add(b, (struct x86_cpuid_leaf){ .leaf = 0x80000005, .ecx = l1, .edx = l1 });
	add(b, (struct x86_cpuid_leaf){ .leaf = 0x80000006, .ecx = l2, .edx = b->is_amd ? 32u << 18 | 8u << 12 | 1 << 8 | LINE : 0 });
	add(b, (struct x86_cpuid_leaf){ .leaf = 0x80000007, .edx = B(8) });     /* invariant TSC */
	if (b->is_amd)
		host_cpuid(0x80000008, 0, r);
	add(b, (struct x86_cpuid_leaf){ .leaf = 0x80000008, .eax = b->p->phys_bits | virt_bits << 8, .ebx = r[1] & amd_spec,
		.ecx = b->is_amd ? b->id_bits << 12 | (b->p->n_vcpus - 1) : 0 });
	if (b->is_amd) {
		build_caches(b, 0x8000001d);
		add(b, (struct x86_cpuid_leaf){ .leaf = 0x8000001e });  /* ids come at run time */
	}
}

void x86_cpuid_build(struct x86_cpuid *t, const struct x86_cpuid_params *p)
{
	struct builder b = { .t = t, .p = p, .is_host = is_hardware(p->engine) };

	b.is_like_host = b.is_host && (!p->model || p->model->is_host);

	memset(t, 0, sizeof(*t));
	while ((1u << b.id_bits) < p->n_vcpus)
		b.id_bits++;
	build_words(&b);
	build_identity(&b);
	if (!b.is_amd) {
		add(&b, (struct x86_cpuid_leaf){ .leaf = 2, .eax = 0x00ff0001 });        /* 0xff: see leaf 4 */
		build_caches(&b, 4);
	}
	add(&b, (struct x86_cpuid_leaf){ .leaf = 6, .eax = B(2) });      /* ARAT: the timer never stops */
	add_sub(&b, (struct x86_cpuid_leaf){ .leaf = 7, .ebx = b.word[X86_W_7_EBX], .ecx = b.word[X86_W_7_ECX],
		.edx = b.word[X86_W_7_EDX] });
	build_topology(&b, 0xb);
	if (b.xcr0)
		build_xsave(&b);
	if (!b.is_amd) {
		build_clock(&b);
		build_topology(&b, 0x1f);
	}
	build_hypervisor(&b);
	build_extended(&b);
}

/* --- looking up ------------------------------------------------------------------------------------ */

static const struct x86_cpuid_leaf *cpuid_find(const struct x86_cpuid *t, uint32_t leaf, uint32_t subleaf)
{
	for (unsigned i = 0; i < t->n && i < X86_CPUID_MAX; i++) {
		const struct x86_cpuid_leaf *l = &t->leaf[i];

		if (l->leaf == leaf && (!l->has_subleaf || l->subleaf == subleaf))
			return l;
	}
	return NULL;
}

/* Bytes that XSAVE needs for the components in XCR0: standard and compacted form. */
static void cpuid_xsave_sizes(const struct x86_cpuid *t, uint64_t xcr0, uint32_t *standard, uint32_t *compact)
{
	*standard = *compact = XSAVE_LEGACY;
	for (unsigned i = 2; i < 63; i++) {
		const struct x86_cpuid_leaf *l = xcr0 >> i & 1 ? cpuid_find(t, 0xd, i) : NULL;

		if (!l)
			continue;
		if (l->ebx + l->eax > *standard)
			*standard = l->ebx + l->eax;
		if (l->ecx & 2)         /* aligned to 64 bytes */
			*compact = (*compact + 63) & ~63u;
		*compact += l->eax;
	}
}

/* A leaf that does not exist: beyond the last, Intel repeats the highest basic leaf and AMD has
 * zeros; hypervisor leaves are a class of their own. */
static uint32_t cpuid_clamp(const struct x86_cpuid *t, uint32_t leaf)
{
	bool is_intel = t->max_ext == 0x80000008;

	if (leaf <= t->max_basic || !is_intel || (leaf >= HV_BASE && leaf <= HV_BASE + 0xff) ||
	    (leaf >= EXT_BASE && leaf <= t->max_ext))
		return leaf;
	return t->max_basic;
}

void x86_cpuid_get(const struct x86_cpuid *t, uint32_t leaf, uint32_t subleaf, uint32_t apic_id,
		   uint64_t cr4, uint64_t xcr0, uint32_t regs[4])
{
	uint32_t standard, compact;

	leaf = cpuid_clamp(t, leaf);
	const struct x86_cpuid_leaf *l = cpuid_find(t, leaf, subleaf);
	regs[0] = l ? l->eax : 0;
	regs[1] = l ? l->ebx : 0;
	regs[2] = l ? l->ecx : 0;
	regs[3] = l ? l->edx : 0;
	switch (leaf) {
	case 1:
		regs[1] |= (apic_id & 0xff) << 24;
		if (cr4 & X86_CR4_OSXSAVE)
			regs[2] |= B(27);
		break;
	case 7:
		if (!subleaf && (cr4 & X86_CR4_PKE))
			regs[2] |= B(4);
		break;
	case 0xb:
	case 0x1f:
		/* A level that does not exist still gives the subleaf and the x2APIC id. */
		regs[2] = (regs[2] & ~0xffu) | (subleaf & 0xff);
		regs[3] = apic_id;
		break;
	case 0xd:
		if (!l || subleaf > 1)
			break;
		cpuid_xsave_sizes(t, xcr0, &standard, &compact);
		regs[1] = subleaf ? compact : standard;
		if (!subleaf)
			cpuid_xsave_sizes(t, x86_cpuid_xcr0(t), &regs[2], &compact);
		break;
	case 0x8000001e:
		regs[0] = apic_id;
		regs[1] = apic_id & 0xff;
		break;
	}
}

bool x86_cpuid_has(const struct x86_cpuid *t, enum x86_cpuid_word w, unsigned bit)
{
	const struct x86_cpuid_leaf *l = cpuid_find(t, x86_word_places[w].leaf, x86_word_places[w].subleaf);

	if (!l)
		return false;
	const uint32_t regs[4] = { l->eax, l->ebx, l->ecx, l->edx };
	return regs[x86_word_places[w].reg] >> bit & 1;
}

uint64_t x86_cpuid_xcr0(const struct x86_cpuid *t)
{
	const struct x86_cpuid_leaf *l = cpuid_find(t, 0xd, 0);

	return l ? l->eax | (uint64_t)l->edx << 32 : 0;
}
