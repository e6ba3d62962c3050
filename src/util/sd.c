/* SPDX-License-Identifier: Apache-2.0 */
#include "util/sd.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"

enum { FIRST_FD = 3 };

/* The number in environment variable NAME, which goes; 0: it is not there, or none. */
static long take_number(const char *name)
{
	const char *text = getenv(name);
	long n = text ? strtol(text, NULL, 10) : 0;

	unsetenv(name);
	return n;
}

int sd_take_listener(const char *path, struct err *err)
{
	long pid = take_number("LISTEN_PID"), n = take_number("LISTEN_FDS");
	struct sockaddr_un sa = { .sun_family = AF_UNSPEC };
	socklen_t len = sizeof(sa), int_len = sizeof(int);
	int listens = 0;

	unsetenv("LISTEN_FDNAMES");
	if (pid != (long)getpid() || n < 1)
		return -ENOENT;
	if (n > 1)
		return err_set(err, -EINVAL, "started with %ld sockets: it takes one, '%s'", n, path);
	if (getsockname(FIRST_FD, (struct sockaddr *)&sa, &len) < 0 || sa.sun_family != AF_UNIX ||
	    getsockopt(FIRST_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_len) < 0 || !listens)
		return err_set(err, -EINVAL, "started with something that is no listening Unix socket");
	if (strncmp(sa.sun_path, path, sizeof(sa.sun_path)) != 0)
		return err_set(err, -EINVAL, "started with the socket '%.*s', and '%s' is where it is looked for", (int)sizeof(sa.sun_path),
			       sa.sun_path, path);
	if (fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC) < 0 || fcntl(FIRST_FD, F_SETFL, O_NONBLOCK) < 0)
		return err_set(err, -errno, "cannot use the socket it was started with: %s", strerror(errno));
	return FIRST_FD;
}

void sd_tell(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(sa.sun_path))
		return;
	strcpy(sa.sun_path, path);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (path[0] == '@')
		sa.sun_path[0] = 0;
	AUTO_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sa, len);
}
