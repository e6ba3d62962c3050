/* SPDX-License-Identifier: Apache-2.0 */
/* commands.c - every command of viv, in the order of help. */
#include "cli/access.h"
#include "cli/command.h"
#include "cli/disk.h"
#include "cli/guest.h"
#include "cli/image.h"
#include "cli/instance.h"
#include "cli/network.h"
#include "cli/pool.h"
#include "cli/profile.h"
#include "cli/task.h"
#include "cli/usage.h"

const struct cli_command *const cli_commands[] = {
	&instance_run, &instance_ls, &instance_show, &instance_start, &instance_stop, &instance_restart, &instance_pause,
	&instance_rm, &instance_rename, &instance_set, &instance_console, &instance_logs, &guest_exec, &guest_cp, &guest_info, &guest_ssh,
	&instance_clone, &instance_flatten,
	&instance_export, &instance_import,
	&usage_top, &usage_events, &usage_why, &usage_metrics,
	&snapshot_ls, &snapshot_create, &snapshot_revert, &snapshot_rm,
	&task_ls, &task_show, &task_cancel, &task_wait,
	&disk_create, &disk_convert, &disk_fetch, &disk_catalogue, &disk_pull, &disk_info, &disk_map, &disk_check,
	&disk_snapshot_create, &disk_snapshot_list, &disk_snapshot_revert, &disk_snapshot_rm,
	&disk_commit, &disk_rebase, &disk_flatten, &disk_compare, &disk_resize, &disk_measure,
	&disk_bitmap_add, &disk_bitmap_rm, &disk_bitmap_clear, &disk_bitmap_list,
	&disk_key_list, &disk_key_add, &disk_key_change, &disk_key_rm,
	&disk_ova_list, &disk_ova_extract, &disk_ova_import, &disk_ova_create,
	&disk_serve, &disk_bench,
	&image_ls, &image_create, &image_catalogue_ls, &image_catalogue_refresh, &image_import, &image_build, &image_download, &image_upload,
	&image_show, &image_rename, &image_warm, &image_cool, &image_rm,
	&volume_ls, &volume_show, &volume_create, &volume_grow, &volume_rename, &volume_clone, &volume_move, &volume_flatten, &volume_download, &volume_upload, &volume_rm,
	&pool_ls, &pool_create, &pool_show, &pool_set, &pool_rm,
	&profile_ls, &profile_create, &profile_show, &profile_rename, &profile_set, &profile_rm,
	&network_ls, &network_create, &network_show, &network_rename, &network_set, &network_rm, &network_doctor, &port_ls,
	&access_login, &access_logout, &access_whoami,
	&user_ls, &user_add, &user_set, &user_passwd, &user_rm,
	&role_ls, &role_grant, &role_revoke,
	&token_ls, &token_create, &token_rm,
	&totp_show, &totp_enable, &totp_disable,
	&project_ls, &project_create, &project_rm,
	&quota_show, &quota_set,
	&audit_ls, &audit_verify,
	NULL,
};

const struct cli_group *const cli_groups[] = {
	&snapshot_group, &task_group,
	&disk_group, &image_group, &volume_group, &pool_group, &profile_group, &network_group, &port_group, &user_group, &role_group, &token_group, &totp_group, &project_group, &quota_group, &audit_group, NULL,
};
