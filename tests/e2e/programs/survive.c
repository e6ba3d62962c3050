/* SPDX-License-Identifier: Apache-2.0 */
/* survive - the guest's end for survival.py:
 *	survive stream ADDRESS PORT   one TCP connection; records with a number and a checksum go both ways for ever
 *	survive serve PORT            a server on the socket device; each connection says one line and is answered:
 *		time                  then, for each byte that comes: CLOCK_MONOTONIC and CLOCK_REALTIME in ns
 *		adjust NS             set CLOCK_REALTIME forward by so much
 *		anything else         a line for the shell: its output, and a last line "status N"
 *	survive clock                 look at all clocks from all processors for ever: none may go back
 * What is wrong becomes a line in /run/survive/bad; /run/survive/NAME has what was done so far. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define FOLDER "/run/survive/"

enum { RECORD = 4096, RECORD_PAUSE_NS = 4000000, LINE_MAX_BYTES = 4096, CLOCK_PAUSE_NS = 2000000 };

static void bad(const char *format, ...)
{
	char text[256];
	va_list ap;
	int fd = open(FOLDER "bad", O_WRONLY | O_CREAT | O_APPEND, 0644);

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	dprintf(fd, "%s\n", text);
	close(fd);
}

/* Written aside and renamed: whoever reads it finds a whole line. */
static void note(const char *name, uint64_t n)
{
	char path[64], aside[64];

	snprintf(path, sizeof(path), FOLDER "%s", name);
	snprintf(aside, sizeof(aside), FOLDER ".%s", name);
	int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	dprintf(fd, "%" PRIu64 "\n", n);
	close(fd);
	rename(aside, path);
}

static void rest(long ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}

/* --- stream --- */

/* A number, noise and the checksum of both (CRC-32 of IEEE 802.3, as Python's zlib.crc32). */
struct record {
	uint64_t number;
	uint8_t noise[RECORD - 12];
	uint32_t crc;
};
_Static_assert(sizeof(struct record) == RECORD, "what survival.py sends");

static uint32_t crc32(const void *p, size_t len)
{
	static uint32_t table[256];
	const uint8_t *b = p;
	uint32_t c = 0xffffffff;

	for (uint32_t i = 0; !table[255] && i < 256; i++) {
		table[i] = i;
		for (int k = 0; k < 8; k++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
	}
	while (len--)
		c = table[(c ^ *b++) & 0xff] ^ c >> 8;
	return ~c;
}

static int send_records(int s)
{
	struct record r;
	uint64_t x = 88172645463325252u;

	for (r.number = 0;; r.number++) {
		for (size_t i = 0; i < sizeof(r.noise); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			r.noise[i] = (uint8_t)x;
		}
		r.crc = crc32(&r, offsetof(struct record, crc));
		for (size_t done = 0; done < sizeof(r);) {
			ssize_t n = send(s, (char *)&r + done, sizeof(r) - done, MSG_NOSIGNAL);

			if (n < 0) {
				bad("stream: sending record %" PRIu64 ": %s", r.number, strerror(errno));
				return 1;
			}
			done += (size_t)n;
		}
		if (r.number % 64 == 0)
			note("sent", r.number);
		rest(RECORD_PAUSE_NS);
	}
}

static int receive_records(int s)
{
	struct record r;

	for (uint64_t number = 0;; number++) {
		ssize_t n = recv(s, &r, sizeof(r), MSG_WAITALL);

		if (n != (ssize_t)sizeof(r)) {
			bad("stream: receiving record %" PRIu64 ": %s", number, n < 0 ? strerror(errno) : "the end");
			return 1;
		}
		if (r.number != number || r.crc != crc32(&r, offsetof(struct record, crc))) {
			bad("stream: record %" PRIu64 " came as %" PRIu64 " with checksum %08x", number, r.number, r.crc);
			return 1;
		}
		if (number % 64 == 0)
			note("received", number);
	}
}

static int stream(const char *address, unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int s = -1;

	inet_pton(AF_INET, address, &a.sin_addr);
	for (int tries = 0; tries < 600; tries++) {
		s = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(s, (struct sockaddr *)&a, sizeof(a)))
			return fork() ? send_records(s) : receive_records(s);
		close(s);
		rest(100000000);
	}
	bad("stream: no connection to %s: %s", address, strerror(errno));
	return 1;
}

/* --- serve --- */

static int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

static void tell_time(int s)
{
	char c;

	while (read(s, &c, 1) == 1)
		dprintf(s, "%" PRId64 " %" PRId64 "\n", now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_REALTIME));
}

/* In one step of the kernel's: however late this runs. */
static void adjust(int s, int64_t by_ns)
{
	int64_t seconds = by_ns / 1000000000 - (by_ns % 1000000000 < 0);
	struct timex t = {
		.modes = ADJ_SETOFFSET | ADJ_NANO, .time = { .tv_sec = seconds, .tv_usec = by_ns - seconds * 1000000000 },
	};

	dprintf(s, "status %d\n", adjtimex(&t) < 0 ? errno : 0);
}

static void shell(int s, const char *line)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		int null = open("/dev/null", O_RDONLY);

		dup2(null, 0);
		dup2(s, 1);
		dup2(s, 2);
		execl("/bin/sh", "sh", "-c", line, NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	dprintf(s, "\nstatus %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 255);
}

static void answer(int s)
{
	char line[LINE_MAX_BYTES] = "";
	size_t len = 0;

	while (len + 1 < sizeof(line) && read(s, line + len, 1) == 1 && line[len] != '\n')
		len++;
	line[len] = '\0';
	if (!strcmp(line, "time"))
		tell_time(s);
	else if (!strncmp(line, "adjust ", 7))
		adjust(s, strtoll(line + 7, NULL, 10));
	else
		shell(s, line);
}

static int serve(unsigned port)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 16) < 0) {
		bad("serve: %s", strerror(errno));
		return 1;
	}
	for (;;) {
		int fd = accept(s, NULL, NULL);

		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (fd >= 0 && !fork()) {
			answer(fd);
			_exit(0);
		}
		close(fd);
	}
}

/* --- clock --- */

static _Noreturn void watch_clocks(void)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME };
	int64_t last[sizeof(clocks) / sizeof(clocks[0])] = { 0 };

	for (uint64_t n = 0;; n++) {
		long cpu = (long)(n % 64);
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set) < 0)
			continue;       /* there is no such processor now */
		for (size_t i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
			int64_t t = now_ns(clocks[i]);

			if (t < last[i])
				bad("clock %d went back by %" PRId64 " ns on processor %ld", (int)clocks[i], last[i] - t, cpu);
			last[i] = t;
		}
		if (n % 64 == 0)
			note("clock", n);
		rest(CLOCK_PAUSE_NS);
	}
}

int main(int argc, char **argv)
{
	mkdir("/run/survive", 0755);
	if (argc == 4 && !strcmp(argv[1], "stream"))
		return stream(argv[2], (unsigned)atoi(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve((unsigned)atoi(argv[2]));
	if (argc == 2 && !strcmp(argv[1], "clock"))
		watch_clocks();
	fprintf(stderr, "usage: survive stream ADDRESS PORT | serve PORT | clock\n");
	return 2;
}
