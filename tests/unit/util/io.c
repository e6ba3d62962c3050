/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/io.h"

TEST(all_is_read_from_a_pipe_that_gives_it_in_pieces)
{
	char buf[16];
	int fd[2], status;

	CHECK_EQ(pipe(fd), 0);
	pid_t pid = fork();
	if (!pid) {
		for (int i = 0; i < 10; i++)
			if (write(fd[1], &"0123456789"[i], 1) != 1)
				_exit(1);
		_exit(0);
	}
	close(fd[1]);
	CHECK_EQ(io_read_full(fd[0], buf, 7), 7);
	CHECK(!memcmp(buf, "0123456", 7));
	CHECK_EQ(io_read_full(fd[0], buf, sizeof(buf)), 3);
	CHECK(!memcmp(buf, "789", 3));
	CHECK_EQ(io_read_full(fd[0], buf, sizeof(buf)), 0);
	close(fd[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

TEST(what_cannot_be_read_is_an_error)
{
	char byte;

	CHECK_EQ(io_read_full(-1, &byte, 1), -EBADF);
}
