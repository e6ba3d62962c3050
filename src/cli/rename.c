/* SPDX-License-Identifier: Apache-2.0 */
/* rename.c - `viv rename` and the same of volumes, images, networks and profiles. */
#include <errno.h>
#include "cli/client.h"
#include "cli/image.h"
#include "cli/instance.h"
#include "cli/network.h"
#include "cli/output.h"
#include "cli/profile.h"

#define OPTIONS (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define TWO_NAMES(what_) (const struct cli_arg[]){ \
	{ "NAME", .help = what_ }, { "NEW", .help = "what it shall be called" }, { .name = NULL } }

static int rename_one(struct cli *c, const char *plural, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *body = json_pack("{s:s}", "name", cli_arg(c, 1));
	json_t *doc = NULL;
	int r = body ? client_open(&cl, c, err) : err_set(err, -EINVAL, "a name must be text in UTF-8");

	if (!r)
		r = client_call(cl, "POST", body, &doc, err, "/v1/%s/%s/rename", plural, cli_arg(c, 0));
	if (!r && c->is_json)
		return output_json(doc, err);
	json_decref(doc);
	return r;
}

static int rename_instance(struct cli *c, struct err *err) { return rename_one(c, "instances", err); }
static int rename_volume(struct cli *c, struct err *err) { return rename_one(c, "volumes", err); }
static int rename_image(struct cli *c, struct err *err) { return rename_one(c, "images", err); }
static int rename_profile(struct cli *c, struct err *err) { return rename_one(c, "profiles", err); }
static int rename_network(struct cli *c, struct err *err) { return rename_one(c, "networks", err); }

const struct cli_command instance_rename = {
	.path = "rename",
	.summary = "give a machine another name",
	.about = "Whether it runs or not, with its snapshots; consoles that are open stay so, and its network knows it by the new name at once. "
		 "What runs in it learns of its name when it is started the next time.",
	.args = TWO_NAMES("the machine"),
	.options = OPTIONS,
	.examples = (const struct cli_example[]){ { "rename web web-old", "to make room for another" }, { .line = NULL } },
	.run = rename_instance,
};

const struct cli_command volume_rename = {
	.path = "volume rename",
	.summary = "give a volume another name",
	.about = "Also while a machine runs with it. Machines that have it, and snapshots with memory, follow; their guests go on knowing it by the "
		 "serial number that they know.",
	.args = TWO_NAMES("the volume"),
	.options = OPTIONS,
	.examples = (const struct cli_example[]){ { "volume rename data data-old", "to make room for another" }, { .line = NULL } },
	.run = rename_volume,
};

const struct cli_command image_rename = {
	.path = "image rename",
	.summary = "give an image another name",
	.about = "Machines that began as it follow.",
	.args = TWO_NAMES("the image"),
	.options = OPTIONS,
	.examples = (const struct cli_example[]){ { "image rename debian debian-12", "before a newer one comes" }, { .line = NULL } },
	.run = rename_image,
};

const struct cli_command profile_rename = {
	.path = "profile rename",
	.summary = "give a profile another name",
	.about = "Machines that use it follow, and stay what they are. That of 'default' stays, and nothing else gets it: new machines that are not told "
		 "which to use go by that name.",
	.args = TWO_NAMES("the profile"),
	.options = OPTIONS,
	.examples = (const struct cli_example[]){ { "profile rename small tiny", "one" }, { .line = NULL } },
	.run = rename_profile,
};

const struct cli_command network_rename = {
	.path = "network rename",
	.summary = "give a network another name",
	.about = "Machines that are plugged in stay so. Without a domain of its own the names of machines in DNS end with its new name at once.",
	.args = TWO_NAMES("the network"),
	.options = OPTIONS,
	.examples = (const struct cli_example[]){ { "network rename lan office", "one" }, { .line = NULL } },
	.run = rename_network,
};
