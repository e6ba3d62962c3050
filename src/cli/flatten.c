/* SPDX-License-Identifier: Apache-2.0 */
/* flatten.c - `viv flatten` and `viv volume flatten`. */
#include "cli/client.h"
#include "cli/task.h"

static int flatten_instance(struct cli *c, struct err *err)
{
	return task_run(c, "instances", "flatten", json_pack("{s:b}", "image", cli_flag(c, "--image")), cli_flag(c, "--dry-run"), "flattening", err);
}

static int flatten_volume(struct cli *c, struct err *err)
{
	return task_run(c, "volumes", "flatten", NULL, cli_flag(c, "--dry-run"), "flattening", err);
}

const struct cli_command instance_flatten = {
	.path = "flatten",
	.summary = "make a linked clone independent",
	.about = "What its disks, and the volumes that it writes, share with the original and other linked clones is copied into them, also while it "
		 "runs; what nobody shares any more goes. Interrupted, that goes on: 'viv task cancel' ends it, and nothing has changed but the "
		 "space that it takes. A disk with snapshots is refused, since they need what is shared. With --image the image that it began as "
		 "is not needed any more, either. Images are always whole.",
	.args = (const struct cli_arg[]){ { "MACHINE", .help = "the machine" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--image", 0, CLI_FLAG, .help = "copy what its first disk shows of its image, too" },
						{ "--dry-run", 0, CLI_FLAG, .help = "show the task, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "flatten web3", "a machine of its own from then on" }, { .line = NULL } },
	.run = flatten_instance,
};

const struct cli_command volume_flatten = {
	.path = "volume flatten",
	.summary = "make a linked clone of a volume independent",
	.about = "What it shares with the original and other linked clones is copied into it, also while a machine runs with it; what nobody shares "
		 "any more goes. One with snapshots is refused, since they need what is shared.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the volume" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--dry-run", 0, CLI_FLAG, .help = "show the task, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "volume flatten web3-data", "one" }, { .line = NULL } },
	.run = flatten_volume,
};
