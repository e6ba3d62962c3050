/* SPDX-License-Identifier: Apache-2.0 */
/* Processors, local APICs, paravirtual clocks and help as sections of a saved machine. The sections are the same whoever has the
 * APICs: those of this program (dev/lapic.h, dev/kvmclock.h, dev/pv.h), or the engine in the host's kernel, whose page of registers
 * and MSRs are brought into that form and back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "dev/lapic_page.h"
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "vm/machine_priv.h"
#include "vm/state_file.h"

enum {
	TAG_LEN = 64,
	/* MSRs that ride in the page of registers; see get_lapic in cpu.h. */
	PAGE_BASE = 0x000, PAGE_DEADLINE = 0x010,
	/* struct kvm_steal_time: nanoseconds, version. */
	STEAL_NS = 0, STEAL_VERSION = 8,
};
#define STEAL_ADDR_MASK (~(uint64_t)0x3f)

struct one_cpu {
	struct x86_state cpu;
	struct lapic_state lapic;
	struct kvmclock_state clock;
	struct pv_state pv;
};

static const char *cpu_tag(char *buf, const char *what, unsigned n)
{
	snprintf(buf, TAG_LEN, "%s/%u", what, n);
	return buf;
}

/* --- from and to this program's devices --- */

static void get_own(struct machine *m, unsigned i, struct one_cpu *c)
{
	lapics_state_get(m->lapics, i, &c->lapic);
	kvmclock_state_get(m->kvmclock, i, &c->clock);
	if (m->pv)
		pv_state_get(m->pv, i, &c->pv);
}

static int set_own(struct machine *m, unsigned i, const struct one_cpu *c, struct err *err)
{
	if (!m->pv && (c->pv.steal_msr || c->lapic.pv_eoi_msr))
		return err_set(err, -ENOTSUP, "processor %u uses paravirtual help that engine '%s' does not give", i, m->ops->name);
	lapics_state_set(m->lapics, i, &c->lapic);
	kvmclock_state_set(m->kvmclock, i, &c->clock);
	if (m->pv)
		pv_state_set(m->pv, i, &c->pv);
	return 0;
}

/* --- from and to the kernel's --- */

/* LEN bytes of a structure of the guest's; zeroes where it is no RAM. */
static void peek(const struct machine *m, gpa_t gpa, void *buf, size_t len)
{
	if (gmem_read(m->mem, gpa, buf, len) < 0)
		memset(buf, 0, len);
}

/* The version of a structure as whoever writes it next goes on from. */
static uint32_t peek_version(const struct machine *m, gpa_t gpa)
{
	uint8_t v[4];

	peek(m, gpa, v, sizeof(v));
	return get_le32(v) & ~1u;
}

/* What has passed since the instant that the saved machine has for its own: these clocks do not stand still with the guest, which
 * shall not see that. */
static uint64_t ns_since_saved(struct machine *m)
{
	return (uint64_t)((unsigned __int128)(source_tsc(&m->source.s) - m->saved_tsc) * 1000000000u / m->source.s.tsc_hz);
}

static int get_kernels(struct machine *m, unsigned i, struct one_cpu *c, struct kvmclock_base *base, struct err *err)
{
	struct vcpu *v = m->ops->vcpu(m->vm, i);
	uint8_t page[LAPIC_PAGE_BYTES], ns[8];
	uint64_t apic_base, deadline;
	struct cpu_pv pv;
	int r = m->ops->get_lapic(v, page, err);

	if (!r)
		r = m->ops->get_pv(v, &pv, err);
	if (r < 0)
		return r;
	base->tsc = m->saved_tsc;
	base->ns = pv.now_ns - ns_since_saved(m);
	memcpy(&apic_base, page + PAGE_BASE, sizeof(apic_base));
	memcpy(&deadline, page + PAGE_DEADLINE, sizeof(deadline));
	lapic_page_read(&c->lapic, page, apic_base, deadline, m->saved_ns);
	c->lapic.pv_eoi_msr = pv.pv_eoi_msr;
	c->clock = (struct kvmclock_state){ .system_time_msr = pv.system_time_msr, .wall_clock_msr = pv.wall_clock_msr };
	if (pv.system_time_msr & 1)
		c->clock.version = peek_version(m, pv.system_time_msr & ~(uint64_t)1);
	if (pv.wall_clock_msr)
		base->wall_version = peek_version(m, pv.wall_clock_msr);
	if (pv.steal_msr & 1) {
		gpa_t at = pv.steal_msr & STEAL_ADDR_MASK;

		peek(m, at + STEAL_NS, ns, sizeof(ns));
		c->pv = (struct pv_state){ .steal_msr = pv.steal_msr, .steal_ns = get_le64(ns),
					   .version = peek_version(m, at + STEAL_VERSION) };
	}
	return 0;
}

static int set_kernels(struct machine *m, unsigned i, const struct one_cpu *c, const struct kvmclock_base *base, struct err *err)
{
	struct vcpu *v = m->ops->vcpu(m->vm, i);
	uint8_t page[LAPIC_PAGE_BYTES];

	lapic_page_write(page, &c->lapic, source_now_ns(&m->source.s));
	memcpy(page + PAGE_BASE, &c->lapic.apic_base, sizeof(c->lapic.apic_base));
	memcpy(page + PAGE_DEADLINE, &c->lapic.tsc_deadline, sizeof(c->lapic.tsc_deadline));
	int r = m->ops->set_lapic(v, page, err);
	struct cpu_pv pv = {
		.system_time_msr = c->clock.system_time_msr, .wall_clock_msr = c->clock.wall_clock_msr,
		.steal_msr = c->pv.steal_msr, .pv_eoi_msr = c->lapic.pv_eoi_msr,
		.now_ns = kvmclock_base_at(base, m->source.s.tsc_hz, source_tsc(&m->source.s)),
	};
	return r < 0 ? r : m->ops->set_pv(v, &pv, err);
}

/* --- all of them --- */

int machine_save_cpus(struct machine *m, struct state_sections *s, struct err *err)
{
	struct kvmclock_base base = { 0 };
	char tag[TAG_LEN];

	for (unsigned i = 0; i < config_cpus(m->cfg); i++) {
		struct one_cpu c = { 0 };
		/* First: what was about to be delivered goes back to the APIC or the PIC. */
		int r = m->ops->get_state(m->ops->vcpu(m->vm, i), &c.cpu, err);

		if (!r && m->lapics)
			get_own(m, i, &c);
		else if (!r)
			r = get_kernels(m, i, &c, &base, err);
		if (r < 0)
			return err_wrap(err, r, "processor %u", i);
		state_sections_add_fields(s, cpu_tag(tag, "cpu", i), &x86_state_desc, &c.cpu);
		state_sections_add_fields(s, cpu_tag(tag, "lapic", i), &lapic_state_desc, &c.lapic);
		state_sections_add_fields(s, cpu_tag(tag, "kvmclock", i), &kvmclock_state_desc, &c.clock);
		state_sections_add_fields(s, cpu_tag(tag, "pv", i), &pv_state_desc, &c.pv);
	}
	if (m->kvmclock)
		kvmclock_base_get(m->kvmclock, &base);
	state_sections_add_fields(s, "kvmclock", &kvmclock_base_desc, &base);
	return 0;
}

static int load_cpu(struct machine *m, struct state_file *f, unsigned i, const struct kvmclock_base *base, struct err *err)
{
	struct vcpu *v = m->ops->vcpu(m->vm, i);
	struct one_cpu c = { 0 };
	char tag[TAG_LEN];
	int r = m->ops->get_state(v, &c.cpu, err);

	if (!r)
		r = state_file_load(f, cpu_tag(tag, "cpu", i), &x86_state_desc, &c.cpu, err);
	if (!r && c.cpu.xcr0 & ~(x86_cpuid_xcr0(&m->cpuid) | 1))
		r = err_set(err, -EPROTO, "processor %u has state enabled that its CPUID does not know", i);
	if (!r)
		r = state_file_load(f, cpu_tag(tag, "lapic", i), &lapic_state_desc, &c.lapic, err);
	if (!r)
		r = state_file_load(f, cpu_tag(tag, "kvmclock", i), &kvmclock_state_desc, &c.clock, err);
	if (!r)
		r = state_file_load(f, cpu_tag(tag, "pv", i), &pv_state_desc, &c.pv, err);
	if (!r)
		r = m->ops->set_state(v, &c.cpu, err);
	if (r < 0)
		return r;
	return m->lapics ? set_own(m, i, &c, err) : set_kernels(m, i, &c, base, err);
}

int machine_load_cpus(struct machine *m, struct state_file *f, struct err *err)
{
	struct kvmclock_base base = { 0 };
	int r = state_file_load(f, "kvmclock", &kvmclock_base_desc, &base, err);

	if (!r && m->kvmclock)
		kvmclock_base_set(m->kvmclock, &base);
	if (!m->lapics) {       /* the kernel's clocks do not stand still */
		source_host_go(&m->source);
		m->ops->source_moved(m->vm);
	}
	for (unsigned i = 0; !r && i < config_cpus(m->cfg); i++)
		r = load_cpu(m, f, i, &base, err);
	if (!r && m->kvmclock)
		kvmclock_resync(m->kvmclock, true);
	return r;
}
