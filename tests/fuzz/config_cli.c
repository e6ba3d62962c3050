/* SPDX-License-Identifier: Apache-2.0 */
/* The command line. Input: arguments, each ended by a newline. --config and --restore are left
 * out, because they open what they name; what is in it has targets of its own. */
#include "fuzz.h"
#include "util/err.h"
#include "vm/config.h"

enum { ARGS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	char *text = fuzz_text(&f), *save = NULL, *argv[ARGS_MAX + 2];
	enum config_action action = CONFIG_RUN;
	struct config c = { 0 };
	struct err err = ERR_INIT;
	int argc = 0;

	argv[argc++] = strdup("viv-vmm");
	for (char *a = strtok_r(text, "\n", &save); a && argc <= ARGS_MAX; a = strtok_r(NULL, "\n", &save))
		if (strncmp(a, "--config", 8) && strncmp(a, "--restore", 9))
			argv[argc++] = strdup(a);       /* of its own: reading past it is seen */
	argv[argc] = NULL;
	FUZZ_CHECK(config_init(&c, NULL) == 0);
	int r = config_parse_args(&c, &action, argc, argv, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	if (!r)
		config_validate(&c, &err);
	config_fini(&c);
	while (argc)
		free(argv[--argc]);
	free(text);
	return 0;
}
