/* SPDX-License-Identifier: Apache-2.0 */
#include "util/unixsock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "util/cleanup.h"
#include "util/err.h"

static int unixsock_address(struct sockaddr_un *sa, const char *path, struct err *err)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	_Static_assert(sizeof(sa->sun_path) == UNIXSOCK_PATH_MAX + 2, "a NUL, and the mark of a name that is not final");
	if (!*path)
		return err_set(err, -EINVAL, "the path of a socket is empty");
	if (strlen(path) > UNIXSOCK_PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "'%s' is too long for a socket: the limit is %d characters", path,
			       UNIXSOCK_PATH_MAX);
	strcpy(sa->sun_path, path);
	return 0;
}

/* Does a process listen at SA? */
static bool unixsock_is_taken(const struct sockaddr_un *sa)
{
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* EAGAIN: its queue is full */
	return fd >= 0 && (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 || errno == EAGAIN);
}

/* Under another name first: when the name is there, somebody listens, and with the right permissions. It
 * takes the place of a socket that was left behind. */
static int unixsock_bind(int fd, struct sockaddr_un *sa, mode_t mode, int backlog, const char *path)
{
	strcat(sa->sun_path, "~");
	unlink(sa->sun_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)sa, sizeof(*sa)) < 0)
		return -errno;
	if ((mode && chmod(sa->sun_path, mode) < 0) || listen(fd, backlog) < 0 || rename(sa->sun_path, path) < 0) {
		int r = -errno;

		unlink(sa->sun_path);
		return r;
	}
	return 0;
}

int unixsock_listen(const char *path, mode_t mode, int backlog, struct err *err)
{
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sa;
	struct stat st;
	int r = unixsock_address(&sa, path, err);

	if (r < 0)
		return err_wrap(err, r, "cannot listen");
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode)) {
		if (unixsock_is_taken(&sa))
			return err_set(err, -EADDRINUSE, "cannot listen on '%s': another process does; "
				       "end it or name another path", path);
	} else if (!lstat(path, &st)) {
		return err_set(err, -EEXIST, "cannot listen on '%s': it is there and is no socket", path);
	}
	r = unixsock_bind(fd, &sa, mode, backlog, path);
	return r < 0 ? err_set(err, r, "cannot listen on '%s': %s", path, strerror(-r)) : take_fd(&fd);
}

int unixsock_connect(const char *path, struct err *err)
{
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa;
	int r = unixsock_address(&sa, path, err);

	if (r < 0)
		return err_wrap(err, r, "cannot connect");
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return err_set(err, -errno, "cannot connect to '%s': %s%s", path, strerror(errno),
			       errno == ECONNREFUSED ? "; the machine behind it has ended" : "");
	return take_fd(&fd);
}
