/* SPDX-License-Identifier: Apache-2.0 */
/* image.h - the commands of `viv image` and `viv volume`. */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include "cli/command.h"

extern const struct cli_command image_ls, image_import, image_build, image_download, image_upload, image_rm;
extern const struct cli_group image_group;
extern const struct cli_command volume_ls, volume_create, volume_grow, volume_move, volume_download, volume_upload, volume_rm;
extern const struct cli_group volume_group;

#endif
