/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_cpuid.c - the machine's CPUID table, cut down to what this KVM can do, into the kernel. */
#include "cpu/kvm/kvm_priv.h"

#include <stdlib.h>
#include "cpu/x86/feature.h"
#include "util/checked.h"

enum { KVM_CPUID_MAX = 256 };

/* Registers that are sets of features: announced bits must be known to KVM. The bits of ALWAYS
 * are not in KVM_GET_SUPPORTED_CPUID but work: what the kernel's LAPIC brings, what follows
 * CR4, and the number of processors. */
static const struct {
	uint32_t leaf, subleaf;
	uint8_t reg;            /* 0..3: eax, ebx, ecx, edx */
	uint32_t always;
} kvm_feature_regs[] = {
	{ 1, 0, 2, 1u << 21 | 1u << 24 | 1u << 27 | 1u << 31 },  /* x2APIC, TSC deadline, OSXSAVE, hypervisor */
	{ 1, 0, 3, 1u << 9 | 1u << 28 },                         /* APIC, HTT */
	{ 7, 0, 1, 0 },
	{ 7, 0, 2, 1u << 4 },                                    /* OSPKE */
	{ 7, 0, 3, 0 },
	{ 0xd, 0, 0, 0 },
	{ 0xd, 0, 3, 0 },
	{ 0xd, 1, 0, 0 },
	{ 0x80000001, 0, 2, 1u << 1 },                           /* CmpLegacy */
	{ 0x80000001, 0, 3, 1u << 9 },                           /* APIC */
	{ 0x40000001, 0, 0, 0 },
};

static void kvm_cpuid_mask(struct kvm_cpuid_entry2 *e, const struct kvm_cpuid2 *supported)
{
	uint32_t *reg[4] = { &e->eax, &e->ebx, &e->ecx, &e->edx };

	for (unsigned i = 0; i < ARRAY_LEN(kvm_feature_regs); i++) {
		uint32_t known = kvm_feature_regs[i].always;

		if (kvm_feature_regs[i].leaf != e->function || kvm_feature_regs[i].subleaf != e->index)
			continue;
		for (unsigned k = 0; k < supported->nent; k++) {
			const struct kvm_cpuid_entry2 *s = &supported->entries[k];
			const uint32_t have[4] = { s->eax, s->ebx, s->ecx, s->edx };

			if (s->function == e->function && s->index == e->index)
				known |= have[kvm_feature_regs[i].reg];
		}
		*reg[kvm_feature_regs[i].reg] &= known;
	}
}

static struct kvm_cpuid2 *kvm_cpuid_alloc(void)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + KVM_CPUID_MAX * sizeof(c->entries[0]));

	if (c)
		c->nent = KVM_CPUID_MAX;
	return c;
}

/* What is left of the features after the mask, for x86_features_missing(). */
static void kvm_cpuid_left(struct x86_features *left, const struct kvm_cpuid2 *c)
{
	*left = (struct x86_features){ .xcr0 = 0 };
	for (unsigned w = 0; w < X86_N_WORDS; w++) {
		const struct x86_word_place *p = &x86_word_places[w];

		for (unsigned i = 0; i < c->nent; i++) {
			const struct kvm_cpuid_entry2 *e = &c->entries[i];
			const uint32_t have[4] = { e->eax, e->ebx, e->ecx, e->edx };

			if (e->function == p->leaf && e->index == p->subleaf)
				left->word[w] = have[p->reg];
		}
	}
}

int kvm_set_cpuid(struct vcpu *v, struct err *err)
{
	__attribute__((cleanup(auto_free))) struct kvm_cpuid2 *supported = kvm_cpuid_alloc();
	__attribute__((cleanup(auto_free))) struct kvm_cpuid2 *c = kvm_cpuid_alloc();
	const struct x86_cpuid *t = v->vm->cfg.cpuid;
	const struct x86_feature_row *lacks;
	struct x86_features left;

	if (!supported || !c)
		return err_set(err, -ENOMEM, "out of memory");
	int r = kvm_ioctl(v->vm->sys_fd, KVM_GET_SUPPORTED_CPUID, supported);

	if (r < 0)
		return err_set(err, r, "KVM does not tell which CPU features it has: %s", strerror(-r));
	_Static_assert((int)X86_CPUID_MAX <= (int)KVM_CPUID_MAX, "the table fits");
	for (unsigned i = 0; i < t->n; i++) {
		const struct x86_cpuid_leaf *l = &t->leaf[i];
		struct kvm_cpuid_entry2 *e = &c->entries[i];
		uint32_t regs[4];

		x86_cpuid_get(t, l->leaf, l->subleaf, v->index, 0, x86_cpuid_xcr0(t), regs);
		*e = (struct kvm_cpuid_entry2){
			.function = l->leaf, .index = l->has_subleaf ? l->subleaf : 0,
			.flags = l->has_subleaf ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = regs[0], .ebx = regs[1], .ecx = regs[2], .edx = regs[3],
		};
		kvm_cpuid_mask(e, supported);
	}
	c->nent = t->n;
	kvm_cpuid_left(&left, c);
	lacks = x86_features_missing(&left, &t->required);
	if (lacks)
		return err_set(err, -ENOTSUP, "the CPU model has '%s', which this host's KVM does not offer; '%s=off' leaves it out",
			       lacks->name, lacks->name);
	r = kvm_ioctl(v->fd, KVM_SET_CPUID2, c);
	if (r < 0)
		return err_set(err, r, "KVM refuses the CPU model: %s", strerror(-r));
	return 0;
}
