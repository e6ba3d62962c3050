/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_cpuid.c - the machine's CPUID table, cut down to what this KVM can do, into the kernel. */
#include "cpu/kvm/kvm_priv.h"

#include <stdlib.h>
#include <unistd.h>
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

/* Of REG (eax, ebx, ecx, edx) of a leaf, what KVM does not know is taken out. */
static void kvm_cpuid_mask(uint32_t leaf, uint32_t subleaf, uint32_t *const reg[4], const struct kvm_cpuid2 *supported)
{
	for (unsigned i = 0; i < ARRAY_LEN(kvm_feature_regs); i++) {
		uint32_t known = kvm_feature_regs[i].always;

		if (kvm_feature_regs[i].leaf != leaf || kvm_feature_regs[i].subleaf != subleaf)
			continue;
		for (unsigned k = 0; k < supported->nent; k++) {
			const struct kvm_cpuid_entry2 *s = &supported->entries[k];
			const uint32_t have[4] = { s->eax, s->ebx, s->ecx, s->edx };

			if (s->function == leaf && s->index == subleaf)
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

static struct kvm_cpuid2 *kvm_cpuid_supported(int sys_fd, struct err *err)
{
	struct kvm_cpuid2 *c = kvm_cpuid_alloc();
	int r = c ? kvm_ioctl(sys_fd, KVM_GET_SUPPORTED_CPUID, c) : -ENOMEM;

	if (r < 0) {
		err_set(err, r, "KVM does not tell which CPU features it has: %s", strerror(-r));
		free(c);
		return NULL;
	}
	return c;
}

/* What a guest has seen and is missing from the leaf that was OLD. */
static int kvm_cpuid_check(const struct x86_cpuid_leaf *l, const uint32_t old[4], struct err *err)
{
	const uint32_t now[4] = { l->eax, l->ebx, l->ecx, l->edx };

	for (unsigned i = 0; i < 4; i++)
		if (old[i] & ~now[i])
			return err_set(err, -ENOTSUP, "the machine's processors have features that this host's KVM does not offer: bits 0x%x of "
				       "CPUID leaf 0x%x e%cx", old[i] & ~now[i], l->leaf, "abcd"[i]);
	return 0;
}

/* The words of features as T has them, for x86_features_missing(). */
static void kvm_cpuid_words(struct x86_features *out, const struct x86_cpuid *t)
{
	*out = (struct x86_features){ .xcr0 = 0 };
	for (unsigned w = 0; w < X86_N_WORDS; w++)
		for (unsigned bit = 0; bit < 32; bit++)
			out->word[w] |= (uint32_t)x86_cpuid_has(t, (enum x86_cpuid_word)w, bit) << bit;
}

int kvm_fit_cpuid(struct x86_cpuid *t, struct err *err)
{
	AUTO_FD int fd = kvm_open(err);
	__attribute__((cleanup(auto_free))) struct kvm_cpuid2 *supported = fd < 0 ? NULL : kvm_cpuid_supported(fd, err);
	struct x86_features left;
	int r = 0;

	if (!supported)
		return err->code;
	for (unsigned i = 0; !r && i < t->n; i++) {
		struct x86_cpuid_leaf *l = &t->leaf[i];
		const uint32_t old[4] = { l->eax, l->ebx, l->ecx, l->edx };

		kvm_cpuid_mask(l->leaf, l->has_subleaf ? l->subleaf : 0, (uint32_t *[]){ &l->eax, &l->ebx, &l->ecx, &l->edx }, supported);
		if (t->is_fixed)
			r = kvm_cpuid_check(l, old, err);
	}
	kvm_cpuid_words(&left, t);
	const struct x86_feature_row *lacks = r ? NULL : x86_features_missing(&left, &t->required);
	return !lacks ? r : err_set(err, -ENOTSUP, "the CPU model has '%s', which this host's KVM does not offer; '%s=off' leaves it out",
				    lacks->name, lacks->name);
}

int kvm_set_cpuid(struct vcpu *v, struct err *err)
{
	__attribute__((cleanup(auto_free))) struct kvm_cpuid2 *supported = kvm_cpuid_supported(v->vm->sys_fd, err);
	__attribute__((cleanup(auto_free))) struct kvm_cpuid2 *c = kvm_cpuid_alloc();
	const struct x86_cpuid *t = v->vm->cfg.cpuid;

	if (!supported)
		return err->code;
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
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
		kvm_cpuid_mask(e->function, e->index, (uint32_t *[]){ &e->eax, &e->ebx, &e->ecx, &e->edx }, supported);
	}
	c->nent = t->n;
	int r = kvm_ioctl(v->fd, KVM_SET_CPUID2, c);
	return r < 0 ? err_set(err, r, "KVM refuses the CPU model: %s", strerror(-r)) : 0;
}
