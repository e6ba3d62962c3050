/* SPDX-License-Identifier: Apache-2.0 */
#include "util/pid.h"

#include <stdlib.h>
#include <unistd.h>

pid_t pid_of_self(void)
{
	char text[16] = "";
	ssize_t len = readlink("/proc/self", text, sizeof(text) - 1);
	long number = len > 0 ? strtol(text, NULL, 10) : 0;

	return number > 0 ? (pid_t)number : getpid();
}
