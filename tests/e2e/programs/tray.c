/* SPDX-License-Identifier: Apache-2.0 */
/* tray open|close|status DEVICE - what eject(1) does, for guests that have none. Status prints the number of
 * CDROM_DRIVE_STATUS. */
#include <fcntl.h>
#include <limits.h>
#include <linux/cdrom.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open(argv[2], O_RDONLY | O_NONBLOCK) : -1;
	int r;

	if (fd < 0)
		return 2;
	if (!strcmp(argv[1], "status")) {
		r = ioctl(fd, CDROM_DRIVE_STATUS, CDSL_CURRENT);
		printf("%d\n", r);
	} else {
		r = ioctl(fd, strcmp(argv[1], "open") ? CDROMCLOSETRAY : CDROMEJECT, 0);
	}
	if (r < 0)
		perror(argv[2]);
	return r < 0;
}
