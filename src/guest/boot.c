/* SPDX-License-Identifier: Apache-2.0 */
/* boot.c - the first program of a guest whose image scripts/guest-image has made: loads the modules by which its disk is reached, mounts
 * the root file system and starts what is there. It takes the place of initramfs-tools' scripts and their udev, which take longer than
 * the kernel where processors are emulated.
 *
 * It runs alone, as process 1 of the initrd, from which it takes /modules/order and the modules that are named there. Of the kernel's
 * command line it knows root=, which is /dev/NAME, LABEL= or UUID= of a file system that is ext4, and rootflags=, ro, rw and init=, as the kernel's
 * documentation has them ("kernel-parameters"). A file system in which ext4 has found errors is mounted for reading: systemd then
 * has it repaired (systemd-fsck-root.service, for which it may have to start again), and makes it writable. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CMDLINE_MAX = 4096, WAIT_MS = 10000, LOOK_MS = 5 };

struct wanted {
	const char *root, *flags, *init;
	bool is_writable;
};

/* What ext4's superblock says: "struct ext4_super_block" of the kernel's documentation. */
enum { SUPER_AT = 1024, SUPER_LEN = 256, SUPER_MAGIC = 0x38, SUPER_STATE = 0x3a, SUPER_UUID = 0x68, SUPER_LABEL = 0x78, LABEL_LEN = 16 };
enum { STATE_ERRORS = 2 };

/* Nothing else can be done without a root file system: the sentence stays on the console, and the machine goes off. */
__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	dprintf(STDERR_FILENO, "guest-boot: ");
	vdprintf(STDERR_FILENO, fmt, ap);
	dprintf(STDERR_FILENO, "\n");
	va_end(ap);
	sync();
	(void)reboot(RB_POWER_OFF);
	_exit(1);
}

static void pause_ms(long ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	(void)nanosleep(&t, NULL);
}

/* systemd would start a program for each of the last four. With the options that its units have. */
static const struct {
	const char *type, *where, *options;
	unsigned long flags;
	bool is_needed;
} kernels[] = {
	{ "proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true },
	{ "sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true },
	{ "devtmpfs", "/dev", "mode=0755", MS_NOSUID, true },
	{ "debugfs", "/sys/kernel/debug", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false },
	{ "tracefs", "/sys/kernel/tracing", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false },
	{ "mqueue", "/dev/mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false },
	{ "hugetlbfs", "/dev/hugepages", NULL, MS_NOSUID | MS_NODEV, false },
};

static void mount_kernels(void)
{
	for (unsigned k = 0; k < sizeof(kernels) / sizeof(kernels[0]); k++) {
		(void)mkdir(kernels[k].where, 0755);
		if (mount(kernels[k].type, kernels[k].where, kernels[k].type, kernels[k].flags, kernels[k].options) < 0 &&
		    errno != EBUSY && kernels[k].is_needed)
			fail("cannot mount '%s': %s", kernels[k].where, strerror(errno));
	}
}

/* --- modules ---------------------------------------------------- */

static void load(const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), "/modules/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		dprintf(STDERR_FILENO, "guest-boot: module '%s': %s\n", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	(void)unlink(path);
}

static void load_all(void)
{
	FILE *f = fopen("/modules/order", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		load(line);
	}
	if (f)
		fclose(f);
}

/* --- the command line ---------------------------------------------------- */

/* TEXT, which it cuts into pieces that stay in use, holds the command line. */
static struct wanted read_cmdline(char *text, size_t size)
{
	struct wanted w = { .root = "/dev/vda", .flags = "", .init = "/sbin/init" };
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (n < 0)
		fail("cannot read the command line: %s", strerror(errno));
	close(fd);
	text[n] = 0;
	for (char *save, *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
		if (!strncmp(word, "root=", 5))
			w.root = word + 5;
		else if (!strncmp(word, "rootflags=", 10))
			w.flags = word + 10;
		else if (!strncmp(word, "init=", 5))
			w.init = word + 5;
		else if (!strcmp(word, "rw") || !strcmp(word, "ro"))
			w.is_writable = word[1] == 'w';
	}
	return w;
}

/* --- the disk ---------------------------------------------------- */

static bool read_super(const char *device, uint8_t *super)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, super, SUPER_LEN, SUPER_AT);

	if (fd >= 0)
		close(fd);
	return n == SUPER_LEN && super[SUPER_MAGIC] == 0x53 && super[SUPER_MAGIC + 1] == 0xef;
}

static void print_uuid(const uint8_t *u, char *out, size_t size)
{
	snprintf(out, size, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5],
		 u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

/* Whether the file system on DEVICE is the one of "LABEL=..." or "UUID=...". */
static bool is_named(const char *device, const char *root)
{
	uint8_t super[SUPER_LEN];
	char uuid[40], label[LABEL_LEN + 1] = "";

	if (!read_super(device, super))
		return false;
	memcpy(label, super + SUPER_LABEL, LABEL_LEN);
	print_uuid(super + SUPER_UUID, uuid, sizeof(uuid));
	return !strncmp(root, "LABEL=", 6) ? !strcmp(root + 6, label) : !strcasecmp(root + 5, uuid);
}

static bool find_named(const char *root, char *out, size_t size)
{
	DIR *dir = opendir("/sys/class/block");
	const struct dirent *e;
	bool is_found = false;

	while (dir && !is_found && (e = readdir(dir)) != NULL) {
		snprintf(out, size, "/dev/%s", e->d_name);
		is_found = e->d_name[0] != '.' && is_named(out, root);
	}
	if (dir)
		closedir(dir);
	return is_found;
}

static void find_root(const char *root, char *out, size_t size)
{
	bool is_name = !strncmp(root, "LABEL=", 6) || !strncmp(root, "UUID=", 5);

	if (!is_name && strncmp(root, "/dev/", 5) != 0)
		fail("'root=%s' is not understood here: say root=/dev/NAME, LABEL=... or UUID=..., or start with Debian's own initrd, /boot/initrd.img-...",
		     root);
	snprintf(out, size, "%s", root);
	for (int ms = 0; ms < WAIT_MS; ms += LOOK_MS) {
		if (is_name ? find_named(root, out, size) : !access(root, F_OK))
			return;
		pause_ms(LOOK_MS);
	}
	fail("there is no disk '%s' ('root=' of the kernel's command line)", root);
}

static void mount_root(const struct wanted *w)
{
	char device[300];
	uint8_t super[SUPER_LEN];

	find_root(w->root, device, sizeof(device));
	bool is_ext4 = read_super(device, super);
	if (!is_ext4)
		fail("'%s' has no file system ext4 on it", device);
	bool is_sick = super[SUPER_STATE] & STATE_ERRORS;
	if (is_sick)
		dprintf(STDERR_FILENO, "guest-boot: '%s' has errors, and is repaired before it is written\n", device);
	(void)mkdir("/root", 0700);
	if (mount(device, "/root", "ext4", w->is_writable && !is_sick ? 0 : MS_RDONLY, w->flags) < 0)
		fail("cannot mount '%s': %s", device, strerror(errno));
}

/* --- over to it ---------------------------------------------------- */

/* What lies in memory is removed, as nobody would find it later. */
static void tidy(void)
{
	(void)unlink("/modules/order");
	(void)rmdir("/modules");
	(void)unlink("/init");
}

static void go_on(const struct wanted *w, char **argv)
{
	char to[64];

	tidy();
	for (unsigned k = 0; k < sizeof(kernels) / sizeof(kernels[0]) && kernels[k].is_needed; k++) {
		snprintf(to, sizeof(to), "/root%s", kernels[k].where);
		if (mount(kernels[k].where, to, NULL, MS_MOVE, NULL) < 0)
			(void)umount2(kernels[k].where, MNT_DETACH);
	}
	if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		fail("cannot change over to the root file system: %s", strerror(errno));
	argv[0] = (char *)w->init;
	execv(w->init, argv);
	fail("cannot start '%s': %s", w->init, strerror(errno));
}

int main(int argc, char **argv)
{
	char cmdline[CMDLINE_MAX];

	if (getpid() != 1 || argc < 1) {
		dprintf(STDERR_FILENO, "guest-boot is the first program of a guest's initrd, and nothing to be started by hand\n");
		return 2;
	}
	mount_kernels();
	load_all();
	struct wanted w = read_cmdline(cmdline, sizeof(cmdline));
	mount_root(&w);
	go_on(&w, argv);
}
