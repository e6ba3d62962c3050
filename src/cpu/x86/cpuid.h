/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid.h - what CPUID tells the guest: one table per machine, built once, read by engines.
 *
 * Features are the host's, cut down to an allow list, cut down to what the engine in use can
 * execute. Any thread after building. Intel SDM vol. 2, CPUID; hypervisor leaves as the KVM
 * paravirtual ABI (Linux Documentation/virt/kvm/x86/cpuid.rst). */
#ifndef CPU_X86_CPUID_H
#define CPU_X86_CPUID_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/x86/ops.h"        /* enum x86_feature */
#include "util/fields.h"

struct x86_model;

enum { X86_CPUID_MAX = 64 };

struct x86_cpuid_leaf {
	uint32_t leaf, subleaf;
	bool has_subleaf;               /* SUBLEAF must match, else it is ignored */
	uint32_t eax, ebx, ecx, edx;
};

/* Words of features that an engine, a model or the allow list names. */
enum x86_cpuid_word {
	X86_W_1_ECX, X86_W_1_EDX, X86_W_7_EBX, X86_W_7_ECX, X86_W_7_EDX,
	X86_W_D1_EAX, X86_W_80000001_ECX, X86_W_80000001_EDX, X86_N_WORDS
};

/* Bits of leaf 1 EDX that AMD's processors repeat in leaf 0x80000001. */
#define X86_AMD_REPEATED 0x0183f3ffu

/* Where each word is found. REG: 0 to 3 for eax, ebx, ecx, edx. */
extern const struct x86_word_place { uint32_t leaf, subleaf; uint8_t reg; } x86_word_places[X86_N_WORDS];

struct x86_features {
	uint32_t word[X86_N_WORDS];
	uint64_t xcr0;                  /* XSAVE components that may be enabled */
};

struct x86_cpuid {
	struct x86_cpuid_leaf leaf[X86_CPUID_MAX];
	unsigned n;
	uint32_t max_basic, max_ext;
	struct x86_features required;   /* an engine that has to leave one of these out refuses instead */
	bool is_fixed;                  /* a guest has seen it: an engine that has to leave anything out refuses */
};

/* What the software interpreter executes, and so announces, borrowed features if the host has them. */
extern const struct x86_features x86_features_interp;
/* The same without LA57 and what is encoded by VEX: the translator leaves that to the interpreter, and programs
 * that find AVX would be slower for it. */
extern const struct x86_features x86_features_bt;
/* What may ever be announced on hardware engines. */
extern const struct x86_features x86_features_allowed;

/* Features (bits by enum x86_feature) whose instructions software engines run by the host's own. */
#define X86_F_BIT(name) (1ull << X86_F_##name)
#define X86_F_BORROWED (X86_F_BIT(SSE3) | X86_F_BIT(SSSE3) | X86_F_BIT(SSE41) | X86_F_BIT(SSE42) | \
			X86_F_BIT(POPCNT) | X86_F_BIT(LZCNT) | X86_F_BIT(BMI1) | X86_F_BIT(BMI2) | \
			X86_F_BIT(AES) | X86_F_BIT(PCLMUL) | X86_F_BIT(SHA) | X86_F_BIT(AVX) | X86_F_BIT(AVX2) | \
			X86_F_BIT(FMA) | X86_F_BIT(F16C) | X86_F_BIT(VAES) | X86_F_BIT(VPCLMUL))
/* Features that a program can use on this host. */
uint64_t x86_host_features(void);

/* What ENGINE (one of the sets above) can announce on this host. */
void x86_features_usable(struct x86_features *out, const struct x86_features *engine);

struct x86_cpuid_params {
	unsigned n_vcpus;               /* 1..255 */
	const struct x86_features *engine;
	const struct x86_model *model;  /* made for ENGINE (model.h); NULL: "host" */
	uint64_t tsc_hz;                /* for leaves 0x15, 0x16, 0x40000010 */
	unsigned phys_bits;             /* 36..52 */
	bool has_kvmclock;
	bool has_pv;                    /* steal time, PV EOI and the hypercalls of dev/pv.h */
};

void x86_cpuid_build(struct x86_cpuid *t, const struct x86_cpuid_params *p);

/* Look up LEAF/SUBLEAF as executed by vCPU APIC_ID with CR4/XCR0 in force; out-of-range leaves
 * answer like the highest basic leaf (SDM). REGS: eax, ebx, ecx, edx. */
void x86_cpuid_get(const struct x86_cpuid *t, uint32_t leaf, uint32_t subleaf, uint32_t apic_id,
		   uint64_t cr4, uint64_t xcr0, uint32_t regs[4]);

/* True when the feature bit BIT of WORD is announced. */
bool x86_cpuid_has(const struct x86_cpuid *t, enum x86_cpuid_word w, unsigned bit);

/* Features of instructions (bits by enum x86_feature) that are not announced, of those that CPUID tells. */
uint64_t x86_cpuid_lacks(const struct x86_cpuid *t);

/* The processor calls itself AMD's. */
static inline bool x86_cpuid_is_amd(const struct x86_cpuid *t)
{
	return t->max_ext == 0x8000001e;
}

/* --- saved machines (cpuid_saved.c) --- */
struct x86_cpuid_saved_leaf {
	uint32_t leaf, subleaf;
	uint32_t reg[4];                /* eax, ebx, ecx, edx */
	uint8_t has_subleaf;
};
struct x86_cpuid_saved {
	uint32_t n, max_basic, max_ext;
	struct x86_cpuid_saved_leaf leaf[X86_CPUID_MAX];
};
extern const struct state_desc x86_cpuid_desc;
void x86_cpuid_save(struct x86_cpuid_saved *out, const struct x86_cpuid *t);
void x86_cpuid_load(struct x86_cpuid *out, const struct x86_cpuid_saved *s);   /* S has been checked by its table */
/* -ENOTSUP, with the list of features that T announces and CAN lacks. */
int x86_cpuid_check(const struct x86_cpuid *t, const struct x86_features *can, struct err *err);

/* Bits that XCR0 may have (leaf 0xd). */
uint64_t x86_cpuid_xcr0(const struct x86_cpuid *t);

#endif
