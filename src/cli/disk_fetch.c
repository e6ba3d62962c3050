/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk fetch */
#include <jansson.h>
#include <stdio.h>
#include <sys/stat.h>
#include "cli/disk.h"
#include "cli/fetch.h"
#include "cli/fetch_guard.h"
#include "cli/fetch_options.h"
#include "cli/output.h"

static int fetch_report(const struct cli *c, const char *path, struct err *err)
{
	char size[OUTPUT_SIZE_LEN];
	struct stat st;

	if (stat(path, &st) < 0)
		st.st_size = 0;
	if (c->is_json)
		return output_json(json_pack("{s:s, s:I}", "filename", path, "size", (json_int_t)st.st_size), err);
	if (!c->is_quiet)
		printf("%s: %s\n", path, output_size(size, (uint64_t)st.st_size));
	return 0;
}

int fetch_begin(struct cli *c, struct fetch_spec *s, struct fetch_guard *guard, struct progress *progress, struct err *err)
{
	const char *net;
	int r = 0;

	*guard = (struct fetch_guard){ .is_public_only = cli_flag(c, "--public") };
	*s = (struct fetch_spec){ .ca = cli_str(c, "--ca"), .guard = guard, .progress = progress };
	for (unsigned i = 0; !r && (net = cli_nth(c, "--allow", i)) != NULL; i++)
		r = fetch_guard_allow(guard, net, err);
	if (r < 0)
		return r;
	progress_start(progress, c, "downloading");
	return cli_has(c, "--progress-file") ? progress_note_in(progress, cli_str(c, "--progress-file"), err) : 0;
}

static int fetch_run(struct cli *c, struct err *err)
{
	struct progress progress = { .fd = -1 };
	struct fetch_guard guard;
	struct fetch_spec s;
	int r = fetch_begin(c, &s, &guard, &progress, err);

	s.url = cli_arg(c, 0);
	s.path = cli_arg(c, 1);
	s.checksum = cli_str(c, "--checksum");
	s.size_max = cli_num(c, "--max-size");
	if (!r)
		r = fetch_file(&s, err);
	progress_end(&progress);
	return r < 0 ? r : fetch_report(c, s.path, err);
}

const struct cli_command disk_fetch = {
	.path = "disk fetch",
	.summary = "download a file",
	.about = "From a web server, to FILE, which appears when it is whole and on the disk. A connection that breaks is made anew, and the download goes on; "
		 "interrupted, the same command does that, if the file is still the same on the server. Until then there are "
		 "FILE.part and FILE.from. A server may send to another address that is as safe; proxies are not used.",
	.args = (const struct cli_arg[]){
		{ "URL", .help = "https://..., or http://... with a checksum" },
		{ "FILE", .help = "that is not there" },
		{ .name = NULL },
	},
	.options = (const struct cli_option[]){
		{ "--checksum", 0, CLI_STRING, .metavar = "KIND:DIGITS",
		  .help = "refuse, and remove, what has another checksum than this: sha256:... or sha512:..." },
		FETCH_OPTIONS,
		{ "--max-size", 0, CLI_SIZE, .metavar = "SIZE", .help = "refuse a file that is larger" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk fetch https://cloud.example/disk.qcow2 disk.qcow2", "one from a server whose certificate is good" },
		{ .line = NULL },
	},
	.run = fetch_run,
};
