/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_options.h - what the commands share that fetch from web servers. */
#ifndef CLI_FETCH_OPTIONS_H
#define CLI_FETCH_OPTIONS_H

#include "cli/command.h"
#include "cli/fetch.h"
#include "cli/fetch_guard.h"
#include "cli/progress.h"

#define FETCH_OPTIONS \
	{ "--ca", 0, CLI_STRING, .metavar = "FILE", .help = "certificates of authorities to trust, besides the system's" }, \
	{ "--public", 0, CLI_FLAG, .help = "connect only to addresses of the Internet that are not this host's", \
	  .more = "For addresses that others have given. What a name means, and where a server sends one, is looked at, too." }, \
	{ "--allow", 0, CLI_STRING, .is_repeatable = true, .metavar = "NETWORK", .help = "with --public: to these all the same: 10.1.0.0/16" }, \
	{ "--progress-file", 0, CLI_STRING, .metavar = "FILE", \
	  .help = "keep a line with what is being done, how much of it is, and of how much, in FILE" }

/* S, GUARD and PROGRESS as C's options say; S borrows the others. Ends, also after a failure, with progress_end(). */
int fetch_begin(struct cli *c, struct fetch_spec *s, struct fetch_guard *guard, struct progress *progress, struct err *err);

#endif
