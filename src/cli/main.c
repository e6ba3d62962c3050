/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the program `viv`. */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "cli/command.h"
#include "util/log.h"

/* A standard descriptor that is closed would become the number of the next file opened, a disk for
 * one, and messages would go there. */
static void fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	fill_standard_fds();
	/* Passwords, tokens and keys go through here: no other program of this user's looks into it, no dump of it is left. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	log_set_name("viv");
	return cli_main(argc, argv);
}
