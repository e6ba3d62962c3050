/* SPDX-License-Identifier: Apache-2.0 */
/* Small real-mode guests: every KVM can run them, a software one too. */
#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "test.h"
#include "util/err.h"

/* --- a board that records --------------------------------------------------------------- */

struct board {
	uint32_t out[64];
	uint16_t out_port[64];
	unsigned out_size[64];
	_Atomic unsigned n_out;
	uint64_t mmio_addr, mmio_val;
	unsigned mmio_size;
	uint32_t msr;
	uint64_t msr_val;
	int msr_answer;
	_Atomic int vector;             /* what the PIC has; -1: nothing */
	_Atomic int eoi;                /* last vector + 1 */
	struct vcpu *stop_at;           /* kicked by output to port 0xf4 */
	struct gmem *mem;
	struct cpu_vm *vm;
	struct source_host source;
};

static struct board board;

static uint32_t pio_read(void *arg, unsigned cpu, uint16_t port, unsigned size)
{
	return 0x11223344u + port;
}

static void pio_write(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val)
{
	unsigned n = atomic_load(&board.n_out);

	if (n < 64) {
		board.out_port[n] = port;
		board.out_size[n] = size;
		board.out[n] = val;
		atomic_store(&board.n_out, n + 1);
	}
	if (port == 0xf4)
		cpu_kvm.kick(cpu_kvm.vcpu(board.vm, cpu));
}

static uint64_t mmio_read(void *arg, unsigned cpu, gpa_t gpa, unsigned size)
{
	return 0x8877665544332211ull;
}

static void mmio_write(void *arg, unsigned cpu, gpa_t gpa, unsigned size, uint64_t val)
{
	board.mmio_addr = gpa;
	board.mmio_size = size;
	board.mmio_val = val;
}

static int msr_read(void *arg, unsigned cpu, uint32_t msr, uint64_t *val)
{
	board.msr = msr;
	*val = board.msr_val;
	return board.msr_answer;
}

static int msr_write(void *arg, unsigned cpu, uint32_t msr, uint64_t val)
{
	board.msr = msr;
	board.msr_val = val;
	return board.msr_answer;
}

static int intr_ack(void *arg, unsigned cpu)
{
	return atomic_exchange(&board.vector, -1);
}

static bool intr_pending(void *arg, unsigned cpu)
{
	return atomic_load(&board.vector) >= 0;
}

static void intr_return(void *arg, unsigned cpu, uint8_t vector)
{
	atomic_store(&board.vector, vector);
}

static void eoi(void *arg, uint8_t vector)
{
	atomic_store(&board.eoi, vector + 1);
}

static const struct cpu_host host = {
	.pio_read = pio_read, .pio_write = pio_write, .mmio_read = mmio_read, .mmio_write = mmio_write,
	.msr_read = msr_read, .msr_write = msr_write, .intr_ack = intr_ack, .intr_pending = intr_pending,
	.intr_return = intr_return, .eoi = eoi,
};

static const struct cpu_host *the_host = &host;

/* --- making guests ---------------------------------------------------------------------- */

enum { CODE = 0x1000, STACK = 0x8000 };

static void board_init(unsigned n_vcpus)
{
	static struct x86_cpuid cpuid;
	struct err err = ERR_INIT;

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		SKIP("there is no usable /dev/kvm");
	atomic_store(&board.vector, -1);
	source_host_init(&board.source, 0);
	x86_cpuid_build(&cpuid, &(struct x86_cpuid_params){
		.n_vcpus = n_vcpus, .engine = &x86_features_allowed, .tsc_hz = board.source.s.tsc_hz,
		.phys_bits = 40, .has_kvmclock = true });
	CHECK_EQ(gmem_new(&board.mem, 1 << 20, &err), 0);
	struct cpu_config cfg = {
		.n_vcpus = n_vcpus, .mem = board.mem, .cpuid = &cpuid, .host = the_host, .source = &board.source.s,
	};

	if (cpu_kvm.vm_new(&board.vm, &cfg, &err) < 0)
		FAIL("%s", err.msg);
}

static void board_fini(void)
{
	cpu_kvm.vm_free(board.vm);
	gmem_free(board.mem);
}

/* Put CODE into memory and processor N at its start: real mode, flat segments of 64 KiB. */
static void load_code(unsigned n, gpa_t at, const void *code, size_t len)
{
	struct err err = ERR_INIT;
	struct x86_state s;

	CHECK_EQ(gmem_write(board.mem, at, code, len), 0);
	if (cpu_kvm.get_state(cpu_kvm.vcpu(board.vm, n), &s, &err) < 0)
		FAIL("%s", err.msg);
	for (int i = 0; i < X86_N_SEGS; i++)
		s.seg[i] = (struct x86_seg){ .limit = 0xffff, .attr = X86_SEG_P | X86_SEG_S | 3 };
	s.seg[X86_CS].attr = X86_SEG_P | X86_SEG_S | 0xb;
	s.rip = at;
	s.rflags = X86_FLAGS_FIXED;
	s.gpr[X86_RSP] = STACK + 0x1000 * n;
	s.mp_state = X86_MP_RUNNABLE;
	if (cpu_kvm.set_state(cpu_kvm.vcpu(board.vm, n), &s, &err) < 0)
		FAIL("%s", err.msg);
}
#define LOAD(...)                                                               \
	do {                                                                    \
		static const uint8_t code_[] = { __VA_ARGS__ };                 \
		load_code(0, CODE, code_, sizeof(code_));                       \
	} while (0)

#define END 0xe6, 0xf4, 0xf4            /* out %al,$0xf4; hlt */

static void run_until(enum cpu_exit_reason want)
{
	struct err err = ERR_INIT;
	enum cpu_exit_reason r = cpu_kvm.run(cpu_kvm.vcpu(board.vm, 0), &err);

	if (r != want)
		FAIL("left the guest with %d, not %d: %s", (int)r, (int)want, err.msg);
}

static void set_vector(unsigned vector, uint16_t handler)
{
	uint8_t entry[4] = { (uint8_t)handler, (uint8_t)(handler >> 8), 0, 0 };

	CHECK_EQ(gmem_write(board.mem, vector * 4, entry, 4), 0);
}

/* A KVM without hardware below it (the probe finds out) does not move the TSC. */
static bool is_software(void)
{
	struct err err = ERR_INIT;

	return cpu_kvm.probe(false, &err) < 0;
}

/* --- cases ------------------------------------------------------------------------------ */

TEST(probe_says_why_not)
{
	struct err err = ERR_INIT;
	int r = cpu_kvm.probe(false, &err);

	if (r < 0) {
		CHECK(err.msg[0]);
		CHECK(strstr(err.msg, "software CPU engine"));
	}
	if (r < 0 && strstr(err.msg, "by emulation"))
		CHECK_EQ(cpu_kvm.probe(true, &err), 0);
}

TEST(port_accesses_reach_the_board_with_their_size)
{
	board_init(1);
	LOAD(0xe5, 0x10,                        /* in $0x10,%ax */
	     0x66, 0xe7, 0x20,                  /* out %eax,$0x20 */
	     0xba, 0x30, 0x00,                  /* mov $0x30,%dx */
	     0xbe, 0x00, 0x20,                  /* mov $0x2000,%si */
	     0xb9, 0x03, 0x00,                  /* mov $3,%cx */
	     0xf3, 0x6e,                        /* rep outsb */
	     END);
	CHECK_EQ(gmem_write(board.mem, 0x2000, "abc", 3), 0);
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(board.n_out, 5);
	CHECK_EQ(board.out_port[0], 0x20);
	CHECK_EQ(board.out_size[0], 4);
	CHECK_EQ(board.out[0] & 0xffff, 0x3354);
	CHECK_EQ(board.out[1], 'a');
	CHECK_EQ(board.out[3], 'c');
	CHECK_EQ(board.out_port[3], 0x30);
	board_fini();
}

TEST(memory_that_is_not_ram_is_device_memory)
{
	board_init(1);
	LOAD(0xb8, 0xff, 0xff, 0x8e, 0xd8,      /* mov $0xffff,%ax; mov %ax,%ds: 0xffff0 + offset */
	     0xa1, 0x10, 0x00,                  /* mov 0x10,%ax: 0x100000 */
	     0xa3, 0x24, 0x00,                  /* mov %ax,0x24 */
	     END);
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(board.mmio_addr, 0x100014);
	CHECK_EQ(board.mmio_size, 2);
	CHECK_EQ(board.mmio_val, 0x2211);
	board_fini();
}

TEST(state_that_was_set_is_read_back)
{
	struct err err = ERR_INIT;
	static struct x86_state s, t;
	struct vcpu *v;

	board_init(1);
	v = cpu_kvm.vcpu(board.vm, 0);
	LOAD(END);
	CHECK_EQ(cpu_kvm.get_state(v, &s, &err), 0);
	for (unsigned i = 0; i < 16; i++)
		s.gpr[i] = 0x1111111111111111ull * i;
	s.cr2 = 0x1234;
	s.dr[1] = 0x5678;
	s.star = 0x0023001000000000ull;
	s.lstar = 0xffffffff80001000ull;
	s.kernel_gs_base = 0xffff888000000000ull;
	s.mtrr.var[0] = 0xc0000006;
	s.tsc_offset = 1000000;
	s.mp_state = X86_MP_HALTED;
	s.nmi_blocked = 1;
	s.xsave[X86_FX_XMM + 5] = 0xa5;
	s.xsave[X86_FX_FCW] = 0x7e;
	if (cpu_kvm.set_state(v, &s, &err) < 0)
		FAIL("%s", err.msg);
	CHECK_EQ(cpu_kvm.get_state(v, &t, &err), 0);
	CHECK_MEM(s.gpr, t.gpr, sizeof(s.gpr));
	CHECK_EQ(t.rip, s.rip);
	CHECK_EQ(t.rflags, s.rflags);
	for (int i = 0; i < X86_N_SEGS; i++) {
		CHECK_EQ(t.seg[i].base, s.seg[i].base);
		CHECK_EQ(t.seg[i].limit, s.seg[i].limit);
		CHECK_EQ(t.seg[i].attr, s.seg[i].attr);
	}
	CHECK_EQ(t.cr2, s.cr2);
	CHECK_EQ(t.dr[1], s.dr[1]);
	CHECK_EQ(t.star, s.star);
	CHECK_EQ(t.lstar, s.lstar);
	CHECK_EQ(t.kernel_gs_base, s.kernel_gs_base);
	CHECK_EQ(t.mtrr.var[0], s.mtrr.var[0]);
	if (!is_software())
		CHECK_EQ(t.tsc_offset, s.tsc_offset);
	CHECK_EQ(t.mp_state, X86_MP_HALTED);
	CHECK_EQ(t.nmi_blocked, 1);
	CHECK_EQ(t.xsave[X86_FX_XMM + 5], 0xa5);
	CHECK_EQ(t.xsave[X86_FX_FCW], 0x7e);
	board_fini();
}

TEST(a_shutdown_state_does_not_run)
{
	struct err err = ERR_INIT;
	static struct x86_state s;

	board_init(1);
	LOAD(0x0f, 0x0b);                       /* ud2 */
	CHECK_EQ(cpu_kvm.get_state(cpu_kvm.vcpu(board.vm, 0), &s, &err), 0);
	s.cr0 |= X86_CR0_PE;                    /* the segments stay as they are */
	s.idtr.limit = 0;
	CHECK_EQ(cpu_kvm.set_state(cpu_kvm.vcpu(board.vm, 0), &s, &err), 0);
	run_until(CPU_EXIT_SHUTDOWN);
	run_until(CPU_EXIT_SHUTDOWN);
	CHECK_EQ(cpu_kvm.get_state(cpu_kvm.vcpu(board.vm, 0), &s, &err), 0);
	CHECK_EQ(s.mp_state, X86_MP_SHUTDOWN);
	board_fini();
}

static void *kick_later(void *arg)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	cpu_kvm.kick(arg);
	return NULL;
}

TEST(a_kick_ends_an_endless_loop_and_a_halt_and_is_never_lost)
{
	static const uint8_t loop[] = { 0xeb, 0xfe }, halt[] = { 0xf4, 0xeb, 0xfd };
	pthread_t t;

	board_init(1);
	for (int i = 0; i < 4; i++) {
		load_code(0, CODE, i & 1 ? halt : loop, i & 1 ? sizeof(halt) : sizeof(loop));
		pthread_create(&t, NULL, kick_later, cpu_kvm.vcpu(board.vm, 0));
		run_until(CPU_EXIT_KICK);
		pthread_join(t, NULL);
	}
	cpu_kvm.kick(cpu_kvm.vcpu(board.vm, 0));        /* before it runs */
	run_until(CPU_EXIT_KICK);
	board_fini();
}

static void *pic_later(void *arg)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	atomic_store(&board.vector, 0x40);
	cpu_kvm.interrupt(arg);
	return NULL;
}

static const uint8_t handler[] = {
	0xb0, 0x77, 0xe6, 0x80,                 /* mov $0x77,%al; out %al,$0x80 */
	0xcf,                                   /* iret */
};

TEST(an_interrupt_of_the_pic_wakes_a_halted_processor)
{
	pthread_t t;

	board_init(1);
	LOAD(0xfb, 0xf4, END);                  /* sti; hlt */
	CHECK_EQ(gmem_write(board.mem, 0x3000, handler, sizeof(handler)), 0);
	set_vector(0x40, 0x3000);
	pthread_create(&t, NULL, pic_later, cpu_kvm.vcpu(board.vm, 0));
	run_until(CPU_EXIT_KICK);
	pthread_join(t, NULL);
	CHECK_EQ(board.n_out, 2);
	CHECK_EQ(board.out[0], 0x77);
	board_fini();
}

TEST(an_interrupt_of_the_pic_waits_until_interrupts_are_on)
{
	board_init(1);
	LOAD(0xe6, 0x70,                        /* out %al,$0x70 */
	     0x90, 0xfb, 0x90,                  /* nop; sti; nop */
	     0xe6, 0x71, 0x90,                  /* an exit, where even an emulator looks up */
	     END);
	CHECK_EQ(gmem_write(board.mem, 0x3000, handler, sizeof(handler)), 0);
	set_vector(0x40, 0x3000);
	atomic_store(&board.vector, 0x40);
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(board.n_out, 4);
	CHECK_EQ(board.out_port[0], 0x70);
	CHECK(board.out_port[1] == 0x80 || board.out_port[2] == 0x80);
	CHECK_EQ(board.out_port[3], 0xf4);
	board_fini();
}

static bool is_kicked;                  /* by the board that gives the vector */

static int ack_and_kick(void *arg, unsigned cpu)
{
	int vector = atomic_exchange(&board.vector, -1);

	if (!is_kicked)
		cpu_kvm.kick(cpu_kvm.vcpu(board.vm, cpu));
	is_kicked = true;
	return vector;
}

TEST(an_interrupt_that_was_not_delivered_goes_back_and_comes_later)
{
	struct cpu_host eager = host;
	struct err err = ERR_INIT;
	struct x86_state s;

	/* The processor is told to stop just when KVM was given the vector. */
	eager.intr_ack = ack_and_kick;
	the_host = &eager;
	board_init(1);
	LOAD(0x90, END);                        /* nop */
	CHECK_EQ(gmem_write(board.mem, 0x3000, handler, sizeof(handler)), 0);
	set_vector(0x40, 0x3000);
	CHECK_EQ(cpu_kvm.get_state(cpu_kvm.vcpu(board.vm, 0), &s, &err), 0);
	s.rflags |= 1 << 9;
	CHECK_EQ(cpu_kvm.set_state(cpu_kvm.vcpu(board.vm, 0), &s, &err), 0);
	atomic_store(&board.vector, 0x40);
	run_until(CPU_EXIT_KICK);
	CHECK(is_kicked && board.n_out == 0 && atomic_load(&board.vector) == -1);
	CHECK_EQ(cpu_kvm.get_state(cpu_kvm.vcpu(board.vm, 0), &s, &err), 0);
	CHECK_EQ(atomic_load(&board.vector), 0x40);
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(board.n_out, 2);
	CHECK_EQ(board.out[0], 0x77);
	board_fini();
}

TEST(the_paravirtual_interface_is_told_and_set)
{
	struct cpu_pv pv = { .system_time_msr = 0x5001, .wall_clock_msr = 0x6000, .now_ns = 5000000000000ull }, told;
	static const uint8_t memory[12] = "not a clock";
	uint8_t there[12];
	struct err err = ERR_INIT;

	board_init(2);
	CHECK_EQ(gmem_write(board.mem, 0x6000, memory, sizeof(memory)), 0);
	for (unsigned i = 0; i < 2; i++) {
		if (cpu_kvm.set_pv(cpu_kvm.vcpu(board.vm, i), &pv, &err) < 0)
			FAIL("%s", err.msg);
		CHECK_EQ(cpu_kvm.get_pv(cpu_kvm.vcpu(board.vm, i), &told, &err), 0);
		CHECK_EQ(told.system_time_msr, pv.system_time_msr);
		CHECK_EQ(told.wall_clock_msr, pv.wall_clock_msr);
		CHECK(told.now_ns >= pv.now_ns && told.now_ns < pv.now_ns + 1000000000u);
		CHECK_EQ(told.steal_msr | told.pv_eoi_msr, 0);
		pv.system_time_msr += 0x40;
	}
	CHECK_EQ(gmem_read(board.mem, 0x6000, there, sizeof(there)), 0);
	CHECK(!memcmp(there, memory, sizeof(memory)));          /* the guest has something else there by now */
	board_fini();
}

TEST(a_cpuid_that_a_guest_has_seen_is_not_cut_down)
{
	struct err err = ERR_INIT;
	struct x86_cpuid t;

	board_init(1);
	x86_cpuid_build(&t, &(struct x86_cpuid_params){
		.n_vcpus = 1, .engine = &x86_features_allowed, .tsc_hz = 1000000000u, .phys_bits = 40, .has_kvmclock = true });
	CHECK_EQ(cpu_kvm.fit_cpuid(&t, &err), 0);
	t.is_fixed = true;
	if (cpu_kvm.fit_cpuid(&t, &err) < 0)            /* what is left is there */
		FAIL("%s", err.msg);
	t.leaf[1].ecx |= 1u << 30 | 1u << 11;           /* nobody has SDBG here */
	CHECK_EQ(t.leaf[1].leaf, 1);
	CHECK_EQ(cpu_kvm.fit_cpuid(&t, &err), -ENOTSUP);
	CHECK_HAS(err.msg, "does not offer");
	board_fini();
}

static void enable_lapic(unsigned n)
{
	uint8_t regs[1024];
	struct err err = ERR_INIT;
	struct vcpu *v = cpu_kvm.vcpu(board.vm, n);

	CHECK_EQ(cpu_kvm.get_lapic(v, regs, &err), 0);
	regs[0xf1] |= 1;                        /* SVR bit 8 */
	if (cpu_kvm.set_lapic(v, regs, &err) < 0)
		FAIL("%s", err.msg);
}

TEST(a_level_message_interrupt_reports_its_end)
{
	/* x2APIC would need protected mode for nothing: EOI through MSR 0x80b works in real mode. */
	static const uint8_t eoi_handler[] = {
		0xb0, 0x55, 0xe6, 0x80,                         /* out $0x55 */
		0x66, 0xb9, 0x0b, 0x08, 0x00, 0x00,             /* mov $0x80b,%ecx */
		0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2,             /* xor %eax,%eax; xor %edx,%edx */
		0x0f, 0x30,                                     /* wrmsr */
		0xcf,
	};
	uint64_t bitmap[4] = { 0, 1ull << (0x51 - 64), 0, 0 };
	uint8_t regs[1024];
	struct err err = ERR_INIT;

	board_init(1);
	enable_lapic(0);
	CHECK_EQ(cpu_kvm.get_lapic(cpu_kvm.vcpu(board.vm, 0), regs, &err), 0);
	CHECK_EQ(regs[1] & 8, 8);               /* APIC base in a reserved word: enabled */
	regs[1] |= 4;                           /* x2APIC */
	if (cpu_kvm.set_lapic(cpu_kvm.vcpu(board.vm, 0), regs, &err) < 0)
		FAIL("%s", err.msg);
	LOAD(0xfb, 0xf4, END);
	CHECK_EQ(gmem_write(board.mem, 0x3000, eoi_handler, sizeof(eoi_handler)), 0);
	set_vector(0x51, 0x3000);
	cpu_kvm.eoi_exits(board.vm, bitmap);
	cpu_kvm.msi(board.vm, 0xfee00000, 0x51 | 1 << 14 | 1 << 15);
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(board.out[0], 0x55);
	CHECK_EQ(board.eoi, 0x51 + 1);
	board_fini();
}

TEST(a_reset_takes_the_lapic_out_of_x2apic_mode)
{
	struct vcpu *v;
	uint8_t regs[1024];
	struct err err = ERR_INIT;

	board_init(1);
	v = cpu_kvm.vcpu(board.vm, 0);
	enable_lapic(0);
	CHECK_EQ(cpu_kvm.get_lapic(v, regs, &err), 0);
	regs[1] |= 4;
	regs[0x80] = 0x50;                      /* TPR */
	CHECK_EQ(cpu_kvm.set_lapic(v, regs, &err), 0);
	if (cpu_kvm.set_lapic(v, NULL, &err) < 0)
		FAIL("%s", err.msg);
	CHECK_EQ(cpu_kvm.get_lapic(v, regs, &err), 0);
	CHECK_EQ(regs[1], 9);                   /* enabled xAPIC of the first processor */
	CHECK_EQ(regs[0x80], 0);
	CHECK_EQ(regs[0xf1] & 1, 0);
	board_fini();
}

TEST(init_and_sipi_start_the_second_processor)
{
	static const uint8_t ap[] = { 0xb0, 0x99, 0xe6, 0x80, END };
	struct err err = ERR_INIT;
	struct x86_state s;
	struct vcpu *v;

	board_init(2);
	v = cpu_kvm.vcpu(board.vm, 1);
	CHECK_EQ(gmem_write(board.mem, 0x5000, ap, sizeof(ap)), 0);
	cpu_kvm.init(v);
	cpu_kvm.sipi(v, 5);
	CHECK_EQ(cpu_kvm.run(v, &err), CPU_EXIT_KICK);
	CHECK_EQ(board.out[0], 0x99);
	CHECK_EQ(cpu_kvm.get_state(v, &s, &err), 0);
	CHECK_EQ(s.seg[X86_CS].sel, 0x500);
	board_fini();
}

TEST(msrs_that_the_kernel_should_not_serve_are_asked_of_the_board)
{
	board_init(1);
	LOAD(0x66, 0xb9, 0xc1, 0x00, 0x00, 0x00,        /* mov $0xc1,%ecx */
	     0x0f, 0x32,                                /* rdmsr */
	     0x66, 0xe7, 0x80,                          /* out %eax,$0x80 */
	     END);
	board.msr_val = 0xfeedf00d;
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(board.msr, 0xc1);
	CHECK_EQ(board.out[0], (uint32_t)0xfeedf00d);
	board_fini();
}

TEST(an_msr_that_the_board_refuses_is_a_protection_fault)
{
	board_init(1);
	LOAD(0x66, 0xb9, 0xc1, 0x00, 0x00, 0x00, 0x0f, 0x30,    /* wrmsr 0xc1 */
	     0xb0, 0x01, END);
	CHECK_EQ(gmem_write(board.mem, 0x3000, handler, sizeof(handler) - 1), 0);
	CHECK_EQ(gmem_write(board.mem, 0x3004, (uint8_t[]){ END }, 3), 0);
	set_vector(13, 0x3000);
	board.msr_answer = -1;
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(board.out[0], 0x77);
	board_fini();
}

TEST(pages_that_the_guest_writes_are_in_the_dirty_log_once)
{
	uint64_t bitmap[4];
	struct err err = ERR_INIT;

	board_init(1);
	LOAD(0xa2, 0x00, 0x70,                  /* mov %al,0x7000 */
	     END);
	CHECK_EQ(cpu_kvm.log_start(board.vm, &err), 0);
	memset(bitmap, 0, sizeof(bitmap));
	CHECK_EQ(cpu_kvm.log_fetch(board.vm, bitmap, &err), 0);
	memset(bitmap, 0, sizeof(bitmap));
	bitmap[3] = 1ull << 63;                 /* from gmem_log_fetch() */
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(cpu_kvm.log_fetch(board.vm, bitmap, &err), 0);
	CHECK(bitmap[0] & 1ull << 7);
	CHECK(!(bitmap[0] & 1ull << 6));
	CHECK_EQ(bitmap[3], 1ull << 63);
	memset(bitmap, 0, sizeof(bitmap));
	CHECK_EQ(cpu_kvm.log_fetch(board.vm, bitmap, &err), 0);
	CHECK(!(bitmap[0] & 1ull << 7));
	cpu_kvm.log_stop(board.vm);
	board_fini();
}

TEST(a_doorbell_is_rung_without_the_board)
{
	struct err err = ERR_INIT;
	int fd = eventfd(0, EFD_NONBLOCK);
	uint64_t n = 0;

	board_init(1);
	CHECK_EQ(cpu_kvm.ioeventfd(board.vm, true, 0x100004, 2, fd, &err), 0);
	LOAD(0xb8, 0xff, 0xff, 0x8e, 0xd8, 0xa3, 0x14, 0x00, END);
	run_until(CPU_EXIT_KICK);
	CHECK_EQ(read(fd, &n, sizeof(n)), sizeof(n));
	CHECK_EQ(n, 1);
	CHECK_EQ(board.mmio_addr, 0);
	CHECK_EQ(cpu_kvm.ioeventfd(board.vm, false, 0x100004, 2, fd, &err), 0);
	CHECK(cpu_kvm.ioeventfd(board.vm, false, 0x100004, 2, fd, &err) < 0);
	CHECK_HAS(err.msg, "0x100004");
	close(fd);
	board_fini();
}

TEST(the_guest_tsc_is_the_source_plus_the_offset)
{
	struct err err = ERR_INIT;
	struct x86_state s;

	board_init(1);
	if (is_software())
		SKIP("the software KVM of this host does not move the TSC");
	LOAD(0x0f, 0x31, 0x66, 0xe7, 0x80,      /* rdtsc; out %eax,$0x80 */
	     0x66, 0x92, 0x66, 0xe7, 0x80,      /* xchg %eax,%edx; out */
	     END);
	CHECK_EQ(cpu_kvm.get_state(cpu_kvm.vcpu(board.vm, 0), &s, &err), 0);
	s.tsc_offset = 1ull << 50;
	CHECK_EQ(cpu_kvm.set_state(cpu_kvm.vcpu(board.vm, 0), &s, &err), 0);
	uint64_t before = source_tsc(&board.source.s) + s.tsc_offset;

	run_until(CPU_EXIT_KICK);
	uint64_t after = source_tsc(&board.source.s) + s.tsc_offset;
	uint64_t tsc = board.out[0] | (uint64_t)board.out[1] << 32;

	/* One reading of two clocks is some hundred cycles off. */
	CHECK(tsc + 100000 > before && tsc < after + 100000);
	board_fini();
}

enum { LAPIC_SVR = 0xf0, LAPIC_IRR = 0x200 };

/* Signal FD and wait until the LAPIC of processor 0 has VECTOR requested. */
static bool irqfd_requests(int fd, unsigned vector)
{
	uint8_t regs[1024];
	uint64_t one = 1;

	CHECK_EQ(write(fd, &one, sizeof(one)), sizeof(one));
	for (int i = 0; i < 200; i++) {
		CHECK_EQ(cpu_kvm.get_lapic(cpu_kvm.vcpu(board.vm, 0), regs, NULL), 0);
		if (regs[LAPIC_IRR + vector / 32 * 16 + vector % 32 / 8] >> vector % 8 & 1)
			return true;
		usleep(5000);
	}
	return false;
}

TEST(an_event_descriptor_sends_its_message_until_it_is_removed)
{
	struct err err = ERR_INIT;
	int fd = eventfd(0, EFD_NONBLOCK);
	uint8_t regs[1024];

	board_init(1);
	struct vcpu *v = cpu_kvm.vcpu(board.vm, 0);

	CHECK_EQ(cpu_kvm.get_lapic(v, regs, &err), 0);
	regs[LAPIC_SVR + 1] |= 1;               /* software enable */
	CHECK_EQ(cpu_kvm.set_lapic(v, regs, &err), 0);
	CHECK_EQ(cpu_kvm.irqfd(board.vm, true, fd, 0xfee00000, 0x41, &err), 0);
	CHECK(irqfd_requests(fd, 0x41));
	CHECK_EQ(cpu_kvm.irqfd(board.vm, true, fd, 0xfee00000, 0x52, &err), 0);
	CHECK(irqfd_requests(fd, 0x52));
	CHECK_EQ(cpu_kvm.irqfd(board.vm, false, fd, 0, 0, &err), 0);
	CHECK(cpu_kvm.irqfd(board.vm, false, fd, 0, 0, &err) < 0);
	CHECK_HAS(err.msg, "event descriptor");
	CHECK(cpu_kvm.irqfd(board.vm, true, -1, 0xfee00000, 0x41, &err) < 0);
	close(fd);
	board_fini();
}
