/* SPDX-License-Identifier: Apache-2.0 */
/* access.h - commands about who may do what. */
#ifndef CLI_ACCESS_H
#define CLI_ACCESS_H

#include "cli/command.h"

struct client;

extern const struct cli_command access_login, access_logout, access_whoami;
extern const struct cli_command user_ls, user_add, user_set, user_passwd, user_rm;
extern const struct cli_command role_ls, role_grant, role_revoke;
extern const struct cli_command token_ls, token_create, token_rm;
extern const struct cli_command totp_show, totp_enable, totp_disable;
extern const struct cli_command project_ls, project_create, project_rm;
extern const struct cli_command quota_show, quota_set;
extern const struct cli_command audit_ls, audit_verify;
extern const struct cli_group user_group, role_group, token_group, totp_group, project_group, quota_group, audit_group;

/* A password: typed twice without being shown (IS_NEW) or once; without a terminal, a line of standard input. BUF has CAP
 * bytes. -EINVAL: the two differ, or there is none. */
int access_read_password(char *buf, size_t cap, const char *prompt, bool is_new, struct err *err);

/* From now on CL's requests are those of a session of USER, with PASSWORD; a code is asked for, and read in the same way, when
 * the daemon wants one. */
int access_log_in(struct client *cl, const char *user, const char *password, struct err *err);

#endif
