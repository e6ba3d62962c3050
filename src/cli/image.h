/* SPDX-License-Identifier: Apache-2.0 */
/* image.h - the commands of `viv image` and `viv volume`. */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include "cli/command.h"

extern const struct cli_command image_ls, image_show, image_rename, image_warm, image_cool, image_import, image_build, image_download, image_upload, image_rm,
	image_create, image_catalogue_ls, image_catalogue_refresh;
extern const struct cli_group image_group;
extern const struct cli_command volume_ls, volume_show, volume_create, volume_grow, volume_rename, volume_clone, volume_move, volume_download, volume_upload,
	volume_rm;
extern const struct cli_group volume_group;

struct client;

/* The image that REFERENCE ("ubuntu", "ubuntu:24.04") means as a catalogue of the daemon's has it, which is looked at anew if that was long ago: what it is
 * called as an image of ours to NAME, of 64 bytes. -ENOENT: there is none, and the sentence has names that are near. */
int image_catalogue_find(struct cli *c, struct client *cl, const char *reference, char name[64], struct err *err);

#endif
