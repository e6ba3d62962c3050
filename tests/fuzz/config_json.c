/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration document. Input: the JSON text. */
#include "fuzz.h"
#include "util/err.h"
#include "vm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct config c = { 0 };
	struct err err = ERR_INIT;
	uint8_t mac[6];

	FUZZ_CHECK(config_init(&c, NULL) == 0);
	int r = config_load_text(&c, (const char *)data, len, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	FUZZ_CHECK(c.n_disks <= CONFIG_DISKS_MAX && c.n_nets <= CONFIG_NETS_MAX && c.n_consoles <= CONFIG_CONSOLES_MAX);
	/* whatever has been read when it failed is still a configuration */
	int valid = config_validate(&c, &err);

	if (!valid) {
		FUZZ_CHECK(c.cpus >= 1 && c.cpus <= CONFIG_CPUS_MAX && c.memory >= CONFIG_MEMORY_MIN);
		FUZZ_CHECK(c.name && c.engine && c.kernel);
		config_log_level(&c);
		for (unsigned i = 0; i < c.n_nets; i++) {
			config_net_mac(&c, i, mac);
			FUZZ_CHECK(!(mac[0] & 1));
		}
	}
	config_fini(&c);
	return 0;
}
