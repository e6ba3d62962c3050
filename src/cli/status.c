/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - exit statuses: what each means, and which error becomes which. */
#include <errno.h>
#include <stddef.h>
#include "cli/command.h"
#include "util/checked.h"

const struct cli_status_row cli_statuses[] = {
	{ CLI_DONE, "Done." },
	{ CLI_FAILED, "It failed, for a reason that has no status of its own." },
	{ CLI_USAGE, "The command line was not understood; nothing was done." },
	{ CLI_DIFFERENT, "The answer is no: images differ, or a check found errors that remain." },
	{ CLI_BUSY, "A file is in use by another process, such as a running machine." },
	{ CLI_NO_SPACE, "There is no space left; what was half made has been removed." },
	{ CLI_EXISTS, "What was to be made exists already." },
	{ CLI_NOT_FOUND, "A file, snapshot or bitmap that was named does not exist." },
	{ CLI_DENIED, "This user, or this key, may not do that." },
	{ CLI_UNSUPPORTED, "The format, or this program, cannot do that." },
	{ CLI_INTERRUPTED, "The user interrupted it; what was half made has been removed." },
	{ .help = NULL },
};

static const struct { int error, status; } status_errors[] = {
	{ EBUSY, CLI_BUSY },
	{ ENOSPC, CLI_NO_SPACE }, { EDQUOT, CLI_NO_SPACE },
	{ EEXIST, CLI_EXISTS },
	{ ENOENT, CLI_NOT_FOUND },
	{ EACCES, CLI_DENIED }, { EPERM, CLI_DENIED }, { EKEYREJECTED, CLI_DENIED }, { ENOKEY, CLI_DENIED },
	{ EROFS, CLI_DENIED },
	{ ENOTSUP, CLI_UNSUPPORTED },
	{ EINTR, CLI_INTERRUPTED }, { ECANCELED, CLI_INTERRUPTED },
};

int cli_status_of(int result)
{
	if (result >= 0)
		return result;
	for (size_t i = 0; i < ARRAY_LEN(status_errors); i++)
		if (status_errors[i].error == -result)
			return status_errors[i].status;
	return CLI_FAILED;
}
