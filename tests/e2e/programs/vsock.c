/* SPDX-License-Identifier: Apache-2.0 */
/* vsock - the guest's end for test_vsock.py:
 *	vsock echo PORT          send back what comes, connection for connection, until its end
 *	vsock say PORT TEXT      connect to the host, say TEXT and a newline, print the line that comes
 *	vsock cid                print this guest's address */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

static int fail(const char *what)
{
	printf("vsock: %s: %s\n", what, strerror(errno));
	return 1;
}

/* Send back what comes on FD; says how it ended. */
static int echo(int fd)
{
	char buf[16384];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(fd, buf + done, (size_t)(n - done));
			if (w < 0)
				return fail("write");
		}
	}
	return n < 0 ? fail("read") : 0;
}

static int serve(unsigned port)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 128) < 0)
		return fail("listen");
	signal(SIGCHLD, SIG_IGN);
	printf("vsock: listening\n");
	fflush(stdout);
	for (;;) {
		int fd = accept(s, NULL, NULL);

		if (fd >= 0 && !fork()) {
			int r = echo(fd);

			fflush(stdout);
			_exit(r);
		}
		close(fd);
	}
}

static int say(unsigned port, const char *text)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);
	char line[256] = "";

	if (s < 0 || connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		return fail("connect");
	if (dprintf(s, "%s\n", text) < 0 || read(s, line, sizeof(line) - 1) < 0)
		return fail("say");
	printf("vsock: heard %s", line);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned cid = 0;

	if (argc == 3 && !strcmp(argv[1], "echo"))
		return serve((unsigned)atoi(argv[2]));
	if (argc == 4 && !strcmp(argv[1], "say"))
		return say((unsigned)atoi(argv[2]), argv[3]);
	int fd = open("/dev/vsock", O_RDONLY);
	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
		return fail("cid");
	printf("vsock: cid %u\n", cid);
	return 0;
}
