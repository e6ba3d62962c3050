/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_probe.c - is there a KVM, can it do what we need, and does a processor run the guest?
 *
 * On machines without hardware virtualization a software KVM may stand behind /dev/kvm: it
 * runs user code natively but emulates guest kernels in the host kernel, a thousand times
 * slower, and stops at instructions that its emulator does not know. It has every capability,
 * so the only way to tell is to time a loop in ring 0. */
#include "cpu/kvm/kvm_priv.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "cpu/x86/state.h"
#include "util/checked.h"

/* Below this a guest kernel is executed by emulation, in loop iterations of two instructions
 * per second. Real processors do over 500 M, emulation under 1 M. */
#define PROBE_MIN_HZ 25000000.0

static const struct {
	int cap;
	const char *name;
} caps_needed[] = {
	{ KVM_CAP_USER_MEMORY, "guest memory from user space (KVM_CAP_USER_MEMORY)" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT (Linux 4.13)" },
	{ KVM_CAP_SPLIT_IRQCHIP, "a local APIC with the I/O APIC in user space (KVM_CAP_SPLIT_IRQCHIP, Linux 4.4)" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
	{ KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING" },
	{ KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_XSAVE, "KVM_CAP_XSAVE" },
	{ KVM_CAP_XCRS, "KVM_CAP_XCRS" },
	{ KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS" },
	{ KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
	{ KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR (Linux 5.10)" },
};

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do {
		r = ioctl(fd, request, arg);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kvm_open(struct err *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return err_set(err, -errno, "there is no KVM on this host; load the kernel module kvm_intel or "
			       "kvm_amd and enable virtualization in the firmware, or choose the software CPU engine");
	case EACCES:
	case EPERM:
		return err_set(err, -errno, "cannot open '/dev/kvm': permission denied; add this user to group "
			       "'kvm' or choose the software CPU engine");
	default:
		return err_set(err, -errno, "cannot open '/dev/kvm': %s", strerror(errno));
	}
}

int kvm_check_caps(int sys_fd, struct err *err)
{
	int version = kvm_ioctl(sys_fd, KVM_GET_API_VERSION, NULL);

	if (version != KVM_API_VERSION)
		return err_set(err, -EOPNOTSUPP, "'/dev/kvm' speaks version %d of its interface, not %d",
			       version, KVM_API_VERSION);
	for (unsigned i = 0; i < ARRAY_LEN(caps_needed); i++)
		if (kvm_ioctl(sys_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)caps_needed[i].cap) <= 0)
			return err_set(err, -EOPNOTSUPP, "the KVM of this host lacks %s; use a newer kernel or "
				       "choose the software CPU engine", caps_needed[i].name);
	return 0;
}

/* --- the timed loop --------------------------------------------------------------------- */

struct probe_vm {
	int fd, cpu_fd;
	uint8_t *mem;
	struct kvm_run *run;
	size_t run_size;
};

/* Protected mode, because some processors cannot run real mode themselves. */
static const uint8_t probe_code[] = {
	0x49,                   /* 1: dec %ecx */
	0x75, 0xfd,             /*    jnz 1b */
	0xf4,                   /*    hlt */
};

static void probe_fini(struct probe_vm *p)
{
	if (p->run)
		munmap(p->run, p->run_size);
	if (p->cpu_fd >= 0)
		close(p->cpu_fd);
	if (p->fd >= 0)
		close(p->fd);
	if (p->mem)
		munmap(p->mem, GMEM_PAGE_SIZE);
}

static int probe_init(struct probe_vm *p, int sys_fd)
{
	void *mem = mmap(NULL, GMEM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int run_size = kvm_ioctl(sys_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);

	if (mem == MAP_FAILED)
		return -errno;
	p->mem = mem;
	memcpy(p->mem, probe_code, sizeof(probe_code));
	p->fd = kvm_ioctl(sys_fd, KVM_CREATE_VM, NULL);
	if (p->fd < 0)
		return p->fd;
	struct kvm_userspace_memory_region slot = {
		.memory_size = GMEM_PAGE_SIZE, .userspace_addr = (uintptr_t)p->mem,
	};
	int r = kvm_ioctl(p->fd, KVM_SET_TSS_ADDR, (void *)0xfeffd000ul);

	if (!r)
		r = kvm_ioctl(p->fd, KVM_SET_USER_MEMORY_REGION, &slot);
	if (r < 0)
		return r;
	p->cpu_fd = kvm_ioctl(p->fd, KVM_CREATE_VCPU, NULL);
	if (p->cpu_fd < 0)
		return p->cpu_fd;
	void *run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->cpu_fd, 0);

	if (run == MAP_FAILED)
		return -errno;
	p->run = run;
	p->run_size = (size_t)run_size;
	struct kvm_sregs s;

	r = kvm_ioctl(p->cpu_fd, KVM_GET_SREGS, &s);
	if (r < 0)
		return r;
	struct kvm_segment data = { .limit = 0xffffffff, .selector = 16, .type = 3, .s = 1, .present = 1, .db = 1, .g = 1 };

	s.cs = s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.cs.selector = 8;
	s.cs.type = 11;
	s.cr0 |= X86_CR0_PE;
	return kvm_ioctl(p->cpu_fd, KVM_SET_SREGS, &s);
}

/* Seconds that N rounds take, or a negative number when the guest does not end in HLT. */
static double probe_time(struct probe_vm *p, uint32_t n)
{
	struct kvm_regs regs = { .rcx = n, .rflags = X86_FLAGS_FIXED };
	struct timespec t0, t1;

	if (kvm_ioctl(p->cpu_fd, KVM_SET_REGS, &regs) < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &t0);
	if (kvm_ioctl(p->cpu_fd, KVM_RUN, NULL) < 0 ||
	    p->run->exit_reason != KVM_EXIT_HLT) /* NOLINT(clang-analyzer-core.NullDereference): probe_init() mapped it */
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &t1);
	return (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
}

/* Rounds per second. Short runs first, so that a slow KVM costs a few milliseconds too; the
 * best of three, so that a busy host is not taken for one. 0: it does not work. */
static double probe_rate(struct probe_vm *p)
{
	double best = 0;

	for (uint32_t n = 500; n <= 500 << 8; n <<= 2) {
		best = 0;
		for (int i = 0; i < 3; i++) {
			double t = probe_time(p, n);

			if (t < 0)
				return 0;
			if (t > 0 && n / t > best)
				best = n / t;
			if (best > PROBE_MIN_HZ)
				return best;
		}
		if (best < PROBE_MIN_HZ / 10 && n / best > 0.4e-3)
			break;          /* an exit costs some 10 us at most: this is no overhead */
	}
	return best;
}

static int probe_speed(int sys_fd, struct err *err)
{
	struct probe_vm p = { .fd = -1, .cpu_fd = -1 };
	int r = probe_init(&p, sys_fd);
	double rate = r < 0 ? 0 : probe_rate(&p);

	probe_fini(&p);
	if (r < 0)
		return err_set(err, r, "KVM cannot make a small virtual machine: %s", strerror(-r));
	if (rate == 0)
		return err_set(err, -EIO, "KVM does not run a small test guest; choose the software CPU engine");
	if (rate < PROBE_MIN_HZ)
		return err_set(err, -EOPNOTSUPP, "the KVM of this host executes guest kernels by emulation (%.1f "
			       "million instructions per second): the software CPU engine is faster", 2 * rate / 1e6);
	return 0;
}

int kvm_probe(bool is_explicit, struct err *err)
{
	AUTO_FD int fd = kvm_open(err);

	if (fd < 0)
		return fd;
	int r = kvm_check_caps(fd, err);

	return r < 0 || is_explicit ? r : probe_speed(fd, err);
}
