/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel loaders. Input: options (bit 0: an initrd, bit 1: an RSDP), then the kernel file, an
 * initrd being its tail. Guest memory is 16 MiB. */
#include "fuzz.h"
#include "vm/boot.h"
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "cpu/x86/state.h"
#include "mem/gmem.h"
#include "util/err.h"

static int boot_file(const uint8_t *data, size_t len, char path[32])
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	uint8_t options = fuzz_u8(&f);
	char kernel[32], initrd[32];
	size_t tail = options & 1 ? f.left / 4 : 0;
	int kernel_fd = boot_file(f.at, f.left, kernel);
	int initrd_fd = boot_file(f.at + (f.left - tail), tail, initrd);
	struct boot_files files = { .kernel = kernel, .initrd = options & 1 ? initrd : NULL, .cmdline = "console=ttyS0" };
	struct boot *b = NULL;
	struct gmem *mem = NULL;
	struct x86_state s;
	struct err err = ERR_INIT;

	x86_state_reset(&s, 1);
	FUZZ_CHECK(gmem_new(&mem, 16 << 20, NULL) == 0);
	FUZZ_CHECK(boot_open(&b, &files, &err) == 0);
	int r = boot_load(b, mem, options & 2 ? 0xe0000 : 0, &s, &err);

	FUZZ_CHECK(r <= 0 && (r < 0) == (err.msg[0] != 0));
	if (!r)         /* a processor in protected or long mode, at an address it can have */
		FUZZ_CHECK((s.cr0 & X86_CR0_PE) && s.rip <= UINT32_MAX);
	boot_free(b);
	gmem_free(mem);
	close(kernel_fd);
	close(initrd_fd);
	return 0;
}
